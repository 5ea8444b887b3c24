// Pooling: the largest value or the mean of each window.
//
// Padding is smaller than the kernel on each side, and so every window holds at
// least one pixel: it starts at or before in + after - kernel < in, and ends at or
// behind kernel - before > 0. Padding therefore never needs a value.
//
// Windows may overlap, and a gradient scattered from them would be written by
// several tiles. Both backward passes gather instead: each row of gx collects
// from the windows that cover it.

#include <limits>

#include "core/error.h"
#include "core/loops.h"
#include "core/ops.h"
#include "core/pool.h"
#include "core/window.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

struct Pooling {
  int64_t images;
  WindowAxis h, w;
  int64_t channels;

  Shape input_shape() const { return {images, h.in, w.in, channels}; }
  Shape output_shape() const { return {images, h.out, w.out, channels}; }
};

Pooling checked_pooling(const char* op, const Variable& x, const PoolGeometry& geometry) {
  require_defined(op, x);
  const Shape& shape = x.shape();
  const auto& [kernel, stride, padding] = geometry;
  require(shape.rank() == 4, op, "input has shape ", shape, ", expected [N,H,W,C]");
  require(std::max(padding.top, padding.bottom) < kernel.h && std::max(padding.left, padding.right) < kernel.w, op,
          "padding {", padding.top, ",", padding.left, ",", padding.bottom, ",", padding.right,
          "} is not smaller than the kernel of ", kernel.h, " x ", kernel.w, " (input ", shape, ")");
  return {.images = shape[0],
          .h = window_axis(op, "vertical", shape[1], padding.top, padding.bottom, kernel.h,
                           stride.h == 0 ? kernel.h : stride.h, 1, " (input ", shape, ")"),
          .w = window_axis(op, "horizontal", shape[2], padding.left, padding.right, kernel.w,
                           stride.w == 0 ? kernel.w : stride.w, 1, " (input ", shape, ")"),
          .channels = shape[3]};
}

// A new tensor whose pixels are written by compute(x_image, i, j, window, y_pixel), once for every window (i, j) of
// every image; `window` counts them.
template <class Compute>
Tensor for_each_window(const Pooling& p, const real* x, Compute compute) {
  Tensor y = Tensor::empty(p.output_shape());
  real* out = y.mutable_data();
  // A tile is some rows of windows, and costs what reading them costs.
  const int64_t reads = std::min(std::min(p.h.taps, p.h.in) * std::min(p.w.taps, p.w.in), kElementGrain);
  const int64_t row_elements = p.w.out * p.channels * reads;
  parallel_ranges(p.images * p.h.out, ceil_div(kElementGrain, row_elements), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const real* image = x + row / p.h.out * p.h.in * p.w.in * p.channels;
      for (int64_t j = 0; j < p.w.out; ++j) {
        const int64_t window = row * p.w.out + j;
        compute(image, row % p.h.out, j, window, out + window * p.channels);
      }
    }
  });
  return y;
}

// gx = the sum of what add(i, j, window, tap, gx_pixel) adds to each pixel, over the windows (i, j) that cover it and
// the tap each does it with. `window` counts output pixels, `tap` is u * kernel.w + v. The order is fixed.
template <class Add>
Tensor gather_gradient(const Pooling& p, Add add) {
  Tensor gx = Tensor::empty(p.input_shape());
  real* out = gx.mutable_data();
  const int64_t row_elements = p.w.in * p.channels;
  parallel_ranges(p.images * p.h.in, ceil_div(kElementGrain, row_elements), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      real* gx_row = out + row * row_elements;
      std::fill_n(gx_row, row_elements, real(0));
      const int64_t n = row / p.h.in;
      const int64_t y = row % p.h.in;
      const Range windows = p.h.windows_over(y);
      for (int64_t i = windows.begin; i < windows.end; ++i) {
        const int64_t u = y - p.h.at(i, 0);
        for (int64_t j = 0; j < p.w.out; ++j) {
          const int64_t window = (n * p.h.out + i) * p.w.out + j;
          const Range inside = p.w.taps_inside(j);
          for (int64_t v = inside.begin; v < inside.end; ++v) {
            add(i, j, window, u * p.w.taps + v, gx_row + p.w.at(j, v) * p.channels);
          }
        }
      }
    }
  });
  return gx;
}

// Where `in` is larger than `best`, or the first NaN: takes it over and notes the tap.
template <class Tap>
void keep_largest(const real* in, Tap tap, int64_t channels, real* best, Tap* winner) {
  for (int64_t k = 0; k < channels; ++k) {
    const real a = in[k];
    const real b = best[k];
    const Tap w = winner[k];
    const bool wins = (a > b) | ((a != a) & (b == b));
    best[k] = wins ? a : b;
    winner[k] = wins ? tap : w;
  }
}

// Backward needs to know which tap won. That is one byte per output for kernels of up to 256 taps (Tap = uint8_t),
// where keeping x to find the winner again would hold on to four bytes per input, and y besides.
template <class Tap>
Variable max_pool_with(const Variable& x, const Pooling& p) {
  std::vector<Tap, PoolAllocator<Tap>> winners(static_cast<size_t>(p.output_shape().elements()));
  Tensor y =
      for_each_window(p, x.value().data(), [&](const real* image, int64_t i, int64_t j, int64_t window, real* best) {
        const Range rows = p.h.taps_inside(i);
        const Range cols = p.w.taps_inside(j);
        const auto pixel = [&](int64_t u, int64_t v) {
          return image + (p.h.at(i, u) * p.w.in + p.w.at(j, v)) * p.channels;
        };
        Tap* winner = winners.data() + window * p.channels;
        std::copy_n(pixel(rows.begin, cols.begin), p.channels, best);
        std::fill_n(winner, p.channels, static_cast<Tap>(rows.begin * p.w.taps + cols.begin));
        for (int64_t u = rows.begin; u < rows.end; ++u) {
          for (int64_t v = cols.begin; v < cols.end; ++v) {
            keep_largest(pixel(u, v), static_cast<Tap>(u * p.w.taps + v), p.channels, best, winner);
          }
        }
      });
  return make_op("max_pool", std::move(y), {x}, [p, winners = std::move(winners)](const Tensor& g) -> Gradients {
    return {gather_gradient(p, [&](int64_t, int64_t, int64_t window, int64_t tap, real* gx) {
      const real* g_pixel = g.data() + window * p.channels;
      const Tap* winner = winners.data() + window * p.channels;
      for (int64_t k = 0; k < p.channels; ++k) {
        const real passed = g_pixel[k];
        gx[k] += winner[k] == static_cast<Tap>(tap) ? passed : real(0);
      }
    })};
  });
}

}  // namespace

Variable max_pool(const Variable& x, const PoolGeometry& geometry) {
  const Pooling p = checked_pooling("max_pool", x, geometry);
  // A window has no more taps inside than x has pixels, but it numbers them all.
  const int64_t taps = checked_product(p.h.taps, p.w.taps, "max_pool");
  return taps <= 256 ? max_pool_with<uint8_t>(x, p) : max_pool_with<int64_t>(x, p);
}

Variable avg_pool(const Variable& x, const PoolGeometry& geometry) {
  const Pooling p = checked_pooling("avg_pool", x, geometry);
  Tensor y = for_each_window(p, x.value().data(), [&](const real* image, int64_t i, int64_t j, int64_t, real* mean) {
    const Range rows = p.h.taps_inside(i);
    const Range cols = p.w.taps_inside(j);
    std::fill_n(mean, p.channels, real(0));
    for (int64_t u = rows.begin; u < rows.end; ++u) {
      for (int64_t v = cols.begin; v < cols.end; ++v) {
        const real* in = image + (p.h.at(i, u) * p.w.in + p.w.at(j, v)) * p.channels;
        for (int64_t k = 0; k < p.channels; ++k) {
          mean[k] += in[k];
        }
      }
    }
    const auto count = static_cast<real>(rows.size() * cols.size());
    for (int64_t k = 0; k < p.channels; ++k) {
      mean[k] /= count;
    }
  });
  return make_op("avg_pool", std::move(y), {x}, [p](const Tensor& g) -> Gradients {
    return {gather_gradient(p, [&](int64_t i, int64_t j, int64_t window, int64_t, real* gx) {
      const real* g_pixel = g.data() + window * p.channels;
      const auto count = static_cast<real>(p.h.taps_inside(i).size() * p.w.taps_inside(j).size());
      for (int64_t k = 0; k < p.channels; ++k) {
        gx[k] += g_pixel[k] / count;
      }
    })};
  });
}

Variable global_avg_pool(const Variable& x) {
  require_defined("global_avg_pool", x);
  require(x.shape().rank() == 4, "global_avg_pool", "input has shape ", x.shape(), ", expected [N,H,W,C]");
  const int64_t pixels = x.shape().elements(1, 3);
  const int64_t channels = x.shape()[3];
  const real* in = x.value().data();
  Tensor y = Tensor::empty({x.shape()[0], channels});
  real* means = y.mutable_data();
  const auto count = static_cast<real>(pixels);
  parallel_for(x.shape()[0], [=](int64_t n) {
    real* mean = means + n * channels;
    column_sums(in + n * pixels * channels, pixels, channels, mean);
    for (int64_t k = 0; k < channels; ++k) {
      mean[k] /= count;
    }
  });
  return make_op(
      "global_avg_pool", std::move(y), {x}, [shape = x.shape(), pixels, channels, count](const Tensor& g) -> Gradients {
        Tensor gx = Tensor::empty(shape);
        real* out = gx.mutable_data();
        const real* in_g = g.data();
        parallel_ranges(shape[0] * pixels, ceil_div(kElementGrain, channels), [=](int64_t begin, int64_t end) {
          for (int64_t pixel = begin; pixel < end; ++pixel) {
            for (int64_t k = 0; k < channels; ++k) {
              out[pixel * channels + k] = in_g[pixel / pixels * channels + k] / count;
            }
          }
        });
        return {gx};
      });
}

}  // namespace whittle::inline WHITTLE_PRECISION
