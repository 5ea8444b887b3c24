// Depthwise convolution with packed weights in float: the rows of train/depthwise.h, with
// bias and limits where a sum ends. Padded images are copied into scratch as for
// packed_conv_impl.h, but some rows at a time, which stay in the second-level cache: rows
// without borders are worth more than the copy takes.
#pragma once

#include <stdint.h>

#include "kernels/f32/packed_conv_impl.h"
#include "kernels/train/depthwise_impl.h"

namespace whittle::kernels {

template <class Kit>
struct PackedDepthwiseF32 {
  using V = typename Kit::V;
  using Rows = Depthwise<V>;
  using Direct = PackedConvF32<Kit>;
  using Op = ConvF32<float>;
  static constexpr int64_t kLeastProducts = 1 << 17;  // of a part: some microseconds

  static bool fits(const ConvShape& s) {
    return s.groups > 1 && s.groups == s.in_channels && s.groups == s.out_channels;
  }

  // Packed, in floats, all as Rows::pack() repeats it: biases, then taps.
  static PackedNeeds needs(const ConvShape& s) {
    const int64_t taps = int64_t{s.window.kernel_h} * s.window.kernel_w;
    PackedNeeds result;
    result.packed_bytes =
        Direct::round_up((taps + 1) * Rows::packed_channels(s.in_channels) * int64_t{sizeof(float)}, 64);
    const auto plan = Direct::plan_of(s);
    result.scratch_bytes = Direct::frame_bytes(plan, s, rows_at_once(plan, s));
    const int64_t rows = int64_t{s.batch} * s.window.out_h;
    const int64_t products = rows * s.window.out_w * s.window.kernel_h * s.window.kernel_w * s.out_channels;
    result.parts = parts_worth(rows, products, kLeastProducts);
    return result;
  }

  static int64_t rows_at_once(const typename Direct::Plan& plan, const ConvShape& s) {
    constexpr int64_t kNumbers = 32 * 1024;
    constexpr int64_t kLeastRows = 8;
    const int64_t fitting = kNumbers / (int64_t{s.window.stride_h} * plan.width * s.in_channels);
    const int64_t rows = !plan.copies ? s.window.out_h : fitting < kLeastRows ? kLeastRows : fitting;
    return Direct::least(rows, s.window.out_h);
  }

  template <class Weight, class Weights>
  static void pack(const ConvF32<Weight>& op, const Weights& weights, uint8_t* packed) {
    const int64_t channels = op.shape.in_channels;
    const int64_t taps = int64_t{op.shape.window.kernel_h} * op.shape.window.kernel_w;
    auto* to = reinterpret_cast<float*>(packed);
    const int64_t width = Rows::packed_channels(channels);
    Rows::pack(op.bias, channels, 1, to);
    for (int64_t tap = 0; tap < taps; ++tap) {
      to += width;
      for (int64_t i = 0; i < width; ++i) {
        to[i] = Direct::weight(op, weights, i % channels, tap);
      }
    }
  }

  static void run(const Op& op, const uint8_t* packed, uint8_t* scratch, Part part) {
    const ConvShape& s = op.shape;
    const Window& w = s.window;
    const auto plan = Direct::plan_of(s);
    const int64_t channels = s.in_channels;
    const int64_t width = Rows::packed_channels(channels);
    const auto* const bias = reinterpret_cast<const float*>(packed);
    const V low = V::broadcast(op.limits.lo);
    const V high = V::broadcast(op.limits.hi);
    const auto finish = [bias, low, high](V sum, int64_t c, auto lanes) {
      return V::limited(V::add(sum, lanes.load(bias + c)), low, high);
    };
    const int64_t step = int64_t{plan.width} * channels;
    DepthwiseRow<float> row = {.channels = channels,
                               .in = plan.width,
                               .windows = w.out_w,
                               .taps = w.kernel_w,
                               .stride = w.stride_w,
                               .dilation = w.dilation_w,
                               .before = 0,
                               .whole_begin = 0,
                               .whole_end = w.out_w,
                               .rows = w.kernel_h,
                               .source = nullptr,
                               .source_step = w.dilation_h * step};
    const int64_t at_once = rows_at_once(plan, s);
    const int64_t rows = int64_t{s.batch} * w.out_h;
    const int64_t end = rows * (part.index + 1) / part.count;
    for (int64_t first = rows * part.index / part.count; first < end;) {  // of an image
      const int64_t n = first / w.out_h;
      const int64_t last = Direct::least(first + at_once, Direct::least(end, (n + 1) * w.out_h));
      const float* const image = op.x + n * w.in_h * w.in_w * channels;
      row.source = Direct::framed(op, plan, image, first - n * w.out_h, last - n * w.out_h, scratch);
      Rows::correlate_and_finish(row, {bias + width, row.taps * width, width}, nullptr, finish,
                                 {last - first, w.stride_h * step, w.out_w * channels},
                                 op.y + first * w.out_w * channels, channels);
      first = last;
    }
  }
};

}  // namespace whittle::kernels
