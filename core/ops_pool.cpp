// Pooling: the largest value or the mean of each window.
//
// Padding is smaller than the kernel on each side, and so every window holds at
// least one pixel: it starts at or before in + after - kernel < in, and ends at or
// behind kernel - before > 0. Padding therefore never needs a value.
//
// Windows may overlap, and a gradient scattered from them would be written by
// several tiles. Both backward passes gather instead: each row of gx collects
// from the windows that cover it. What happens along a row is a kernel
// (kernels/train/pool.h).

#include "core/error.h"
#include "core/loops.h"
#include "core/ops.h"
#include "core/pool.h"
#include "core/train_kernels.h"
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

kernels::PoolRow row_of(const Pooling& p) { return {p.channels, p.w.in, p.w.out, p.w.taps, p.w.stride, p.w.before}; }

// A new tensor whose rows are written by pool(source, first, y_row), `first` being where they start.
template <class Pool>
Tensor pool_rows(const Pooling& p, const real* x, Pool pool) {
  Tensor y = Tensor::empty(p.output_shape());
  real* out = y.mutable_data();
  // A tile is some rows of windows, and costs what reading them costs.
  const int64_t reads = std::min(std::min(p.h.taps, p.h.in) * std::min(p.w.taps, p.w.in), kElementGrain);
  const int64_t row_elements = p.w.out * p.channels;
  const int64_t step = p.w.in * p.channels;
  parallel_ranges(p.images * p.h.out, ceil_div(kElementGrain, row_elements * reads), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t i = row % p.h.out;
      const Range taps = p.h.taps_inside(i);
      pool({.data = x + (row / p.h.out * p.h.in + p.h.at(i, taps.begin)) * step,
            .step = step,
            .u = taps.begin,
            .rows = taps.size()},
           row * row_elements, out + row * row_elements);
    }
  });
  return y;
}

// gx = the sum of what spread(gradient, first, i) adds to each row of gx, over the rows i of windows that cover it, in
// order; `first` is where such a row starts. Where windows lie side by side, each row of gx is written once instead.
template <class Spread>
Tensor gather_gradient(const Pooling& p, const real* g, Spread spread) {
  const auto side_by_side = [](const WindowAxis& a) {
    return a.stride == a.taps && a.before == 0 && a.out * a.stride == a.in;
  };
  const bool add = !(side_by_side(p.h) && side_by_side(p.w));
  Tensor gx = Tensor::empty(p.input_shape());
  real* out = gx.mutable_data();
  const int64_t row_elements = p.w.in * p.channels;
  parallel_ranges(p.images * p.h.in, ceil_div(kElementGrain, row_elements), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      real* gx_row = out + row * row_elements;
      if (add) {
        std::fill_n(gx_row, row_elements, real(0));
      }
      const int64_t y = row % p.h.in;
      const Range windows = p.h.windows_over(y);
      for (int64_t i = windows.begin; i < windows.end; ++i) {
        const int64_t first = (row / p.h.in * p.h.out + i) * p.w.out * p.channels;
        spread({.g = g + first, .u = y - p.h.at(i, 0), .add = add, .gx = gx_row}, first, i);
      }
    }
  });
  return gx;
}

// Backward needs to know which tap won. That is one byte per output for kernels of up to 256 taps (Tap = uint8_t),
// where keeping x to find the winner again would hold on to four bytes per input, and y besides.
template <class Tap, class Forward, class Gradient>
Variable max_pool_with(const Variable& x, const Pooling& p, Forward forward, Gradient gradient) {
  std::vector<Tap, PoolAllocator<Tap>> winners(static_cast<size_t>(p.output_shape().elements()));
  Tensor y = pool_rows(p, x.value().data(), [&](const kernels::PoolSource<real>& source, int64_t first, real* best) {
    forward(row_of(p), source, best, winners.data() + first);
  });
  return make_op(
      "max_pool", std::move(y), {x}, [p, gradient, winners = std::move(winners)](const Tensor& g) -> Gradients {
        return {gather_gradient(p, g.data(), [&](const kernels::PoolGradient<real>& part, int64_t first, int64_t) {
          gradient(row_of(p), part, winners.data() + first);
        })};
      });
}

}  // namespace

Variable max_pool(const Variable& x, const PoolGeometry& geometry) {
  const Pooling p = checked_pooling("max_pool", x, geometry);
  // A window has no more taps inside than x has pixels, but it numbers them all.
  constexpr int64_t kMostTaps = int64_t{1} << 24;  // whole numbers that a float holds
  const int64_t taps = checked_product(p.h.taps, p.w.taps, "max_pool");
  require(taps <= kMostTaps, "max_pool", "a kernel of ", p.h.taps, " x ", p.w.taps, " has more than 2^24 taps (input ",
          x.shape(), ")");
  const auto& kernel = train_kernels().pool;
  const Variable y = taps <= 256 ? max_pool_with<uint8_t>(x, p, kernel.largest, kernel.largest_gradient)
                                 : max_pool_with<real>(x, p, kernel.largest_of_many, kernel.largest_of_many_gradient);
  const GridsPtr& grids = x.grids();
  return y.on(grids != nullptr && grids->size() == 1 ? grids : nullptr);
}

Variable avg_pool(const Variable& x, const PoolGeometry& geometry) {
  const Pooling p = checked_pooling("avg_pool", x, geometry);
  Tensor y = pool_rows(p, x.value().data(), [&](const kernels::PoolSource<real>& source, int64_t, real* mean) {
    train_kernels().pool.mean(row_of(p), source, mean);
  });
  return make_op("avg_pool", std::move(y), {x}, [p](const Tensor& g) -> Gradients {
    return {gather_gradient(p, g.data(), [&](const kernels::PoolGradient<real>& part, int64_t, int64_t i) {
      train_kernels().pool.mean_gradient(row_of(p), part, p.h.taps_inside(i).size());
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
    train_kernels().loops.column_sums(in + n * pixels * channels, pixels, channels, mean);
    for (int64_t k = 0; k < channels; ++k) {
      mean[k] /= count;
    }
  });
  return make_op("global_avg_pool", std::move(y), {x},
                 [shape = x.shape(), pixels, channels, count](const Tensor& g) -> Gradients {
                   const Tensor shares = map(g, [count](real v) { return v / count; });
                   Tensor gx = Tensor::empty(shape);
                   parallel_ranges(shape[0] * pixels, ceil_div(kElementGrain, channels),
                                   [=, from = shares.data(), out = gx.mutable_data()](int64_t begin, int64_t end) {
                                     for (int64_t pixel = begin; pixel < end; ++pixel) {
                                       std::copy_n(from + pixel / pixels * channels, channels, out + pixel * channels);
                                     }
                                   });
                   return {gx};
                 });
}

}  // namespace whittle::inline WHITTLE_PRECISION
