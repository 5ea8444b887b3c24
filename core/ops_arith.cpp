// Arithmetic on one or two tensors, element by element.
//
// Broadcasting is not decided here: Broadcast (core/loops.h) walks the operands
// of the four binary ops, and sum_to() takes a gradient back to its operand's shape.

#include <algorithm>
#include <cmath>

#include "core/elementwise.h"
#include "core/error.h"
#include "core/ops.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

constexpr auto plus = [](real a, real b) { return a + b; };
constexpr auto minus = [](real a, real b) { return a - b; };
constexpr auto times = [](real a, real b) { return a * b; };
constexpr auto over = [](real a, real b) { return a / b; };

template <class F>
Tensor forward(const char* op, const Variable& a, const Variable& b, F f) {
  require_defined(op, a);
  require_defined(op, b);
  return map(Broadcast(op, a.shape(), b.shape()), a.value(), b.value(), f);
}

// f(g, operand), where g has the shape of the result and operand repeats.
template <class F>
Tensor combine(const Tensor& g, const Tensor& operand, F f) {
  return map(Broadcast("backward", g.shape(), operand.shape()), g, operand, f);
}

Tensor negated(const Tensor& x) {
  return map(x, [](real v) { return -v; });
}

}  // namespace

Variable add(const Variable& a, const Variable& b, Act act) {
  require_defined("add", a);
  require_defined("add", b);
  const Broadcast together("add", a.shape(), b.shape());
  Tensor y = Tensor::empty(together.shape());
  if (together.step_a() == 1 && together.step_b() == 1) {
    together.for_each_run([&, out = y.mutable_data()](int64_t i, int64_t at_a, int64_t at_b, int64_t n) {
      train_kernels().loops.add(a.value().data() + at_a, b.value().data() + at_b, n, clamp_of(act), out + i);
    });
  } else {
    y = map(together, a.value(), b.value(), plus);
    y = act == Act::kNone ? y : activated(y, act);
  }
  return make_op("add", y, {a, b},
                 [act, y = act == Act::kNone ? Tensor() : y, shape_a = a.shape(), shape_b = b.shape(),
                  want_a = a.requires_grad(), want_b = b.requires_grad()](const Tensor& g) -> Gradients {
                   const Tensor passed = act == Act::kNone ? g : through_activation(g, y, act);
                   return {want_a ? sum_to(passed, shape_a) : Tensor(), want_b ? sum_to(passed, shape_b) : Tensor()};
                 });
}

Variable sub(const Variable& a, const Variable& b) {
  Tensor y = forward("sub", a, b, minus);
  return make_op("sub", std::move(y), {a, b},
                 [shape_a = a.shape(), shape_b = b.shape(), want_a = a.requires_grad(),
                  want_b = b.requires_grad()](const Tensor& g) -> Gradients {
                   return {want_a ? sum_to(g, shape_a) : Tensor(), want_b ? negated(sum_to(g, shape_b)) : Tensor()};
                 });
}

Variable mul(const Variable& a, const Variable& b) {
  Tensor y = forward("mul", a, b, times);
  // Each side's gradient needs the other side's value.
  return make_op("mul", std::move(y), {a, b},
                 [a = b.requires_grad() ? a.value() : Tensor(), b = a.requires_grad() ? b.value() : Tensor(),
                  shape_a = a.shape(), shape_b = b.shape()](const Tensor& g) -> Gradients {
                   return {b.defined() ? sum_to(combine(g, b, times), shape_a) : Tensor(),
                           a.defined() ? sum_to(combine(g, a, times), shape_b) : Tensor()};
                 });
}

Variable div(const Variable& a, const Variable& b) {
  Tensor y = forward("div", a, b, over);
  return make_op("div", y, {a, b},
                 [y = b.requires_grad() ? y : Tensor(), b = b.value(), shape_a = a.shape(),
                  want_a = a.requires_grad()](const Tensor& g) -> Gradients {
                   const Tensor q = combine(g, b, over);  // g / b, and g a / b^2 = q y
                   return {want_a ? sum_to(q, shape_a) : Tensor(),
                           y.defined() ? negated(sum_to(map(q, y, times), b.shape())) : Tensor()};
                 });
}

Variable affine(const Variable& x, real scale, real shift) {
  require_defined("affine", x);
  Tensor y = map(x.value(), [=](real v) { return scale * v + shift; });
  return make_op("affine", std::move(y), {x},
                 [scale](const Tensor& g) -> Gradients { return {map(g, [scale](real v) { return scale * v; })}; });
}

Variable exp(const Variable& x) {
  return elementwise_from_y(
      "exp", x, [](real v) { return std::exp(v); }, [](real g, real y) { return g * y; });
}

Variable log(const Variable& x) {
  return elementwise_from_x(
      "log", x, [](real v) { return std::log(v); }, [](real g, real v) { return g / v; });
}

Variable sqrt(const Variable& x) {
  return elementwise_from_y(
      "sqrt", x, [](real v) { return std::sqrt(v); }, [](real g, real y) { return g / (2 * y); });
}

Variable abs(const Variable& x) {
  return elementwise_from_x(
      "abs", x, [](real v) { return std::abs(v); }, [](real g, real v) { return g * sign(v); });
}

Variable clamp(const Variable& x, real low, real high) {
  require_defined("clamp", x);
  require(low <= high, "clamp", "low ", low, " is not at most high ", high, " (input ", x.shape(), ")");
  return elementwise_from_x(
      "clamp", x, [=](real v) { return std::min(std::max(v, low), high); },  // in this order NaN passes through
      [=](real g, real v) { return v >= low && v <= high ? g : real(0); });
}

}  // namespace whittle::inline WHITTLE_PRECISION
