// Compiled once per twin; each defines one of the two functions.

#include "tests/core/op_evaluation.h"

#include "tests/core/op_cases.h"

namespace whittle {

#if defined(WHITTLE_DOUBLE)
std::vector<OpEvaluation> evaluate_ops_in_double(uint64_t seed, int per_op) {
#else
std::vector<OpEvaluation> evaluate_ops_in_float(uint64_t seed, int per_op) {
#endif
  std::vector<OpEvaluation> evaluations;
  for (const OpCase& op_case : all_op_cases()) {
    Rng rng(RngKey{.seed = seed}.child(op_case.op));
    for (int i = 0; i < per_op; ++i) {
      const OpInstance instance = op_case.make(rng);
      std::vector<Variable> leaves;
      for (const Tensor& input : instance.inputs) {
        leaves.push_back(Variable::leaf(input));
      }
      const Variable y = instance.run(leaves);
      backward(sum(mul(y, some_tensor(rng, y.shape(), 0.5, 1.5))));

      OpEvaluation& result = evaluations.emplace_back();
      result.op = op_case.op;
      result.description = instance.description;
      result.value_bound = op_case.value_bound;
      result.gradient_bound = op_case.gradient_bound;
      result.value.assign(y.value().values().begin(), y.value().values().end());
      for (const Variable& leaf : leaves) {
        if (leaf.grad().defined()) {
          result.gradients.insert(result.gradients.end(), leaf.grad().values().begin(), leaf.grad().values().end());
        }
      }
    }
  }
  return evaluations;
}

}  // namespace whittle
