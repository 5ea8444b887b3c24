// What is to be quantized how: plain, validated data.
//
//   TensorSpec   of one tensor: bits, symmetry, granularity, how its range is found
//   LevelSpec    of weights whose levels no integer program knows (quant/levels.h)
//   QuantSpec    of a model: a TensorSpec for weights and one for activations, and who is left out
//
// A spec says nothing about ranges that were found (quant/observer.h), about rounding
// (kernels/arithmetic.h) or about where quantizers are plugged in (quant/prepare.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/json_fwd.h"
#include "core/real.h"

namespace whittle::inline WHITTLE_PRECISION::quant {

enum class Granularity : uint8_t {
  kTensor,
  kChannel,  // per output channel of a weight, per sample of an activation
  kGroup     // per `group` consecutive inputs of an output channel
};

// How the range [low, high] that the codes span is found.
enum class RangeRule : uint8_t {
  kMinMax,         // all that was seen
  kMovingAverage,  // of the batches' smallest and largest
  kPercentile,     // all but the share of 1 - percentile / 100
  kMse,            // least squared error
  kEntropy,        // least Kullback-Leibler divergence of the histogram (activations)
  kLearnedStep,    // a trained scale (LSQ)
  kLearnedClip     // a trained upper end behind a ReLU (PACT, activations)
};

struct TensorSpec {
  int bits = 8;           // 1 to 16, of activations 2 to 16; 0: left in float
  bool symmetric = true;  // zero-point 0
  Granularity per = Granularity::kTensor;
  int64_t group = 0;  // of kGroup
  RangeRule range = RangeRule::kMinMax;
  double percentile = 99.99;  // of kPercentile
  bool dynamic = false;       // activations: the range of each sample, found when it passes

  bool quantizes() const { return bits > 0; }
  friend bool operator==(const TensorSpec&, const TensorSpec&) = default;
};

// Levels of weights by the names of quant/array; bits and granularity are those of the TensorSpec.
struct LevelSpec {
  std::string grid = "affine";           // or "binary", "ternary", "ternary-exact", "multipoint"
  std::string rounding = "nearest";      // where the grid leaves a choice
  bool zero = false;                     // landmark sets and k-means: one level is exactly 0
  int terms = 2;                         // multipoint: of every run; with output_error the most of any
  std::optional<double> output_error{};  // multipoint: terms are added until a run's share of the error is at most this
  uint64_t seed = 0;                     // of stochastic rounding

  friend bool operator==(const LevelSpec&, const LevelSpec&) = default;
};

// Other bits for some layers: for their weights, and for what they give. 0: as everything else.
struct LayerBits {
  std::string layer;  // a path; "*" at the end stands for anything
  int weights = 0;
  int activations = 0;
  std::optional<RangeRule> range{};  // of their weights; none: as everything else
};
// From "fc=4", the bits of its weights, or "fc=4a8", those of its result, too. Throws Error, as `op`, in one sentence.
LayerBits layer_bits_from(const char* op, const std::string& text);

struct QuantSpec {
  TensorSpec weights{.per = Granularity::kChannel};
  TensorSpec activations{.symmetric = false};
  std::optional<LevelSpec> levels{};  // of the weights; activations stay in float
  std::vector<std::string> skip{};    // paths of layers left in float; "*" at the end stands for anything
  std::vector<LayerBits> bits{};      // the first that fits a layer holds
  // Of the ends of the network: its input, the weights of its first and of its last layer with weights, and the result
  // of the last. 0: as everything else.
  int edge_bits = 0;
  // Of results that no convolution or linear layer multiplies, such as the terms of a sum. 0: as everything else.
  int sum_bits = 0;
};

std::string_view name_of(Granularity per);
std::string_view name_of(RangeRule rule);
Granularity granularity_named(std::string_view name);  // throws Error with the names there are
RangeRule range_rule_named(std::string_view name);

// Throws Error in one sentence if a spec makes no sense. `what` names it: "weights".
void check_weights(const TensorSpec& spec);
void check_activations(const TensorSpec& spec);

Json to_json(const TensorSpec& spec);
TensorSpec tensor_spec_from(const Json& json);
Json to_json(const LevelSpec& spec);
LevelSpec level_spec_from(const Json& json);

// Whether `path` is named by a list of paths and prefixes with "*".
bool matches(const std::vector<std::string>& patterns, std::string_view path);

// The smallest and largest code of a weight, [-(2^(b-1) - 1), 2^(b-1) - 1], and of an activation, [-2^(b-1), 2^(b-1) -
// 1]. A symmetric weight of one bit has the codes -1 and 1, and 0 where it is exactly 0 (pruned).
struct Codes {
  int32_t low, high;
};
Codes weight_codes(const TensorSpec& spec);
Codes activation_codes(const TensorSpec& spec);

}  // namespace whittle::inline WHITTLE_PRECISION::quant
