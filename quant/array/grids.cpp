#include "quant/array/grids.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "core/error.h"
#include "core/parallel.h"
#include "quant/array/distribution.h"

namespace whittle::inline WHITTLE_PRECISION::quant::array {

namespace {

constexpr std::array kKinds = {
    GridKind::kAffine,     GridKind::kMidRise,     GridKind::kUniformRange,
    GridKind::kHistogram,  GridKind::kPriorNormal, GridKind::kUniformIqr,
    GridKind::kPowerOfTwo, GridKind::kKMeans,      GridKind::kKMeansExact,
};
constexpr std::array<std::string_view, kKinds.size()> kNames = {
    "affine", "mid-rise", "uniform", "histogram", "normal", "iqr", "power-of-two", "kmeans", "kmeans-exact",
};

constexpr int64_t kFloatBits = 32;

struct Range {
  float low;
  float high;
};

Range range_of(std::span<const float> values) {
  const auto [low, high] = std::ranges::minmax_element(values);
  return {*low, *high};
}

float largest_magnitude(const Range& range) { return std::max(std::abs(range.low), std::abs(range.high)); }

// A scale is a normal float: below, x / scale would lose the digits that make it a code.
float safe_scale(double scale) { return std::max(static_cast<float>(scale), std::numeric_limits<float>::min()); }

FittedGrid affine(const Range& range, const GridSpec& spec) {
  const int32_t half = int32_t{1} << (spec.bits - 1);
  if (spec.symmetric) {
    const float most = largest_magnitude(range);
    const int32_t top = half - 1;
    const float scale = most > 0 ? safe_scale(static_cast<double>(most) / top) : 1.0F;
    return {Codebook::affine({.scale = scale, .zero_point = 0, .qmin = -top, .qmax = top}), {.scales = kFloatBits}};
  }
  const auto low = std::min(0.0, static_cast<double>(range.low));
  const auto high = std::max(0.0, static_cast<double>(range.high));
  Grid grid{.scale = 1, .zero_point = 0, .qmin = -half, .qmax = half - 1};
  if (high > low) {
    grid.scale = safe_scale((high - low) / (2.0 * half - 1));
    const Grid from_low{.scale = grid.scale, .zero_point = 0, .qmin = 0, .qmax = 2 * half - 1};
    grid.zero_point = -half + arithmetic::quantize(static_cast<float>(-low), from_low);
  }
  return {Codebook::affine(grid), {.scales = kFloatBits, .zero_points = spec.bits}};
}

// m points from low to high, both included; one point if they are the same.
std::vector<float> evenly(double low, double high, int64_t m) {
  std::vector<float> levels;
  for (int64_t i = 0; i < m; ++i) {
    levels.push_back(static_cast<float>(low + (high - low) * (static_cast<double>(i) / static_cast<double>(m - 1))));
  }
  return levels;
}

std::vector<float> bin_centres(const Range& range, int64_t m) {
  const double low = static_cast<double>(range.low);
  const double width = (static_cast<double>(range.high) - low) / static_cast<double>(m);
  std::vector<float> levels;
  for (int64_t i = 0; i < m; ++i) {
    levels.push_back(static_cast<float>(low + width * (static_cast<double>(i) + 0.5)));
  }
  return levels;
}

std::vector<float> normal_levels(std::span<const float> values, const Range& range, int64_t m) {
  const double centre = mean(values);
  const double deviation = unbiased_deviation(values);
  std::vector<float> levels = {range.low, range.high};
  for (int64_t k = 1; k < m - 1; ++k) {
    const double quantile = normal_quantile(static_cast<double>(k) / static_cast<double>(m - 1));
    levels.push_back(static_cast<float>(centre + deviation * quantile));
  }
  return levels;
}

std::vector<float> iqr_levels(std::span<const float> values, const Range& range, int64_t m) {
  std::vector<float> sorted(values.begin(), values.end());
  std::ranges::sort(sorted);
  const Fences fences = tukey_fences(sorted);
  const double low = std::max(fences.low, static_cast<double>(range.low));
  const double high = std::min(fences.high, static_cast<double>(range.high));
  // Half of the values are the same number: fences on it would clip all others away.
  return low < high ? evenly(low, high, m) : evenly(static_cast<double>(range.low), static_cast<double>(range.high), m);
}

void move_nearest_to_zero(std::vector<float>& levels) {
  *std::ranges::min_element(levels, {}, [](float level) { return std::abs(level); }) = 0;
}

bool takes_zero(GridKind kind) {
  return kind != GridKind::kAffine && kind != GridKind::kMidRise && kind != GridKind::kPowerOfTwo;
}

}  // namespace

std::span<const GridKind> all_grids() { return kKinds; }

std::string_view grid_name(GridKind kind) { return kNames[static_cast<size_t>(kind)]; }

GridKind parse_grid(std::string_view name) {
  std::string names;
  for (size_t i = 0; i < kNames.size(); ++i) {
    if (name == kNames[i]) {
      return kKinds[i];
    }
    names += (i == 0 ? "" : ", ") + std::string(kNames[i]);
  }
  fail("grid", "'", name, "' is none of ", names);
}

void check(const GridSpec& spec) {
  const bool two_sided = (spec.kind == GridKind::kAffine && spec.symmetric) || spec.kind == GridKind::kPowerOfTwo;
  require(spec.bits >= 1 && spec.bits <= 16, "grid", "bits must be 1 to 16, got ", spec.bits);
  require(!two_sided || spec.bits >= 2, "grid",
          spec.kind == GridKind::kAffine ? "a symmetric affine" : "a power-of-two",
          " grid of 1 bit has the level 0 alone; take mid-rise or binary weights");
  require(spec.symmetric || spec.kind == GridKind::kAffine, "grid", "only an affine grid can be asymmetric, not ",
          grid_name(spec.kind));
  require(!spec.zero || takes_zero(spec.kind), "grid", grid_name(spec.kind),
          spec.kind == GridKind::kMidRise ? " has no level at 0 by definition" : " has a level at 0 anyway");
}

int first_exponent(float max_abs) {
  require(std::isfinite(max_abs) && max_abs > 0, "power_of_two", "the largest magnitude must be above 0, got ",
          max_abs);
  // The largest e with 2^e <= 4/3 max|w|, compared without rounding.
  int e = std::ilogb(max_abs) + 1;
  if (std::ldexp(3.0, e) > 4 * static_cast<double>(max_abs)) {
    --e;
  }
  return e;
}

std::vector<float> power_of_two_levels(float max_abs, int64_t exponents) {
  std::vector<float> levels = {0};
  int e = first_exponent(max_abs);
  for (int64_t i = 0; i < exponents; ++i, --e) {
    const auto level = static_cast<float>(std::min(std::ldexp(1.0, e), 0x1p127));
    if (level == 0) {
      break;
    }
    levels.push_back(level);
    levels.push_back(-level);
  }
  return levels;
}

FittedGrid fit_grid(std::span<const float> values, const GridSpec& spec) {
  check(spec);
  check_array("grid", values, 1);
  const Range range = range_of(values);
  const int64_t m = int64_t{1} << spec.bits;
  if (spec.kind == GridKind::kAffine) {
    return affine(range, spec);
  }
  if (spec.kind == GridKind::kMidRise) {
    const StoredBits stored{.scales = kFloatBits};
    if (range.low == range.high) {
      return {Codebook::of({range.low}), stored};
    }
    const float step = safe_scale(static_cast<double>(largest_magnitude(range)) / static_cast<double>(m / 2));
    return {Codebook::mid_rise(step, spec.bits), stored};
  }
  if (spec.kind == GridKind::kPowerOfTwo) {
    const float most = largest_magnitude(range);
    return {Codebook::of(most > 0 ? power_of_two_levels(most, m / 2 - 1) : std::vector<float>{0}), {.scales = 8}};
  }

  std::vector<float> levels;
  StoredBits stored{.scales = 2 * kFloatBits};
  switch (spec.kind) {
    case GridKind::kUniformRange:
      levels = evenly(static_cast<double>(range.low), static_cast<double>(range.high), m);
      break;
    case GridKind::kHistogram:
      levels = bin_centres(range, m);
      break;
    case GridKind::kPriorNormal:
      levels = normal_levels(values, range, m);
      stored = {.scales = 4 * kFloatBits};
      break;
    case GridKind::kUniformIqr:
      levels = iqr_levels(values, range, m);
      break;
    default:
      levels = spec.kind == GridKind::kKMeans ? kmeans(values, m) : kmeans_exact(values, m);
      stored = {.codebooks = kFloatBits * static_cast<int64_t>(levels.size())};
  }
  if (spec.zero) {
    move_nearest_to_zero(levels);
  }
  return {Codebook::of(std::move(levels)), stored};
}

Quantized quantize(std::span<const float> values, const QuantizeOptions& options) {
  check(options.grid);
  const int64_t size = check_array("quantize", values, options.groups);
  const auto group_values = [&](int64_t g) {
    return values.subspan(static_cast<size_t>(g * size), static_cast<size_t>(size));
  };

  std::vector<std::optional<FittedGrid>> fitted(static_cast<size_t>(options.groups));
  parallel_for(options.groups,
               [&](int64_t g) { fitted[static_cast<size_t>(g)] = fit_grid(group_values(g), options.grid); });

  Quantized result{.bits = options.grid.bits};
  result.stored.codes = options.grid.bits * static_cast<int64_t>(values.size());
  for (std::optional<FittedGrid>& fit : fitted) {
    result.stored += fit->stored;
    result.groups.push_back({std::move(fit->codebook), {{1, std::vector<int32_t>(static_cast<size_t>(size))}}});
  }

  const bool draws = options.rounding == Rounding::kStochastic;
  parallel_ranges(static_cast<int64_t>(values.size()), kElementGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      Group& group = result.groups[static_cast<size_t>(i / size)];
      const double draw = draws ? uniform(options.key, static_cast<uint64_t>(i)) : 0;
      group.terms.front().codes[static_cast<size_t>(i % size)] =
          group.codebook.code(values[static_cast<size_t>(i)], options.rounding, draw);
    }
  });
  return result;
}

}  // namespace whittle::inline WHITTLE_PRECISION::quant::array
