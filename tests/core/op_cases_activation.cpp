#include "tests/core/some_shape.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

// The range holds the kinks of all activations, and the zero of gelu's slope near
// -0.752, where a relative error says nothing; the numbers keep 0.02 away from them.
template <class F>
std::function<OpInstance(Rng&)> pointwise(F op, double low = -5, double high = 8) {
  return [=](Rng& rng) {
    const Shape shape = some_shape(rng, 0, 4);
    return OpInstance{.description = shape.str(),
                      .inputs = {tensor_away_from(rng, shape, {-3, -0.752, 0, 3, 6}, low, high)},
                      .run = [op](std::span<const Variable> in) { return op(in[0]); }};
  };
}

// Short and long rows. Gradients of a row add up to 0 and may all be nearly 0,
// which says nothing about their error: hence at least six rows.
template <class F>
std::function<OpInstance(Rng&)> rowwise(F op) {
  return [op](Rng& rng) {
    Shape shape{rng.between(6, 9), rng.uniform() < 0.7 ? some_extent(rng, 12) : rng.between(200, 300)};
    if (rng.uniform() < 0.5) {
      shape = {some_extent(rng, 3), shape[0], some_extent(rng, 3), shape[1]};
    }
    return OpInstance{.description = shape.str(),
                      .inputs = {some_tensor(rng, shape, -3, 3)},
                      .run = [op](std::span<const Variable> in) { return op(in[0]); }};
  };
}

}  // namespace

std::vector<OpCase> op_cases_activation() {
  // Bounds: about three times the worst of 2400 instances over 60 seeds; 0 where
  // nothing is rounded.
  return {
      {.op = "relu", .value_bound = 0, .gradient_bound = 0, .make = pointwise(relu)},
      {.op = "relu6", .value_bound = 0, .gradient_bound = 0, .make = pointwise(relu6)},
      {.op = "leaky_relu", .value_bound = 0, .gradient_bound = 0, .make = pointwise([](const Variable& x) {
                                                                    return leaky_relu(x, real(0.125));
                                                                  })},
      // Their gradients are read off y; where y nears 1, 1 - y has few digits in float.
      {.op = "sigmoid", .value_bound = 4e-7, .gradient_bound = 2.4e-6, .make = pointwise(sigmoid, -2.5, 2.5)},
      {.op = "tanh", .value_bound = 4e-7, .gradient_bound = 6e-6, .make = pointwise(tanh, -2.5, 2.5)},
      {.op = "hard_swish", .value_bound = 4e-7, .gradient_bound = 4e-7, .make = pointwise(hard_swish)},
      {.op = "gelu", .value_bound = 4e-6, .gradient_bound = 1.2e-5, .make = pointwise(gelu)},
      {.op = "softmax", .value_bound = 6e-7, .gradient_bound = 1.4e-5, .make = rowwise(softmax)},
      {.op = "log_softmax", .value_bound = 4e-7, .gradient_bound = 1.6e-6, .make = rowwise(log_softmax)},
      {.op = "activate",
       .value_bound = 0,
       .gradient_bound = 0,
       .make =
           [](Rng& rng) {
             const Act act = static_cast<Act>(rng.below(3));
             OpInstance instance = pointwise([act](const Variable& x) { return activate(x, act); })(rng);
             instance.description += " with activation " + std::to_string(static_cast<int>(act));
             return instance;
           }},
  };
}

}  // namespace whittle::inline WHITTLE_PRECISION
