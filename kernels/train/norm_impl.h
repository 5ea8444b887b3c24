// Batch normalisation. Memory is walked in order, channels innermost: a channel at a time
// would stride through it and be several times slower.
#pragma once

#include "kernels/train/loops_impl.h"
#include "kernels/train/norm.h"
#include "kernels/train/parts.h"

namespace whittle::kernels {

template <class V>
struct Norms {
  using T = typename V::Scalar;
  using Lanes = typename V::Lanes;
  using Wide = WideRows<V>;
  using Buffer = typename Wide::Buffer;

  // ---- The loops: `rows` rows of n numbers, each `width` behind the one before ----
  //
  // A block of columns at a time, so that its sums stay in registers. In memory each addition would wait for the one
  // before to be stored.

  static V clamped(V t, V low, V high) {
    const V raised = V::where_at_most(t, low, low, t);
    return V::where_at_most(high, raised, high, raised);
  }
  // What the clamp lets through of g, t being its argument or its result.
  static V passed_of(V g, V t, V low, V high) {
    return V::where_at_most(t, low, V::zero(), V::where_at_most(high, t, V::zero(), g));
  }

  static void add_deviations(const T* x, const T* pivot, int64_t rows, int64_t width, int64_t n, T* sum, T* square) {
    for_each_block<V>(rows, width, n, [=](auto count, Lanes last, int64_t column, int64_t at, int64_t in_rows) {
      using Block = Columns<V, count.value>;
      const Block pivots(pivot + column, last);
      Block sums(sum + column, last);
      Block squares(square + column, last);
      for (int64_t r = 0; r < in_rows; ++r) {
        const T* const row = x + at + r * width;
#pragma GCC unroll 8
        for (int i = 0; i < count.value; ++i) {
          const V d = V::sub(Block::load(row, i, last), pivots.vectors[i]);
          sums.vectors[i] = V::add(sums.vectors[i], d);
          squares.vectors[i] = V::add(V::mul(d, d), squares.vectors[i]);
        }
      }
      sums.store_to(sum + column, last);
      squares.store_to(square + column, last);
    });
  }

  template <bool kResidual>
  static void normalise_rows(const Norm<T>& norm, const T* x, const T* residual, int64_t rows, int64_t width, int64_t n,
                             T* y) {
    for_each_block<V>(rows, width, n, [=](auto count, Lanes last, int64_t column, int64_t at, int64_t in_rows) {
      using Block = Columns<V, count.value>;
      const Block mean(norm.mean + column, last);
      const Block scale(norm.scale + column, last);
      const Block beta(norm.beta + column, last);
      const V low = V::broadcast(norm.clamp.low);
      const V high = V::broadcast(norm.clamp.high);
      for (int64_t r = 0; r < in_rows; ++r) {
        const int64_t here = at + r * width;
#pragma GCC unroll 8
        for (int i = 0; i < count.value; ++i) {
          const V d = V::sub(Block::load(x + here, i, last), mean.vectors[i]);
          V t = V::add(V::mul(d, scale.vectors[i]), beta.vectors[i]);
          if constexpr (kResidual) {
            t = V::add(t, Block::load(residual + here, i, last));
          }
          Block::store(y + here, i, last, clamped(t, low, high));
        }
      }
    });
  }

  static void sum_rows(const Norm<T>& norm, const T* x, const T* g, int64_t rows, int64_t width, int64_t n, T* sum_g,
                       T* sum_gd) {
    for_each_block<V>(rows, width, n, [=](auto count, Lanes last, int64_t column, int64_t at, int64_t in_rows) {
      using Block = Columns<V, count.value>;
      const V low = V::broadcast(norm.clamp.low);
      const V high = V::broadcast(norm.clamp.high);
      Block sums_g(sum_g + column, last);
      Block sums_gd(sum_gd + column, last);
      for (int64_t r = 0; r < in_rows; ++r) {
        const int64_t here = at + r * width;
#pragma GCC unroll 8
        for (int i = 0; i < count.value; ++i) {
          const V d = V::sub(Block::load(x + here, i, last), Block::load(norm.mean + column, i, last));
          const V scaled = V::mul(d, Block::load(norm.scale + column, i, last));
          const V t = V::add(scaled, Block::load(norm.beta + column, i, last));
          const V p = passed_of(Block::load(g + here, i, last), t, low, high);
          sums_g.vectors[i] = V::add(sums_g.vectors[i], p);
          sums_gd.vectors[i] = V::add(V::mul(p, d), sums_gd.vectors[i]);
        }
      }
      sums_g.store_to(sum_g + column, last);
      sums_gd.store_to(sum_gd + column, last);
    });
  }

  static void pass_and_sum_rows(const Norm<T>& norm, const T* x, const T* g, const T* y, int64_t rows, int64_t width,
                                int64_t n, T* passed, T* sum_g, T* sum_gd) {
    for_each_block<V>(rows, width, n, [=](auto count, Lanes last, int64_t column, int64_t at, int64_t in_rows) {
      using Block = Columns<V, count.value>;
      const Block mean(norm.mean + column, last);
      const V low = V::broadcast(norm.clamp.low);
      const V high = V::broadcast(norm.clamp.high);
      Block sums_g(sum_g + column, last);
      Block sums_gd(sum_gd + column, last);
      for (int64_t r = 0; r < in_rows; ++r) {
        const int64_t here = at + r * width;
#pragma GCC unroll 8
        for (int i = 0; i < count.value; ++i) {
          const V p = passed_of(Block::load(g + here, i, last), Block::load(y + here, i, last), low, high);
          const V d = V::sub(Block::load(x + here, i, last), mean.vectors[i]);
          Block::store(passed + here, i, last, p);
          sums_g.vectors[i] = V::add(sums_g.vectors[i], p);
          sums_gd.vectors[i] = V::add(V::mul(p, d), sums_gd.vectors[i]);
        }
      }
      sums_g.store_to(sum_g + column, last);
      sums_gd.store_to(sum_gd + column, last);
    });
  }

  static void gradient_rows(const Norm<T>& norm, const T* x, const T* g, const T* mean_g, const T* slope, int64_t rows,
                            int64_t width, int64_t n, T* gx) {
    for_each_block<V>(rows, width, n, [=](auto count, Lanes last, int64_t column, int64_t at, int64_t in_rows) {
      using Block = Columns<V, count.value>;
      const Block mean(norm.mean + column, last);
      const Block scale(norm.scale + column, last);
      const V low = V::broadcast(norm.clamp.low);
      const V high = V::broadcast(norm.clamp.high);
      for (int64_t r = 0; r < in_rows; ++r) {
        const int64_t here = at + r * width;
#pragma GCC unroll 8
        for (int i = 0; i < count.value; ++i) {
          const V d = V::sub(Block::load(x + here, i, last), mean.vectors[i]);
          const V t = V::add(V::mul(d, scale.vectors[i]), Block::load(norm.beta + column, i, last));
          const V p = passed_of(Block::load(g + here, i, last), t, low, high);
          const V apart = V::sub(p, Block::load(mean_g + column, i, last));
          const V along = V::mul(d, Block::load(slope + column, i, last));
          Block::store(gx + here, i, last, V::mul(scale.vectors[i], V::sub(apart, along)));
        }
      }
    });
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
    wide.for_each(rows, [=](int64_t i, int64_t count, int64_t n) {
      add_deviations(x + i, pivots, count, wide.width, n, sums, squares);
    });
    wide.fold(sums, sum);
    wide.fold(squares, square);
  }

  static void normalise(const Norm<T>& norm, const T* x, const T* residual, int64_t rows, T* y) {
    const Wide wide(norm.channels);
    Buffer buffers[3];
    const Norm<T> repeated = widened(norm, wide, buffers);
    wide.for_each(rows, [=](int64_t i, int64_t count, int64_t n) {
      if (residual == nullptr) {
        normalise_rows<false>(repeated, x + i, nullptr, count, wide.width, n, y + i);
      } else {
        normalise_rows<true>(repeated, x + i, residual + i, count, wide.width, n, y + i);
      }
    });
  }

  static void gradient_sums(const Norm<T>& norm, const T* x, const T* g, const T* y, int64_t rows, T* passed, T* sum_g,
                            T* sum_gd) {
    const Wide wide(norm.channels);
    Buffer buffers[5];
    const Norm<T> repeated = widened(norm, wide, buffers);
    T* const sums_g = wide.zeroed(sum_g, buffers[3]);
    T* const sums_gd = wide.zeroed(sum_gd, buffers[4]);
    wide.for_each(rows, [=](int64_t i, int64_t count, int64_t n) {
      if (y == nullptr) {
        sum_rows(repeated, x + i, g + i, count, wide.width, n, sums_g, sums_gd);
      } else {
        pass_and_sum_rows(repeated, x + i, g + i, y + i, count, wide.width, n, passed + i, sums_g, sums_gd);
      }
    });
    wide.fold(sums_g, sum_g);
    wide.fold(sums_gd, sum_gd);
  }

  static void input_gradient(const Norm<T>& norm, const T* x, const T* g, const T* mean_g, const T* slope, int64_t rows,
                             T* gx) {
    const Wide wide(norm.channels);
    Buffer buffers[5];
    const Norm<T> repeated = widened(norm, wide, buffers);
    const T* const means_g = wide.repeated(mean_g, buffers[3]);
    const T* const slopes = wide.repeated(slope, buffers[4]);
    wide.for_each(rows, [=](int64_t i, int64_t count, int64_t n) {
      gradient_rows(repeated, x + i, g + i, means_g, slopes, count, wide.width, n, gx + i);
    });
  }

  // The same with its numbers repeated for wide rows; they are in the first three buffers.
  static Norm<T> widened(const Norm<T>& norm, const Wide& wide, Buffer* buffers) {
    return {wide.width, wide.repeated(norm.mean, buffers[0]), wide.repeated(norm.scale, buffers[1]),
            wide.repeated(norm.beta, buffers[2]), norm.clamp};
  }

  static constexpr NormKernels<T> table() { return {statistics, normalise, gradient_sums, input_gradient}; }
};

}  // namespace whittle::kernels
