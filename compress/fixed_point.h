// Training on a fixed-point grid: weights and biases never leave the multiples of 2^-fraction
// (Gupta, Agrawal, Gopalakrishnan and Narayanan 2015).
//
//   w <- round(w - rate g)      round: to nearest, or stochastically
//
// With few bits most updates are less than half a step. Rounded to nearest they are lost, and training
// stops; rounded stochastically they are right on the average. Activations and sums stay in float, and so
// does what an optimizer remembers; gradients too, unless `gradients` is said.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "train/fit.h"

namespace whittle::inline WHITTLE_PRECISION::compress {

struct FixedPoint {
  int bits = 16;      // 2 to 16, with the sign
  int fraction = 12;  // of these, behind the point; 0 to 24
  bool stochastic = true;
  bool gradients = false;  // on the same grid, before the optimizer reads them

  double step() const;  // 2^-fraction
  double low() const;   // -2^(bits - 1 - fraction)
  double high() const;  // 2^(bits - 1 - fraction) - step
};

// "16.12,nearest,gradients": bits and fraction; then, in any order, nearest or stochastic, and gradients. Throws Error
// in one sentence on what it does not understand.
FixedPoint parse_fixed_point(std::string_view text);

// Puts every parameter on the grid now, to nearest, and keeps it there. The model must outlive the hooks.
FitHooks fixed_point_hooks(Module& model, const FixedPoint& options, uint64_t seed);

}  // namespace whittle::inline WHITTLE_PRECISION::compress
