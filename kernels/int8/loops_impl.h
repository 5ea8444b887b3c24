// Requantization, additions and pools over vectors of sums; V: see vec_avx512vnni.h. Internal to the vector tables.
#pragma once

#include <stdint.h>

#include "kernels/int8/table.h"

namespace whittle::kernels {

// A9 for a vector of sums.
template <class V>
class Requantize {
 public:
  explicit Requantize(const CodeRange& range)
      : low_(V::all_reals(static_cast<float>(range.lo - range.zero_point))),
        high_(V::all_reals(static_cast<float>(range.hi - range.zero_point))),
        zero_point_(V::all(range.zero_point)) {}

  [[gnu::always_inline]] typename V::Codes operator()(typename V::Ints acc, typename V::Reals multiplier) const {
    const typename V::Reals scaled = V::mul(V::to_reals(acc), multiplier);
    return V::to_codes(V::add(V::nearest(V::clamp(scaled, low_, high_)), zero_point_));
  }

 private:
  typename V::Reals low_, high_;
  typename V::Ints zero_point_;
};

template <class V>
struct VectorLoops {
  using Ints = typename V::Ints;
  using Reals = typename V::Reals;

  // A16, in the order of Binary32::add.
  static void add(const Add<int8_t>& op) {
    const Reals offset = V::all_reals(__builtin_bit_cast(float, op.constants.offset));
    const Reals ratio_a = V::all_reals(__builtin_bit_cast(float, op.constants.ratio_a));
    const Reals ratio_b = V::all_reals(__builtin_bit_cast(float, op.constants.ratio_b));
    const Reals low = V::all_reals(static_cast<float>(op.range.lo));
    const Reals high = V::all_reals(static_cast<float>(op.range.hi));
    for (int32_t i = 0; i < op.count; i += V::kLanes) {
      const int32_t n = op.count - i;
      const Reals a = V::to_reals(V::load_codes(op.a + i, n));
      const Reals b = V::to_reals(V::load_codes(op.b + i, n));
      const Reals sum = V::add(V::add(offset, V::mul(a, ratio_a)), V::mul(b, ratio_b));
      V::store_codes(op.y + i, n, V::to_codes(V::nearest(V::clamp(sum, low, high))));
    }
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

  // Calls body(pixel) for every tap of a window that lies inside the image.
  template <class Body>
  static void for_each_tap(const PoolShape& s, const int8_t* image, int32_t p, int32_t r, Body body) {
    const Window& w = s.window;
    for (int32_t u = 0; u < w.kernel_h; ++u) {
      for (int32_t v = 0; v < w.kernel_w; ++v) {
        if (w.inside(w.row(p, u), w.column(r, v))) {
          body(image + (int64_t{w.row(p, u)} * w.in_w + w.column(r, v)) * s.channels);
        }
      }
    }
  }

  // A17.
  static void max_pool(const MaxPool<int8_t>& op) {
    const typename V::Bytes low = V::all_bytes(op.range.lo);
    const typename V::Bytes high = V::all_bytes(op.range.hi);
    for_each_window(op.shape, op.x, op.y, [&](const int8_t* image, int32_t p, int32_t r, int8_t* y) {
      for (int32_t c = 0; c < op.shape.channels; c += V::kBytes) {
        const int32_t n = op.shape.channels - c;
        typename V::Bytes largest = low;
        for_each_tap(op.shape, image, p, r,
                     [&](const int8_t* pixel) { largest = V::larger(largest, V::load_bytes(pixel + c, n)); });
        V::store_bytes(y + c, n, V::smaller(largest, high));
      }
    });
  }

  // A18.
  static void average_pool(const AveragePool<int8_t>& op) {
    const Requantize<V> requantize(op.range);
    const Ints zero_point = V::all(op.x_zero_point);
    for_each_window(op.shape, op.x, op.y, [&](const int8_t* image, int32_t p, int32_t r, int8_t* y) {
      for (int32_t c = 0; c < op.shape.channels; c += V::kLanes) {
        const int32_t n = op.shape.channels - c;
        Ints acc = V::all(0);
        int32_t taps = 0;
        for_each_tap(op.shape, image, p, r, [&](const int8_t* pixel) {
          acc = V::add(acc, V::sub(V::load_codes(pixel + c, n), zero_point));
          ++taps;
        });
        const uint32_t multiplier = op.multipliers[op.padded ? taps - 1 : 0];
        V::store_codes(y + c, n, requantize(acc, V::all_reals(__builtin_bit_cast(float, multiplier))));
      }
    });
  }
};

}  // namespace whittle::kernels
