// One number of a program, and every integer on its way.
//
//   run_ops(program, kernels, arena, bytes, 0, op);          // everything before the op
//   Explanation e = explain(program, arena, op, element);
//   puts(e.text().c_str());
//
// Computed by a second, slow route over the formulas of docs/arithmetic.md, in which each
// step is written down; replay() goes through what was written and gives the code again.
//
// Hosted. For ops on codes: throws std::invalid_argument for those that touch floats.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/program.h"

namespace whittle::runtime {

struct Explanation {
  // One operand: (code - zero_point) weight. Pools, sums and copies have weight 1.
  struct Term {
    std::vector<uint32_t> index;  // in its input; empty for padding
    uint32_t input;               // which operand of the op
    int32_t code, zero_point;
    int32_t weight;
    int64_t product;
  };
  // What happens to the sum: every value is exact in binary64.
  struct Step {
    std::string what;
    double value;
  };

  OpKind kind = OpKind::kReshape;
  std::string op;
  std::vector<uint32_t> index;  // of the number, in the op's output
  std::vector<Term> terms;
  int64_t bias = 0;
  uint64_t bound = 0;       // no accumulator of this channel goes beyond it (A7); 0 where there is no weight
  int64_t accumulator = 0;  // bias + products; for a max pool the largest code, for a softmax the sum of exponentials
  uint32_t multiplier = 0;  // bits of binary32, where there is one
  kernels::CodeRange range{};
  std::vector<Step> steps;
  int32_t code = 0;

  // The multiplier as a product of integers: mantissa 2^exponent, the mantissa of 24 bits.
  uint32_t multiplier_mantissa() const { return (multiplier & 0x7fffff) | 0x800000; }
  int32_t multiplier_exponent() const { return static_cast<int32_t>(multiplier >> 23) - 150; }

  std::string text() const;
};

// `arena` as it is just before the op runs.
Explanation explain(const Program& program, void* arena, uint32_t op, uint64_t element);

// The code, from terms, bias, multiplier, range and (for sums, tables and softmax) the first steps alone.
int32_t replay(const Explanation& explanation);

}  // namespace whittle::runtime
