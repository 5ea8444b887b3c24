// A whole float table for a vector type: packed products, and the loops between them. What is
// not worth a vector, and products whose weights are not packed, is that of `reference`.
#pragma once

#include <stdint.h>

#include "kernels/f32/packed_conv_impl.h"
#include "kernels/f32/packed_depthwise_impl.h"
#include "kernels/f32/packed_winograd_impl.h"
#include "kernels/f32/table.h"
#include "kernels/train/parts.h"
#include "kernels/train/pool_impl.h"

namespace whittle::kernels {

template <class Kit>
struct FloatKernels {
  using V = typename Kit::V;
  using Direct = PackedConvF32<Kit>;
  using Separate = PackedDepthwiseF32<Kit>;
  using Two = PackedWinograd<Kit, Winograd2>;
  using Four = PackedWinograd<Kit, Winograd4>;

  // ---- Products ----

  enum class Way { kDirect, kDepthwise, kWinograd2, kWinograd4 };

  // By the shape alone.
  static Way way_of(const ConvShape& s) {
    const Window& w = s.window;
    if (Separate::fits(s)) {
      return Way::kDepthwise;
    }
    const bool three = w.kernel_h == 3 && w.kernel_w == 3 && w.stride_h == 1 && w.stride_w == 1 && w.dilation_h == 1 &&
                       w.dilation_w == 1;
    constexpr int32_t kLeastChannels = 16;
    if (!three || s.groups != 1 || s.in_channels < kLeastChannels || s.out_channels < kLeastChannels) {
      return Way::kDirect;
    }
    const int64_t direct = Four::direct_cost(s);
    const int64_t two = Two::cost(s);
    const int64_t four = Four::cost(s);
    if (four <= two) {
      return four < direct ? Way::kWinograd4 : Way::kDirect;
    }
    return two < direct ? Way::kWinograd2 : Way::kDirect;
  }

  static PackedNeeds conv_needs(const ConvShape& s) {
    if (!Direct::fits(s)) {
      return {};
    }
    switch (way_of(s)) {
      case Way::kDepthwise:
        return Separate::needs(s);
      case Way::kWinograd2:
        return Two::needs(s);
      case Way::kWinograd4:
        return Four::needs(s);
      case Way::kDirect:
        break;
    }
    return Direct::needs(s);
  }
  template <class Weight>
  static void pack_conv(const ConvF32<Weight>& op, uint8_t* packed) {
    with_rows(op.weights, op.shape.filter(), [&](const auto& rows) {
      switch (way_of(op.shape)) {
        case Way::kDepthwise:
          return Separate::pack(op, rows, packed);
        case Way::kWinograd2:
          return Two::pack(op, rows, packed);
        case Way::kWinograd4:
          return Four::pack(op, rows, packed);
        case Way::kDirect:
          break;
      }
      Direct::pack(op, rows, packed);
    });
  }
  static void conv(const ConvF32<float>& op, const uint8_t* packed, uint8_t* scratch, Part part) {
    switch (way_of(op.shape)) {
      case Way::kDepthwise:
        return Separate::run(op, packed, scratch, part);
      case Way::kWinograd2:
        return Two::run(op, packed, scratch, part);
      case Way::kWinograd4:
        return Four::run(op, packed, scratch, part);
      case Way::kDirect:
        break;
    }
    Direct::run(op, packed, scratch, part);
  }
  static constexpr PackedF32Kernels kPacked = {.conv_needs = conv_needs,
                                               .pack_conv = pack_conv<float>,
                                               .pack_conv_half = pack_conv<Half>,
                                               .pack_conv_hybrid = pack_conv<int8_t>,
                                               .conv = conv};

  // ---- Loops ----

  static void add(const AddF32& op) {
    const V low = V::broadcast(op.limits.lo);
    const V high = V::broadcast(op.limits.hi);
    for_each_part<V>(op.count, [&](int64_t i, auto part) {
      part.store(op.y + i, V::limited(V::add(part.load(op.a + i), part.load(op.b + i)), low, high));
    });
  }

  static void limit(float* y, int64_t n, const Limits& limits) {
    const V low = V::broadcast(limits.lo);
    const V high = V::broadcast(limits.hi);
    for_each_part<V>(n, [&](int64_t i, auto part) { part.store(y + i, V::limited(part.load(y + i), low, high)); });
  }

  // row(pool, source, y) for each row of windows.
  template <class Row>
  static void for_each_row(const PoolF32& op, Row row) {
    const PoolShape& s = op.shape;
    const Window& w = s.window;
    const PoolRow pool = {.channels = s.channels,
                          .in = w.in_w,
                          .windows = w.out_w,
                          .taps = w.kernel_w,
                          .stride = w.stride_w,
                          .before = w.left};
    const int64_t step = int64_t{w.in_w} * s.channels;
    const int64_t row_size = int64_t{w.out_w} * s.channels;
    float* y = op.y;
    for (int32_t n = 0; n < s.batch; ++n) {
      for (int32_t p = 0; p < w.out_h; ++p, y += row_size) {
        const int64_t first = w.row(p, 0);
        const int64_t u = first < 0 ? -first : 0;
        const int64_t u_end = w.in_h - first < w.kernel_h ? w.in_h - first : w.kernel_h;
        row(pool, PoolSource<float>{op.x + (int64_t{n} * w.in_h + first + u) * step, step, u, u_end - u}, y);
        limit(y, row_size, op.limits);
      }
    }
  }
  static void max_pool(const PoolF32& op) {
    for_each_row(op, [](const PoolRow& pool, const PoolSource<float>& source, float* y) {
      Pools<V>::template largest<float, false>(pool, source, y, nullptr);
    });
  }
  static void average_pool(const PoolF32& op) { for_each_row(op, Pools<V>::mean); }

  static void activation(const ActivationF32& op) {
    constexpr float kInfinity = __builtin_huge_valf();
    if (op.function != Function::kRelu && op.function != Function::kRelu6) {
      return kF32Reference.activation(op);
    }
    const V low = V::broadcast(0.0f);
    const V high = V::broadcast(op.function == Function::kRelu ? kInfinity : 6.0f);
    for_each_part<V>(op.count,
                     [&](int64_t i, auto part) { part.store(op.y + i, V::limited(part.load(op.x + i), low, high)); });
  }

  // ---- As the reference does it ----

  static void plain_conv(const ConvF32<float>& op) { kF32Reference.conv(op); }
  static void plain_conv_half(const ConvF32<Half>& op) { kF32Reference.conv_half(op); }
  static void plain_conv_hybrid(const ConvF32<int8_t>& op) { kF32Reference.conv_hybrid(op); }
  static void conv_dynamic(const ConvDynamic& op) { kF32Reference.conv_dynamic(op); }
  static void fully_connected(const FullyConnectedF32<float>& op) { kF32Reference.fully_connected(op); }
  static void fully_connected_half(const FullyConnectedF32<Half>& op) { kF32Reference.fully_connected_half(op); }
  static void fully_connected_hybrid(const FullyConnectedF32<int8_t>& op) { kF32Reference.fully_connected_hybrid(op); }
  static void fully_connected_dynamic(const FullyConnectedDynamic& op) { kF32Reference.fully_connected_dynamic(op); }
  static void softmax(const SoftmaxF32& op) { kF32Reference.softmax(op); }
  static void log_softmax(const SoftmaxF32& op) { kF32Reference.log_softmax(op); }
  static void quantize8(const Quantize<int8_t>& op) { kF32Reference.quantize8(op); }
  static void quantize16(const Quantize<int16_t>& op) { kF32Reference.quantize16(op); }
  static void dequantize8(const Dequantize<int8_t>& op) { kF32Reference.dequantize8(op); }
  static void dequantize16(const Dequantize<int16_t>& op) { kF32Reference.dequantize16(op); }

  static constexpr F32Table table(const char* name, bool (*runs_here)()) {
    return {.name = name,
            .runs_here = runs_here,
            .conv = plain_conv,
            .conv_half = plain_conv_half,
            .conv_hybrid = plain_conv_hybrid,
            .conv_dynamic = conv_dynamic,
            .fully_connected = fully_connected,
            .fully_connected_half = fully_connected_half,
            .fully_connected_hybrid = fully_connected_hybrid,
            .fully_connected_dynamic = fully_connected_dynamic,
            .add = add,
            .max_pool = max_pool,
            .average_pool = average_pool,
            .activation = activation,
            .softmax = softmax,
            .log_softmax = log_softmax,
            .quantize8 = quantize8,
            .quantize16 = quantize16,
            .dequantize8 = dequantize8,
            .dequantize16 = dequantize16,
            .packed = &kPacked};
  }
};

}  // namespace whittle::kernels
