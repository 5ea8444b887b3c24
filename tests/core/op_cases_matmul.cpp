#include "tests/core/op_cases.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

// Positive, so that no result cancels to almost nothing, where a relative error
// says nothing. Signs are covered by the products in test_foundation.cpp.
Tensor positive_tensor(Rng& rng, const Shape& shape) { return some_tensor(rng, shape, 0.2, 2); }

}  // namespace

std::vector<OpCase> op_cases_matmul() {
  return {
      {.op = "matmul",
       .make =
           [](Rng& rng) {
             const int64_t m = some_extent(rng, 40), k = some_extent(rng, 70), n = some_extent(rng, 40);
             return OpInstance{.description = Shape{m, k}.str() + " x " + Shape{k, n}.str(),
                               .inputs = {positive_tensor(rng, {m, k}), positive_tensor(rng, {k, n})},
                               .run = [](std::span<const Variable> in) { return matmul(in[0], in[1]); }};
           }},
      {.op = "linear",
       .make =
           [](Rng& rng) {
             const int64_t inputs = some_extent(rng, 70), outputs = some_extent(rng, 40);
             Shape x{some_extent(rng, 40), inputs};
             if (rng.uniform() < 0.3) {
               x = {some_extent(rng), some_extent(rng), inputs};
             }
             OpInstance instance{.description = x.str() + " to " + std::to_string(outputs),
                                 .inputs = {positive_tensor(rng, x), positive_tensor(rng, {outputs, inputs})},
                                 .run = [](std::span<const Variable> in) {
                                   return linear(in[0], in[1], in.size() > 2 ? in[2] : Variable());
                                 }};
             if (rng.uniform() < 0.7) {
               instance.inputs.push_back(positive_tensor(rng, {outputs}));
             }
             return instance;
           }},
  };
}

}  // namespace whittle::inline WHITTLE_PRECISION
