// From plain structs to the bytes of a program (docs/format.md). Where lowering ends.
//
//   ProgramSpec spec;
//   const uint32_t x = spec.add_activation({.name = "image", .type = Type::kS8, .dims = {1, 8, 8, 3}, .grid = ...});
//   const uint32_t w = spec.add_weights("conv1/weight", {16, 3, 3, 3}, codes);
//   ...
//   spec.ops.push_back({.kind = OpKind::kConv, .inputs = {x}, .output = y, .weights = w, ...});
//   for (each arena value) spec.values[v].offset = ...;     // by lives(spec) and deploy/plan.h
//   std::vector<uint8_t> file = build(spec);
//
// build() fills in what follows from the rest (lives, features, bounds, arena size,
// checksums) and then loads its own result: what it returns is valid, or it throws
// std::invalid_argument with the loader's reason and the name of the op or value. It
// decides nothing: no arithmetic is folded, nothing is moved or merged.
//
// Hosted, and in a library of its own (whittle::runtime_hosted): devices do not link it.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/arithmetic.h"
#include "runtime/program.h"

namespace whittle::runtime {

struct ValueSpec {
  std::string name{};
  Type type = Type::kS8;
  std::vector<uint32_t> dims{};
  Grid grid{};                      // of codes in the arena
  std::vector<uint8_t> constant{};  // bytes; empty: it lives in the arena
  uint64_t offset = 0;              // in the arena, a multiple of 16

  bool is_constant() const { return !constant.empty(); }
};

struct OpSpec {
  OpKind kind = OpKind::kReshape;
  std::string name{};
  std::vector<uint32_t> inputs{};
  uint32_t output = kNone;
  uint32_t weights = kNone, bias = kNone, multipliers = kNone, table = kNone, scratch = kNone;
  uint32_t groups = 0;
  std::array<uint32_t, 2> kernel{}, stride{}, dilation{};
  std::array<uint32_t, 4> padding{};  // top, left, bottom, right
  uint32_t lo = 0, hi = 0;            // codes() or bits_of()
  std::array<uint32_t, 5> parameters{};
};

struct ProgramSpec {
  std::vector<ValueSpec> values;
  std::vector<OpSpec> ops;  // in the order of execution
  std::vector<uint32_t> inputs, outputs;
  std::string metadata;

  uint32_t add_activation(ValueSpec value);
  template <class T>
  uint32_t add_constant(std::string name, Type type, std::vector<uint32_t> dims, std::span<const T> numbers) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(numbers.data());
    values.push_back({.name = std::move(name),
                      .type = type,
                      .dims = std::move(dims),
                      .constant = std::vector<uint8_t>(bytes, bytes + numbers.size_bytes())});
    return static_cast<uint32_t>(values.size() - 1);
  }
  // Weights that are codes, in the smallest type that holds all of them. The first extent is the output channels.
  uint32_t add_weights(std::string name, std::vector<uint32_t> dims, std::span<const int8_t> codes);
};

uint64_t bytes_of(const ValueSpec& value);

// For OpSpec::lo and hi and for parameters.
constexpr uint32_t code(int32_t code) { return static_cast<uint32_t>(code); }
constexpr uint32_t bits_of(float x) { return __builtin_bit_cast(uint32_t, x); }

// When each value is in the arena: from the op that writes it (-1: before the first) to the
// last that reads it (the number of ops: to the end). Constants: {0, -1}.
struct Life {
  int first, last;
};
std::vector<Life> lives(const ProgramSpec& spec);

// The largest |accumulator| that an op on codes can reach, per output channel (A7). Empty for other ops.
std::vector<uint64_t> bounds(const ProgramSpec& spec, const OpSpec& op);

std::vector<uint8_t> build(const ProgramSpec& spec);

}  // namespace whittle::runtime
