// Gradients against central differences, along one random direction.
//
// For a function f of several tensors, let L(x) = sum(w * f(x)) with random,
// non-uniform weights w (a plain sum would hide transposed gradients). backward()
// gives dL/dx; its product with a random direction d must equal the derivative of
// L along d, estimated from four values by the fourth-order central formula. The
// error is relative to sum |dL/dx_i d_i|, the size of the terms that are added.
// Meaningful in the double twin only.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "core/ops.h"
#include "core/rng.h"

namespace whittle::inline WHITTLE_PRECISION {

struct GradientCheck {
  double analytic = 0;  // <dL/dx, d>
  double numeric = 0;   // by differences
  double relative_error = 0;
};

GradientCheck check_gradient(const std::function<Variable(std::span<const Variable>)>& f,
                             std::span<const Tensor> inputs, Rng& rng);

}  // namespace whittle::inline WHITTLE_PRECISION
