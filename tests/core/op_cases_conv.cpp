#include "tests/core/op_cases.h"
#include "tests/core/window_samples.h"

namespace whittle::inline WHITTLE_PRECISION {

// Inputs are positive: were terms to cancel, an error relative to what is left would say nothing. (The sums are linear
// in each input, and test_ops_conv.cpp covers signs.) The longest sums have some 150 products; the bounds are about
// three times the worst of 1800 instances over 45 seeds.
std::vector<OpCase> op_cases_conv() {
  return {
      {.op = "conv2d",
       .value_bound = 1.1e-6,
       .gradient_bound = 1.2e-6,
       .make =
           [](Rng& rng) {
             const ConvSample s = some_convolution(rng);
             OpInstance instance{.description = s.description(),
                                 .inputs = {some_tensor(rng, s.x, 0, 2), some_tensor(rng, s.filter, 0, 2)},
                                 .run = [geometry = s.geometry](std::span<const Variable> in) {
                                   return conv2d(in[0], in[1], in.size() > 2 ? in[2] : Variable(), geometry);
                                 }};
             if (s.has_bias) {
               instance.inputs.push_back(some_tensor(rng, {s.filter[0]}, 0, 2));
             }
             return instance;
           }},
  };
}

}  // namespace whittle::inline WHITTLE_PRECISION
