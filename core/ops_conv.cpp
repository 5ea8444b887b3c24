// Convolution in two dimensions: dense, grouped and depthwise.
//
// There is one loop for values and one for filter gradients. correlate() slides a
// filter over images; the forward pass is one call of it. The gradient with
// respect to the input is correlate() again, over g with the filter turned round,
// once per phase of the stride (core/window.h). So every result pixel is computed
// whole by the tile that owns it, and nothing is scattered or shared.
//
// Both come in two forms. Dense and grouped convolutions copy the patches under
// the windows of a tile of pixels into a matrix and multiply it by the filter;
// patches exist one tile at a time and stay in cache. Depthwise ones are plain
// loops with the channels innermost. A 1x1 convolution is multiply() as it is.
//
// Not here: Winograd and FFT forms, whose rounding differs from the definition's,
// and kernels for particular instruction sets.

#include <numeric>

#include "core/blas.h"
#include "core/error.h"
#include "core/loops.h"
#include "core/ops.h"
#include "core/window.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

// A convolution as the loops see it. Filters are [groups * outputs, h.taps, w.taps, inputs]; the source has
// groups * inputs channels, the target groups * outputs. Window (i, j) is the target's pixel
// (i step.h + offset.h, j step.w + offset.w).
struct Correlation {
  int64_t images;
  WindowAxis h, w;
  int64_t groups, inputs, outputs;  // channels per group
  int64_t target_h, target_w;
  Size2 step{1, 1};
  Size2 offset{0, 0};

  int64_t pixels() const { return images * h.out * w.out; }
  int64_t depth() const { return h.taps * w.taps * inputs; }  // numbers in a patch
  bool fills_target() const { return step == Size2{1, 1}; }   // then window (i, j) is pixel (i, j)
  bool is_depthwise() const { return inputs == 1 && outputs == 1 && groups > 1; }
  bool is_pointwise() const {  // patches are the pixels themselves
    return groups == 1 && h.reads_each_once() && w.reads_each_once() && fills_target();
  }
};

// Pixels per tile. At most what keeps the patches in a second-level cache, at least what makes a product worth its
// call; in between, eight tiles, so that small layers too have work for several threads.
int64_t tile_pixels(const Correlation& c) {
  constexpr int64_t kPatchElements = 128 * 1024;
  constexpr int64_t kLeastProducts = 64 * 1024;
  const int64_t most = std::clamp<int64_t>(kPatchElements / c.depth() / 32 * 32, 128, 512);
  const int64_t least = std::clamp<int64_t>(kLeastProducts / (c.depth() * c.outputs) / 32 * 32, 32, most);
  return std::clamp(ceil_div(ceil_div(c.pixels(), 8), 32) * 32, least, most);
}

// Parts of a filter gradient: each sums its share of the pixels, and tree_add() joins them. At most eight, fewer
// where there are not that many tiles or the parts would fill memory.
int64_t gradient_parts(int64_t tiles, int64_t filter_elements) {
  constexpr int64_t kPartialElements = int64_t{1} << 24;
  return std::min(tiles, std::clamp<int64_t>(kPartialElements / filter_elements, 2, 8));
}

// out[j out_stride + i] = in[i in_stride + j], in strips that keep both sides in cache.
void transpose_copy(const real* in, int64_t in_stride, int64_t rows, int64_t cols, real* out, int64_t out_stride) {
  constexpr int64_t kStrip = 16;
  for (int64_t first = 0; first < rows; first += kStrip) {
    const int64_t last = std::min(first + kStrip, rows);
    for (int64_t j = 0; j < cols; ++j) {
      for (int64_t i = first; i < last; ++i) {
        out[j * out_stride + i] = in[i * in_stride + j];
      }
    }
  }
}

// Writes the patches of pixels [begin, end) for one group, one row of c.depth() numbers each.
void copy_patches(const Correlation& c, const real* source, int64_t group, int64_t begin, int64_t end, real* patch) {
  const int64_t channels = c.groups * c.inputs;
  const int64_t row_length = c.w.taps * c.inputs;
  const bool taps_touch = c.groups == 1 && c.w.dilation == 1;  // neighbouring taps are neighbours in memory
  for (int64_t pixel = begin; pixel < end; ++pixel) {
    const int64_t j = pixel % c.w.out;
    const int64_t i = pixel / c.w.out % c.h.out;
    const int64_t n = pixel / (c.w.out * c.h.out);
    const Range inside = c.w.taps_inside(j);
    for (int64_t u = 0; u < c.h.taps; ++u, patch += row_length) {
      const int64_t y = c.h.at(i, u);
      if (y < 0 || y >= c.h.in || inside.empty()) {
        std::fill_n(patch, row_length, real(0));
        continue;
      }
      const real* from = source + ((n * c.h.in + y) * c.w.in + c.w.at(j, inside.begin)) * channels + group * c.inputs;
      std::fill_n(patch, inside.begin * c.inputs, real(0));
      if (taps_touch) {
        std::copy_n(from, inside.size() * c.inputs, patch + inside.begin * c.inputs);
      } else {
        for (int64_t v = inside.begin; v < inside.end; ++v) {
          std::copy_n(from + (v - inside.begin) * c.w.dilation * channels, c.inputs, patch + v * c.inputs);
        }
      }
      std::fill_n(patch + inside.end * c.inputs, (c.w.taps - inside.end) * c.inputs, real(0));
    }
  }
}

// Copies `row` into every row of `out`: a bias, to which a product is then added.
void repeat_row(const real* row, const MatrixOut& out) {
  parallel_ranges(out.rows, ceil_div(kElementGrain, out.cols), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      std::copy_n(row, out.cols, out.data + r * out.stride);
    }
  });
}

// target = patches filter^T + bias, tile by tile.
void correlate_dense(const Correlation& c, const real* source, const real* filter, const real* bias, real* target) {
  const int64_t channels = c.groups * c.outputs;
  const int64_t grain = tile_pixels(c);
  parallel_for(ceil_div(c.pixels(), grain) * c.groups, [&](int64_t tile) {
    const int64_t group = tile % c.groups;
    const int64_t begin = tile / c.groups * grain;
    const int64_t rows = std::min(grain, c.pixels() - begin);
    Tensor patches = Tensor::empty({rows, c.depth()});
    copy_patches(c, source, group, begin, begin + rows, patches.mutable_data());

    // Where the target's pixels are not neighbours, the product goes to a block of its own first.
    Tensor block = c.fills_target() ? Tensor() : Tensor::empty({rows, c.outputs});
    const MatrixOut out = c.fills_target()
                              ? MatrixOut(target + begin * channels + group * c.outputs, rows, c.outputs, channels)
                              : MatrixOut(block.mutable_data(), rows, c.outputs);
    if (bias != nullptr) {
      repeat_row(bias + group * c.outputs, out);
    }
    gemm(MatrixIn(patches.data(), rows, c.depth()),
         MatrixIn(filter + group * c.outputs * c.depth(), c.outputs, c.depth()).t(), out,
         bias != nullptr ? Store::kAdd : Store::kOverwrite);
    for (int64_t r = 0; block.defined() && r < rows; ++r) {
      const int64_t pixel = begin + r;
      const int64_t x = pixel % c.w.out * c.step.w + c.offset.w;
      const int64_t y = pixel / c.w.out % c.h.out * c.step.h + c.offset.h;
      const int64_t n = pixel / (c.w.out * c.h.out);
      std::copy_n(block.data() + r * c.outputs, c.outputs,
                  target + ((n * c.target_h + y) * c.target_w + x) * channels + group * c.outputs);
    }
  });
}

// gfilter = g^T patches, g in place of the target.
void filter_gradient_dense(const Correlation& c, const real* source, const real* g, real* gfilter) {
  const int64_t channels = c.groups * c.outputs;
  const int64_t filter_elements = channels * c.depth();
  const int64_t grain = tile_pixels(c);
  const int64_t tiles = ceil_div(c.pixels(), grain);
  const int64_t parts = gradient_parts(tiles, filter_elements);
  Tensor partial = Tensor::empty({parts, filter_elements});
  parallel_for(parts * c.groups, [&](int64_t index) {
    const int64_t part = index / c.groups;
    const int64_t group = index % c.groups;
    Tensor patches = Tensor::empty({grain, c.depth()});
    const MatrixOut sum(partial.mutable_data() + part * filter_elements + group * c.outputs * c.depth(), c.outputs,
                        c.depth());
    const int64_t first = part * tiles / parts;
    for (int64_t tile = first; tile < (part + 1) * tiles / parts; ++tile) {
      const int64_t begin = tile * grain;
      const int64_t rows = std::min(grain, c.pixels() - begin);
      copy_patches(c, source, group, begin, begin + rows, patches.mutable_data());
      gemm(MatrixIn(g + begin * channels + group * c.outputs, rows, c.outputs, channels).t(),
           MatrixIn(patches.data(), rows, c.depth()), sum, tile == first ? Store::kOverwrite : Store::kAdd);
    }
  });
  tree_add(partial.mutable_data(), parts, filter_elements);
  std::copy_n(partial.data(), filter_elements, gfilter);
}

void correlate_depthwise(const Correlation& c, const real* source, const real* filter, const real* bias, real* target) {
  const int64_t channels = c.groups;
  Tensor by_tap = Tensor::empty({c.depth(), channels});  // so that channels are innermost here too
  transpose_copy(filter, c.depth(), channels, c.depth(), by_tap.mutable_data(), channels);
  const real* weights = by_tap.data();
  const int64_t grain = ceil_div(kElementGrain, c.w.out * channels);
  parallel_ranges(c.images * c.h.out, grain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t n = row / c.h.out;
      const int64_t i = row % c.h.out;
      const Range rows = c.h.taps_inside(i);
      real* out = target + ((n * c.target_h + i * c.step.h + c.offset.h) * c.target_w + c.offset.w) * channels;
      for (int64_t j = 0; j < c.w.out; ++j, out += c.step.w * channels) {
        if (bias != nullptr) {
          std::copy_n(bias, channels, out);
        } else {
          std::fill_n(out, channels, real(0));
        }
        const Range cols = c.w.taps_inside(j);
        for (int64_t u = rows.begin; u < rows.end; ++u) {
          for (int64_t v = cols.begin; v < cols.end; ++v) {
            const real* in = source + ((n * c.h.in + c.h.at(i, u)) * c.w.in + c.w.at(j, v)) * channels;
            const real* weight = weights + (u * c.w.taps + v) * channels;
            for (int64_t k = 0; k < channels; ++k) {
              out[k] += in[k] * weight[k];
            }
          }
        }
      }
    }
  });
}

void filter_gradient_depthwise(const Correlation& c, const real* source, const real* g, real* gfilter) {
  const int64_t channels = c.groups;
  const int64_t filter_elements = c.depth() * channels;
  const int64_t image_rows = c.images * c.h.out;
  const int64_t parts = gradient_parts(image_rows, filter_elements);
  Tensor partial = Tensor::zeros({parts, filter_elements});
  Tensor scratch = Tensor::empty({parts, filter_elements});
  parallel_for(parts, [&](int64_t part) {
    // One row of pixels is summed on its own first: short sums keep more digits than one long one.
    real* total = partial.mutable_data() + part * filter_elements;
    real* row_sum = scratch.mutable_data() + part * filter_elements;
    for (int64_t row = part * image_rows / parts; row < (part + 1) * image_rows / parts; ++row) {
      const int64_t n = row / c.h.out;
      const int64_t i = row % c.h.out;
      const Range rows = c.h.taps_inside(i);
      std::fill_n(row_sum, filter_elements, real(0));
      for (int64_t j = 0; j < c.w.out; ++j) {
        const real* g_pixel = g + (row * c.w.out + j) * channels;
        const Range cols = c.w.taps_inside(j);
        for (int64_t u = rows.begin; u < rows.end; ++u) {
          for (int64_t v = cols.begin; v < cols.end; ++v) {
            const real* in = source + ((n * c.h.in + c.h.at(i, u)) * c.w.in + c.w.at(j, v)) * channels;
            real* sum = row_sum + (u * c.w.taps + v) * channels;
            for (int64_t k = 0; k < channels; ++k) {
              sum[k] += in[k] * g_pixel[k];
            }
          }
        }
      }
      for (int64_t k = 0; k < filter_elements; ++k) {
        total[k] += row_sum[k];
      }
    }
  });
  tree_add(partial.mutable_data(), parts, filter_elements);
  transpose_copy(partial.data(), channels, c.depth(), channels, gfilter, c.depth());
}

void correlate(const Correlation& c, const real* source, const real* filter, const real* bias, real* target) {
  if (!c.is_pointwise()) {
    (c.is_depthwise() ? correlate_depthwise : correlate_dense)(c, source, filter, bias, target);
    return;
  }
  if (bias != nullptr) {
    repeat_row(bias, MatrixOut(target, c.pixels(), c.outputs));
  }
  multiply(MatrixIn(source, c.pixels(), c.inputs), MatrixIn(filter, c.outputs, c.inputs).t(),
           MatrixOut(target, c.pixels(), c.outputs), bias != nullptr ? Store::kAdd : Store::kOverwrite);
}

void filter_gradient(const Correlation& c, const real* source, const real* g, real* gfilter) {
  if (!c.is_pointwise()) {
    (c.is_depthwise() ? filter_gradient_depthwise : filter_gradient_dense)(c, source, g, gfilter);
    return;
  }
  multiply(MatrixIn(g, c.pixels(), c.outputs).t(), MatrixIn(source, c.pixels(), c.inputs),
           MatrixOut(gfilter, c.outputs, c.inputs));
}

// The filter of c seen from the input, for one pair of phases: [groups * inputs, taps, taps, outputs].
Tensor turned_filter(const Correlation& c, const real* filter, const Phase& h, const Phase& w) {
  Tensor turned = Tensor::empty({c.groups * c.inputs, h.axis.taps, w.axis.taps, c.outputs});
  real* out = turned.mutable_data();
  const int64_t taps = h.axis.taps * w.axis.taps;
  parallel_for(taps, [&](int64_t tap) {
    const int64_t u = h.last_tap - tap / w.axis.taps * h.tap_step;
    const int64_t v = w.last_tap - tap % w.axis.taps * w.tap_step;
    for (int64_t group = 0; group < c.groups; ++group) {
      transpose_copy(filter + group * c.outputs * c.depth() + (u * c.w.taps + v) * c.inputs, c.depth(), c.outputs,
                     c.inputs, out + (group * c.inputs * taps + tap) * c.outputs, taps * c.outputs);
    }
  });
  return turned;
}

void input_gradient(const Correlation& c, const real* g, const real* filter, real* gx) {
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
      const Tensor turned = turned_filter(c, filter, h, w);
      correlate({.images = c.images,
                 .h = h.axis,
                 .w = w.axis,
                 .groups = c.groups,
                 .inputs = c.outputs,
                 .outputs = c.inputs,
                 .target_h = c.h.in,
                 .target_w = c.w.in,
                 .step = {c.h.stride, c.w.stride},
                 .offset = {h.offset, w.offset}},
                g, turned.data(), nullptr, gx);
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
  const auto& [stride, padding, dilation, groups] = geometry;
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
                .target_w = 0};
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
