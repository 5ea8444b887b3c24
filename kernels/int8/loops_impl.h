// Requantization, additions and pools over vectors of sums; V: see vec_avx512vnni.h. Internal to the vector tables.
#pragma once

#include <stdint.h>

#include "kernels/int8/table.h"

namespace whittle::kernels {

// A9 for four vectors of sums, in two steps: to integers, and those to codes.
//
// Limits are integers, so it is the same whether they come before rounding or after it, when four vectors are one
// register of codes and a comparison costs a quarter. What is too small for a code, or for 32 bits, saturates on its
// way there. What is too large for 32 bits would become their least number, so the upper limit comes before.
template <class V>
class Requantize {
 public:
  explicit Requantize(const CodeRange& range)
      : most_(V::all_reals(static_cast<float>(range.hi - range.zero_point))),
        zero_point_(V::all_pairs(range.zero_point)),
        low_(V::all_bytes(range.lo)) {}

  [[gnu::always_inline]] typename V::Ints nearest(typename V::Reals scaled) const {
    return V::nearest(V::smaller(scaled, most_));
  }
  [[gnu::always_inline]] typename V::Ints scaled(typename V::Ints acc, typename V::Reals multiplier) const {
    return nearest(V::mul(V::to_reals(acc), multiplier));
  }
  // Not in the order of the vectors (V::in_order).
  [[gnu::always_inline]] typename V::Bytes codes(typename V::Ints a, typename V::Ints b, typename V::Ints c,
                                                 typename V::Ints d) const {
    return V::larger(V::narrow(a, b, c, d, zero_point_), low_);
  }

 private:
  typename V::Reals most_;
  typename V::Ints zero_point_;
  typename V::Bytes low_;
};

template <class V>
struct VectorLoops {
  using Ints = typename V::Ints;
  using Reals = typename V::Reals;

  // Calls body(i, n) for n codes from i on, n being kBytes, known to the compiler, as often as it can be.
  template <class Body>
  [[gnu::always_inline]] static void for_each_register(int32_t count, Body body) {
    int32_t i = 0;
    for (; count - i >= V::kBytes; i += V::kBytes) {
      body(i, V::kBytes);
    }
    if (i < count) {
      body(i, count - i);
    }
  }

  // A16, in the order of Binary32::add.
  static void add(const Add<int8_t>& op) {
    const Reals offset = V::all_reals(__builtin_bit_cast(float, op.constants.offset));
    const Reals ratio_a = V::all_reals(__builtin_bit_cast(float, op.constants.ratio_a));
    const Reals ratio_b = V::all_reals(__builtin_bit_cast(float, op.constants.ratio_b));
    const Requantize<V> requantize({.zero_point = 0, .lo = op.range.lo, .hi = op.range.hi});
    for_each_register(
        op.count, [&](int32_t i, int32_t n) __attribute__((always_inline)) {
          Ints sums[4];
#pragma GCC unroll 4
          for (int k = 0; k < 4; ++k) {
            const int32_t at = k * V::kLanes;
            const Reals a = V::to_reals(V::load_codes(op.a + i + at, n - at));
            const Reals b = V::to_reals(V::load_codes(op.b + i + at, n - at));
            sums[k] = requantize.nearest(V::add(V::add(offset, V::mul(a, ratio_a)), V::mul(b, ratio_b)));
          }
          V::store_bytes(op.y + i, n, V::in_order(requantize.codes(sums[0], sums[1], sums[2], sums[3])));
        });
  }

  // Calls body(image, p, r, y) for every window.
  template <class Body>
  static void for_each_window(const PoolShape& s, const int8_t* x, int8_t* y, Body body) {
    const Window& w = s.window;
    for (int32_t n = 0; n < s.batch; ++n) {
      const int8_t* const image = x + int64_t{n} * w.in_h * w.in_w * s.channels;
      for (int32_t p = 0; p < w.out_h; ++p) {
        for (int32_t r = 0; r < w.out_w; ++r, y += s.channels) {
          body(image, p, r, y);
        }
      }
    }
  }

  // The pixels of a window that lie inside the image.
  struct Taps {
    const int8_t* first;  // pixel
    int32_t rows, columns;
    int64_t row;  // codes to the next
  };
  static Taps taps_of(const PoolShape& s, const int8_t* image, int32_t p, int32_t r) {
    const Window& w = s.window;
    const int32_t top = w.row(p, 0) < 0 ? 0 : w.row(p, 0);
    const int32_t left = w.column(r, 0) < 0 ? 0 : w.column(r, 0);
    const int32_t bottom = w.row(p, w.kernel_h) < w.in_h ? w.row(p, w.kernel_h) : w.in_h;
    const int32_t right = w.column(r, w.kernel_w) < w.in_w ? w.column(r, w.kernel_w) : w.in_w;
    return {.first = image + (int64_t{top} * w.in_w + left) * s.channels,
            .rows = bottom > top ? bottom - top : 0,
            .columns = right > left ? right - left : 0,
            .row = int64_t{w.in_w} * s.channels};
  }

  // Calls body(codes of channel c and those behind it) for every tap.
  template <class Body>
  [[gnu::always_inline]] static void for_each_tap(const PoolShape& s, const Taps& taps, int32_t c, Body body) {
    for (int32_t u = 0; u < taps.rows; ++u) {
      const int8_t* at = taps.first + u * taps.row + c;
      for (int32_t v = 0; v < taps.columns; ++v, at += s.channels) {
        body(at);
      }
    }
  }

  // A17.
  static void max_pool(const MaxPool<int8_t>& op) {
    const typename V::Bytes low = V::all_bytes(op.range.lo);
    const typename V::Bytes high = V::all_bytes(op.range.hi);
    for_each_window(op.shape, op.x, op.y, [&](const int8_t* image, int32_t p, int32_t r, int8_t* y) {
      const Taps taps = taps_of(op.shape, image, p, r);
      for_each_register(
          op.shape.channels, [&](int32_t c, int32_t n) __attribute__((always_inline)) {
            typename V::Bytes largest = low;
            for_each_tap(op.shape, taps, c,
                         [&](const int8_t* at) { largest = V::larger(largest, V::load_bytes(at, n)); });
            V::store_bytes(y + c, n, V::smaller(largest, high));
          });
    });
  }

  // A18.
  static void average_pool(const AveragePool<int8_t>& op) {
    const Requantize<V> requantize(op.range);
    for_each_window(op.shape, op.x, op.y, [&](const int8_t* image, int32_t p, int32_t r, int8_t* y) {
      const Taps taps = taps_of(op.shape, image, p, r);
      const int32_t count = taps.rows * taps.columns;
      const Ints zero_points = V::all(-count * op.x_zero_point);
      const uint32_t bits = op.multipliers[op.padded ? count - 1 : 0];
      const Reals multiplier = V::all_reals(__builtin_bit_cast(float, bits));
      for_each_register(
          op.shape.channels, [&](int32_t c, int32_t n) __attribute__((always_inline)) {
            Ints acc[4] = {zero_points, zero_points, zero_points, zero_points};
            for_each_tap(op.shape, taps, c, [&](const int8_t* at) {
#pragma GCC unroll 4
              for (int32_t k = 0; k < 4; ++k) {
                acc[k] = V::add(acc[k], V::load_codes(at + k * V::kLanes, n - k * V::kLanes));
              }
            });
#pragma GCC unroll 4
            for (Ints& sum : acc) {
              sum = requantize.scaled(sum, multiplier);
            }
            V::store_bytes(y + c, n, V::in_order(requantize.codes(acc[0], acc[1], acc[2], acc[3])));
          });
    });
  }
};

}  // namespace whittle::kernels
