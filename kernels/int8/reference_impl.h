// The normative integer kernels: docs/arithmetic.md as code, one op a function, slow and
// plain. `Rounding` is Binary32 or Integers (rounding.h).
#pragma once

#include <stdint.h>

#include "kernels/int8/rounding.h"
#include "kernels/int8/table.h"

namespace whittle::kernels {

namespace {  // one copy for each table that is made from this

// 8-bit products add up in 32 bits, which the program's stored bound proves to be enough (A7).
template <class Code>
struct AccumulatorOf;
template <>
struct AccumulatorOf<int8_t> {
  using Type = int32_t;
};
template <>
struct AccumulatorOf<int16_t> {
  using Type = int64_t;
};

template <class Rounding, class Code>
struct Reference {
  using Accumulator = typename AccumulatorOf<Code>::Type;

  // A12 and A13.
  static void conv(const Conv<Code>& op) {
    with_rows(op.weights, op.shape.filter(), [&](const auto& rows) { conv_of(op, rows); });
  }
  template <class Rows>
  static void conv_of(const Conv<Code>& op, const Rows& rows) {
    const ConvShape& s = op.shape;
    const Window& w = s.window;
    const int32_t group_in = s.in_channels / s.groups;
    const int32_t group_out = s.out_channels / s.groups;
    Code* y = op.y;
    for (int32_t n = 0; n < s.batch; ++n) {
      const Code* image = op.x + n * w.in_h * w.in_w * s.in_channels;
      for (int32_t p = 0; p < w.out_h; ++p) {
        for (int32_t r = 0; r < w.out_w; ++r) {
          for (int32_t o = 0; o < s.out_channels; ++o) {
            const int32_t first = o / group_out * group_in;
            const auto weights = rows[o];
            int32_t tap = 0;
            Accumulator acc = op.bias[o];
            for (int32_t u = 0; u < w.kernel_h; ++u) {
              for (int32_t v = 0; v < w.kernel_w; ++v, tap += group_in) {
                if (!w.inside(w.row(p, u), w.column(r, v))) {
                  continue;  // padding is real 0 (A6)
                }
                const Code* x = image + (w.row(p, u) * w.in_w + w.column(r, v)) * s.in_channels + first;
                for (int32_t i = 0; i < group_in; ++i) {
                  acc += (static_cast<Accumulator>(x[i]) - op.x_zero_point) * weights[tap + i];
                }
              }
            }
            *y++ = static_cast<Code>(Rounding::requantize(acc, op.multipliers[o], op.range));
          }
        }
      }
    }
  }

  // A14.
  static void fully_connected(const FullyConnected<Code>& op) {
    with_rows(op.weights, op.in, [&](const auto& rows) { fully_connected_of(op, rows); });
  }
  template <class Rows>
  static void fully_connected_of(const FullyConnected<Code>& op, const Rows& rows) {
    for (int32_t n = 0; n < op.batch; ++n) {
      const Code* x = op.x + n * op.in;
      for (int32_t o = 0; o < op.out; ++o) {
        const auto weights = rows[o];
        Accumulator acc = op.bias[o];
        for (int32_t i = 0; i < op.in; ++i) {
          acc += (static_cast<Accumulator>(x[i]) - op.x_zero_point) * weights[i];
        }
        op.y[n * op.out + o] = static_cast<Code>(Rounding::requantize(acc, op.multipliers[o], op.range));
      }
    }
  }

  // A16.
  static void add(const Add<Code>& op) {
    for (int32_t i = 0; i < op.count; ++i) {
      op.y[i] = static_cast<Code>(Rounding::add(op.a[i], op.b[i], op.constants, op.range));
    }
  }

  // Calls body(code) for every tap of a window that lies inside the image.
  template <class Body>
  static void for_each_tap(const PoolShape& s, const Code* image, int32_t p, int32_t r, int32_t c, Body body) {
    const Window& w = s.window;
    for (int32_t u = 0; u < w.kernel_h; ++u) {
      for (int32_t v = 0; v < w.kernel_w; ++v) {
        if (w.inside(w.row(p, u), w.column(r, v))) {
          body(image[(w.row(p, u) * w.in_w + w.column(r, v)) * s.channels + c]);
        }
      }
    }
  }

  // Calls body(image, p, r, c) for every number of the result, in order.
  template <class Body>
  static void for_each_window(const PoolShape& s, const Code* x, Body body) {
    const Window& w = s.window;
    for (int32_t n = 0; n < s.batch; ++n) {
      for (int32_t p = 0; p < w.out_h; ++p) {
        for (int32_t r = 0; r < w.out_w; ++r) {
          for (int32_t c = 0; c < s.channels; ++c) {
            body(x + n * w.in_h * w.in_w * s.channels, p, r, c);
          }
        }
      }
    }
  }

  // A17.
  static void max_pool(const MaxPool<Code>& op) {
    Code* y = op.y;
    for_each_window(op.shape, op.x, [&](const Code* image, int32_t p, int32_t r, int32_t c) {
      int32_t largest = op.range.lo;
      for_each_tap(op.shape, image, p, r, c, [&](Code code) { largest = code > largest ? code : largest; });
      *y++ = static_cast<Code>(largest < op.range.hi ? largest : op.range.hi);
    });
  }

  // A18.
  static void average_pool(const AveragePool<Code>& op) {
    Code* y = op.y;
    for_each_window(op.shape, op.x, [&](const Code* image, int32_t p, int32_t r, int32_t c) {
      Accumulator acc = 0;
      int32_t taps = 0;
      for_each_tap(op.shape, image, p, r, c, [&](Code code) {
        acc += static_cast<Accumulator>(code) - op.x_zero_point;
        ++taps;
      });
      *y++ = static_cast<Code>(Rounding::requantize(acc, op.multipliers[op.padded ? taps - 1 : 0], op.range));
    });
  }

  // A20.
  static void rescale(const Rescale<Code>& op) {
    for (int32_t i = 0; i < op.count; ++i) {
      op.y[i] = static_cast<Code>(Rounding::requantize(op.x[i] - op.x_zero_point, op.multiplier, op.range));
    }
  }

  static constexpr IntegerKernels<Code> kernels() {
    return {.conv = conv,
            .depthwise = conv,
            .fully_connected = fully_connected,
            .add = add,
            .max_pool = max_pool,
            .average_pool = average_pool,
            .rescale = rescale};
  }
};

// A21.
inline void lookup(const Lookup& op) {
  for (int32_t i = 0; i < op.count; ++i) {
    op.y[i] = op.table[op.x[i] + 128];
  }
}

// A22: integers all the way, whatever the table.
inline void softmax(const Softmax& op) {
  for (int32_t row = 0; row < op.rows; ++row) {
    const int8_t* x = op.x + row * op.count;
    int8_t* y = op.y + row * op.count;
    int32_t largest = x[0];
    for (int32_t i = 1; i < op.count; ++i) {
      largest = x[i] > largest ? x[i] : largest;
    }
    uint64_t total = 0;
    for (int32_t i = 0; i < op.count; ++i) {
      total += op.exponentials[largest - x[i]];
    }
    for (int32_t i = 0; i < op.count; ++i) {
      const uint64_t part = uint64_t{op.exponentials[largest - x[i]]} << op.log2_steps;
      const uint64_t whole = part / total;
      const uint64_t rest = part % total;
      const bool up = 2 * rest > total || (2 * rest == total && whole % 2 == 1);
      const int32_t code = static_cast<int32_t>(whole) + (up ? 1 : 0) + op.range.zero_point;
      y[i] = static_cast<int8_t>(code < op.range.lo ? op.range.lo : code > op.range.hi ? op.range.hi : code);
    }
  }
}

inline bool always() { return true; }

template <class Rounding>
constexpr Int8Table make_int8_table(const char* name) {
  return {.name = name,
          .runs_here = always,
          .s8 = Reference<Rounding, int8_t>::kernels(),
          .s16 = Reference<Rounding, int16_t>::kernels(),
          .lookup = lookup,
          .softmax = softmax,
          .packed = nullptr};
}

}  // namespace

}  // namespace whittle::kernels
