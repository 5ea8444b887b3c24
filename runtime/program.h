// A program: bytes that were checked, and how to run them.
//
//   Program program;
//   if (load(bytes, size, {}, program) != Status::kOk) { ... }
//   alignas(16) uint8_t arena[...];                    // program.arena_bytes() of them
//   memcpy(program.input(0, arena), image, ...);
//   run(program, kernels, arena);
//   const int8_t* scores = program.output(0, arena);
//
// A Program is a view: the bytes stay where they are, in flash or in a mapped file, and
// must outlive it. It does not change, so any number of threads may run it at once, each
// with an arena of its own. No heap, no exceptions, no locale, no state.
//
// Freestanding.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "kernels/int8/table.h"
#include "runtime/format.h"

namespace whittle::kernels {
struct F32Table;
}

namespace whittle::runtime {

enum class [[nodiscard]] Status : uint32_t{
    kOk = 0,
    kNull,         // a pointer is null
    kMisaligned,   // bytes or arena do not begin at a multiple of 16
    kTruncated,    // fewer bytes than the smallest program, or than the header says
    kNotAProgram,  // another magic
    kOtherVersion,
    kLength,       // the two lengths, the number of bytes and the end mark do not agree
    kChecksum,     // damaged
    kLayout,       // sections that are not where they must be
    kTooLarge,     // too many records, or more arena than allowed
    kValue,        // a value's record
    kConstant,     // a constant's bytes
    kGrid,         // a scale, zero-point or limit
    kOp,           // an op's record: kind, fields, references
    kType,         // operand types that do not go together
    kShape,        // operand shapes that do not go together
    kPlan,         // arena offsets or lives
    kBound,        // accumulators could overflow, or the stored bound is wrong
    kUnsupported,  // needs a feature this build or caller lacks
    kArenaTooSmall,
};
inline constexpr uint32_t kStatuses = 20;

const char* status_text(Status status);

// Threads that someone else owns, for ops that are worth sharing. run(pool, count, body, work) calls body(work, i) for
// every i in [0, count), perhaps at once, and returns when all are done.
struct Threads {
  int32_t count = 1;
  void (*run)(void* pool, int32_t count, void (*body)(void* work, int32_t i), void* work) = nullptr;
  void* pool = nullptr;
};

struct Kernels {
  const kernels::Int8Table* int8 = nullptr;
  const kernels::F32Table* f32 = nullptr;  // null: no float programs
  const uint8_t* packed = nullptr;         // what pack() wrote for the program that runs; null: weights as they lie
  uint8_t* scratch = nullptr;              // of this run alone: PackSize::scratch_bytes for each of the threads
  uint64_t scratch_bytes = 0;              // of one thread
  Threads threads{};                       // for ops with packed weights; the bytes are the same for any number

  uint32_t features() const {
    return (int8 != nullptr ? kIntegerFeatures : 0) | (f32 != nullptr ? kAllFeatures & ~kIntegerFeatures : 0);
  }
};

struct LoadOptions {
  uint32_t features = kAllFeatures;  // what the kernels can do
  uint64_t max_arena_bytes = kMaxValueBytes;
};

class Program {
 public:
  uint32_t value_count() const { return count(kValues, sizeof(ValueRecord)); }
  uint32_t op_count() const { return count(kOps, sizeof(OpRecord)); }
  uint32_t input_count() const { return header_.inputs; }
  uint32_t output_count() const { return header_.outputs; }
  uint64_t arena_bytes() const { return header_.arena_bytes; }
  uint32_t features() const { return header_.features; }
  const FileHeader& header() const { return header_; }

  ValueRecord value(uint32_t i) const { return read<ValueRecord>(section(kValues) + i * sizeof(ValueRecord)); }
  OpRecord op(uint32_t i) const { return read<OpRecord>(section(kOps) + i * sizeof(OpRecord)); }
  uint32_t list(uint32_t i) const { return read<uint32_t>(section(kLists) + i * sizeof(uint32_t)); }
  uint32_t operand(const OpRecord& op, uint32_t i) const { return list(op.inputs_at + i); }

  // Numbers of the values that are the program's inputs and outputs.
  uint32_t input(uint32_t i) const { return list(i); }
  uint32_t output(uint32_t i) const { return list(header_.inputs + i); }

  uint8_t* data(uint32_t value, void* arena) const { return static_cast<uint8_t*>(arena) + this->value(value).offset; }
  const uint8_t* constant(uint32_t value) const { return section(kConstants) + this->value(value).offset; }
  // Of weights that are codes.
  kernels::WeightCodes codes(uint32_t value) const {
    return {reinterpret_cast<const int8_t*>(constant(value)), width_of(this->value(value).type)};
  }

  // The largest |accumulator| of an output channel (A7), of an op that has bounds.
  uint64_t bound(const OpRecord& op, uint32_t channel) const {
    const bool wide = value(op.bounds).type == Type::kU64;
    const uint8_t* at = constant(op.bounds) + channel * uint64_t{wide ? 8u : 4u};
    return wide ? read<uint64_t>(at) : read<uint32_t>(at);
  }

  const char* name(uint32_t offset) const { return reinterpret_cast<const char*>(section(kNames) + offset); }
  const char* metadata() const { return reinterpret_cast<const char*>(section(kMetadata)); }
  uint64_t metadata_bytes() const { return header_.sections[kMetadata].bytes; }

  // After load() refused: the number of the value or op where it stopped.
  uint32_t fault() const { return fault_; }

 private:
  friend Status load(const void* bytes, size_t size, const LoadOptions& options, Program& program);
  friend class Loader;

  const uint8_t* section(SectionName name) const { return bytes_ + header_.sections[name].offset; }
  uint32_t count(SectionName name, uint64_t record) const {
    return static_cast<uint32_t>(header_.sections[name].bytes / record);
  }

  const uint8_t* bytes_ = nullptr;
  FileHeader header_ = {};
  uint32_t fault_ = 0;
};

// Checks all that running relies on. On any status but kOk the program must not be used.
Status load(const void* bytes, size_t size, const LoadOptions& options, Program& program);

// Tables that have an order of their own for weights run faster after
//
//   const PackSize size = pack_size(program, kernels);
//   alignas(64) uint8_t packed[...], scratch[...];     // size.packed_bytes, size.scratch_bytes
//   pack(program, kernels, packed);                    // once
//   kernels.packed = packed; kernels.scratch = scratch; kernels.scratch_bytes = size.scratch_bytes;
//
// Packed weights do not change: threads share them. Scratch is for one run at a time.
struct PackSize {
  uint64_t packed_bytes = 0;
  uint64_t scratch_bytes = 0;  // of each thread, a multiple of 64
};
PackSize pack_size(const Program& program, const Kernels& kernels);
void pack(const Program& program, const Kernels& kernels, uint8_t* packed);

// One inference: reads the inputs where Program::input() says, in the arena, and leaves the
// outputs there. Does not touch memory outside of [arena, arena + arena_bytes).
Status run(const Program& program, const Kernels& kernels, void* arena, size_t arena_bytes);

// The ops [first, end) alone, for those who look at what is in the arena between them.
Status run_ops(const Program& program, const Kernels& kernels, void* arena, size_t arena_bytes, uint32_t first,
               uint32_t end);

// A whole inference for a program of one input and one output that lie elsewhere.
Status run(const Program& program, const Kernels& kernels, void* arena, size_t arena_bytes, const void* input,
           void* output);

}  // namespace whittle::runtime
