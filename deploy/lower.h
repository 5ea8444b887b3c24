// From a model to a program: every traced call of a leaf becomes one op, or none.
//
//   std::vector<uint8_t> file = deploy::program_of(*model, {32, 32, 3});
//
// Nothing is decided here that the model does not say already: grids, folded norms and masks
// are read where they stand, and the program computes what the model computes in evaluation
// (docs/arithmetic.md; integer parts to the last code, tests/deploy). Where a quantized
// part meets a float one, quantize and dequantize ops stand between.
//
// What has no integer or float op is refused with the path of the leaf. The file holds what
// docs/format.md describes; `metadata` is for tools and passed on as it is.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "deploy/plan.h"
#include "layers/module.h"
#include "runtime/hosted/builder.h"

namespace whittle::deploy {

struct LowerOptions {
  std::string metadata{};
  int64_t batch = 1;  // samples in one run
};

// A program before it is bytes, with its plan of memory.
struct Lowered {
  runtime::ProgramSpec spec;
  std::vector<Block> blocks;  // of the values in the arena, in the order of `arena`
  std::vector<uint32_t> arena;
  MemoryPlan plan;
};

// `sample` is the shape of one input: {32, 32, 3}. The model's mode does not change.
Lowered lower(Module& model, const Shape& sample, const LowerOptions& options = {});

std::vector<uint8_t> bytes_of(const Lowered& lowered);
std::vector<uint8_t> program_of(Module& model, const Shape& sample, const LowerOptions& options = {});

}  // namespace whittle::deploy
