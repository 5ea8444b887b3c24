// The quantizers of the Edge project (2020), as its code computed them, faults included.
//
// For comparing with its published numbers and for nothing else: docs/edge-mode.md says
// what is wrong with each. grids.h and multipoint.h have the methods as they should be.
// Values are replaced by levels; there are no codes, because some of these methods have
// more than 2^bits of them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/real.h"
#include "core/rng.h"

namespace whittle::inline WHITTLE_PRECISION::quant::edge {

enum class Rounding : uint8_t { kMidRise, kRegular, kStochastic, kMultiPoint };
enum class Set : uint8_t { kUniform, kHistogram, kNormal, kIqr };

struct Method {
  Rounding rounding = Rounding::kRegular;
  Set set = Set::kUniform;  // mid-rise: kUniform (the whole range) or kIqr; multi-point has none

  friend bool operator==(const Method&, const Method&) = default;
};

// "mr", "mr:iqr", "rr:SET", "sr:SET" with SET one of uniform, histogram, normal, iqr; or
// "multipoint". Throws in one sentence.
Method parse_edge_method(std::string_view text);
std::string method_name(const Method& method);

// d (floor(w / d) + 1/2) in float, d = range / 2^bits over the whole tensor, not clipped.
// The range is max - min or the distance of Tukey's fences. `rows` is the tensor's first
// dimension: where it is 1, Edge took max and min along it, so that d = w / 2^bits for
// every w. Where d is 0 the result is NaN.
std::vector<float> mid_rise(std::span<const float> values, int64_t rows, int bits, Set range = Set::kUniform);

// The 2^bits levels of a layer (weight and bias in one array) in Edge's order: sorted,
// except that kNormal has min and max behind the inner quantiles.
std::vector<double> level_set(std::span<const float> layer, Set set, int bits);

// To the nearest level, in the middle upwards. What is not above the smallest level
// becomes the FIRST of the list, what is not below the largest its last.
std::vector<float> regular_rounding(std::span<const float> values, std::span<const double> levels);

// To the level above with probability (w - lo) / (hi - lo); ends as above. Element i
// draws from (key, i); Edge drew from an unseeded generator.
std::vector<float> stochastic_rounding(std::span<const float> values, std::span<const double> levels, RngKey key);

// w = sum of a_i q_i, with q_i on max(w) linspace(-1, 1, 2^bits - 1) + mean(w) and each a_i
// from the multiples of gamma up to a limit that forgets to be divided by gamma.
struct MultiPointOptions {
  int bits = 4;                     // 2 to 16
  std::optional<int> terms{};       // bits + 1, Edge's last choice
  double least_step = 0.001953125;  // eta = 2^-9
  int64_t most_candidates = 100;    // of more, so many are drawn
};
std::vector<float> multipoint(std::span<const float> values, const MultiPointOptions& options, RngKey key);

// What a step of Edge's quantization-aware training does with a weight: the values it
// runs the network with, and the constant that its gradient is multiplied by,
// (max q - min q) / (max w - min w). There is no clipping mask. The set is made from
// the weight alone. A constant weight has slope NaN.
struct Surrogate {
  std::vector<float> values;
  double slope;
};
Surrogate training_surrogate(std::span<const float> weight, int64_t rows, const Method& method, int bits, RngKey key);

}  // namespace whittle::inline WHITTLE_PRECISION::quant::edge
