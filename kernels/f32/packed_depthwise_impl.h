// Depthwise convolution with packed weights in float: the rows of train/depthwise.h, with
// bias and limits where a sum ends.
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
    const int64_t rows = int64_t{s.batch} * s.window.out_h;
    const int64_t products = rows * s.window.out_w * s.window.kernel_h * s.window.kernel_w * s.out_channels;
    result.parts = parts_worth(rows, products, kLeastProducts);
    return result;
  }

  template <class Weight>
  static void pack(const ConvF32<Weight>& op, uint8_t* packed) {
    const int64_t channels = op.shape.in_channels;
    const int64_t taps = int64_t{op.shape.window.kernel_h} * op.shape.window.kernel_w;
    auto* to = reinterpret_cast<float*>(packed);
    const int64_t width = Rows::packed_channels(channels);
    Rows::pack(op.bias, channels, 1, to);
    for (int64_t tap = 0; tap < taps; ++tap) {
      to += width;
      for (int64_t i = 0; i < width; ++i) {
        to[i] = Direct::weight(op, i % channels, i % channels * taps + tap);
      }
    }
  }

  static void run(const Op& op, const uint8_t* packed, Part part) {
    const ConvShape& s = op.shape;
    const Window& w = s.window;
    const int64_t channels = s.in_channels;
    const int64_t width = Rows::packed_channels(channels);
    const auto* const bias = reinterpret_cast<const float*>(packed);
    const V low = V::broadcast(op.limits.lo);
    const V high = V::broadcast(op.limits.hi);
    const auto finish = [bias, low, high](V sum, int64_t c, auto lanes) {
      return V::limited(V::add(sum, lanes.load(bias + c)), low, high);
    };
    DepthwiseRow<float> row = {.channels = channels,
                               .in = w.in_w,
                               .windows = w.out_w,
                               .taps = w.kernel_w,
                               .stride = w.stride_w,
                               .dilation = w.dilation_w,
                               .before = w.left,
                               .whole_begin = 0,
                               .whole_end = 0,
                               .rows = 0,
                               .source = nullptr,
                               .source_step = int64_t{w.dilation_h} * w.in_w * channels};
    row.whole_begin = Direct::least((row.before + row.stride - 1) / row.stride, row.windows);
    const int64_t last = row.in - 1 - (row.taps - 1) * row.dilation + row.before;  // where a whole window may begin
    row.whole_end = last < 0 ? 0 : Direct::least(last / row.stride + 1, row.windows);
    row.whole_end = row.whole_end < row.whole_begin ? row.whole_begin : row.whole_end;
    const int64_t rows = int64_t{s.batch} * w.out_h;
    const int64_t end = rows * (part.index + 1) / part.count;
    for (int64_t i = rows * part.index / part.count; i < end; ++i) {
      const int64_t n = i / w.out_h;
      const auto p = static_cast<int32_t>(i - n * w.out_h);
      int32_t u = 0;
      int32_t u_end = w.kernel_h;
      while (u < u_end && w.row(p, u) < 0) {
        ++u;
      }
      while (u < u_end && w.row(p, u_end - 1) >= w.in_h) {
        --u_end;
      }
      row.rows = u_end - u;
      row.source = op.x + (n * w.in_h + (row.rows > 0 ? w.row(p, u) : 0)) * w.in_w * channels;
      Rows::correlate_and_finish(row, {bias + (1 + u * row.taps) * width, row.taps * width, width}, nullptr, finish,
                                 op.y + i * w.out_w * channels, channels);
    }
  }
};

}  // namespace whittle::kernels
