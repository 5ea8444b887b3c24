// How ops become calls of kernels. Internal to runtime/.
#pragma once

#include <stdint.h>

#include "runtime/program.h"

namespace whittle::runtime {

// An op with its operands looked up. `arena` is where activations live.
struct Call {
  Call(const Program& program, const OpRecord& record, void* memory)
      : p(program), op(record), arena(memory), x(p.value(p.operand(op, 0))), y(p.value(op.output)) {}

  template <class T>
  const T* input(uint32_t i = 0) const {
    return reinterpret_cast<const T*>(p.data(p.operand(op, i), arena));
  }
  template <class T>
  T* output() const {
    return reinterpret_cast<T*>(p.data(op.output, arena));
  }
  template <class T>
  const T* constant(uint32_t value) const {
    return value == kNone ? nullptr : reinterpret_cast<const T*>(p.constant(value));
  }

  int32_t count() const { return static_cast<int32_t>(elements(y)); }
  int32_t last_extent() const { return static_cast<int32_t>(x.dims[x.rank - 1]); }

  kernels::Window window() const {
    const bool flat = y.rank != 4;  // a pool over the whole image
    const bool dilated = op.dilation[0] != 0;
    return {.in_h = static_cast<int32_t>(x.dims[1]),
            .in_w = static_cast<int32_t>(x.dims[2]),
            .out_h = flat ? 1 : static_cast<int32_t>(y.dims[1]),
            .out_w = flat ? 1 : static_cast<int32_t>(y.dims[2]),
            .kernel_h = static_cast<int32_t>(op.kernel[0]),
            .kernel_w = static_cast<int32_t>(op.kernel[1]),
            .stride_h = static_cast<int32_t>(op.stride[0]),
            .stride_w = static_cast<int32_t>(op.stride[1]),
            .dilation_h = dilated ? static_cast<int32_t>(op.dilation[0]) : 1,
            .dilation_w = dilated ? static_cast<int32_t>(op.dilation[1]) : 1,
            .top = static_cast<int32_t>(op.padding[0]),
            .left = static_cast<int32_t>(op.padding[1])};
  }
  kernels::ConvShape conv_shape() const {
    return {.batch = static_cast<int32_t>(x.dims[0]),
            .in_channels = static_cast<int32_t>(x.dims[3]),
            .out_channels = static_cast<int32_t>(y.dims[3]),
            .groups = static_cast<int32_t>(op.groups),
            .window = window()};
  }
  kernels::PoolShape pool_shape() const {
    return {.batch = static_cast<int32_t>(x.dims[0]), .channels = static_cast<int32_t>(x.dims[3]), .window = window()};
  }
  int32_t batch() const { return static_cast<int32_t>(x.dims[0]); }
  int32_t in() const { return static_cast<int32_t>(elements(x) / x.dims[0]); }
  int32_t out() const { return static_cast<int32_t>(y.dims[1]); }
  kernels::CodeRange range() const {
    return {.zero_point = y.zero_point, .lo = static_cast<int32_t>(op.lo), .hi = static_cast<int32_t>(op.hi)};
  }

  const Program& p;
  const OpRecord op;
  void* arena;
  ValueRecord x, y;
  uint32_t number = 0;  // of the op
};

// Ops with a float input or output. Absent where WHITTLE_NO_FPU.
void run_float(const Call& call, const kernels::F32Table& table);

// What such an op needs to be packed, packing it, and running it then.
kernels::PackedNeeds float_needs(const Call& call, const kernels::F32Table& table);
void pack_float(const Call& call, const kernels::F32Table& table, uint8_t* packed);
void run_packed_float(const Call& call, const kernels::F32Table& table, const uint8_t* packed, uint8_t* scratch,
                      kernels::Part part);

}  // namespace whittle::runtime
