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
      // Enough channels for Winograd's forms, whose rounding is what the bound is about.
      {.op = "conv2d",
       .value_bound = 6e-6,
       .gradient_bound = 6e-6,
       .make =
           [](Rng& rng) {
             const Shape x{rng.between(1, 2), rng.between(3, 9), rng.between(3, 9), rng.between(16, 20)};
             const Shape filter{rng.between(16, 36), 3, 3, x[3]};
             const int64_t padding = rng.between(0, 2);
             return OpInstance{.description = "input " + x.str() + ", filter " + filter.str() + ", padding " +
                                              std::to_string(padding),
                               .inputs = {some_tensor(rng, x, 0, 2), some_tensor(rng, filter, 0, 2),
                                          some_tensor(rng, {filter[0]}, 0, 2)},
                               .run = [padding](std::span<const Variable> in) {
                                 return conv2d(in[0], in[1], in[2], {.padding = Padding::all(padding)});
                               }};
           }},
  };
}

}  // namespace whittle::inline WHITTLE_PRECISION
