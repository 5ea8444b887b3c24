// Pooling, for any vector type V (vec_*.h): channels are the lanes.
#pragma once

#include "kernels/train/parts.h"
#include "kernels/train/pool.h"

namespace whittle::kernels {

template <class V>
struct Pools {
  using T = typename V::Scalar;

  // Calls body(j, v, v_end, x) for every window j: its taps [v, v_end) of a row lie inside, the first of them at pixel
  // x.
  template <class Body>
  static void for_each_window(const PoolRow& r, Body body) {
    for (int64_t j = 0; j < r.windows; ++j) {
      const int64_t first = j * r.stride - r.before;
      const int64_t v = first < 0 ? -first : 0;
      body(j, v, r.in - first < r.taps ? r.in - first : r.taps, first + v);
    }
  }

  template <class Winner, bool kWinners = true>
  static void largest(const PoolRow& r, const PoolSource<T>& source, T* y, Winner* winners) {
    for_each_window(r, [&](int64_t j, int64_t v_begin, int64_t v_end, int64_t x) {
      for_each_part<V>(r.channels, [&](int64_t c, auto part) {
        const T* row = source.data + x * r.channels + c;
        V best = part.load(row);
        V winner = V::broadcast(static_cast<T>(source.u * r.taps + v_begin));
        for (int64_t u = 0; u < source.rows; ++u, row += source.step) {
          const T* in = row;
          for (int64_t v = v_begin; v < v_end; ++v, in += r.channels) {
            const V tap = V::broadcast(static_cast<T>((source.u + u) * r.taps + v));
            const V value = part.load(in);
            if constexpr (kWinners) {
              winner = V::where_beats(value, best, tap, winner);
            }
            best = V::where_beats(value, best, value, best);
          }
        }
        part.store(y + j * r.channels + c, best);
        if constexpr (kWinners) {
          part.store(winners + j * r.channels + c, winner);
        }
      });
    });
  }

  // gx[pixel] = or += amount(at, v, part) for every pixel that a window's tap v covers.
  template <class Amount>
  static void spread(const PoolRow& r, const PoolGradient<T>& p, Amount amount) {
    for_each_window(r, [&](int64_t j, int64_t v_begin, int64_t v_end, int64_t x) {
      for_each_part<V>(r.channels, [&](int64_t c, auto part) {
        T* to = p.gx + x * r.channels + c;
        const auto passed = amount(j * r.channels + c, v_end - v_begin, part);
        for (int64_t v = v_begin; v < v_end; ++v, to += r.channels) {
          part.store(to, p.add ? V::add(part.load(to), passed(v)) : passed(v));
        }
      });
    });
  }

  template <class Winner>
  static void largest_gradient(const PoolRow& r, const PoolGradient<T>& p, const Winner* winners) {
    spread(r, p, [&](int64_t at, int64_t, auto part) {
      return [&r, &p, g = part.load(p.g + at), winner = part.load(winners + at)](int64_t v) {
        return V::where_equal(winner, V::broadcast(static_cast<T>(p.u * r.taps + v)), g, V::zero());
      };
    });
  }

  static void mean(const PoolRow& r, const PoolSource<T>& source, T* y) {
    for_each_window(r, [&](int64_t j, int64_t v_begin, int64_t v_end, int64_t x) {
      const V share = V::broadcast(1 / static_cast<T>(source.rows * (v_end - v_begin)));
      for_each_part<V>(r.channels, [&](int64_t c, auto part) {
        V sum = V::zero();
        for (int64_t u = 0; u < source.rows; ++u) {
          const T* in = source.data + u * source.step + x * r.channels + c;
          for (int64_t v = v_begin; v < v_end; ++v, in += r.channels) {
            sum = V::add(sum, part.load(in));
          }
        }
        part.store(y + j * r.channels + c, V::mul(sum, share));
      });
    });
  }

  static void mean_gradient(const PoolRow& r, const PoolGradient<T>& p, int64_t rows) {
    spread(r, p, [&](int64_t at, int64_t columns, auto part) {
      const V share = V::mul(part.load(p.g + at), V::broadcast(1 / static_cast<T>(rows * columns)));
      return [share](int64_t) { return share; };
    });
  }

  static constexpr PoolKernels<T> table() {
    return {largest<uint8_t>, largest<T>, largest_gradient<uint8_t>, largest_gradient<T>, mean, mean_gradient};
  }
};

}  // namespace whittle::kernels
