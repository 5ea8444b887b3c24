// How an op of one input that works element by element is written: the formula
// and the formula of its gradient, side by side. Internal to core/.
#pragma once

#include <limits>

#include "core/loops.h"
#include "core/ops.h"
#include "core/train_kernels.h"

namespace whittle::inline WHITTLE_PRECISION {

// y = f(x), gx = df(g, x). Keeps x for backward.
template <class F, class D>
Variable elementwise_from_x(const char* op, const Variable& x, F f, D df) {
  require_defined(op, x);
  return make_op(op, map(x.value(), f), {x},
                 [x = x.value(), df](const Tensor& g) -> Gradients { return {map(g, x, df)}; });
}

// y = f(x), gx = df(g, y). Keeps y, which the next op usually keeps as well, so
// the memory is spent once.
template <class F, class D>
Variable elementwise_from_y(const char* op, const Variable& x, F f, D df) {
  require_defined(op, x);
  Tensor y = map(x.value(), f);
  return make_op(op, y, {x}, [y, df](const Tensor& g) -> Gradients { return {map(g, y, df)}; });
}

// The activations of Act are clamps.
inline kernels::Clamp<real> clamp_of(Act act) {
  constexpr real kNone = std::numeric_limits<real>::quiet_NaN();
  return {act == Act::kNone ? kNone : 0, act == Act::kRelu6 ? real(6) : kNone};
}
Tensor activated(const Tensor& x, Act act);
// The gradient of x, given that of y = activated(x, act).
Tensor through_activation(const Tensor& g, const Tensor& y, Act act);

inline real sign(real x) { return static_cast<real>((x > 0) - (x < 0)); }

}  // namespace whittle::inline WHITTLE_PRECISION
