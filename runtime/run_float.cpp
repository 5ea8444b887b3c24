// The ops of run.cpp that touch floats (docs/arithmetic.md, A23 to A26).

#include "kernels/f32/table.h"
#include "runtime/run.h"

namespace whittle::runtime {

namespace {

float number(uint32_t bits) { return __builtin_bit_cast(float, bits); }

Grid grid_of(const ValueRecord& v) {
  return {.scale = number(v.scale), .zero_point = v.zero_point, .qmin = v.qmin, .qmax = v.qmax};
}

kernels::Limits limits(const Call& c) { return {.lo = number(c.op.lo), .hi = number(c.op.hi)}; }

template <class Weight>
typename kernels::StoredWeights<Weight>::Type weights(const Call& c) {
  if constexpr (sizeof(Weight) == 1) {
    return c.p.codes(c.op.weights);
  } else {
    return c.constant<Weight>(c.op.weights);
  }
}

template <class Weight>
kernels::ConvF32<Weight> conv(const Call& c) {
  return {.shape = c.conv_shape(),
          .x = c.input<float>(),
          .weights = weights<Weight>(c),
          .scales = c.constant<float>(c.op.multipliers),
          .bias = c.constant<float>(c.op.bias),
          .limits = limits(c),
          .y = c.output<float>()};
}

template <class Weight>
kernels::FullyConnectedF32<Weight> fully_connected(const Call& c) {
  return {.batch = c.batch(),
          .in = c.in(),
          .out = c.out(),
          .x = c.input<float>(),
          .weights = weights<Weight>(c),
          .scales = c.constant<float>(c.op.multipliers),
          .bias = c.constant<float>(c.op.bias),
          .limits = limits(c),
          .y = c.output<float>()};
}

// Of fully connected layers too.
template <class Weight>
kernels::ConvF32<Weight> conv_of(const Call& c) {
  return c.op.kind == OpKind::kConv ? conv<Weight>(c) : kernels::as_conv(fully_connected<Weight>(c));
}

bool is_product(const Call& c) { return c.op.kind == OpKind::kConv || c.op.kind == OpKind::kFullyConnected; }

void run_product(const Call& c, const kernels::F32Table& table) {
  const bool is_conv = c.op.kind == OpKind::kConv;
  const Type weights = c.p.value(c.op.weights).type;
  if (weights == Type::kF32) {
    is_conv ? table.conv(conv<float>(c)) : table.fully_connected(fully_connected<float>(c));
  } else if (weights == Type::kF16) {
    is_conv ? table.conv_half(conv<kernels::Half>(c)) : table.fully_connected_half(fully_connected<kernels::Half>(c));
  } else if (c.op.scratch == kNone) {
    is_conv ? table.conv_hybrid(conv<int8_t>(c)) : table.fully_connected_hybrid(fully_connected<int8_t>(c));
  } else {
    auto* codes = reinterpret_cast<int8_t*>(c.p.data(c.op.scratch, c.arena));
    is_conv ? table.conv_dynamic({conv<int8_t>(c), codes})
            : table.fully_connected_dynamic({fully_connected<int8_t>(c), codes});
  }
}

}  // namespace

// Not where codes are made at run time.
kernels::PackedNeeds float_needs(const Call& c, const kernels::F32Table& table) {
  const bool packs = is_product(c) && c.op.scratch == kNone && table.packed != nullptr;
  return packs ? table.packed->conv_needs(conv_of<float>(c).shape) : kernels::PackedNeeds();
}

void pack_float(const Call& c, const kernels::F32Table& table, uint8_t* packed) {
  const Type weights = c.p.value(c.op.weights).type;
  if (weights == Type::kF32) {
    table.packed->pack_conv(conv_of<float>(c), packed);
  } else if (weights == Type::kF16) {
    table.packed->pack_conv_half(conv_of<kernels::Half>(c), packed);
  } else {
    table.packed->pack_conv_hybrid(conv_of<int8_t>(c), packed);
  }
}

void run_packed_float(const Call& c, const kernels::F32Table& table, const uint8_t* packed, uint8_t* scratch,
                      kernels::Part part) {
  table.packed->conv(conv_of<float>(c), packed, scratch, part);
}

void run_float(const Call& c, const kernels::F32Table& table) {
  switch (c.op.kind) {
    case OpKind::kConv:
    case OpKind::kFullyConnected:
      run_product(c, table);
      break;
    case OpKind::kAdd:
      table.add({.count = c.count(),
                 .a = c.input<float>(0),
                 .b = c.input<float>(1),
                 .limits = limits(c),
                 .y = c.output<float>()});
      break;
    case OpKind::kMaxPool:
      table.max_pool({.shape = c.pool_shape(), .x = c.input<float>(), .limits = limits(c), .y = c.output<float>()});
      break;
    case OpKind::kAveragePool:
      table.average_pool({.shape = c.pool_shape(), .x = c.input<float>(), .limits = limits(c), .y = c.output<float>()});
      break;
    case OpKind::kSoftmax:
    case OpKind::kLogSoftmax: {
      const kernels::SoftmaxF32 op{
          .rows = c.count() / c.last_extent(), .count = c.last_extent(), .x = c.input<float>(), .y = c.output<float>()};
      (c.op.kind == OpKind::kSoftmax ? table.softmax : table.log_softmax)(op);
      break;
    }
    case OpKind::kActivation:
      table.activation({.count = c.count(),
                        .x = c.input<float>(),
                        .function = static_cast<kernels::Function>(c.op.parameters[0]),
                        .slope = number(c.op.parameters[1]),
                        .y = c.output<float>()});
      break;
    case OpKind::kQuantize:
      if (c.y.type == Type::kS8) {
        table.quantize8({.count = c.count(), .x = c.input<float>(), .grid = grid_of(c.y), .y = c.output<int8_t>()});
      } else {
        table.quantize16({.count = c.count(), .x = c.input<float>(), .grid = grid_of(c.y), .y = c.output<int16_t>()});
      }
      break;
    case OpKind::kDequantize:
      if (c.x.type == Type::kS8) {
        table.dequantize8({.count = c.count(), .x = c.input<int8_t>(), .grid = grid_of(c.x), .y = c.output<float>()});
      } else {
        table.dequantize16({.count = c.count(), .x = c.input<int16_t>(), .grid = grid_of(c.x), .y = c.output<float>()});
      }
      break;
    default:
      break;
  }
}

}  // namespace whittle::runtime
