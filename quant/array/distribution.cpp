#include "quant/array/distribution.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/error.h"

namespace whittle::inline WHITTLE_PRECISION::quant::array {

// Halley's method on f(x) = log Phi(x) - log p, from an asymptotic start. In the lower
// half Phi(x) = erfc(-x / sqrt 2) / 2 keeps all its digits however small it is, and the
// upper half is its mirror image. In logarithms f is nearly a parabola, so few steps do.
double normal_quantile(double p) {
  require(p > 0 && p < 1, "normal_quantile", "a probability must lie between 0 and 1, got ", p);
  if (p > 0.5) {
    return -normal_quantile(1 - p);
  }
  if (p == 0.5) {
    return 0;
  }
  // Phi(-t) < phi(t) / t: solved for t by one substitution, and at most sqrt(-2 ln 2p) (Chernoff's bound).
  double x = -std::sqrt(-2 * std::log(2 * p));
  constexpr int kSteps = 8;
  for (int step = 0; step < kSteps; ++step) {
    const double cumulative = 0.5 * std::erfc(-x / std::numbers::sqrt2);
    const double density = std::exp(-0.5 * x * x) / std::sqrt(2 * std::numbers::pi);
    const double f = std::log(cumulative / p);
    const double slope = density / cumulative;
    const double curvature = -slope * (x + slope);
    const double change = f * slope / (slope * slope - 0.5 * f * curvature);
    x -= change;
    if (std::abs(change) <= 1e-16 * std::abs(x)) {
      break;
    }
  }
  return x;
}

double midpoint_quantile(std::span<const float> sorted, double q) {
  require(!sorted.empty(), "midpoint_quantile", "there are no numbers");
  require(q >= 0 && q <= 1, "midpoint_quantile", "a quantile must lie between 0 and 1, got ", q);
  const double position = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<double>(sorted[static_cast<size_t>(std::floor(position))]);
  const auto above = static_cast<double>(sorted[static_cast<size_t>(std::ceil(position))]);
  return (below + above) / 2;
}

Fences tukey_fences(std::span<const float> sorted) {
  const double low = midpoint_quantile(sorted, 0.25);
  const double high = midpoint_quantile(sorted, 0.75);
  const double reach = 1.5 * (high - low);
  return {low - reach, high + reach};
}

double mean(std::span<const float> values) {
  require(!values.empty(), "mean", "there are no numbers");
  double sum = 0;
  for (const float value : values) {
    sum += static_cast<double>(value);
  }
  return sum / static_cast<double>(values.size());
}

double unbiased_deviation(std::span<const float> values) {
  const double centre = mean(values);
  double sum = 0;
  for (const float value : values) {
    const double distance = static_cast<double>(value) - centre;
    sum += distance * distance;
  }
  return values.size() < 2 ? 0 : std::sqrt(sum / static_cast<double>(values.size() - 1));
}

}  // namespace whittle::inline WHITTLE_PRECISION::quant::array
