#include "tests/core/op_cases.h"
#include "tests/core/window_samples.h"

namespace whittle::inline WHITTLE_PRECISION {

// The means are of positive numbers: were terms to cancel, an error relative to what is left would say nothing.
// Bounds: about three times the worst of 1800 instances over 45 seeds. Gradients of overlapping windows are sums too.
std::vector<OpCase> op_cases_pool() {
  return {
      {.op = "max_pool",
       .value_bound = 0,  // a choice, nothing is rounded
       .gradient_bound = 5e-7,
       .make =
           [](Rng& rng) {
             const PoolSample s = some_pooling(rng);
             return OpInstance{
                 .description = s.description(),
                 .inputs = {distinct_tensor(rng, s.x)},
                 .run = [geometry = s.geometry](std::span<const Variable> in) { return max_pool(in[0], geometry); }};
           }},
      {.op = "avg_pool",
       .value_bound = 7e-7,
       .gradient_bound = 5e-7,
       .make =
           [](Rng& rng) {
             const PoolSample s = some_pooling(rng);
             return OpInstance{
                 .description = s.description(),
                 .inputs = {some_tensor(rng, s.x, 0, 2)},
                 .run = [geometry = s.geometry](std::span<const Variable> in) { return avg_pool(in[0], geometry); }};
           }},
      {.op = "global_avg_pool",
       .value_bound = 1e-6,
       .gradient_bound = 2e-7,
       .make =
           [](Rng& rng) {
             const Shape x{some_extent(rng), some_extent(rng, 9), some_extent(rng, 9), some_extent(rng)};
             return OpInstance{.description = x.str(),
                               .inputs = {some_tensor(rng, x, 0, 2)},
                               .run = [](std::span<const Variable> in) { return global_avg_pool(in[0]); }};
           }},
  };
}

}  // namespace whittle::inline WHITTLE_PRECISION
