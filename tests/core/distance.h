// How far a tensor is from what an oracle computed in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/tensor.h"

namespace whittle::inline WHITTLE_PRECISION {

// max |got - want| / scale, where scale is max |want| unless given. A wrong size or a NaN is infinitely far.
inline double distance(const Tensor& got, const std::vector<double>& want, double scale = 0) {
  if (!got.defined() || got.elements() != static_cast<int64_t>(want.size())) {
    return INFINITY;
  }
  double largest = 1e-30;
  double difference = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double d = std::abs(static_cast<double>(got.values()[i]) - want[i]);
    difference = std::isnan(d) ? INFINITY : std::max(difference, d);
    largest = std::max(largest, std::abs(want[i]));
  }
  return difference / (scale > 0 ? scale : largest);
}

}  // namespace whittle::inline WHITTLE_PRECISION
