// A table of integer kernels over a type of vectors; V: see vec_avx512vnni.h. Ops that are not here are those of the
// reference.
#pragma once

#include "kernels/int8/loops_impl.h"
#include "kernels/int8/packed_conv_impl.h"
#include "kernels/int8/packed_depthwise_impl.h"
#include "kernels/int8/reference_impl.h"

namespace whittle::kernels {

template <class V>
struct VectorTable {
  using Products = PackedConv<V>;
  using Depthwise = PackedDepthwise<V>;

  static PackedNeeds conv_needs(const Conv<int8_t>& op) {
    return Depthwise::fits(op.shape) ? Depthwise::needs(op) : Products::needs(op);
  }
  static void pack_conv(const Conv<int8_t>& op, uint8_t* packed) {
    with_rows(op.weights, op.shape.filter(), [&](const auto& rows) {
      Depthwise::fits(op.shape) ? Depthwise::pack(op, rows, packed) : Products::pack(op, rows, packed);
    });
  }
  static void conv(const Conv<int8_t>& op, const uint8_t* packed, uint8_t* scratch, Part part) {
    return Depthwise::fits(op.shape) ? Depthwise::run(op, packed, scratch, part)
                                     : Products::run(op, packed, scratch, part);
  }

  static constexpr PackedKernels kPacked = {.conv_needs = conv_needs, .pack_conv = pack_conv, .conv = conv};

  static constexpr Int8Table make(const char* name, bool (*runs_here)()) {
    Int8Table table = make_int8_table<Binary32>(name);
    table.runs_here = runs_here;
    table.packed = &kPacked;
    table.s8.add = VectorLoops<V>::add;
    table.s8.max_pool = VectorLoops<V>::max_pool;
    table.s8.average_pool = VectorLoops<V>::average_pool;
    return table;
  }
};

}  // namespace whittle::kernels
