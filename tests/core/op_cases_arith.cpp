#include "tests/core/some_shape.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

// `result`, but missing some leading axes and with an extent of 1 here and there.
Shape broadcasting_to(Rng& rng, const Shape& result) {
  const bool shorter = rng.uniform() < 0.4;
  Shape shape(result.dims().subspan(shorter ? static_cast<size_t>(rng.between(0, result.rank())) : 0));
  for (int axis = 0; axis < shape.rank(); ++axis) {
    if (rng.uniform() < 0.25) {
      shape = shape.with(axis, 1);
    }
  }
  return shape;
}

// Away from 0, because it may be a divisor; of one sign, because gradients of
// repeated operands are sums, and where a sum cancels its error relative to the
// result says nothing.
Tensor of_one_sign(Rng& rng, const Shape& shape) {
  return rng.uniform() < 0.5 ? some_tensor(rng, shape, 0.5, 2) : some_tensor(rng, shape, -2, -0.5);
}

// Operands of one shape, or broadcast one way or both ways.
template <class F>
std::function<OpInstance(Rng&)> binary(F op) {
  return [op](Rng& rng) {
    const Shape result = some_shape(rng, 0, 5);
    const double kind = rng.uniform();
    const Shape a = kind < 0.4 ? result : broadcasting_to(rng, result);
    const Shape b = kind < 0.2 || kind > 0.8 ? result : broadcasting_to(rng, result);
    return OpInstance{.description = a.str() + " and " + b.str(),
                      .inputs = {of_one_sign(rng, a), of_one_sign(rng, b)},
                      .run = [op](std::span<const Variable> in) { return op(in[0], in[1]); }};
  };
}

template <class F>
std::function<OpInstance(Rng&)> unary(F op, double low, double high) {
  return [op, low, high](Rng& rng) {
    const Shape shape = some_shape(rng, 0, 4);
    return OpInstance{.description = shape.str(),
                      .inputs = {tensor_away_from(rng, shape, {0, 1}, low, high)},  // kinks of abs and clamp
                      .run = [op](std::span<const Variable> in) { return op(in[0]); }};
  };
}

}  // namespace

std::vector<OpCase> op_cases_arith() {
  const auto plain_add = [](const Variable& a, const Variable& b) { return add(a, b); };
  // Bounds: about three times the worst of 2400 instances over 60 seeds; 0 where
  // nothing is rounded.
  return {
      {.op = "add", .value_bound = 2e-7, .gradient_bound = 6e-7, .make = binary(plain_add)},
      {.op = "add",
       .value_bound = 2e-7,
       .gradient_bound = 6e-7,
       .make =
           [](Rng& rng) {  // with an activation, whose kinks the sums keep away from
             const Shape shape = some_shape(rng, 0, 4);
             const Act act = rng.uniform() < 0.5 ? Act::kRelu : Act::kRelu6;
             const Tensor a = some_tensor(rng, shape);
             Tensor b = tensor_away_from(rng, shape, {0, 6}, -3, 9);
             for (int64_t i = 0; i < shape.elements(); ++i) {
               b.mutable_data()[i] = static_cast<real>(static_cast<float>(b.data()[i] - a.data()[i]));
             }
             return OpInstance{.description = shape.str() + " act " + std::to_string(static_cast<int>(act)),
                               .inputs = {a, b},
                               .run = [act](std::span<const Variable> in) { return add(in[0], in[1], act); }};
           }},
      {.op = "sub", .value_bound = 2e-7, .gradient_bound = 8e-7, .make = binary(sub)},
      {.op = "mul", .value_bound = 2e-7, .gradient_bound = 6e-7, .make = binary(mul)},
      {.op = "div", .value_bound = 2e-7, .gradient_bound = 6e-7, .make = binary(div)},
      {.op = "affine",
       .value_bound = 4e-7,
       .gradient_bound = 2e-7,
       .make = unary([](const Variable& x) { return affine(x, real(-1.5), 4); }, -2, 2)},
      {.op = "exp", .value_bound = 2e-7, .gradient_bound = 3e-7, .make = unary(exp, -3, 2)},
      {.op = "log", .value_bound = 2e-7, .gradient_bound = 2e-7, .make = unary(log, 0.5, 3)},
      {.op = "sqrt", .value_bound = 2e-7, .gradient_bound = 3e-7, .make = unary(sqrt, 0.5, 3)},
      {.op = "abs", .value_bound = 0, .gradient_bound = 0, .make = unary(abs, -2, 2)},
      {.op = "clamp",
       .value_bound = 0,
       .gradient_bound = 0,
       .make = unary([](const Variable& x) { return clamp(x, 0, 1); }, -1, 2)},
  };
}

}  // namespace whittle::inline WHITTLE_PRECISION
