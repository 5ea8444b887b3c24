#include "quant/array/inq.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "quant/array/codebook.h"
#include "quant/array/grids.h"

namespace whittle::inline WHITTLE_PRECISION::quant::array {

std::vector<float> inq_levels(float max_abs, int bits) {
  check_bits("inq", bits, 2);
  require(std::isfinite(max_abs) && max_abs >= 0, "inq", "the largest magnitude is ", max_abs);
  std::vector<float> levels = {0};
  if (max_abs > 0) {
    levels = power_of_two_levels(max_abs, int64_t{1} << (bits - 2));
  }
  std::ranges::sort(levels);
  return levels;
}

float inq_round(float w, std::span<const float> levels) {
  // Levels are symmetric: the magnitude is rounded upwards in the middle.
  const float size = std::abs(w);
  const auto above = std::ranges::upper_bound(levels, size);
  float level = *(above - 1);
  if (above != levels.end() &&
      2 * static_cast<double>(size) >= static_cast<double>(level) + static_cast<double>(*above)) {
    level = *above;
  }
  return w < 0 && level > 0 ? -level : level;
}

int64_t inq_freeze(std::span<float> weights, std::span<uint8_t> frozen, double share, std::span<const float> levels) {
  check_array("inq", weights, 1);
  require(frozen.size() == weights.size(), "inq", "there are ", weights.size(), " weights and ", frozen.size(),
          " flags");
  require(share >= 0 && share <= 1, "inq", "a share must lie between 0 and 1, got ", share);
  require(std::ranges::is_sorted(levels) && std::ranges::count(levels, 0.0F) == 1, "inq",
          "levels must be sorted and hold 0");

  std::vector<size_t> free;
  for (size_t i = 0; i < weights.size(); ++i) {
    require(frozen[i] <= 1, "inq", "flag ", i, " is ", static_cast<int>(frozen[i]), ", not 0 or 1");
    if (frozen[i] == 0) {
      free.push_back(i);
    }
  }
  const auto wanted = std::llround(share * static_cast<double>(weights.size()));
  const int64_t more = wanted - static_cast<int64_t>(weights.size() - free.size());
  require(more >= 0, "inq", "a share of ", share, " is less than what is frozen already");
  std::ranges::stable_sort(free, [&](size_t a, size_t b) { return std::abs(weights[a]) > std::abs(weights[b]); });
  for (size_t k = 0; k < static_cast<size_t>(more); ++k) {
    weights[free[k]] = inq_round(weights[free[k]], levels);
    frozen[free[k]] = 1;
  }
  return more;
}

}  // namespace whittle::inline WHITTLE_PRECISION::quant::array
