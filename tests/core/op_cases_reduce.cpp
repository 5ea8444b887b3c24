#include "tests/core/some_shape.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

// Any set of axes, in any order, counted from either end, some named twice; and
// now and then a tensor large enough for several tiles.
template <class F>
std::function<OpInstance(Rng&)> over_axes(F op, Tensor (*draw)(Rng&, const Shape&)) {
  return [op, draw](Rng& rng) {
    const Shape shape =
        rng.uniform() < 0.9 ? some_shape(rng, 0, 5) : Shape{rng.between(30, 40), rng.between(90, 99), 13};
    ReduceOptions options{.keep_dims = rng.uniform() < 0.5};
    std::string text = shape.str() + " over";
    for (int64_t i = shape.rank() == 0 ? 0 : rng.below(shape.rank() + 1); i > 0; --i) {
      options.axes.push_back(static_cast<int>(rng.between(-shape.rank(), shape.rank() - 1)));
      text += " " + std::to_string(options.axes.back());
    }
    return OpInstance{.description = text + (options.keep_dims ? ", kept" : ""),
                      .inputs = {draw(rng, shape)},
                      .run = [op, options](std::span<const Variable> in) { return op(in[0], options); }};
  };
}

// Of one sign: where a sum cancels, its error relative to the result says nothing.
Tensor positive(Rng& rng, const Shape& shape) { return some_tensor(rng, shape, 0, 2); }

}  // namespace

std::vector<OpCase> op_cases_reduce() {
  // Bounds: about three times the worst of 2400 instances over 60 seeds; 0 where
  // nothing is rounded.
  return {
      {.op = "sum", .value_bound = 1.5e-6, .gradient_bound = 0, .make = over_axes(sum, positive)},
      {.op = "mean", .value_bound = 1.2e-6, .gradient_bound = 2e-7, .make = over_axes(mean, positive)},
      {.op = "max", .value_bound = 0, .gradient_bound = 0, .make = over_axes(max, distinct_tensor)},
  };
}

}  // namespace whittle::inline WHITTLE_PRECISION
