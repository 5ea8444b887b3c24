// Limits on gradients, between backward() and step(), and the search for what
// broke.
//
//   backward(loss);
//   const double norm = optim::clip_gradient_norm(sgd.parameters(), 1.0);
//   if (!std::isfinite(norm)) {
//     fail("fit", "step ", sgd.steps(), ": the gradient of '",
//          *optim::first_non_finite_gradient(sgd.parameters()), "' is not finite");
//   }
//   sgd.step();
//
// Parameters without a gradient are skipped.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "core/parameter.h"

namespace whittle::inline WHITTLE_PRECISION::optim {

// g = min(max(g, -limit), limit) for every element; a NaN stays. limit > 0.
void clip_gradient_values(std::span<const NamedParameter> parameters, double limit);

// sqrt(sum g^2) over all elements of all gradients, 0 if there are none. Summed in
// double over a fixed tree: no float gradient is too large for it, so the norm is
// finite exactly if every gradient is.
double gradient_norm(std::span<const NamedParameter> parameters);

// If the norm exceeds the limit: g = g limit / norm for every element, which keeps
// the direction (Pascanu et al. 2013). Returns the norm from before. A norm that is
// not finite is returned and nothing is changed: there is no direction to keep,
// and the caller, who knows the step, decides. limit > 0.
double clip_gradient_norm(std::span<const NamedParameter> parameters, double limit);

// The name of the first parameter whose gradient holds a NaN or an infinity.
std::optional<std::string> first_non_finite_gradient(std::span<const NamedParameter> parameters);

}  // namespace whittle::inline WHITTLE_PRECISION::optim
