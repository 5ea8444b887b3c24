// Loops over arrays. Plain ones: the compiler makes vectors of whatever width the file is
// compiled for, which __restrict lets it. V only names the table.
#pragma once

#include <limits>

#include "kernels/train/loops.h"

namespace whittle::kernels {

// Matrices with few columns would make short loops. Several of their rows, one behind the
// other, are one row of that many times the columns: a wide row. Numbers per column are
// repeated to go with it, and sums over wide rows are folded.
template <class V>
struct WideRows {
  using T = typename V::Scalar;
  static constexpr int64_t kWide = 128;
  static constexpr int64_t kBlock = 1;

  int64_t together;  // rows in a wide row
  int64_t width;

  explicit WideRows(int64_t columns) : together(columns < kWide ? kWide / columns : 1), width(together * columns) {}

  // Calls body(i, count, n) for the whole wide rows, `count` of n = width numbers from i on, and for what is left: one
  // of fewer.
  template <class Body>
  void for_each(int64_t rows, Body body) const {
    const int64_t whole = rows / together;
    body(0, whole, width);
    if (const int64_t left = rows - whole * together; left > 0) {
      body(whole * width, 1, left * (width / together));
    }
  }

  struct alignas(64) Buffer {
    T numbers[kWide];
  };
  const T* repeated(const T* x, Buffer& buffer) const {
    if (together == 1) {
      return x;
    }
    const int64_t columns = width / together;
    for (int64_t i = 0; i < width; i += columns) {
      for (int64_t c = 0; c < columns; ++c) {
        buffer.numbers[i + c] = x[c];
      }
    }
    return buffer.numbers;
  }

  // Where to sum up wide rows so that the columns' sums are in `sums` after fold().
  T* zeroed(T* sums, Buffer& buffer) const {
    T* const wide = together > 1 ? buffer.numbers : sums;
    for (int64_t i = 0; i < width; ++i) {
      wide[i] = 0;
    }
    return wide;
  }
  void fold(const T* wide, T* sums) const {
    const int64_t columns = width / together;
    for (int64_t c = 0; together > 1 && c < columns; ++c) {
      sums[c] = wide[c];
    }
    for (int64_t i = columns; i < width; i += columns) {
      for (int64_t c = 0; c < columns; ++c) {
        sums[c] += wide[i + c];
      }
    }
  }
};

template <class V>
struct Loops {
  using T = typename V::Scalar;

  static T clamped(T t, T low, T high) {
    const T raised = t <= low ? low : t;
    return raised >= high ? high : raised;
  }

  static void clamp(const T* x, int64_t n, const Clamp<T>& clamp, T* __restrict y) {
    const auto [low, high] = clamp;
    for (int64_t i = 0; i < n; ++i) {
      y[i] = clamped(x[i], low, high);
    }
  }

  static void add(const T* a, const T* b, int64_t n, const Clamp<T>& clamp, T* __restrict y) {
    const auto [low, high] = clamp;
    for (int64_t i = 0; i < n; ++i) {
      y[i] = clamped(a[i] + b[i], low, high);
    }
  }

  static void fill_zero(T* x, int64_t n) {
    for (int64_t i = 0; i < n; ++i) {
      x[i] = 0;
    }
  }

  static void add_to(const T* x, int64_t n, T* __restrict y) {
    for (int64_t i = 0; i < n; ++i) {
      y[i] += x[i];
    }
  }

  static void clamp_gradient(const T* g, const T* y, int64_t n, const Clamp<T>& clamp, T* __restrict gx) {
    const auto [low, high] = clamp;
    for (int64_t i = 0; i < n; ++i) {
      gx[i] = ((y[i] <= low) | (y[i] >= high)) ? T(0) : g[i];
    }
  }

  // Blocks of 32 (wide) rows are summed one after another and the blocks likewise, which keeps the error near that of a
  // tree. Very long rows are taken a part at a time, to fit the buffers.
  static void column_sums(const T* x, int64_t rows, int64_t cols, T* out) {
    constexpr int64_t kBlock = 32;
    constexpr int64_t kPart = 1024;
    for (int64_t first = 0; first < cols; first += kPart) {
      const int64_t part = cols - first < kPart ? cols - first : kPart;
      const WideRows<V> wide(cols);
      const int64_t width = wide.together > 1 ? wide.width : part;
      T total[kPart];
      T block[kPart];
      fill_zero(total, width);
      for (int64_t begin = 0; begin < rows; begin += kBlock * wide.together) {
        fill_zero(block, width);
        const int64_t end = begin + kBlock * wide.together < rows ? begin + kBlock * wide.together : rows;
        for (int64_t r = begin; r < end; r += wide.together) {
          const int64_t whole = wide.together > 1 && end - r < wide.together ? (end - r) * cols : width;
          add_to(x + r * cols + first, whole, block);
        }
        add_to(block, width, total);
      }
      for (int64_t c = 0; c < part; ++c) {
        out[first + c] = total[c];
      }
      if (wide.together > 1) {
        wide.fold(total, out);
      }
    }
  }

  // x, or 0 where |x| is below the smallest normal number. Running averages of a gradient that has become 0, which is
  // what a mask makes of it, would fade into the subnormal numbers and stay there: 0.999 x rounds to x. CPUs take many
  // times longer over those. A NaN stays a NaN.
  static T flushed(T x) {
    constexpr T kLeast = std::numeric_limits<T>::min();
    return ((x < kLeast) & (x > -kLeast)) ? T(0) : x;
  }

  static void sgd(const SgdStep<T>& step, int64_t n, const T* gradient, T* __restrict value, T* __restrict velocity) {
    const auto [rate, momentum, coupled, kept, nesterov] = step;
    if (velocity == nullptr) {
      for (int64_t i = 0; i < n; ++i) {
        value[i] = kept * value[i] - rate * (gradient[i] + coupled * value[i]);
      }
      return;
    }
    const T from_g = nesterov ? T(1) : T(0);
    const T from_v = nesterov ? momentum : T(1);
    for (int64_t i = 0; i < n; ++i) {
      const T g = gradient[i] + coupled * value[i];
      const T v = flushed(momentum * velocity[i] + g);
      velocity[i] = v;
      value[i] = kept * value[i] - rate * (from_g * g + from_v * v);
    }
  }

  static float root(float x) { return __builtin_sqrtf(x); }
  static double root(double x) { return __builtin_sqrt(x); }

  static void adam(const AdamStep<T>& step, int64_t n, const T* gradient, T* __restrict value, T* __restrict first,
                   T* __restrict second) {
    const auto [rate, scale, beta1, beta2, fresh1, fresh2, epsilon, coupled, kept] = step;
    for (int64_t i = 0; i < n; ++i) {
      const T g = gradient[i] + coupled * value[i];
      const T m = flushed(beta1 * first[i] + fresh1 * g);
      const T v = flushed(beta2 * second[i] + fresh2 * g * g);
      first[i] = m;
      second[i] = v;
      value[i] = kept * value[i] - rate * m / (scale * root(v) + epsilon);
    }
  }

  static constexpr LoopKernels<T> table() { return {clamp, add, add_to, clamp_gradient, column_sums, sgd, adam}; }
};

}  // namespace whittle::kernels
