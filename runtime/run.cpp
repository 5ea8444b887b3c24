// Running a program: for each op, operands are looked up and a kernel is called.
//
// Nothing is checked here that load() has checked. No float in this file: what has one is
// in run_float.cpp.

#include "runtime/run.h"

#include "runtime/program.h"

namespace whittle::runtime {

namespace {

void copy(uint8_t* to, const uint8_t* from, uint64_t count) {
  if (to != from) {
    __builtin_memmove(to, from, count);
  }
}

// Of fully connected layers too.
template <class Code>
kernels::Conv<Code> conv_of(const Call& c) {
  const OpRecord& op = c.op;
  return {
      .shape = op.kind == OpKind::kConv ? c.conv_shape() : kernels::fully_connected_shape(c.batch(), c.in(), c.out()),
      .x = c.input<Code>(),
      .x_zero_point = c.x.zero_point,
      .weights = c.p.codes(op.weights),
      .bias = c.constant<int32_t>(op.bias),
      .multipliers = c.constant<uint32_t>(op.multipliers),
      .range = c.range(),
      .y = c.output<Code>()};
}

template <class Code>
void run_codes(const Call& c, const kernels::IntegerKernels<Code>& table) {
  const OpRecord& op = c.op;
  switch (op.kind) {
    case OpKind::kConv: {
      const kernels::Conv<Code> conv = conv_of<Code>(c);
      const bool depthwise = op.groups == c.x.dims[3] && op.groups > 1;
      (depthwise ? table.depthwise : table.conv)(conv);
      break;
    }
    case OpKind::kFullyConnected:
      table.fully_connected({.batch = c.batch(),
                             .in = c.in(),
                             .out = c.out(),
                             .x = c.input<Code>(),
                             .x_zero_point = c.x.zero_point,
                             .weights = c.p.codes(op.weights),
                             .bias = c.constant<int32_t>(op.bias),
                             .multipliers = c.constant<uint32_t>(op.multipliers),
                             .range = c.range(),
                             .y = c.output<Code>()});
      break;
    case OpKind::kAdd:
      table.add({.count = c.count(),
                 .a = c.input<Code>(0),
                 .b = c.input<Code>(1),
                 .constants = {.offset = op.parameters[0], .ratio_a = op.parameters[1], .ratio_b = op.parameters[2]},
                 .range = c.range(),
                 .y = c.output<Code>()});
      break;
    case OpKind::kMaxPool:
      table.max_pool({.shape = c.pool_shape(), .x = c.input<Code>(), .range = c.range(), .y = c.output<Code>()});
      break;
    case OpKind::kAveragePool:
      table.average_pool({.shape = c.pool_shape(),
                          .x = c.input<Code>(),
                          .x_zero_point = c.x.zero_point,
                          .multipliers = c.constant<uint32_t>(op.multipliers),
                          .padded = (op.padding[0] | op.padding[1] | op.padding[2] | op.padding[3]) != 0,
                          .range = c.range(),
                          .y = c.output<Code>()});
      break;
    case OpKind::kRescale:
      table.rescale({.count = c.count(),
                     .x = c.input<Code>(),
                     .x_zero_point = c.x.zero_point,
                     .multiplier = *c.constant<uint32_t>(op.multipliers),
                     .range = c.range(),
                     .y = c.output<Code>()});
      break;
    default:
      break;
  }
}

// A19: for each index before the axis, one run of bytes from each input.
void run_concat(const Call& c) {
  const uint32_t axis = c.op.parameters[0];
  uint64_t outer = 1;
  for (uint32_t i = 0; i < axis; ++i) {
    outer *= c.y.dims[i];
  }
  auto* y = c.output<uint8_t>();
  for (uint64_t n = 0; n < outer; ++n) {
    for (uint32_t k = 0; k < c.op.inputs; ++k) {
      const uint64_t run = bytes_of(c.p.value(c.p.operand(c.op, k))) / outer;
      copy(y, c.input<uint8_t>(k) + n * run, run);
      y += run;
    }
  }
}

// Whether an op is one of codes that tables may pack.
bool packs(const Call& c, const Kernels& kernels) {
  const bool product = c.op.kind == OpKind::kConv || c.op.kind == OpKind::kFullyConnected;
  return product && c.x.type == Type::kS8 && c.y.type == Type::kS8 && kernels.int8 != nullptr &&
         kernels.int8->packed != nullptr;
}

bool is_float(const Call& c) { return c.x.type == Type::kF32 || c.y.type == Type::kF32; }

kernels::PackedNeeds packed_needs(const Call& c, const Kernels& kernels) {
#if !defined(WHITTLE_NO_FPU)
  if (is_float(c) && kernels.f32 != nullptr) {
    return float_needs(c, *kernels.f32);
  }
#endif
  return packs(c, kernels) ? kernels.int8->packed->conv_needs(conv_of<int8_t>(c)) : kernels::PackedNeeds();
}

// Calls body(number, call, needs) for every op for which the table has something faster.
template <class Body>
void for_each_packed(const Program& program, const Kernels& kernels, Body body) {
  for (uint32_t i = 0; i < program.op_count(); ++i) {
    const Call call(program, program.op(i), nullptr);
    const kernels::PackedNeeds needs = packed_needs(call, kernels);
    if (needs.packed_bytes > 0) {
      body(i, call, needs);
    }
  }
}

// Packed memory begins with one of these for each op.
struct PackedOp {
  uint64_t at;    // of its weights; 0: it has none
  int64_t parts;  // the most that are worth while
};
uint64_t packed_table_bytes(const Program& program) { return (program.op_count() * sizeof(PackedOp) + 63) / 64 * 64; }

// An op with packed weights, in parts.
struct PackedRun {
  const Call& call;
  const Kernels& kernels;
  const uint8_t* weights;
  int32_t parts;

  void part(int32_t i) const {
    uint8_t* const scratch = kernels.scratch + static_cast<uint64_t>(i) * kernels.scratch_bytes;
    const kernels::Part part{.index = i, .count = parts};
#if !defined(WHITTLE_NO_FPU)
    if (is_float(call)) {
      return run_packed_float(call, *kernels.f32, weights, scratch, part);
    }
#endif
    kernels.int8->packed->conv(conv_of<int8_t>(call), weights, scratch, part);
  }
};

// False if the op has no packed weights.
bool run_packed(const Call& c, const Kernels& kernels) {
  PackedOp packed = {};
  if (kernels.packed != nullptr) {
    __builtin_memcpy(&packed, kernels.packed + c.number * sizeof(packed), sizeof(packed));
  }
  if (packed.at == 0) {
    return false;
  }
  const int64_t parts = packed.parts < kernels.threads.count ? packed.parts : kernels.threads.count;
  PackedRun run{.call = c, .kernels = kernels, .weights = kernels.packed + packed.at, .parts = 1};
  if (parts <= 1) {
    run.part(0);
  } else {
    run.parts = static_cast<int32_t>(parts);
    kernels.threads.run(
        kernels.threads.pool, run.parts, [](void* work, int32_t i) { static_cast<const PackedRun*>(work)->part(i); },
        &run);
  }
  return true;
}

void run_op(const Call& c, const Kernels& kernels) {
  if (c.op.kind == OpKind::kConcat) {
    return run_concat(c);
  }
  if (c.op.kind == OpKind::kReshape) {
    return copy(c.output<uint8_t>(), c.input<uint8_t>(), bytes_of(c.y));
  }
  if (run_packed(c, kernels)) {
    return;
  }
  if (is_float(c)) {
#if !defined(WHITTLE_NO_FPU)
    run_float(c, *kernels.f32);
#endif
    return;
  }
  if (c.op.kind == OpKind::kTable) {
    return kernels.int8->lookup(
        {.count = c.count(), .x = c.input<int8_t>(), .table = c.constant<int8_t>(c.op.table), .y = c.output<int8_t>()});
  }
  if (c.op.kind == OpKind::kSoftmax) {
    return kernels.int8->softmax({.rows = c.count() / c.last_extent(),
                                  .count = c.last_extent(),
                                  .x = c.input<int8_t>(),
                                  .exponentials = c.constant<uint32_t>(c.op.table),
                                  .log2_steps = 127 - static_cast<int32_t>(c.y.scale >> 23),
                                  .range = c.range(),
                                  .y = c.output<int8_t>()});
  }
  if (c.x.type == Type::kS8) {
    run_codes<int8_t>(c, kernels.int8->s8);
  } else {
    run_codes<int16_t>(c, kernels.int8->s16);
  }
}

}  // namespace

PackSize pack_size(const Program& program, const Kernels& kernels) {
  PackSize size = {.packed_bytes = packed_table_bytes(program), .scratch_bytes = 0};
  for_each_packed(program, kernels, [&](uint32_t, const Call&, const kernels::PackedNeeds& needs) {
    size.packed_bytes += static_cast<uint64_t>(needs.packed_bytes);
    const auto scratch = static_cast<uint64_t>(needs.scratch_bytes);
    size.scratch_bytes = size.scratch_bytes < scratch ? scratch : size.scratch_bytes;
  });
  return size;
}

void pack(const Program& program, const Kernels& kernels, uint8_t* packed) {
  uint64_t at = packed_table_bytes(program);
  __builtin_memset(packed, 0, at);
  for_each_packed(program, kernels, [&](uint32_t i, const Call& call, const kernels::PackedNeeds& needs) {
    const PackedOp entry{.at = at, .parts = needs.parts};
    __builtin_memcpy(packed + i * sizeof(entry), &entry, sizeof(entry));
#if !defined(WHITTLE_NO_FPU)
    if (is_float(call)) {
      pack_float(call, *kernels.f32, packed + at);
    } else
#endif
    {
      kernels.int8->packed->pack_conv(conv_of<int8_t>(call), packed + at);
    }
    at += static_cast<uint64_t>(needs.packed_bytes);
  });
}

Status run_ops(const Program& program, const Kernels& kernels, void* arena, size_t arena_bytes, uint32_t first,
               uint32_t end) {
  if (arena == nullptr) {
    return Status::kNull;
  }
  if (reinterpret_cast<uintptr_t>(arena) % kAlignment != 0) {
    return Status::kMisaligned;
  }
  if (arena_bytes < program.arena_bytes()) {
    return Status::kArenaTooSmall;
  }
#if defined(WHITTLE_NO_FPU)
  constexpr uint32_t kOffered = kIntegerFeatures;
#else
  constexpr uint32_t kOffered = kAllFeatures;
#endif
  if ((program.features() & ~(kernels.features() & kOffered)) != 0) {
    return Status::kUnsupported;
  }
  for (uint32_t i = first; i < end && i < program.op_count(); ++i) {
    Call call(program, program.op(i), arena);
    call.number = i;
    run_op(call, kernels);
  }
  return Status::kOk;
}

Status run(const Program& program, const Kernels& kernels, void* arena, size_t arena_bytes) {
  return run_ops(program, kernels, arena, arena_bytes, 0, program.op_count());
}

Status run(const Program& program, const Kernels& kernels, void* arena, size_t arena_bytes, const void* input,
           void* output) {
  if (arena == nullptr || input == nullptr || output == nullptr) {
    return Status::kNull;
  }
  if (program.input_count() != 1 || program.output_count() != 1) {
    return Status::kUnsupported;
  }
  if (arena_bytes < program.arena_bytes()) {
    return Status::kArenaTooSmall;
  }
  const uint32_t in = program.input(0);
  const uint32_t out = program.output(0);
  copy(program.data(in, arena), static_cast<const uint8_t*>(input), bytes_of(program.value(in)));
  const Status status = run(program, kernels, arena, arena_bytes);
  if (status == Status::kOk) {
    copy(static_cast<uint8_t*>(output), program.data(out, arena), bytes_of(program.value(out)));
  }
  return status;
}

}  // namespace whittle::runtime
