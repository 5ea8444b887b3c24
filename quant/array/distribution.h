// Facts about a distribution of numbers that some grids are made from.
#pragma once

#include <span>

#include "core/real.h"

namespace whittle::inline WHITTLE_PRECISION::quant::array {

// x with P(standard normal < x) = p, for p in (0, 1). Within 1e-15 max(1, |x|) of the
// true value.
double normal_quantile(double p);

// The q-quantile of sorted numbers as the middle between the two order statistics around
// position q (n - 1), or the one that is there. NumPy calls this "midpoint".
double midpoint_quantile(std::span<const float> sorted, double q);

// Tukey's fences, 1.5 interquartile ranges outside the (midpoint) quartiles.
struct Fences {
  double low;
  double high;
};
Fences tukey_fences(std::span<const float> sorted);

double mean(std::span<const float> values);                // summed in double
double unbiased_deviation(std::span<const float> values);  // divides by n - 1; 0 for one value

}  // namespace whittle::inline WHITTLE_PRECISION::quant::array
