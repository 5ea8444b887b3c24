// Convolution in two dimensions: dense, grouped and depthwise.
//
// There is one loop for values and one for filter gradients. correlate() slides a
// filter over images; the forward pass is one call of it. The gradient with
// respect to the input is correlate() again, over g with the filter turned round,
// once per phase of the stride (core/window.h). So every result pixel is computed
// whole by the tile that owns it, and nothing is scattered or shared.
//
// Dense and grouped ones are row products (kernels/train/product.h): a row of the
// left side is a pixel's window, read where it lies in the image, or in a copy of the
// tile's part of it with zeros around. Depthwise ones are in
// ops_depthwise.cpp. A 1x1 convolution is multiply() as it is.

#include <array>
#include <numeric>

#include "core/blas.h"
#include "core/correlation.h"
#include "core/depthwise.h"
#include "core/error.h"
#include "core/loops.h"
#include "core/ops.h"
#include "core/train_kernels.h"
#include "core/winograd.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

// ---- Tiles of windows ------------------------------------------------------------------

constexpr int64_t kTilePixels = 192;
constexpr int64_t kMostPixels = 2 * kTilePixels;
// A layer is cut into at least so many pieces of work, if it is not tiny.
constexpr int64_t kPieces = 8;
constexpr int64_t kLeastProducts = 128 * 1024;

// Windows in tiles: whole rows of them, which may belong to several images, or a part of one long row.
struct Tiling {
  int64_t rows_per_tile, columns_per_tile;
  int64_t row_tiles, column_tiles;

  explicit Tiling(const Correlation& c) : column_tiles(ceil_div(c.w.out, kMostPixels)) {
    columns_per_tile = ceil_div(c.w.out, column_tiles);
    const int64_t most = std::max<int64_t>(1, kTilePixels / columns_per_tile);
    // Fewer, so that small layers have work for several threads too.
    const int64_t products = std::max<int64_t>(1, columns_per_tile * c.depth() * c.target_channels());
    const int64_t least = std::clamp<int64_t>(ceil_div(kLeastProducts, products), 1, most);
    rows_per_tile = column_tiles > 1 ? 1 : std::clamp(ceil_div(c.rows(), kPieces), least, most);
    row_tiles = ceil_div(c.rows(), rows_per_tile);
  }
  int64_t count() const { return row_tiles * column_tiles; }
};

struct Tile {
  Range rows{};  // of windows, counted through all images
  Range columns{};

  Tile(const Correlation& c, const Tiling& tiling, int64_t index) {
    const int64_t row = index / tiling.column_tiles * tiling.rows_per_tile;
    const int64_t column = index % tiling.column_tiles * tiling.columns_per_tile;
    rows = {row, std::min(row + tiling.rows_per_tile, c.rows())};
    columns = {column, std::min(column + tiling.columns_per_tile, c.w.out)};
  }
  int64_t pixels() const { return rows.size() * columns.size(); }
};

// Where the windows of a tile read: window r's numbers lie in segments() runs of depth(), run s at
// row(r) + offset(s). Three ways to get there, the cheapest that works: in the source itself, if no window
// reaches over its border; in a copy of the part the tile reads, with zeros around; or in a copy of every
// window, if that is less (a few windows, far apart).
class Windows {
 public:
  Windows(const Correlation& c, const Tile& tile, const real* source) : c_(c), tile_(tile), source_(source) {
    const auto inside = [](const WindowAxis& a) { return a.before <= 0 && a.at(a.out - 1, a.taps - 1) < a.in; };
    const int64_t span = c.w.at(tile.columns.end - 1, c.w.taps - 1) - c.w.at(tile.columns.begin, 0) + 1;
    if (inside(c.h) && inside(c.w)) {
      find_in_source();
    } else if (band_rows() <= kMostPixels * c.h.taps && span * band_rows() <= 4 * tile.pixels() * c.h.taps * c.w.taps) {
      copy_band(span);
    } else {
      copy_windows();
    }
  }

  // Copies short runs together, so that there is one of c.depth() per window.
  void join() {
    Tensor joined = Tensor::empty({tile_.pixels(), c_.depth()});
    real* to = joined.mutable_data();
    train_kernels().product.gather(tile_.pixels(), rows_.data(), offsets_.data(), segments(), depth_, to);
    for (int64_t r = 0; r < tile_.pixels(); ++r) {
      rows_[static_cast<size_t>(r)] = to + r * c_.depth();
    }
    copy_ = joined;
    offsets_.assign(1, 0);
    depth_ = c_.depth();
  }

  const real* const* rows() const { return rows_.data(); }
  int64_t segments() const { return static_cast<int64_t>(offsets_.size()); }
  int64_t depth() const { return depth_; }
  // Of a group: rows() counts from the first.
  int64_t offset(int64_t segment, int64_t group) const {
    return offsets_[static_cast<size_t>(segment)] + group * group_step_;
  }

 private:
  using Offsets = std::vector<int64_t, PoolAllocator<int64_t>>;

  void set_taps(int64_t row_stride, int64_t pixel_stride) {
    group_step_ = c_.inputs;
    depth_ = c_.taps_touch() ? c_.w.taps * c_.inputs : c_.inputs;
    for (int64_t u = 0; u < c_.h.taps; ++u) {
      for (int64_t v = 0; v < (c_.taps_touch() ? 1 : c_.w.taps); ++v) {
        offsets_.push_back(u * c_.h.dilation * row_stride + v * c_.w.dilation * pixel_stride);
      }
    }
  }

  // Calls visit(image, rows of windows within it) for the images the tile touches.
  template <class Visit>
  void for_each_image(Visit visit) const {
    for (int64_t row = tile_.rows.begin; row < tile_.rows.end;) {
      const int64_t image = row / c_.h.out;
      const int64_t end = std::min(tile_.rows.end, (image + 1) * c_.h.out);
      visit(image, Range{row - image * c_.h.out, end - image * c_.h.out});
      row = end;
    }
  }

  // Rows of the source that one image's windows reach over, outside ones too.
  int64_t reach(const Range& windows) const {
    return c_.h.at(windows.end - 1, c_.h.taps - 1) - c_.h.at(windows.begin, 0) + 1;
  }
  int64_t band_rows() const {
    int64_t rows = 0;
    for_each_image([&](int64_t, const Range& windows) { rows += reach(windows); });
    return rows;
  }

  void find_in_source() {
    const int64_t channels = c_.source_channels();
    set_taps(c_.w.in * channels, channels);
    size_t r = 0;
    for_each_image([&](int64_t image, const Range& windows) {
      for (int64_t i = windows.begin; i < windows.end; ++i) {
        const real* row = source_ + (image * c_.h.in + c_.h.at(i, 0)) * c_.w.in * channels;
        for (int64_t j = tile_.columns.begin; j < tile_.columns.end; ++j) {
          rows_[r++] = row + c_.w.at(j, 0) * channels;
        }
      }
    });
  }

  void copy_band(int64_t span) {
    const int64_t channels = c_.source_channels();
    const int64_t first = c_.w.at(tile_.columns.begin, 0);
    const Range inside{std::clamp<int64_t>(-first, 0, span), std::clamp<int64_t>(c_.w.in - first, 0, span)};
    set_taps(span * channels, channels);
    copy_ = Tensor::empty({band_rows(), span, channels});
    real* to = copy_.mutable_data();
    size_t r = 0;
    for_each_image([&](int64_t image, const Range& windows) {
      const int64_t top = c_.h.at(windows.begin, 0);
      for (int64_t i = windows.begin; i < windows.end; ++i) {
        for (int64_t j = 0; j < tile_.columns.size(); ++j) {
          rows_[r++] = to + ((c_.h.at(i, 0) - top) * span + j * c_.w.stride) * channels;
        }
      }
      for (int64_t y = top; y < top + reach(windows); ++y, to += span * channels) {
        if (y < 0 || y >= c_.h.in || inside.empty()) {
          std::fill_n(to, span * channels, real(0));
          continue;
        }
        std::fill_n(to, inside.begin * channels, real(0));
        std::copy_n(source_ + ((image * c_.h.in + y) * c_.w.in + first + inside.begin) * channels,
                    inside.size() * channels, to + inside.begin * channels);
        std::fill_n(to + inside.end * channels, (span - inside.end) * channels, real(0));
      }
    });
  }

  // Window by window, group by group, as the filter is laid out.
  void copy_windows() {
    const int64_t channels = c_.source_channels();
    depth_ = c_.depth();
    group_step_ = c_.depth();
    offsets_.push_back(0);
    copy_ = Tensor::empty({tile_.pixels(), c_.groups * c_.depth()});
    real* to = copy_.mutable_data();
    size_t r = 0;
    for_each_image([&](int64_t image, const Range& windows) {
      for (int64_t i = windows.begin; i < windows.end; ++i) {
        for (int64_t j = tile_.columns.begin; j < tile_.columns.end; ++j) {
          rows_[r++] = to;
          for (int64_t group = 0; group < c_.groups; ++group) {
            for (int64_t u = 0; u < c_.h.taps; ++u) {
              for (int64_t v = 0; v < c_.w.taps; ++v, to += c_.inputs) {
                const int64_t y = c_.h.at(i, u);
                const int64_t x = c_.w.at(j, v);
                if (y < 0 || y >= c_.h.in || x < 0 || x >= c_.w.in) {
                  std::fill_n(to, c_.inputs, real(0));
                } else {
                  std::copy_n(source_ + ((image * c_.h.in + y) * c_.w.in + x) * channels + group * c_.inputs, c_.inputs,
                              to);
                }
              }
            }
          }
        }
      }
    });
  }

  const Correlation& c_;
  const Tile& tile_;
  const real* source_;
  Tensor copy_;
  std::array<const real*, kMostPixels> rows_{};
  Offsets offsets_;
  int64_t depth_ = 0;
  int64_t group_step_ = 0;
};

// ---- Filters as the right side of a product ------------------------------------------------

// Each group's filter as a packed matrix [taps inputs, outputs], one behind the other. Tap t's numbers for input i and
// output o of group g are at filter[origin(t) + g * group_stride + i * input_stride + o * output_stride].
template <class Origin>
Tensor pack_filter(const Correlation& c, const real* filter, int64_t group_stride, int64_t input_stride,
                   int64_t output_stride, Origin origin) {
  const auto& kernels = train_kernels().product;
  const int64_t taps = c.h.taps * c.w.taps;
  const int64_t size = kernels.packed_size(c.depth(), c.outputs);
  Tensor packed = Tensor::empty({c.groups, size});
  real* to = packed.mutable_data();
  parallel_ranges(c.groups * taps, ceil_div(kElementGrain, c.inputs * c.outputs), [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      const int64_t group = k / taps;
      const int64_t tap = k % taps;
      kernels.pack(filter + group * group_stride + origin(tap), input_stride, output_stride, tap * c.inputs, c.inputs,
                   c.depth(), c.outputs, to + group * size);
    }
  });
  return packed;
}

// ---- Values ------------------------------------------------------------------------------------

// target = windows filter^T + bias, tile by tile.
void correlate_dense(const Correlation& c, const real* source, const Tensor& packed, const real* bias, real* target) {
  const auto& kernels = train_kernels().product;
  const int64_t size = kernels.packed_size(c.depth(), c.outputs);
  const Tiling tiling(c);
  // Too few tiles of windows are cut by output channels as well.
  const int64_t most =
      std::min(ceil_div(c.outputs, kernels.panel),
               ceil_div(c.pixels() * c.depth() * c.target_channels(), kLeastProducts * tiling.count()));
  const int64_t parts = std::clamp<int64_t>(ceil_div(kPieces, tiling.count()), 1, most);
  const int64_t columns = ceil_div(ceil_div(c.outputs, parts), kernels.panel) * kernels.panel;
  parallel_for(tiling.count() * parts, [&](int64_t index) {
    const Tile tile(c, tiling, index / parts);
    const int64_t column = index % parts * columns;
    if (column >= c.outputs) {
      return;
    }
    const Windows windows(c, tile, source);
    std::array<real*, kMostPixels> out{};
    std::vector<int64_t, PoolAllocator<int64_t>> offsets(static_cast<size_t>(windows.segments()));
    for (int64_t group = 0; group < c.groups; ++group) {
      size_t r = 0;
      for (int64_t row = tile.rows.begin; row < tile.rows.end; ++row) {
        const int64_t y = row % c.h.out * c.step.h + c.offset.h;
        real* const line =
            target + (row / c.h.out * c.target_h + y) * c.target_w * c.target_channels() + group * c.outputs + column;
        for (int64_t j = tile.columns.begin; j < tile.columns.end; ++j) {
          out[r++] = line + (j * c.step.w + c.offset.w) * c.target_channels();
        }
      }
      for (size_t s = 0; s < offsets.size(); ++s) {
        offsets[s] = windows.offset(static_cast<int64_t>(s), group);
      }
      kernels.row_product({.rows = tile.pixels(),
                           .a = windows.rows(),
                           .offsets = offsets.data(),
                           .segments = windows.segments(),
                           .depth = windows.depth(),
                           .b = packed.data() + group * size + column * c.depth(),
                           .columns = std::min(columns, c.outputs - column),
                           .c = out.data(),
                           .bias = bias == nullptr ? nullptr : bias + group * c.outputs + column,
                           .add = false});
    }
  });
}

// ---- Filter gradients ----------------------------------------------------------------------------

// Below this, a run is a poor vector.
constexpr int64_t kShortRun = 16;

// How a filter gradient is cut: the windows into parts, each with a sum of its own that tree_add() joins, and the
// output channels into slices, which need no joining but read every window again.
struct GradientCut {
  int64_t parts;
  int64_t slices;
  int64_t slice;  // output channels per slice

  GradientCut(const Correlation& c, int64_t tiles) {
    constexpr int64_t kPartialElements = int64_t{1} << 20;
    const int64_t filter_elements = c.target_channels() * c.depth();
    parts = std::min(tiles, std::clamp<int64_t>(kPartialElements / filter_elements, 1, kPieces));
    slice = c.groups > 1 ? c.outputs : ceil_div(ceil_div(c.outputs, kPieces / parts), 8) * 8;
    slices = ceil_div(c.outputs, slice);
  }
};

// gfilter = g^T windows, g in place of the target.
void filter_gradient_dense(const Correlation& c, const real* source, const real* g, real* gfilter) {
  const auto& kernels = train_kernels().product;
  const int64_t filter_elements = c.target_channels() * c.depth();
  const Tiling tiling(c);
  const GradientCut cut(c, tiling.count());
  Tensor partial = cut.parts > 1 ? Tensor::empty({cut.parts, filter_elements}) : Tensor();
  real* const sums = cut.parts > 1 ? partial.mutable_data() : gfilter;
  parallel_for(cut.parts * cut.slices, [&](int64_t index) {
    const int64_t part = index / cut.slices;
    const int64_t output = index % cut.slices * cut.slice;
    const int64_t first = part * tiling.count() / cut.parts;
    for (int64_t k = first; k < (part + 1) * tiling.count() / cut.parts; ++k) {
      const Tile tile(c, tiling, k);
      Windows windows(c, tile, source);
      if (windows.segments() > 1 && c.groups == 1 && windows.depth() < kShortRun) {
        windows.join();
      }
      const real* const g_tile =
          g + (tile.rows.begin * c.w.out + tile.columns.begin) * c.target_channels();  // neighbours in memory
      for (int64_t group = 0; group < c.groups; ++group) {
        for (int64_t s = 0; s < windows.segments(); ++s) {
          kernels.outer_product(
              {.points = tile.pixels(),
               .a = g_tile + group * c.outputs + output,
               .a_stride = c.target_channels(),
               .b = windows.rows(),
               .offset = windows.offset(s, group),
               .rows = std::min(cut.slice, c.outputs - output),
               .columns = windows.depth(),
               .c = sums + part * filter_elements + (group * c.outputs + output) * c.depth() + s * windows.depth(),
               .c_stride = c.depth(),
               .add = k > first});
        }
      }
    }
  });
  if (cut.parts > 1) {
    tree_add(sums, cut.parts, filter_elements);
    std::copy_n(sums, filter_elements, gfilter);
  }
}

// A filter [outputs, taps, inputs] as [taps, inputs, outputs].
Tensor taps_first(const Correlation& c, const real* filter) {
  Tensor result = Tensor::empty({c.depth(), c.outputs});
  real* const to = result.mutable_data();
  constexpr int64_t kRows = 64;
  parallel_ranges(c.depth(), kRows, [&](int64_t begin, int64_t end) {
    train_kernels().product.transpose(filter + begin, c.depth(), c.outputs, end - begin, to + begin * c.outputs,
                                      c.outputs);
  });
  return result;
}

Depthwise depthwise(const Correlation& c) { return {c.images, c.h, c.w, c.groups}; }

void correlate(const Correlation& c, const real* source, const real* filter, const real* bias, real* target) {
  if (c.is_depthwise()) {
    depthwise_correlate(depthwise(c), source, filter, bias, target);
    return;
  }
  if (const auto* form = winograd_for(c)) {
    const Tensor by_tap = taps_first(c, filter);
    correlate_winograd(*form, c, source, {by_tap.data(), c.inputs * c.outputs, c.outputs}, bias, target);
    return;
  }
  if (!c.is_pointwise()) {
    const Tensor packed =
        pack_filter(c, filter, c.outputs * c.depth(), 1, c.depth(), [&](int64_t tap) { return tap * c.inputs; });
    correlate_dense(c, source, packed, bias, target);
    return;
  }
  multiply(MatrixIn(source, c.pixels(), c.inputs), MatrixIn(filter, c.outputs, c.inputs).t(),
           MatrixOut(target, c.pixels(), c.outputs), Store::kOverwrite, bias);
}

void filter_gradient(const Correlation& c, const real* source, const real* g, real* gfilter) {
  if (c.is_depthwise()) {
    depthwise_filter_gradient(depthwise(c), source, g, gfilter);
    return;
  }
  if (const auto* form = winograd_for(c)) {
    filter_gradient_winograd(*form, c, source, g, gfilter);
    return;
  }
  if (!c.is_pointwise()) {
    filter_gradient_dense(c, source, g, gfilter);
    return;
  }
  multiply(MatrixIn(g, c.pixels(), c.outputs).t(), MatrixIn(source, c.pixels(), c.inputs),
           MatrixOut(gfilter, c.outputs, c.inputs));
}

// ---- Input gradients -------------------------------------------------------------------------------

void input_gradient(const Correlation& c, const real* g, const real* filter, real* gx) {
  if (c.is_depthwise()) {
    depthwise_input_gradient(depthwise(c), g, filter, gx);
    return;
  }
  if (c.is_pointwise()) {
    multiply(MatrixIn(g, c.pixels(), c.outputs), MatrixIn(filter, c.outputs, c.inputs),
             MatrixOut(gx, c.pixels(), c.inputs));
    return;
  }
  const Phases rows = phases(c.h);
  const Phases cols = phases(c.w);
  const auto covers = [](const Phases& found, const WindowAxis& a) {
    return static_cast<int64_t>(found.size()) == std::min(a.stride, a.in);
  };
  if (!(covers(rows, c.h) && covers(cols, c.w))) {
    std::fill_n(gx, c.images * c.h.in * c.w.in * c.groups * c.inputs, real(0));
  }
  for (const Phase& h : rows) {
    for (const Phase& w : cols) {
      const Correlation phase{.images = c.images,
                              .h = h.axis,
                              .w = w.axis,
                              .groups = c.groups,
                              .inputs = c.outputs,
                              .outputs = c.inputs,
                              .target_h = c.h.in,
                              .target_w = c.w.in,
                              .step = {c.h.stride, c.w.stride},
                              .offset = {h.offset, w.offset},
                              .plain = c.plain};
      if (const auto* form = winograd_for(phase)) {  // one phase; the filter turned round, inputs as they lie
        correlate_winograd(*form, phase, g, {filter + 8 * c.inputs, -c.inputs, c.depth()}, nullptr, gx);
        continue;
      }
      const Tensor packed = pack_filter(phase, filter, c.outputs * c.depth(), c.depth(), 1, [&](int64_t tap) {
        const int64_t u = h.last_tap - tap / w.axis.taps * h.tap_step;
        const int64_t v = w.last_tap - tap % w.axis.taps * w.tap_step;
        return (u * c.w.taps + v) * c.inputs;
      });
      correlate_dense(phase, g, packed, nullptr, gx);
    }
  }
}

// Every channel `times` times in a row. A depthwise convolution with a multiplier is one without over these.
Tensor repeat_channels(const Tensor& x, int64_t times) {
  if (times == 1) {
    return x;
  }
  Tensor result = Tensor::empty(x.shape().with(-1, x.dim(-1) * times));
  const real* in = x.data();
  real* out = result.mutable_data();
  parallel_ranges(x.elements(), ceil_div(kElementGrain, times), [=](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      std::fill_n(out + k * times, times, in[k]);
    }
  });
  return result;
}

// The transpose of repeat_channels: adds each run of `times` channels.
Tensor sum_repeated(const Tensor& x, int64_t times) {
  if (times == 1) {
    return x;
  }
  Tensor result = Tensor::empty(x.shape().with(-1, x.dim(-1) / times));
  const real* in = x.data();
  real* out = result.mutable_data();
  parallel_ranges(result.elements(), ceil_div(kElementGrain, times), [=](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      out[k] = std::accumulate(in + k * times, in + (k + 1) * times, real(0));
    }
  });
  return result;
}

Correlation checked_convolution(const Variable& x, const Variable& filter, const Variable& bias,
                                const ConvGeometry& geometry) {
  require_defined("conv2d", x);
  require_defined("conv2d", filter);
  const Shape& xs = x.shape();
  const Shape& fs = filter.shape();
  const auto check = [&](bool holds, const auto&... sentence) {
    require(holds, "conv2d", sentence..., " (input ", xs, ", filter ", fs, ")");
  };
  const auto& [stride, padding, dilation, groups, plain] = geometry;
  check(xs.rank() == 4, "input has rank ", xs.rank(), ", expected [N,H,W,I]");
  check(fs.rank() == 4, "filter has rank ", fs.rank(), ", expected [O,KH,KW,I/groups]");
  check(groups >= 1, "groups ", groups, " is not positive");
  check(xs[3] % groups == 0, xs[3], " input channels do not divide into ", groups, " groups");
  check(fs[0] % groups == 0, fs[0], " output channels do not divide into ", groups, " groups");
  check(xs[3] == fs[3] * groups, "input has ", xs[3], " channels, filter expects ", fs[3] * groups);
  check(!bias.defined() || bias.shape() == Shape{fs[0]}, "bias has shape ", bias.shape(), ", expected [", fs[0], "]");
  Correlation c{.images = xs[0],
                .h = window_axis("conv2d", "vertical", xs[1], padding.top, padding.bottom, fs[1], stride.h, dilation.h,
                                 " (input ", xs, ", filter ", fs, ")"),
                .w = window_axis("conv2d", "horizontal", xs[2], padding.left, padding.right, fs[2], stride.w,
                                 dilation.w, " (input ", xs, ", filter ", fs, ")"),
                .groups = groups,
                .inputs = fs[3],
                .outputs = fs[0] / groups,
                .target_h = 0,
                .target_w = 0,
                .plain = plain};
  c.target_h = c.h.out;
  c.target_w = c.w.out;
  check(c.w.out <= Shape::kMaxElements / xs[0] / fs[0] / c.h.out, "an output of ", c.h.out, " x ", c.w.out,
        " pixels is too large");
  return c;
}

}  // namespace

int64_t window_positions(int64_t in, int64_t before, int64_t after, int64_t kernel, int64_t stride, int64_t dilation) {
  return window_axis("window_positions", "the", in, before, after, kernel, stride, dilation).out;
}

Variable conv2d(const Variable& x, const Variable& filter, const Variable& bias, const ConvGeometry& geometry) {
  Correlation c = checked_convolution(x, filter, bias, geometry);
  // A depthwise convolution with a multiplier is one without, over repeated channels.
  const int64_t multiplier = c.groups > 1 && c.inputs == 1 ? c.outputs : 1;
  c.groups *= multiplier;
  c.outputs /= multiplier;

  Tensor y = Tensor::empty({c.images, c.h.out, c.w.out, filter.shape()[0]});
  correlate(c, repeat_channels(x.value(), multiplier).data(), filter.value().data(), bias.value().data(),
            y.mutable_data());

  return make_op("conv2d", std::move(y), {x, filter, bias},
                 [c, multiplier, x = filter.requires_grad() ? x.value() : Tensor(),
                  filter = x.requires_grad() ? filter.value() : Tensor(), x_shape = x.shape(),
                  filter_shape = filter.shape(), want_bias = bias.requires_grad()](const Tensor& g) -> Gradients {
                   Gradients grads(3);
                   if (filter.defined()) {
                     Tensor gx = Tensor::empty(x_shape.with(-1, x_shape[-1] * multiplier));
                     input_gradient(c, g.data(), filter.data(), gx.mutable_data());
                     grads[0] = sum_repeated(gx, multiplier);
                   }
                   if (x.defined()) {
                     grads[1] = Tensor::empty(filter_shape);
                     filter_gradient(c, repeat_channels(x, multiplier).data(), g.data(), grads[1].mutable_data());
                   }
                   if (want_bias) {
                     grads[2] = Tensor::empty({g.dim(-1)});
                     column_sums(g.data(), g.elements() / g.dim(-1), g.dim(-1), grads[2].mutable_data());
                   }
                   return grads;
                 });
}

}  // namespace whittle::inline WHITTLE_PRECISION
