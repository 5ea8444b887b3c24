// Batch normalisation. Memory is walked in order, channels innermost: a channel at a time
// would stride through it and be several times slower.
#pragma once

#include "kernels/train/loops_impl.h"
#include "kernels/train/norm.h"

namespace whittle::kernels {

template <class V>
struct Norms {
  using T = typename V::Scalar;
  using Wide = WideRows<V>;
  using Buffer = typename Wide::Buffer;

  // ---- Wide rows: the loops themselves, functions for the sake of __restrict ----

  static void add_deviations(const T* x, const T* pivot, int64_t n, T* __restrict sum, T* __restrict square) {
    for (int64_t i = 0; i < n; ++i) {
      const T d = x[i] - pivot[i];
      sum[i] += d;
      square[i] += d * d;
    }
  }

  static void normalise_row(const T* x, const T* mean, const T* scale, const T* beta, int64_t n, T low, T high,
                            T* __restrict y) {
    for (int64_t i = 0; i < n; ++i) {
      y[i] = Loops<V>::clamped((x[i] - mean[i]) * scale[i] + beta[i], low, high);
    }
  }

  static void normalise_and_add_row(const T* x, const T* residual, const T* mean, const T* scale, const T* beta,
                                    int64_t n, T low, T high, T* __restrict y) {
    for (int64_t i = 0; i < n; ++i) {
      y[i] = Loops<V>::clamped(((x[i] - mean[i]) * scale[i] + beta[i]) + residual[i], low, high);
    }
  }

  // What the clamp lets through of g, t being its argument or its result.
  static T passed_of(T g, T t, T low, T high) { return ((t <= low) | (t >= high)) ? T(0) : g; }

  static void sum_row(const T* x, const T* g, const T* mean, const T* scale, const T* beta, int64_t n, T low, T high,
                      T* __restrict sum_g, T* __restrict sum_gd) {
    for (int64_t i = 0; i < n; ++i) {
      const T d = x[i] - mean[i];
      const T p = passed_of(g[i], d * scale[i] + beta[i], low, high);
      sum_g[i] += p;
      sum_gd[i] += p * d;
    }
  }

  static void pass_and_sum_row(const T* x, const T* g, const T* y, const T* mean, int64_t n, T low, T high,
                               T* __restrict passed, T* __restrict sum_g, T* __restrict sum_gd) {
    for (int64_t i = 0; i < n; ++i) {
      const T p = passed_of(g[i], y[i], low, high);
      passed[i] = p;
      sum_g[i] += p;
      sum_gd[i] += p * (x[i] - mean[i]);
    }
  }

  static void gradient_row(const T* x, const T* g, const T* mean, const T* scale, const T* beta, const T* mean_g,
                           const T* slope, int64_t n, T low, T high, T* __restrict gx) {
    for (int64_t i = 0; i < n; ++i) {
      const T d = x[i] - mean[i];
      const T p = passed_of(g[i], d * scale[i] + beta[i], low, high);
      gx[i] = scale[i] * ((p - mean_g[i]) - d * slope[i]);
    }
  }

  // ---- Tiles of rows ----

  static void statistics(const T* x, int64_t rows, int64_t channels, T* pivot, T* sum, T* square) {
    // The mean of the first rows, counted from the very first so that equal numbers give an exact pivot.
    const int64_t few = rows < 16 ? rows : 16;
    for (int64_t c = 0; c < channels; ++c) {
      sum[c] = 0;
    }
    for (int64_t r = 1; r < few; ++r) {
      for (int64_t c = 0; c < channels; ++c) {
        sum[c] += x[r * channels + c] - x[c];
      }
    }
    for (int64_t c = 0; c < channels; ++c) {
      pivot[c] = x[c] + sum[c] / static_cast<T>(few);
    }
    const Wide wide(channels);
    Buffer buffers[3];
    const T* const pivots = wide.repeated(pivot, buffers[0]);
    T* const sums = wide.zeroed(sum, buffers[1]);
    T* const squares = wide.zeroed(square, buffers[2]);
    wide.for_each(rows, [=](int64_t i, int64_t n) { add_deviations(x + i, pivots, n, sums, squares); });
    wide.fold(sums, sum);
    wide.fold(squares, square);
  }

  static void normalise(const Norm<T>& norm, const T* x, const T* residual, int64_t rows, T* y) {
    const auto [low, high] = norm.clamp;
    const Wide wide(norm.channels);
    Buffer buffers[3];
    const T* const mean = wide.repeated(norm.mean, buffers[0]);
    const T* const scale = wide.repeated(norm.scale, buffers[1]);
    const T* const beta = wide.repeated(norm.beta, buffers[2]);
    wide.for_each(rows, [=, low = low, high = high](int64_t i, int64_t n) {
      if (residual == nullptr) {
        normalise_row(x + i, mean, scale, beta, n, low, high, y + i);
      } else {
        normalise_and_add_row(x + i, residual + i, mean, scale, beta, n, low, high, y + i);
      }
    });
  }

  static void gradient_sums(const Norm<T>& norm, const T* x, const T* g, const T* y, int64_t rows, T* passed, T* sum_g,
                            T* sum_gd) {
    const auto [low, high] = norm.clamp;
    const Wide wide(norm.channels);
    Buffer buffers[5];
    const T* const mean = wide.repeated(norm.mean, buffers[0]);
    const T* const scale = wide.repeated(norm.scale, buffers[1]);
    const T* const beta = wide.repeated(norm.beta, buffers[2]);
    T* const sums_g = wide.zeroed(sum_g, buffers[3]);
    T* const sums_gd = wide.zeroed(sum_gd, buffers[4]);
    wide.for_each(rows, [=, low = low, high = high](int64_t i, int64_t n) {
      if (y == nullptr) {
        sum_row(x + i, g + i, mean, scale, beta, n, low, high, sums_g, sums_gd);
      } else {
        pass_and_sum_row(x + i, g + i, y + i, mean, n, low, high, passed + i, sums_g, sums_gd);
      }
    });
    wide.fold(sums_g, sum_g);
    wide.fold(sums_gd, sum_gd);
  }

  static void input_gradient(const Norm<T>& norm, const T* x, const T* g, const T* mean_g, const T* slope, int64_t rows,
                             T* gx) {
    const auto [low, high] = norm.clamp;
    const Wide wide(norm.channels);
    Buffer buffers[5];
    const T* const mean = wide.repeated(norm.mean, buffers[0]);
    const T* const scale = wide.repeated(norm.scale, buffers[1]);
    const T* const beta = wide.repeated(norm.beta, buffers[2]);
    const T* const means_g = wide.repeated(mean_g, buffers[3]);
    const T* const slopes = wide.repeated(slope, buffers[4]);
    wide.for_each(rows, [=, low = low, high = high](int64_t i, int64_t n) {
      gradient_row(x + i, g + i, mean, scale, beta, means_g, slopes, n, low, high, gx + i);
    });
  }

  static constexpr NormKernels<T> table() { return {statistics, normalise, gradient_sums, input_gradient}; }
};

}  // namespace whittle::kernels
