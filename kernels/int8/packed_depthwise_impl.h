// Depthwise convolution with packed weights, for vectors of 32-bit sums to which one
// instruction adds products of groups of four bytes.
//
// The four bytes are four rows of one channel: for a row of results the rows of x that it
// reads are woven together, a group of four bytes per column and channel, with zero-points
// where there is padding. From there on a row of results is one flat array, whatever the
// channels: result i is the sum over the columns v of the filter of group i + v channels
// times the weights of column v. With a stride of s, columns 0, s, 2 s, ... are woven into
// one array, 1, s + 1, ... into the next, so that it stays flat. Weights, biases and
// multipliers are repeated until they fill whole vectors.
//
// Three rows leave one of the four bytes free. With a stride of 1 the row below goes there,
// and the same groups serve two rows of results: with weights (a, b, c, 0) and (0, a, b, c).
#pragma once

#include <stdint.h>

#include "kernels/int8/packing.h"
#include "kernels/int8/table.h"

namespace whittle::kernels {

// V: kLanes, weave(), row(), row_pair(); see the tables.
template <class V>
struct PackedDepthwise {
  using Op = Conv<int8_t>;
  static constexpr int64_t kLanes = V::kLanes;
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
    int64_t array;    // groups in it
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

  // Packed: biases, multipliers, then [row of a pair][column of the filter][period] groups.
  static int64_t weights_of_row(const ConvShape& s, const Plan& plan) { return s.window.kernel_w * plan.period; }

  static PackedNeeds needs(const Op& op) {
    const ConvShape& s = op.shape;
    const Plan plan = plan_of(s);
    const int64_t products =
        int64_t{s.batch} * s.window.out_h * s.window.out_w * s.window.kernel_h * s.window.kernel_w * s.out_channels;
    return {.packed_bytes = round_up((2 * plan.period + 2 * weights_of_row(s, plan)) * 4, 64),
            .scratch_bytes = round_up(plan.array * s.window.stride_w * 4, 64),
            .parts = parts_worth(int64_t{s.batch} * s.window.out_h, products, kLeastProducts)};
  }

  static void pack(const Op& op, uint8_t* packed) {
    const ConvShape& s = op.shape;
    const Window& w = s.window;
    const Plan plan = plan_of(s);
    auto* const bias = reinterpret_cast<int32_t*>(packed);
    auto* const multipliers = reinterpret_cast<uint32_t*>(packed) + plan.period;
    auto* const weights = reinterpret_cast<int8_t*>(packed) + 8 * plan.period;
    const int32_t taps = w.kernel_h * w.kernel_w;
    for (int64_t i = 0; i < plan.period; ++i) {
      const int64_t c = i % plan.channels;
      bias[i] = bias_for_turned_codes(op, static_cast<int32_t>(c), taps);
      multipliers[i] = op.multipliers[c];
      for (int32_t below = 0; below < 2; ++below) {
        for (int32_t v = 0; v < w.kernel_w; ++v) {
          int8_t* const group = weights + ((below * w.kernel_w + v) * plan.period + i) * 4;
          for (int32_t u = 0; u < 4; ++u) {
            const int32_t row = u - below;
            group[u] = row >= 0 && row < w.kernel_h ? op.weights[c * taps + row * w.kernel_w + v] : int8_t{0};
          }
        }
      }
    }
  }

  static void run(const Op& op, const uint8_t* packed, uint8_t* scratch, Part part) {
    const ConvShape& s = op.shape;
    const Window& w = s.window;
    const Plan plan = plan_of(s);
    typename V::Flat flat = {};
    flat.columns = w.kernel_w;
    flat.count = int64_t{w.out_w} * plan.channels;
    flat.period = plan.period;
    flat.bias = reinterpret_cast<const int32_t*>(packed);
    flat.multipliers = reinterpret_cast<const float*>(packed) + plan.period;
    flat.weights = packed + 8 * plan.period;
    flat.range = op.range;
    auto* const groups = reinterpret_cast<uint32_t*>(scratch);
    for (int32_t v = 0; v < w.kernel_w; ++v) {
      const int64_t column = int64_t{v} * w.dilation_w;
      flat.groups[v] = groups + column % w.stride_w * plan.array + column / w.stride_w * plan.channels;
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
        V::row_pair(flat, y, y + flat.count);
        i += 2;
      } else {
        V::row(flat, y);
        i += 1;
      }
    }
  }

 private:
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
    const auto zero = static_cast<uint8_t>(op.x_zero_point + 128);
    for (int32_t phase = 0; phase < w.stride_w; ++phase) {
      uint32_t* const to = groups + phase * plan.array;
      for (int64_t q = 0; q < plan.columns;) {
        const int64_t column = q * w.stride_w + phase - w.left;
        if (column < 0 || column >= w.in_w) {
          V::fill_groups(to + q * plan.channels, zero, plan.channels);
          ++q;
          continue;
        }
        // With a stride of 1 the rest of the row lies in one piece.
        const int64_t inside = w.stride_w > 1                       ? 1
                               : plan.columns - q < w.in_w - column ? plan.columns - q
                                                                    : w.in_w - column;
        V::weave(rows, column * plan.channels, inside * plan.channels, zero, to + q * plan.channels);
        q += inside;
      }
    }
  }
};

}  // namespace whittle::kernels
