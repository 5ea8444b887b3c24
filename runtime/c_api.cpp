// The C interface, a thin layer over program.h.

#include "runtime/best.h"
#include "runtime/program.h"
#include "runtime/whittle_runtime.h"

namespace {

using whittle::runtime::Program;
using whittle::runtime::Status;

static_assert(sizeof(Program) <= sizeof(whittle_program) && alignof(Program) <= alignof(whittle_program));

// Copied in and out as bytes, since C made the storage.
Program open(const whittle_program* stored) {
  Program program;
  __builtin_memcpy(static_cast<void*>(&program), stored, sizeof program);
  return program;
}

size_t value_bytes(const Program& program, uint32_t value) {
  return static_cast<size_t>(whittle::runtime::bytes_of(program.value(value)));
}

whittle_value described(const Program& program, uint32_t value) {
  const whittle::runtime::ValueRecord record = program.value(value);
  whittle_value told = {};
  told.type = static_cast<uint32_t>(record.type);
  told.rank = record.rank;
  static_assert(sizeof told.dims == sizeof record.dims);
  __builtin_memcpy(told.dims, record.dims, sizeof told.dims);
  __builtin_memcpy(&told.scale, &record.scale, sizeof told.scale);  // its bits: there may be no FPU
  told.zero_point = record.zero_point;
  return told;
}

static_assert(WHITTLE_S8 == static_cast<int>(whittle::runtime::Type::kS8) &&
              WHITTLE_S16 == static_cast<int>(whittle::runtime::Type::kS16) &&
              WHITTLE_F32 == static_cast<int>(whittle::runtime::Type::kF32));

}  // namespace

extern "C" {

whittle_status whittle_load(whittle_program* stored, const void* bytes, size_t size) {
  if (stored == nullptr) {
    return static_cast<whittle_status>(Status::kNull);
  }
  Program program;
  const Status status = load(bytes, size, {.features = whittle::runtime::best_kernels().features()}, program);
  if (status == Status::kOk) {
    __builtin_memcpy(stored, static_cast<const void*>(&program), sizeof program);
  }
  return static_cast<whittle_status>(status);
}

size_t whittle_arena_bytes(const whittle_program* stored) { return static_cast<size_t>(open(stored).arena_bytes()); }

whittle_status whittle_run(const whittle_program* stored, void* arena, size_t arena_bytes) {
  return static_cast<whittle_status>(run(open(stored), whittle::runtime::best_kernels(), arena, arena_bytes));
}

whittle_pack_sizes whittle_pack_size(const whittle_program* stored) {
  const whittle::runtime::PackSize size = pack_size(open(stored), whittle::runtime::best_kernels());
  return {.packed_bytes = static_cast<size_t>(size.packed_bytes),
          .scratch_bytes = static_cast<size_t>(size.scratch_bytes)};
}

void whittle_pack(const whittle_program* stored, void* packed) {
  pack(open(stored), whittle::runtime::best_kernels(), static_cast<uint8_t*>(packed));
}

whittle_status whittle_run_packed(const whittle_program* stored, const void* packed, void* scratch, void* arena,
                                  size_t arena_bytes) {
  whittle::runtime::Kernels kernels = whittle::runtime::best_kernels();
  kernels.packed = static_cast<const uint8_t*>(packed);
  kernels.scratch = static_cast<uint8_t*>(scratch);
  return static_cast<whittle_status>(run(open(stored), kernels, arena, arena_bytes));
}

uint32_t whittle_input_count(const whittle_program* stored) { return open(stored).input_count(); }
uint32_t whittle_output_count(const whittle_program* stored) { return open(stored).output_count(); }

void* whittle_input(const whittle_program* stored, uint32_t number, void* arena, size_t* bytes) {
  const Program program = open(stored);
  if (number >= program.input_count()) {
    return nullptr;
  }
  if (bytes != nullptr) {
    *bytes = value_bytes(program, program.input(number));
  }
  return program.data(program.input(number), arena);
}

const void* whittle_output(const whittle_program* stored, uint32_t number, void* arena, size_t* bytes) {
  const Program program = open(stored);
  if (number >= program.output_count()) {
    return nullptr;
  }
  if (bytes != nullptr) {
    *bytes = value_bytes(program, program.output(number));
  }
  return program.data(program.output(number), arena);
}

whittle_value whittle_input_value(const whittle_program* stored, uint32_t number) {
  const Program program = open(stored);
  return number < program.input_count() ? described(program, program.input(number)) : whittle_value{};
}

whittle_value whittle_output_value(const whittle_program* stored, uint32_t number) {
  const Program program = open(stored);
  return number < program.output_count() ? described(program, program.output(number)) : whittle_value{};
}

const char* whittle_status_text(whittle_status status) { return status_text(static_cast<Status>(status)); }

}  // extern "C"
