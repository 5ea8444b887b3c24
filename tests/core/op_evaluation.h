// Values and gradients of the op cases as plain doubles, from either twin.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace whittle {

struct OpEvaluation {
  std::string op;
  std::string description;
  std::vector<double> value;
  std::vector<double> gradients;  // of all inputs, one after another
  double value_bound = 0;
  double gradient_bound = 0;
};

// `per_op` instances of every op, the same for the same seed.
std::vector<OpEvaluation> evaluate_ops_in_float(uint64_t seed, int per_op);
std::vector<OpEvaluation> evaluate_ops_in_double(uint64_t seed, int per_op);

}  // namespace whittle
