// Winograd's transforms, for any vector type V (vec_*.h). The one-dimensional matrices are
// written out below as sums that share their terms; every two-dimensional transform is one
// of them over the columns and then over the rows.
#pragma once

#include "kernels/train/winograd.h"

namespace whittle::kernels {

// m = 2: points 0, 1, -1, infinity.
template <class V>
struct Winograd2 {
  static constexpr int kOutputs = 2;
  using T = typename V::Scalar;

  static V times(T k, V x) { return V::mul(V::broadcast(k), x); }

  [[gnu::always_inline]] static inline void input(const V* d, V* v) {  // B^T d
    v[0] = V::sub(d[0], d[2]);
    v[1] = V::add(d[1], d[2]);
    v[2] = V::sub(d[2], d[1]);
    v[3] = V::sub(d[3], d[1]);
  }
  [[gnu::always_inline]] static inline void output(const V* m, V* y) {  // A^T m
    y[0] = V::add(V::add(m[0], m[1]), m[2]);
    y[1] = V::add(V::sub(m[1], m[2]), m[3]);
  }
  [[gnu::always_inline]] static inline void output_gradient(const V* y, V* z) {  // A y
    z[0] = y[0];
    z[1] = V::add(y[0], y[1]);
    z[2] = V::sub(y[0], y[1]);
    z[3] = y[1];
  }
  [[gnu::always_inline]] static inline void filter(const V* g, V* u) {  // G g
    const V half = times(T(0.5), V::add(g[0], g[2]));
    const V odd = times(T(0.5), g[1]);
    u[0] = g[0];
    u[1] = V::add(half, odd);
    u[2] = V::sub(half, odd);
    u[3] = g[2];
  }
  [[gnu::always_inline]] static inline void filter_gradient(const V* u, V* g) {  // G^T u
    const V half = times(T(0.5), V::add(u[1], u[2]));
    g[0] = V::add(u[0], half);
    g[1] = times(T(0.5), V::sub(u[1], u[2]));
    g[2] = V::add(half, u[3]);
  }
};

// m = 4: points 0, a, -a, b, -b, infinity.
template <class V>
struct Winograd4 {
  static constexpr int kOutputs = 4;
  using T = typename V::Scalar;
  static constexpr T a = T(0.75);
  static constexpr T b = T(1.5);
  static constexpr T a2 = a * a;
  static constexpr T b2 = b * b;

  static V times(T k, V x) { return V::mul(V::broadcast(k), x); }
  static V plus(V x, T k, V y) { return V::fma(V::broadcast(k), y, x); }  // x + k y

  [[gnu::always_inline]] static inline void input(const V* d, V* v) {
    const V even_a = plus(d[4], -b2, d[2]);
    const V odd_a = plus(d[3], -b2, d[1]);
    const V even_b = plus(d[4], -a2, d[2]);
    const V odd_b = plus(d[3], -a2, d[1]);
    v[0] = plus(plus(d[4], -(a2 + b2), d[2]), a2 * b2, d[0]);
    v[1] = plus(even_a, a, odd_a);
    v[2] = plus(even_a, -a, odd_a);
    v[3] = plus(even_b, b, odd_b);
    v[4] = plus(even_b, -b, odd_b);
    v[5] = plus(plus(d[5], -(a2 + b2), d[3]), a2 * b2, d[1]);
  }
  [[gnu::always_inline]] static inline void output(const V* m, V* y) {
    const V even_a = V::add(m[1], m[2]);
    const V odd_a = V::sub(m[1], m[2]);
    const V even_b = V::add(m[3], m[4]);
    const V odd_b = V::sub(m[3], m[4]);
    y[0] = V::add(V::add(even_a, even_b), m[0]);
    y[1] = plus(times(a, odd_a), b, odd_b);
    y[2] = plus(times(a2, even_a), b2, even_b);
    y[3] = plus(plus(m[5], a2 * a, odd_a), b2 * b, odd_b);
  }
  [[gnu::always_inline]] static inline void output_gradient(const V* y, V* z) {
    const V even_a = plus(y[0], a2, y[2]);
    const V odd_a = plus(times(a, y[1]), a2 * a, y[3]);
    const V even_b = plus(y[0], b2, y[2]);
    const V odd_b = plus(times(b, y[1]), b2 * b, y[3]);
    z[0] = y[0];
    z[1] = V::add(even_a, odd_a);
    z[2] = V::sub(even_a, odd_a);
    z[3] = V::add(even_b, odd_b);
    z[4] = V::sub(even_b, odd_b);
    z[5] = y[3];
  }
  // Divisors of the points: the products of their distances to the others.
  static constexpr T n0 = a2 * b2;
  static constexpr T na = 2 * a2 * (a2 - b2);
  static constexpr T nb = 2 * b2 * (b2 - a2);
  [[gnu::always_inline]] static inline void filter(const V* g, V* u) {
    const V even_a = plus(times(1 / na, g[0]), a2 / na, g[2]);
    const V even_b = plus(times(1 / nb, g[0]), b2 / nb, g[2]);
    u[0] = times(1 / n0, g[0]);
    u[1] = plus(even_a, a / na, g[1]);
    u[2] = plus(even_a, -a / na, g[1]);
    u[3] = plus(even_b, b / nb, g[1]);
    u[4] = plus(even_b, -b / nb, g[1]);
    u[5] = g[2];
  }
  [[gnu::always_inline]] static inline void filter_gradient(const V* u, V* g) {
    const V even_a = V::add(u[1], u[2]);
    const V odd_a = V::sub(u[1], u[2]);
    const V even_b = V::add(u[3], u[4]);
    const V odd_b = V::sub(u[3], u[4]);
    g[0] = plus(plus(times(1 / n0, u[0]), 1 / na, even_a), 1 / nb, even_b);
    g[1] = plus(times(a / na, odd_a), b / nb, odd_b);
    g[2] = plus(plus(u[5], a2 / na, even_a), b2 / nb, even_b);
  }
};

template <class V, template <class> class Form>
struct WinogradTransforms {
  using T = typename V::Scalar;
  using F = Form<V>;
  static constexpr int kM = F::kOutputs;
  static constexpr int kN = kM + 2;
  static constexpr int64_t kWidth = V::kWidth;

  // to[i, .] = transform(from[i, .]) for the columns, then for the rows. Everything is unrolled, so that numbers
  // stay in registers as far as there are any.
  template <int From, int To, class Load, class Transform, class Store>
  [[gnu::always_inline]] static inline void two_dimensional(Load load, Transform transform, Store store) {
    V half[To][From];
#pragma GCC unroll 6
    for (int j = 0; j < From; ++j) {
      V column[From];
      V result[To];
#pragma GCC unroll 6
      for (int i = 0; i < From; ++i) {
        column[i] = load(i, j);
      }
      transform(column, result);
#pragma GCC unroll 6
      for (int i = 0; i < To; ++i) {
        half[i][j] = result[i];
      }
    }
#pragma GCC unroll 6
    for (int i = 0; i < To; ++i) {
      V result[To];
      transform(half[i], result);
#pragma GCC unroll 6
      for (int j = 0; j < To; ++j) {
        store(i, j, result[j]);
      }
    }
  }

  // Calls body(channel, lanes) for all vectors of channels; lanes < kWidth in the last one only.
  template <class Body>
  static void for_channels(int64_t channels, Body body) {
    int64_t c = 0;
    for (; c + kWidth <= channels; c += kWidth) {
      body(
          c, [](const T* p) { return V::load(p); }, [](T* p, V x) { V::store(p, x); });
    }
    if (c < channels) {
      const int lanes = static_cast<int>(channels - c);
      body(
          c, [lanes](const T* p) { return V::load_first(p, lanes); },
          [lanes](T* p, V x) { V::store_first(p, lanes, x); });
    }
  }

  static void input(const WinogradBlock<const T>& d, const WinogradInside& in, int64_t channels, T* v,
                    int64_t point_stride) {
    const bool whole = in.top <= 0 && in.left <= 0 && in.bottom >= kN && in.right >= kN;
    const auto transform = [](const V* from, V* to) __attribute__((always_inline)) { F::input(from, to); };
    for_channels(channels, [&](int64_t c, auto load, auto store) {
      const T* const from = d.data + c;
      const auto keep = [&](int i, int j, V x) __attribute__((always_inline)) {
        store(v + (i * kN + j) * point_stride + c, x);
      };
      if (whole) {
        two_dimensional<kN, kN>(
            [&](int i, int j)
                __attribute__((always_inline)) { return load(from + i * d.row_stride + j * d.pixel_stride); },
            transform, keep);
      } else {
        two_dimensional<kN, kN>(
            [&](int i, int j) __attribute__((always_inline)) {
              return i >= in.top && i < in.bottom && j >= in.left && j < in.right
                         ? load(from + i * d.row_stride + j * d.pixel_stride)
                         : V::zero();
            },
            transform, keep);
      }
    });
  }

  static void output(const T* m, int64_t point_stride, int64_t channels, const T* bias, const WinogradBlock<T>& y,
                     int64_t rows, int64_t columns) {
    output_and_finish(
        m, point_stride, channels, bias, [](V x) { return x; }, y, rows, columns);
  }
  // The same with finish() over every result.
  template <class Finish>
  static void output_and_finish(const T* m, int64_t point_stride, int64_t channels, const T* bias, Finish finish,
                                const WinogradBlock<T>& y, int64_t rows, int64_t columns) {
    for_channels(channels, [&](int64_t c, auto load, auto store) {
      const V start = bias == nullptr ? V::zero() : load(bias + c);
      two_dimensional<kN, kM>(
          [&](int i, int j) __attribute__((always_inline)) { return load(m + (i * kN + j) * point_stride + c); },
          [](const V* from, V* to) __attribute__((always_inline)) { F::output(from, to); },
          [&](int i, int j, V x) __attribute__((always_inline)) {
            if (i < rows && j < columns) {
              store(y.data + i * y.row_stride + j * y.pixel_stride + c, finish(V::add(x, start)));
            }
          });
    });
  }

  static void output_gradient(const WinogradBlock<const T>& dy, int64_t rows, int64_t columns, int64_t channels, T* z,
                              int64_t point_stride) {
    for_channels(channels, [&](int64_t c, auto load, auto store) {
      two_dimensional<kM, kN>(
          [&](int i, int j) __attribute__((always_inline)) {
            return i < rows && j < columns ? load(dy.data + i * dy.row_stride + j * dy.pixel_stride + c) : V::zero();
          },
          [](const V* from, V* to) __attribute__((always_inline)) { F::output_gradient(from, to); },
          [&](int i, int j, V x) __attribute__((always_inline)) { store(z + (i * kN + j) * point_stride + c, x); });
    });
  }

  static void filter(const T* g, int64_t row_stride, int64_t tap_stride, int64_t first, int64_t last, int64_t rows,
                     int64_t columns, T* packed, int64_t point_stride) {
    constexpr int64_t kPanel = 2 * kWidth;
    // A vector of columns at a time: each point's numbers are then written one behind the other.
    for_channels(columns, [&](int64_t n, auto load, auto) {
      const int64_t panel = n / kPanel * kPanel;
      const int64_t width = columns - panel > kWidth ? kPanel : kWidth;
      T* to = packed + rows * panel + first * width + (n - panel);
      for (int64_t k = first; k < last; ++k, to += width) {
        const T* const from = g + k * row_stride + n;
        two_dimensional<3, kN>(
            [&](int i, int j) __attribute__((always_inline)) { return load(from + (3 * i + j) * tap_stride); },
            [](const V* x, V* y) __attribute__((always_inline)) { F::filter(x, y); },
            [&](int i, int j, V x) __attribute__((always_inline)) { V::store(to + (i * kN + j) * point_stride, x); });
      }
    });
  }

  static void filter_gradient(const T* u, int64_t point_stride, int64_t channels, T* dg, int64_t tap_stride) {
    for_channels(channels, [&](int64_t c, auto load, auto store) {
      two_dimensional<kN, 3>(
          [&](int i, int j) __attribute__((always_inline)) { return load(u + (i * kN + j) * point_stride + c); },
          [](const V* from, V* to) __attribute__((always_inline)) { F::filter_gradient(from, to); },
          [&](int i, int j, V x) __attribute__((always_inline)) { store(dg + (3 * i + j) * tap_stride + c, x); });
    });
  }

  static constexpr WinogradKernels<T> table() {
    return {kM, int64_t{kN} * kN, input, output, output_gradient, filter, filter_gradient};
  }
};

}  // namespace whittle::kernels
