#include "quant/array/few_bits.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "core/parallel.h"

namespace whittle::inline WHITTLE_PRECISION::quant::array {

namespace {

double magnitude(float x) { return std::abs(static_cast<double>(x)); }

double mean_magnitude(std::span<const float> values) {
  double sum = 0;
  for (const float x : values) {
    sum += magnitude(x);
  }
  return sum / static_cast<double>(values.size());
}

// The smallest |w| that is kept, with which sum^2 / count is largest.
double exact_least(std::span<const float> values) {
  std::vector<double> sizes(values.size());
  std::ranges::transform(values, sizes.begin(), magnitude);
  std::ranges::sort(sizes, std::greater());
  double sum = 0;
  double most = 0;
  double least = sizes.front();
  for (size_t i = 0; i < sizes.size(); ++i) {
    sum += sizes[i];
    const double gain = sum * sum / static_cast<double>(i + 1);
    if (gain > most) {
      most = gain;
      least = sizes[i];
    }
  }
  return least;
}

template <class MakeGroup>
Quantized by_groups(std::span<const float> values, int64_t groups, int bits, MakeGroup make) {
  const int64_t size = check_array(bits == 1 ? "binary" : "ternary", values, groups);
  std::vector<std::optional<Group>> made(static_cast<size_t>(groups));
  parallel_for(groups, [&](int64_t g) {
    made[static_cast<size_t>(g)] = make(values.subspan(static_cast<size_t>(g * size), static_cast<size_t>(size)));
  });
  Quantized result{.bits = bits};
  for (std::optional<Group>& group : made) {
    result.groups.push_back(std::move(*group));
  }
  result.stored.codes = bits * static_cast<int64_t>(values.size());
  result.stored.scales = 32 * groups;
  return result;
}

}  // namespace

Quantized binary(std::span<const float> values, int64_t groups) {
  return by_groups(values, groups, 1, [](std::span<const float> own) {
    const auto alpha = static_cast<float>(mean_magnitude(own));
    Group group{Codebook::of({-alpha, alpha}), {Term{}}};
    for (const float x : own) {
      group.terms.front().codes.push_back(x < 0 ? group.codebook.first() : group.codebook.last());
    }
    return group;
  });
}

Quantized ternary(std::span<const float> values, int64_t groups, TernaryThreshold threshold) {
  return by_groups(values, groups, 2, [threshold](std::span<const float> own) {
    const bool exact = threshold == TernaryThreshold::kExact;
    const double limit = exact ? exact_least(own) : 0.7 * mean_magnitude(own);
    const auto kept = [&](float x) { return x != 0 && (exact ? magnitude(x) >= limit : magnitude(x) > limit); };
    double sum = 0;
    double count = 0;
    for (const float x : own) {
      sum += kept(x) ? magnitude(x) : 0;
      count += kept(x) ? 1 : 0;
    }
    const auto alpha = static_cast<float>(count > 0 ? sum / count : 0);
    Group group{Codebook::of({-alpha, 0, alpha}), {Term{}}};
    const int32_t zero = group.codebook.last() / 2;
    for (const float x : own) {
      group.terms.front().codes.push_back(!kept(x) ? zero : x < 0 ? group.codebook.first() : group.codebook.last());
    }
    return group;
  });
}

}  // namespace whittle::inline WHITTLE_PRECISION::quant::array
