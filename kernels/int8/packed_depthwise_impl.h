// Depthwise convolution with packed weights, for vectors of 32-bit sums to which few
// instructions add products of pairs or groups of four codes.
//
// The four codes are four rows of one channel: for a row of results the rows of x that it
// reads are woven together, a group of four codes per column and channel, with zero-points
// where there is padding. From there on a row of results is one flat array, whatever the
// channels: result i is the sum over the columns v of the filter of group i + v channels
// times the weights of column v. With a stride of s, columns 0, s, 2 s, ... are woven into
// one array, 1, s + 1, ... into the next, so that it stays flat. Weights, biases and
// multipliers are repeated until they fill whole vectors. If a group takes several words of
// 32 bits, there is an array for each of them.
//
// Three rows leave one of the four codes free. With a stride of 1 the row below goes there,
// and the same groups serve two rows of results: with weights (a, b, c, 0) and (0, a, b, c).
#pragma once

#include <stdint.h>

#include "kernels/int8/loops_impl.h"
#include "kernels/int8/packing.h"
#include "kernels/int8/table.h"

namespace whittle::kernels {

// V: see vec_avx512vnni.h.
template <class V>
struct PackedDepthwise {
  using Op = Conv<int8_t>;
  using Weight = typename V::Weight;
  static constexpr int64_t kLanes = V::kLanes;
  static constexpr int32_t kWords = V::kWords;
  static constexpr int32_t kInWord = 4 / kWords;
  static constexpr int64_t kLeastProducts = 1 << 18;  // of a part, as in packed_conv_impl.h
  static constexpr int32_t kMostColumns = 7;

  static bool fits(const ConvShape& s) {
    return s.groups > 1 && s.groups == s.in_channels && s.groups == s.out_channels && s.window.kernel_h <= 4 &&
           s.window.kernel_w <= kMostColumns;
  }

  struct Plan {
    int64_t channels;
    int64_t period;   // numbers until the channels begin anew at a whole vector
    int64_t columns;  // of the frame that belong to one array
    int64_t array;    // words in it
    bool pairs;       // of rows
  };
  static Plan plan_of(const ConvShape& s) {
    const Window& w = s.window;
    Plan plan = {};
    plan.channels = s.in_channels;
    plan.period = plan.channels;
    while (plan.period % kLanes != 0) {
      plan.period += plan.channels;
    }
    plan.columns = (int64_t{w.out_w - 1} * w.stride_w + int64_t{w.kernel_w - 1} * w.dilation_w) / w.stride_w + 1;
    plan.array = round_up(plan.columns * plan.channels, kLanes) + kLanes;
    plan.pairs = w.kernel_h <= 3 && w.stride_h == 1 && w.dilation_h == 1 && w.out_h > 1;
    return plan;
  }

  // Packed: biases, multipliers, then [row of a pair][column of the filter][word][period] words of weights.
  static int64_t words_of_row(const ConvShape& s, const Plan& plan) {
    return int64_t{s.window.kernel_w} * kWords * plan.period;
  }

  static PackedNeeds needs(const Op& op) {
    const ConvShape& s = op.shape;
    const Plan plan = plan_of(s);
    const int64_t products =
        int64_t{s.batch} * s.window.out_h * s.window.out_w * s.window.kernel_h * s.window.kernel_w * s.out_channels;
    return {.packed_bytes = round_up((2 * plan.period + 2 * words_of_row(s, plan)) * 4, 64),
            .scratch_bytes = round_up(plan.array * s.window.stride_w * kWords * 4, 64),
            .parts = parts_worth(int64_t{s.batch} * s.window.out_h, products, kLeastProducts)};
  }

  static void pack(const Op& op, uint8_t* packed) {
    const ConvShape& s = op.shape;
    const Window& w = s.window;
    const Plan plan = plan_of(s);
    auto* const bias = reinterpret_cast<int32_t*>(packed);
    auto* const multipliers = reinterpret_cast<uint32_t*>(packed) + plan.period;
    auto* const weights = reinterpret_cast<Weight*>(packed + 8 * plan.period);
    const int32_t taps = w.kernel_h * w.kernel_w;
    for (int64_t i = 0; i < plan.period; ++i) {
      const int64_t c = i % plan.channels;
      bias[i] = bias_for_shifted_codes(op, V::shift(op.x_zero_point), static_cast<int32_t>(c), taps);
      multipliers[i] = op.multipliers[c];
      for (int32_t below = 0; below < 2; ++below) {
        for (int32_t v = 0; v < w.kernel_w; ++v) {
          for (int32_t u = 0; u < 4; ++u) {
            const int32_t row = u - below;
            const int64_t word = (int64_t{below * w.kernel_w + v} * kWords + u / kInWord) * plan.period + i;
            weights[word * kInWord + u % kInWord] =
                row >= 0 && row < w.kernel_h ? op.weights[c * taps + row * w.kernel_w + v] : Weight{0};
          }
        }
      }
    }
  }

  static void run(const Op& op, const uint8_t* packed, uint8_t* scratch, Part part) {
    const ConvShape& s = op.shape;
    const Window& w = s.window;
    const Plan plan = plan_of(s);
    Flat flat = {};
    flat.columns = w.kernel_w;
    flat.count = int64_t{w.out_w} * plan.channels;
    flat.period = plan.period;
    flat.bias = reinterpret_cast<const int32_t*>(packed);
    flat.multipliers = reinterpret_cast<const float*>(packed) + plan.period;
    flat.weights = packed + 8 * plan.period;
    flat.plane = plan.array;
    flat.range = op.range;
    auto* const groups = reinterpret_cast<uint32_t*>(scratch);
    for (int32_t v = 0; v < w.kernel_w; ++v) {
      const int64_t column = int64_t{v} * w.dilation_w;
      flat.groups[v] = groups + column % w.stride_w * kWords * plan.array + column / w.stride_w * plan.channels;
    }
    const int64_t rows = int64_t{s.batch} * w.out_h;
    const int64_t begin = rows * part.index / part.count;
    const int64_t end = rows * (part.index + 1) / part.count;
    for (int64_t i = begin; i < end;) {
      const auto n = static_cast<int32_t>(i / w.out_h);
      const auto p = static_cast<int32_t>(i % w.out_h);
      weave(op, plan, n, p, groups);
      int8_t* const y = op.y + i * flat.count;
      if (plan.pairs && p + 1 < w.out_h && i + 1 < end) {
        run_columns<2>(flat, y, y + flat.count);
        i += 2;
      } else {
        run_columns<1>(flat, y, nullptr);
        i += 1;
      }
    }
  }

 private:
  struct Flat {
    int32_t columns;  // of the filter
    int64_t count;    // results in a row
    int64_t period;
    int64_t plane;  // from a group's word to the next
    const int32_t* bias;
    const float* multipliers;
    const uint8_t* weights;
    const uint32_t* groups[kMostColumns];  // what result 0 multiplies with each column
    CodeRange range;
  };

  template <int kRows, int kColumns = 1>
  static void run_columns(const Flat& flat, int8_t* y, int8_t* below) {
    if constexpr (kColumns < kMostColumns) {
      if (flat.columns > kColumns) {
        return run_columns<kRows, kColumns + 1>(flat, y, below);
      }
    }
    results<kRows, kColumns>(flat, y, below);
  }

  // Vectors of the same channels one after another, so that their weights stay in registers. The groups behind the
  // last result are there, as scratch, and what becomes of them is not stored.
  template <int kRows, int kColumns>
  static void results(const Flat& flat, int8_t* y, int8_t* below) {
    const Requantize<V> requantize(flat.range);
    for (int64_t k = 0; k < flat.period && k < flat.count; k += kLanes) {
      const typename V::Ints bias = V::load(flat.bias + k);
      const typename V::Reals multiplier = V::load_reals(flat.multipliers + k);
      typename V::Ints weights[kRows][kColumns][kWords];
#pragma GCC unroll 2
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
        for (int v = 0; v < kColumns; ++v) {
#pragma GCC unroll 2
          for (int word = 0; word < kWords; ++word) {
            weights[r][v][word] = V::load(flat.weights + (((r * kColumns + v) * kWords + word) * flat.period + k) * 4);
          }
        }
      }
      for (int64_t i = k; i < flat.count; i += flat.period) {
        typename V::Ints acc[kRows];
#pragma GCC unroll 2
        for (int r = 0; r < kRows; ++r) {
          acc[r] = bias;
        }
#pragma GCC unroll 8
        for (int v = 0; v < kColumns; ++v) {
#pragma GCC unroll 2
          for (int word = 0; word < kWords; ++word) {
            const typename V::Ints groups = V::load(flat.groups[v] + word * flat.plane + i);
#pragma GCC unroll 2
            for (int r = 0; r < kRows; ++r) {
              V::multiply_add(acc[r], groups, weights[r][v][word]);
            }
          }
        }
        const int64_t lanes = flat.count - i;
        V::store_codes(y + i, lanes, requantize(acc[0], multiplier));
        if constexpr (kRows > 1) {
          V::store_codes(below + i, lanes, requantize(acc[1], multiplier));
        }
      }
    }
  }

  // The groups that row p of image n reads.
  static void weave(const Op& op, const Plan& plan, int32_t n, int32_t p, uint32_t* groups) {
    const ConvShape& s = op.shape;
    const Window& w = s.window;
    const int8_t* const image = op.x + int64_t{n} * w.in_h * w.in_w * plan.channels;
    const int8_t* rows[4] = {};  // null: padding, or of no matter
    for (int32_t u = 0; u < 4; ++u) {
      const int32_t row = w.row(p, u);
      const bool used = u < w.kernel_h || plan.pairs;
      rows[u] = used && row >= 0 && row < w.in_h ? image + int64_t{row} * w.in_w * plan.channels : nullptr;
    }
    // A code in every part of a word.
    constexpr uint32_t kEverywhere = kInWord == 4 ? 0x01010101 : 0x00010001;
    const auto zero = static_cast<typename V::Code>(op.x_zero_point + V::shift(op.x_zero_point));
    const uint32_t zeros = static_cast<uint32_t>(zero) * kEverywhere;
    for (int32_t phase = 0; phase < w.stride_w; ++phase) {
      uint32_t* const to = groups + phase * kWords * plan.array;
      for (int64_t q = 0; q < plan.columns;) {
        const int64_t column = q * w.stride_w + phase - w.left;
        if (column < 0 || column >= w.in_w) {
          for (int32_t word = 0; word < kWords; ++word) {
            V::fill_words(to + word * plan.array + q * plan.channels, zeros, plan.channels);
          }
          ++q;
          continue;
        }
        // With a stride of 1 the rest of the row lies in one piece.
        const int64_t inside = w.stride_w > 1                       ? 1
                               : plan.columns - q < w.in_w - column ? plan.columns - q
                                                                    : w.in_w - column;
        V::weave(rows, column * plan.channels, inside * plan.channels, op.x_zero_point, to + q * plan.channels,
                 plan.array);
        q += inside;
      }
    }
  }
};

}  // namespace whittle::kernels
