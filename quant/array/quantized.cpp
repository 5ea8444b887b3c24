#include "quant/array/quantized.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"

namespace whittle::inline WHITTLE_PRECISION::quant::array {

StoredBits& StoredBits::operator+=(const StoredBits& other) {
  codes += other.codes;
  scales += other.scales;
  zero_points += other.zero_points;
  codebooks += other.codebooks;
  return *this;
}

int64_t Quantized::elements() const {
  return groups.empty() ? 0 : static_cast<int64_t>(groups.size() * groups.front().terms.front().codes.size());
}

std::vector<float> Quantized::values() const {
  std::vector<float> all;
  all.reserve(static_cast<size_t>(elements()));
  for (const Group& group : groups) {
    for (size_t i = 0; i < group.terms.front().codes.size(); ++i) {
      if (group.terms.size() == 1 && group.terms.front().factor == 1) {
        all.push_back(group.codebook.value(group.terms.front().codes[i]));
        continue;
      }
      double sum = 0;
      for (const Term& term : group.terms) {
        sum += static_cast<double>(term.factor) * static_cast<double>(group.codebook.value(term.codes[i]));
      }
      all.push_back(static_cast<float>(sum));
    }
  }
  return all;
}

std::vector<int32_t> Quantized::codes() const {
  std::vector<int32_t> all;
  all.reserve(static_cast<size_t>(elements()));
  for (const Group& group : groups) {
    require(group.terms.size() == 1, "quantized", "a group is a sum of ", group.terms.size(),
            " terms, each with codes of its own");
    all.insert(all.end(), group.terms.front().codes.begin(), group.terms.front().codes.end());
  }
  return all;
}

int64_t Quantized::distinct_codes() const {
  int64_t most = 0;
  for (const Group& group : groups) {
    for (const Term& term : group.terms) {
      std::vector<int32_t> codes = term.codes;
      std::ranges::sort(codes);
      most = std::max(most, static_cast<int64_t>(std::unique(codes.begin(), codes.end()) - codes.begin()));
    }
  }
  return most;
}

double Quantized::bits_per_weight() const {
  return static_cast<double>(stored.total()) / static_cast<double>(elements());
}

Distortion distortion(std::span<const float> original, std::span<const float> restored) {
  require(!original.empty(), "distortion", "the array is empty");
  require(original.size() == restored.size(), "distortion", "the arrays have ", original.size(), " and ",
          restored.size(), " elements");
  Distortion d;
  double signal = 0;
  double noise = 0;
  for (size_t i = 0; i < original.size(); ++i) {
    const auto x = static_cast<double>(original[i]);
    const double error = static_cast<double>(restored[i]) - x;
    signal += x * x;
    noise += error * error;
    d.max_error = std::max(d.max_error, std::abs(error));
  }
  d.mse = noise / static_cast<double>(original.size());
  d.sqnr_db = noise > 0 ? 10 * std::log10(signal / noise) : std::numeric_limits<double>::infinity();
  return d;
}

int64_t check_array(std::string_view op, std::span<const float> values, int64_t groups) {
  require(!values.empty(), op, "the array is empty");
  const auto n = static_cast<int64_t>(values.size());
  require(groups >= 1 && n % groups == 0, op, n, " elements cannot be cut into ", groups, " equal groups");
  for (size_t i = 0; i < values.size(); ++i) {
    require(std::abs(values[i]) <= kLargestValue, op, "element ", i, " is ", values[i]);
  }
  return n / groups;
}

void check_bits(std::string_view op, int bits, int least) {
  require(bits >= least && bits <= 16, op, "bits must be ", least, " to 16, got ", bits);
}

}  // namespace whittle::inline WHITTLE_PRECISION::quant::array
