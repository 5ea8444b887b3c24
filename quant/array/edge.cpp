#include "quant/array/edge.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <utility>

#include "core/error.h"
#include "quant/array/distribution.h"
#include "quant/array/quantized.h"

namespace whittle::inline WHITTLE_PRECISION::quant::edge {

namespace {

constexpr std::array<std::string_view, 4> kSets = {"uniform", "histogram", "normal", "iqr"};

std::vector<float> sorted_copy(std::span<const float> values) {
  std::vector<float> sorted(values.begin(), values.end());
  std::ranges::sort(sorted);
  return sorted;
}

// NumPy's linspace: multiples of one step, and the last point exact.
std::vector<double> linspace(double low, double high, int64_t points) {
  std::vector<double> all;
  const double step = (high - low) / static_cast<double>(points - 1);
  for (int64_t i = 0; i < points; ++i) {
    all.push_back(low + static_cast<double>(i) * step);
  }
  all.back() = high;
  return all;
}

// The levels around w. Outside, and on the ends, both are what Edge returns there.
struct Neighbours {
  double low;
  double high;
};
class Levels {
 public:
  explicit Levels(std::span<const double> levels)
      : first_(levels.front()), last_(levels.back()), sorted_(levels.begin(), levels.end()) {
    std::ranges::sort(sorted_);
  }
  Neighbours around(double w) const {
    const auto above = std::ranges::upper_bound(sorted_, w);
    if (w <= sorted_.front()) {
      return {first_, first_};
    }
    if (above == sorted_.end()) {
      return {last_, last_};
    }
    return *(above - 1) == w ? Neighbours{w, w} : Neighbours{*(above - 1), *above};
  }

 private:
  double first_, last_;
  std::vector<double> sorted_;
};

double nearest_up(double w, const Neighbours& near) { return w - near.low < near.high - w ? near.low : near.high; }

std::vector<float> rounded(std::span<const float> values, const Method& method, std::span<const double> levels,
                           RngKey key) {
  return method.rounding == Rounding::kStochastic ? stochastic_rounding(values, levels, key)
                                                  : regular_rounding(values, levels);
}

}  // namespace

Method parse_edge_method(std::string_view text) {
  if (text == "mr") {
    return {Rounding::kMidRise, Set::kUniform};
  }
  if (text == "mr:iqr") {
    return {Rounding::kMidRise, Set::kIqr};
  }
  if (text == "multipoint") {
    return {Rounding::kMultiPoint, Set::kUniform};
  }
  if (text.starts_with("rr:") || text.starts_with("sr:")) {
    for (size_t i = 0; i < kSets.size(); ++i) {
      if (text.substr(3) == kSets[i]) {
        return {text.front() == 'r' ? Rounding::kRegular : Rounding::kStochastic, static_cast<Set>(i)};
      }
    }
  }
  fail("edge", "'", text,
       "' is no method of Edge: take mr, mr:iqr, multipoint, or rr:SET or sr:SET with SET one of uniform, histogram, "
       "normal, iqr");
}

std::string method_name(const Method& method) {
  switch (method.rounding) {
    case Rounding::kMidRise:
      return method.set == Set::kIqr ? "mr:iqr" : "mr";
    case Rounding::kMultiPoint:
      return "multipoint";
    default:
      return (method.rounding == Rounding::kRegular ? "rr:" : "sr:") +
             std::string(kSets[static_cast<size_t>(method.set)]);
  }
}

std::vector<float> mid_rise(std::span<const float> values, int64_t rows, int bits, Set range) {
  array::check_array("edge", values, 1);
  array::check_bits("edge", bits);
  require(range == Set::kUniform || range == Set::kIqr, "edge", "mid-rise has no set ",
          kSets[static_cast<size_t>(range)]);
  const auto steps = static_cast<float>(int64_t{1} << bits);
  float step = 0;
  if (range == Set::kIqr) {
    const array::Fences fences = array::tukey_fences(sorted_copy(values));
    step = static_cast<float>((fences.high - fences.low) / static_cast<double>(steps));
  } else {
    const auto [low, high] = std::ranges::minmax_element(values);
    step = (*high - *low) / steps;
  }
  std::vector<float> result;
  for (const float w : values) {
    const float d = rows == 1 && range == Set::kUniform ? w / steps : step;
    result.push_back(d * (std::floor(w / d) + 0.5F));
  }
  return result;
}

std::vector<double> level_set(std::span<const float> layer, Set set, int bits) {
  array::check_array("edge", layer, 1);
  array::check_bits("edge", bits);
  const int64_t m = int64_t{1} << bits;
  const std::vector<float> sorted = sorted_copy(layer);
  const auto low = static_cast<double>(sorted.front());
  const auto high = static_cast<double>(sorted.back());
  switch (set) {
    case Set::kUniform:
      return linspace(low, high, m);
    case Set::kHistogram: {
      const std::vector<double> edges = linspace(low, high, m + 1);
      std::vector<double> centres;
      for (size_t i = 0; i + 1 < edges.size(); ++i) {
        centres.push_back((edges[i] + edges[i + 1]) / 2);
      }
      return centres;
    }
    case Set::kNormal: {
      const double mean = array::mean(layer);
      const double deviation = array::unbiased_deviation(layer);
      std::vector<double> levels;
      for (int64_t k = 1; k <= m - 2; ++k) {
        levels.push_back(array::normal_quantile(static_cast<double>(k) / static_cast<double>(m - 1)) * deviation +
                         mean);
      }
      levels.push_back(low);
      levels.push_back(high);
      return levels;
    }
    case Set::kIqr:
      break;
  }
  const array::Fences fences = array::tukey_fences(sorted);
  return linspace(fences.low, fences.high, m);
}

std::vector<float> regular_rounding(std::span<const float> values, std::span<const double> levels) {
  array::check_array("edge", values, 1);
  require(!levels.empty(), "edge", "a set of levels is empty");
  const Levels set(levels);
  std::vector<float> result;
  for (const float w : values) {
    result.push_back(static_cast<float>(nearest_up(static_cast<double>(w), set.around(static_cast<double>(w)))));
  }
  return result;
}

std::vector<float> stochastic_rounding(std::span<const float> values, std::span<const double> levels, RngKey key) {
  array::check_array("edge", values, 1);
  require(!levels.empty(), "edge", "a set of levels is empty");
  const Levels set(levels);
  std::vector<float> result;
  for (size_t i = 0; i < values.size(); ++i) {
    const auto w = static_cast<double>(values[i]);
    const auto [low, high] = set.around(w);
    const bool to_low = low == high || uniform(key, i) < (high - w) / (high - low);
    result.push_back(static_cast<float>(to_low ? low : high));
  }
  return result;
}

std::vector<float> multipoint(std::span<const float> values, const MultiPointOptions& options, RngKey key) {
  array::check_array("edge", values, 1);
  array::check_bits("edge", options.bits, 2);
  const int terms = options.terms.value_or(options.bits + 1);
  require(terms >= 1, "edge", "multi-point needs at least one term, got ", terms);
  require(options.least_step > 0 && options.most_candidates >= 1, "edge",
          "multi-point needs a step above 0 and at least one candidate");

  const auto most = static_cast<double>(*std::ranges::max_element(values));  // not the largest magnitude
  const double mean = array::mean(values);
  std::vector<double> grid = linspace(-1, 1, (int64_t{1} << options.bits) - 1);
  for (double& level : grid) {
    level = most * level + mean;
  }
  std::ranges::sort(grid);
  const auto quantized = [&grid](double x) {
    const auto above = std::ranges::upper_bound(grid, x);
    if (above == grid.begin()) {
      return grid.front();
    }
    return above == grid.end() ? grid.back() : nearest_up(x, {*(above - 1), *above});
  };

  std::vector<double> residual(values.begin(), values.end());
  Rng rng(key);
  for (int term = 0; term < terms; ++term) {
    std::vector<double> sizes(residual.size());
    std::ranges::transform(residual, sizes.begin(), [](double r) { return std::abs(r); });
    std::ranges::sort(sizes);
    double gap = 0;
    for (size_t i = 1; i < sizes.size(); ++i) {
      const double distance = sizes[i] - sizes[i - 1];
      if (distance > 0 && (gap == 0 || distance < gap)) {
        gap = distance;
      }
    }
    const double half_steps = std::ldexp(1, options.bits - 1) - 1;
    const double gamma = std::max(gap / 2 / half_steps, options.least_step);
    const auto limit = static_cast<int64_t>(std::floor(2 * half_steps * sizes.back()));

    // All multipliers of gamma, or a random choice: the beginning of a shuffle.
    require(limit < (int64_t{1} << 24), "edge", "multi-point would try ", limit, " factors of a weight up to ",
            sizes.back());
    std::vector<int64_t> multipliers(static_cast<size_t>(limit + 1));
    std::iota(multipliers.begin(), multipliers.end(), int64_t{1});
    const int64_t tried = std::min(limit + 1, options.most_candidates);
    for (int64_t i = 0; tried < limit + 1 && i < tried; ++i) {
      std::swap(multipliers[static_cast<size_t>(i)], multipliers[static_cast<size_t>(rng.between(i, limit))]);
    }

    double least = 0;
    double best = 0;
    for (int64_t i = 0; i < tried; ++i) {
      const double a = gamma * static_cast<double>(multipliers[static_cast<size_t>(i)]);
      double error = 0;
      for (const double r : residual) {
        const double rest = r - a * quantized(r / a);
        error += rest * rest;
      }
      if (i == 0 || error < least) {
        least = error;
        best = a;
      }
    }
    for (double& r : residual) {
      r -= best * quantized(r / best);
    }
  }

  std::vector<float> result;
  for (size_t i = 0; i < values.size(); ++i) {
    result.push_back(static_cast<float>(static_cast<double>(values[i]) - residual[i]));
  }
  return result;
}

Surrogate training_surrogate(std::span<const float> weight, int64_t rows, const Method& method, int bits, RngKey key) {
  require(method.rounding != Rounding::kMultiPoint, "edge", "Edge did not train with multi-point");
  Surrogate result{};
  if (method.rounding == Rounding::kMidRise) {
    result.values = mid_rise(weight, rows, bits, method.set);
  } else {
    result.values = rounded(weight, method, level_set(weight, method.set, bits), key);
  }
  const auto [low, high] = std::ranges::minmax(weight);
  const auto [qlow, qhigh] = std::ranges::minmax(result.values);
  result.slope =
      (static_cast<double>(qhigh) - static_cast<double>(qlow)) / (static_cast<double>(high) - static_cast<double>(low));
  return result;
}

}  // namespace whittle::inline WHITTLE_PRECISION::quant::edge
