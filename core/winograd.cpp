#include "core/winograd.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <utility>

#include "core/error.h"
#include "core/loops.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

using Kernels = kernels::WinogradKernels<real>;

std::atomic<Convolution>& chosen() {
  static std::atomic<Convolution> algorithm{Convolution::kAuto};
  return algorithm;
}

// Tiles of m x m results. A buffer of transformed tiles is [points, tiles, channels]; `plane` is the distance from
// point to point, a little more than it needs to be: distances that are powers of two collide in a cache.
struct Tiles {
  int64_t m, down, across, count;

  Tiles(const Kernels& form, const Correlation& c)
      : m(form.outputs), down(ceil_div(c.h.out, m)), across(ceil_div(c.w.out, m)), count(c.images * down * across) {}

  struct Place {
    int64_t image, row, column;  // of the first result
  };
  Place operator[](int64_t tile) const { return {tile / (down * across), tile / across % down * m, tile % across * m}; }
};
int64_t plane(int64_t tiles, int64_t channels) { return tiles * channels + 16; }

// How many tiles to transform and multiply at a time: few enough that both buffers stay in a second-level cache, but
// enough that a product is worth reading its right side for.
constexpr int64_t kBufferElements = 128 * 1024;
constexpr int64_t kLeastTiles = 32;
constexpr int64_t kMostTiles = 120;
int64_t tiles_at_once(const Kernels& form, const Correlation& c) {
  const int64_t fitting = kBufferElements / (form.points * (c.inputs + c.outputs)) / 8 * 8;
  return std::clamp(fitting, kLeastTiles, kMostTiles);
}

constexpr int64_t kPieces = 8;

// Transforms of tiles [begin, end), one row of channels per tile from v on.
void transform_inputs(const Kernels& form, const Correlation& c, const Tiles& tiles, const real* source, int64_t begin,
                      int64_t end, real* v, int64_t point_stride) {
  for (int64_t tile = begin; tile < end; ++tile, v += c.inputs) {
    const auto [image, row, column] = tiles[tile];
    const int64_t y = row - c.h.before;
    const int64_t x = column - c.w.before;
    form.input({source + ((image * c.h.in + y) * c.w.in + x) * c.inputs, c.w.in * c.inputs, c.inputs},
               {-y, -x, c.h.in - y, c.w.in - x}, c.inputs, v, point_stride);
  }
}

// Of `columns` outputs; bias and target begin at the first of them.
void transform_outputs(const Kernels& form, const Correlation& c, const Tiles& tiles, const real* m,
                       int64_t point_stride, int64_t begin, int64_t end, int64_t columns, const real* bias,
                       real* target) {
  for (int64_t tile = begin; tile < end; ++tile, m += columns) {
    const auto [image, row, column] = tiles[tile];
    form.output(m, point_stride, columns, bias,
                {target + ((image * c.h.out + row) * c.w.out + column) * c.outputs, c.w.out * c.outputs, c.outputs},
                std::min(tiles.m, c.h.out - row), std::min(tiles.m, c.w.out - column));
  }
}

void transform_gradients(const Kernels& form, const Correlation& c, const Tiles& tiles, const real* g, int64_t begin,
                         int64_t end, real* z, int64_t point_stride) {
  for (int64_t tile = begin; tile < end; ++tile, z += c.outputs) {
    const auto [image, row, column] = tiles[tile];
    form.output_gradient({g + ((image * c.h.out + row) * c.w.out + column) * c.outputs, c.w.out * c.outputs, c.outputs},
                         std::min(tiles.m, c.h.out - row), std::min(tiles.m, c.w.out - column), c.outputs, z,
                         point_stride);
  }
}

// m_p[tile, .] = v_p[tile, .] B_p for one point: `columns` outputs, next to each other in m.
void multiply_point(const Correlation& c, const real* v, const real* b, int64_t tiles, int64_t columns, real* m) {
  constexpr int64_t kRows = 128;
  const int64_t offset = 0;
  for (int64_t first = 0; first < tiles; first += kRows) {
    const int64_t rows = std::min(kRows, tiles - first);
    std::array<const real*, kRows> left{};
    std::array<real*, kRows> out{};
    for (int64_t r = 0; r < rows; ++r) {
      left[static_cast<size_t>(r)] = v + (first + r) * c.inputs;
      out[static_cast<size_t>(r)] = m + (first + r) * columns;
    }
    train_kernels().product.row_product({.rows = rows,
                                         .a = left.data(),
                                         .offsets = &offset,
                                         .segments = 1,
                                         .depth = c.inputs,
                                         .b = b,
                                         .columns = columns,
                                         .c = out.data(),
                                         .bias = nullptr,
                                         .add = false});
  }
}

// u_p[outputs, inputs] (+)= sum over tiles of z_p v_p for one point and the outputs from z on.
void multiply_gradients(const Correlation& c, const real* z, const real* v, int64_t tiles, int64_t outputs, real* u,
                        bool add) {
  constexpr int64_t kPoints = 128;
  for (int64_t first = 0; first < tiles; first += kPoints) {
    const int64_t points = std::min(kPoints, tiles - first);
    std::array<const real*, kPoints> right{};
    for (int64_t i = 0; i < points; ++i) {
      right[static_cast<size_t>(i)] = v + (first + i) * c.inputs;
    }
    train_kernels().product.outer_product({.points = points,
                                           .a = z + first * c.outputs,
                                           .a_stride = c.outputs,
                                           .b = right.data(),
                                           .offset = 0,
                                           .rows = outputs,
                                           .columns = c.inputs,
                                           .c = u,
                                           .c_stride = c.inputs,
                                           .add = add || first > 0});
  }
}

}  // namespace

void set_convolution(Convolution algorithm) { chosen().store(algorithm, std::memory_order_relaxed); }

Convolution convolution_named(std::string_view name) {
  constexpr std::pair<std::string_view, Convolution> kNames[] = {{"auto", Convolution::kAuto},
                                                                 {"direct", Convolution::kDirect},
                                                                 {"winograd2", Convolution::kWinograd2},
                                                                 {"winograd4", Convolution::kWinograd4}};
  for (const auto& [known, algorithm] : kNames) {
    if (name == known) {
      return algorithm;
    }
  }
  fail("convolution", "there is no form called '", name, "'; there are auto, direct, winograd2 and winograd4");
}

const Kernels* winograd_for(const Correlation& c) {
  if (c.plain || c.groups != 1 || c.h.taps != 3 || c.w.taps != 3 || c.h.stride != 1 || c.w.stride != 1 ||
      c.h.dilation != 1 || c.w.dilation != 1 || !c.fills_target()) {
    return nullptr;
  }
  const TrainKernels& table = train_kernels();
  switch (chosen().load(std::memory_order_relaxed)) {
    case Convolution::kDirect:
      return nullptr;
    case Convolution::kWinograd2:
      return &table.winograd2;
    case Convolution::kWinograd4:
      return &table.winograd4;
    case Convolution::kAuto:
      break;
  }
  // Multiplications per result pixel, with a transform's additions counted as so many per point and channel.
  constexpr int64_t kLeastChannels = 16;
  constexpr double kTransform = 6;
  if (std::min(c.inputs, c.outputs) < kLeastChannels) {
    return nullptr;
  }
  const auto products = static_cast<double>(c.inputs * c.outputs);
  double best = 0.8 * 9 * products * static_cast<double>(c.pixels());
  const Kernels* form = nullptr;
  for (const Kernels* candidate : {&table.winograd4, &table.winograd2}) {
    const double cost = static_cast<double>(Tiles(*candidate, c).count * candidate->points) *
                        (products + kTransform * static_cast<double>(c.inputs + c.outputs));
    if (cost < best) {
      best = cost;
      form = candidate;
    }
  }
  return form;
}

namespace {

// Filters up to this size are transformed as a whole, and every block of tiles reads them; larger ones are
// transformed a few outputs at a time, and read every tile.
constexpr int64_t kFilterElements = int64_t{2} * 1024 * 1024;
// Numbers in the buffers of transformed tiles that such a filter reads at a time.
constexpr int64_t kStageElements = int64_t{3} * 1024 * 1024;

// A share of the outputs for one thread: whole panels.
int64_t outputs_at_once(const Correlation& c) {
  const int64_t panel = train_kernels().product.panel;
  return std::clamp(ceil_div(ceil_div(c.outputs, 2 * kPieces), panel), int64_t{1}, int64_t{2}) * panel;
}

void correlate_in_blocks(const Kernels& form, const Correlation& c, const Tiles& tiles, const real* source,
                         const WinogradFilter& filter, const real* bias, real* target) {
  const int64_t size = train_kernels().product.packed_size(c.inputs, c.outputs);
  Tensor packed = Tensor::empty({form.points, size});
  real* const b = packed.mutable_data();
  parallel_ranges(c.inputs, ceil_div(kElementGrain, form.points * c.outputs), [&](int64_t begin, int64_t end) {
    form.filter(filter.data, filter.input_stride, filter.tap_stride, begin, end, c.inputs, c.outputs, b, size);
  });
  const int64_t at_once = std::min(tiles_at_once(form, c), std::max<int64_t>(8, ceil_div(tiles.count, kPieces)));
  parallel_ranges(tiles.count, at_once, [&](int64_t begin, int64_t end) {
    const int64_t v_plane = plane(end - begin, c.inputs);
    const int64_t m_plane = plane(end - begin, c.outputs);
    Tensor buffer = Tensor::empty({form.points * (v_plane + m_plane)});
    real* const v = buffer.mutable_data();
    real* const m = v + form.points * v_plane;
    transform_inputs(form, c, tiles, source, begin, end, v, v_plane);
    for (int64_t p = 0; p < form.points; ++p) {
      multiply_point(c, v + p * v_plane, b + p * size, end - begin, c.outputs, m + p * m_plane);
    }
    transform_outputs(form, c, tiles, m, m_plane, begin, end, c.outputs, bias, target);
  });
}

void correlate_by_outputs(const Kernels& form, const Correlation& c, const Tiles& tiles, const real* source,
                          const WinogradFilter& filter, const real* bias, real* target) {
  const int64_t stage =
      std::clamp<int64_t>(kStageElements / (form.points * c.inputs), kLeastTiles, std::max(kLeastTiles, tiles.count));
  const int64_t v_plane = plane(stage, c.inputs);
  Tensor inputs = Tensor::empty({form.points * v_plane});
  real* const v = inputs.mutable_data();
  for (int64_t first = 0; first < tiles.count; first += stage) {
    const int64_t here = std::min(stage, tiles.count - first);
    parallel_ranges(here, ceil_div(here, kPieces), [&](int64_t begin, int64_t end) {
      transform_inputs(form, c, tiles, source, first + begin, first + end, v + begin * c.inputs, v_plane);
    });
    parallel_ranges(c.outputs, outputs_at_once(c), [&](int64_t output, int64_t output_end) {
      const int64_t outputs = output_end - output;
      const int64_t size = train_kernels().product.packed_size(c.inputs, outputs);
      const int64_t m_plane = plane(here, outputs);
      Tensor buffer = Tensor::empty({form.points * (size + m_plane)});
      real* const b = buffer.mutable_data();
      real* const m = b + form.points * size;
      form.filter(filter.data + output, filter.input_stride, filter.tap_stride, 0, c.inputs, c.inputs, outputs, b,
                  size);
      for (int64_t p = 0; p < form.points; ++p) {
        multiply_point(c, v + p * v_plane, b + p * size, here, outputs, m + p * m_plane);
      }
      transform_outputs(form, c, tiles, m, m_plane, first, first + here, outputs,
                        bias == nullptr ? nullptr : bias + output, target + output);
    });
  }
}

// The sums of every point over all tiles, in parts that tree_add() joins.
void filter_gradient_in_parts(const Kernels& form, const Correlation& c, const Tiles& tiles, const real* source,
                              const real* g, real* gfilter) {
  const int64_t u_plane = c.outputs * c.inputs;
  const int64_t elements = form.points * u_plane;
  const int64_t at_once = tiles_at_once(form, c);
  Tensor sums = Tensor::empty({kPieces, elements});
  real* const u = sums.mutable_data();
  parallel_for(kPieces, [&](int64_t part) {
    const int64_t first = part * tiles.count / kPieces;
    const int64_t last = (part + 1) * tiles.count / kPieces;
    const int64_t v_plane = plane(at_once, c.inputs);
    const int64_t z_plane = plane(at_once, c.outputs);
    Tensor buffer = Tensor::empty({form.points * (v_plane + z_plane)});
    real* const v = buffer.mutable_data();
    real* const z = v + form.points * v_plane;
    for (int64_t begin = first; begin < last; begin += at_once) {
      const int64_t end = std::min(begin + at_once, last);
      transform_inputs(form, c, tiles, source, begin, end, v, v_plane);
      transform_gradients(form, c, tiles, g, begin, end, z, z_plane);
      for (int64_t p = 0; p < form.points; ++p) {
        multiply_gradients(c, z + p * z_plane, v + p * v_plane, end - begin, c.outputs,
                           u + part * elements + p * u_plane, begin > first);
      }
    }
  });
  tree_add(u, kPieces, elements);
  parallel_ranges(c.outputs, ceil_div(kElementGrain, form.points * c.inputs), [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o) {
      form.filter_gradient(u + o * c.inputs, u_plane, c.inputs, gfilter + o * c.depth(), c.inputs);
    }
  });
}

// Large filters and few tiles: each thread has some outputs and reads every tile.
void filter_gradient_by_outputs(const Kernels& form, const Correlation& c, const Tiles& tiles, const real* source,
                                const real* g, real* gfilter) {
  const int64_t stage = std::clamp<int64_t>(kStageElements / (form.points * (c.inputs + c.outputs)), kLeastTiles,
                                            std::max(kLeastTiles, tiles.count));
  const int64_t v_plane = plane(stage, c.inputs);
  const int64_t z_plane = plane(stage, c.outputs);
  Tensor buffer = Tensor::empty({form.points * (v_plane + z_plane)});
  real* const v = buffer.mutable_data();
  real* const z = v + form.points * v_plane;
  for (int64_t first = 0; first < tiles.count; first += stage) {
    const int64_t here = std::min(stage, tiles.count - first);
    parallel_ranges(here, ceil_div(here, kPieces), [&](int64_t begin, int64_t end) {
      transform_inputs(form, c, tiles, source, first + begin, first + end, v + begin * c.inputs, v_plane);
      transform_gradients(form, c, tiles, g, first + begin, first + end, z + begin * c.outputs, z_plane);
    });
    constexpr int64_t kOutputs = 32;
    parallel_ranges(c.outputs, kOutputs, [&](int64_t output, int64_t output_end) {
      const int64_t u_plane = (output_end - output) * c.inputs;
      Tensor sums = Tensor::empty({form.points * u_plane + c.depth()});
      real* const u = sums.mutable_data();
      real* const addend = u + form.points * u_plane;
      for (int64_t p = 0; p < form.points; ++p) {
        multiply_gradients(c, z + p * z_plane + output, v + p * v_plane, here, output_end - output, u + p * u_plane,
                           false);
      }
      for (int64_t o = output; o < output_end; ++o) {
        real* const to = gfilter + o * c.depth();
        form.filter_gradient(u + (o - output) * c.inputs, u_plane, c.inputs, first == 0 ? to : addend, c.inputs);
        for (int64_t k = 0; first > 0 && k < c.depth(); ++k) {
          to[k] += addend[k];
        }
      }
    });
  }
}

}  // namespace

void correlate_winograd(const Kernels& form, const Correlation& c, const real* source, const WinogradFilter& filter,
                        const real* bias, real* target) {
  const bool large = form.points * c.inputs * c.outputs > kFilterElements;
  (large ? correlate_by_outputs : correlate_in_blocks)(form, c, Tiles(form, c), source, filter, bias, target);
}

void filter_gradient_winograd(const Kernels& form, const Correlation& c, const real* source, const real* g,
                              real* gfilter) {
  constexpr int64_t kPartialElements = int64_t{640} * 1024;
  const Tiles tiles(form, c);
  const bool small = form.points * c.inputs * c.outputs <= kPartialElements && tiles.count >= kPieces * kLeastTiles;
  (small ? filter_gradient_in_parts : filter_gradient_by_outputs)(form, c, tiles, source, g, gfilter);
}

}  // namespace whittle::inline WHITTLE_PRECISION
