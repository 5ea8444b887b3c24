// Random convolutions and fully connected layers of 8-bit codes, with operands.
#pragma once

#include <algorithm>
#include <vector>

#include "kernels/int8/table.h"
#include "tests/kernels/draw.h"
#include "tests/kernels/oracle.h"
#include "tests/kernels/stored_codes.h"

namespace whittle {

// Windows, strides, dilations, paddings, channels: many that are no multiple of anything. One in three is depthwise,
// some are lines, which is what fully connected layers are.
inline kernels::ConvShape draw_conv_shape(Draw& draw) {
  const auto in = [&](int64_t low, int64_t high) { return static_cast<int32_t>(draw.in(low, high)); };
  const bool pointwise = draw.once_in(4);
  const bool line = draw.once_in(5);  // what fully connected layers are
  kernels::ConvShape shape = {};
  kernels::Window& w = shape.window;
  w.kernel_h = pointwise || line ? 1 : in(1, 4);
  w.kernel_w = pointwise || line ? 1 : in(1, 4);
  w.stride_h = line ? 1 : in(1, 3);
  w.stride_w = line ? 1 : in(1, 3);
  w.dilation_h = draw.once_in(4) ? in(1, 3) : 1;
  w.dilation_w = draw.once_in(4) ? in(1, 3) : 1;
  const auto extent = [&](int32_t kernel, int32_t stride, int32_t dilation, int32_t& size, int32_t& before,
                          int32_t& out) {
    const int32_t reach = (kernel - 1) * dilation + 1;
    before = draw.once_in(3) || line ? 0 : in(0, reach);
    const int32_t after = draw.once_in(3) || line ? 0 : in(0, reach);
    size = in(std::max(1, reach - before - after), 20);
    out = (size + before + after - reach) / stride + 1;
  };
  extent(w.kernel_h, w.stride_h, w.dilation_h, w.in_h, w.top, w.out_h);
  extent(w.kernel_w, w.stride_w, w.dilation_w, w.in_w, w.left, w.out_w);
  if (line) {
    w.in_h = w.out_h = 1;
  }
  shape.batch = draw.once_in(3) ? in(1, 4) : 1;
  shape.in_channels = draw.once_in(4) ? in(1, 4) * 16 : draw.once_in(3) ? 3 : in(1, 70);
  shape.out_channels = draw.once_in(4) ? in(1, 5) * 32 : in(1, 150);
  shape.groups = 1;
  if (!line && draw.once_in(3)) {  // depthwise
    shape.in_channels = draw.once_in(2) ? in(1, 6) * 16 : in(2, 90);
    shape.groups = shape.out_channels = shape.in_channels;
  }
  return shape;
}

// Operands for a shape, with weights of so many bits: codes and weights of any value, or in some problems their two
// ends alone. Multipliers bring most sums to the size of codes, and some beyond all integers.
struct ConvProblem {
  ConvProblem(Draw& draw, const kernels::ConvShape& of, uint32_t width = 8) : shape(of), bits(width) {
    const kernels::Window& w = shape.window;
    const auto in = [&](int64_t low, int64_t high) { return static_cast<int32_t>(draw.in(low, high)); };
    const int64_t depth = int64_t{w.kernel_h} * w.kernel_w * shape.in_channels / shape.groups;
    const bool extreme = draw.once_in(8);
    const auto codes = [&](int64_t count, int64_t low, int64_t high) {
      std::vector<int8_t> result(static_cast<size_t>(count));
      for (int8_t& code : result) {
        code = static_cast<int8_t>(extreme ? (draw.once_in(2) ? low : high) : draw.in(low, high));
      }
      return result;
    };
    x = codes(int64_t{shape.batch} * w.in_h * w.in_w * shape.in_channels, -128, 127);
    weights = stored_codes(codes(depth * shape.out_channels, -largest_of(bits), largest_of(bits)),
                           static_cast<size_t>(shape.out_channels), bits);
    for (int32_t o = 0; o < shape.out_channels; ++o) {
      bias.push_back(in(-30000, 30000));
      multipliers.push_back(oracle::bits(draw.once_in(8) ? draw.scale(-40, 30) : draw.scale(-12, -5)));
    }
    op = {.shape = shape,
          .x = x.data(),
          .x_zero_point = in(-128, 127),
          .weights = {weights.data(), bits},
          .bias = bias.data(),
          .multipliers = multipliers.data(),
          .range = {.zero_point = in(-128, 127), .lo = -128, .hi = 127},
          .y = nullptr};
    if (draw.once_in(2)) {
      op.range.lo = op.range.zero_point;
      op.range.hi = in(op.range.lo, 127);
    }
  }
  explicit ConvProblem(Draw& draw) : ConvProblem{draw, draw_conv_shape(draw), draw_bits(draw)} {}

  int64_t outputs() const {
    return int64_t{shape.batch} * shape.window.out_h * shape.window.out_w * shape.out_channels;
  }

  kernels::ConvShape shape{};
  uint32_t bits;
  std::vector<int8_t> x, weights;  // these as they are stored
  std::vector<int32_t> bias;
  std::vector<uint32_t> multipliers;
  kernels::Conv<int8_t> op{};
};

}  // namespace whittle
