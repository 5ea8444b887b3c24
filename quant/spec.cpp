#include "quant/spec.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "core/error.h"
#include "core/json.h"
#include "quant/words.h"

namespace whittle::inline WHITTLE_PRECISION::quant {

namespace {

constexpr std::array<std::pair<Granularity, std::string_view>, 3> kGranularities{
    {{Granularity::kTensor, "tensor"}, {Granularity::kChannel, "channel"}, {Granularity::kGroup, "group"}}};

constexpr std::array<std::pair<RangeRule, std::string_view>, 7> kRules{{{RangeRule::kMinMax, "minmax"},
                                                                        {RangeRule::kMovingAverage, "average"},
                                                                        {RangeRule::kPercentile, "percentile"},
                                                                        {RangeRule::kMse, "mse"},
                                                                        {RangeRule::kEntropy, "entropy"},
                                                                        {RangeRule::kLearnedStep, "lsq"},
                                                                        {RangeRule::kLearnedClip, "pact"}}};

template <class Table, class T>
std::string_view name_in(const Table& table, T value) {
  return std::ranges::find(table, value, &Table::value_type::first)->second;
}

template <class Table>
auto named_in(const Table& table, const char* what, std::string_view name) {
  const auto found = std::ranges::find(table, name, &Table::value_type::second);
  std::string names;
  for (const auto& [value, known] : table) {
    names += (names.empty() ? "" : ", ") + std::string(known);
  }
  require(found != table.end(), "quantize", "there is no ", what, " '", name, "'; there are ", names);
  return found->first;
}

// One bit is a code for 0 and one other: no grid for numbers of both signs, and without a zero-point not even a scale.
constexpr int kFewestActivationBits = 2;

void check(const char* what, const TensorSpec& spec, int fewest) {
  require(spec.bits == 0 || (spec.bits >= fewest && spec.bits <= 16), "quantize", "bits of ", what, " are ", spec.bits,
          ", expected ", fewest, " to 16, or 0 for float");
  require(spec.range != RangeRule::kPercentile || (spec.percentile > 50 && spec.percentile <= 100), "quantize",
          "percentile ", spec.percentile, " is outside (50, 100]");
}

}  // namespace

std::string_view name_of(Granularity per) { return name_in(kGranularities, per); }
std::string_view name_of(RangeRule rule) { return name_in(kRules, rule); }
Granularity granularity_named(std::string_view name) { return named_in(kGranularities, "granularity", name); }
RangeRule range_rule_named(std::string_view name) { return named_in(kRules, "range rule", name); }

void check_weights(const TensorSpec& spec) {
  check("weights", spec, 1);
  require((spec.per == Granularity::kGroup) == (spec.group > 0), "quantize", "weights per ", name_of(spec.per),
          " with groups of ", spec.group);
  require(spec.range != RangeRule::kMovingAverage && spec.range != RangeRule::kEntropy &&
              spec.range != RangeRule::kLearnedClip && !spec.dynamic,
          "quantize", "'", spec.dynamic ? "dynamic" : name_of(spec.range), "' is for activations, not for weights");
  require(spec.bits != 1 || spec.range != RangeRule::kLearnedStep, "quantize",
          "weights of 1 bit have no step to be learned: their scale is the mean of |w|");
}

void check_activations(const TensorSpec& spec) {
  check("activations", spec, kFewestActivationBits);
  require(spec.per == Granularity::kTensor || (spec.dynamic && spec.per == Granularity::kChannel), "quantize",
          "activations are quantized per tensor, or per sample where ranges are dynamic, not per ", name_of(spec.per));
  require(!spec.dynamic || spec.range == RangeRule::kMinMax, "quantize", "a dynamic range is the smallest and largest ",
          "value, not '", name_of(spec.range), "'");
}

Json to_json(const TensorSpec& spec) {
  return {{"bits", spec.bits},      {"symmetric", spec.symmetric},  {"per", name_of(spec.per)},
          {"group", spec.group},    {"range", name_of(spec.range)}, {"percentile", spec.percentile},
          {"dynamic", spec.dynamic}};
}

TensorSpec tensor_spec_from(const Json& json) {
  return {.bits = json.at("bits").get<int>(),
          .symmetric = json.at("symmetric").get<bool>(),
          .per = granularity_named(json.at("per").get<std::string>()),
          .group = json.at("group").get<int64_t>(),
          .range = range_rule_named(json.at("range").get<std::string>()),
          .percentile = json.at("percentile").get<double>(),
          .dynamic = json.at("dynamic").get<bool>()};
}

Json to_json(const LevelSpec& spec) {
  return {{"grid", spec.grid}, {"rounding", spec.rounding},
          {"zero", spec.zero}, {"terms", spec.terms},
          {"seed", spec.seed}, {"output_error", spec.output_error.has_value() ? Json(*spec.output_error) : Json()}};
}

LevelSpec level_spec_from(const Json& json) {
  LevelSpec spec{.grid = json.at("grid").get<std::string>(),
                 .rounding = json.at("rounding").get<std::string>(),
                 .zero = json.at("zero").get<bool>(),
                 .terms = json.at("terms").get<int>(),
                 .output_error = std::nullopt,
                 .seed = json.at("seed").get<uint64_t>()};
  if (!json.at("output_error").is_null()) {
    spec.output_error = json.at("output_error").get<double>();
  }
  return spec;
}

LayerBits layer_bits_from(const char* op, const std::string& text) {
  const size_t equals = text.rfind('=');
  require(equals != std::string::npos && equals > 0, op, "'", text, "' does not say a layer's bits, as fc=4 does");
  const std::vector<std::string> bits = parts_of(std::string_view(text).substr(equals + 1), 'a');
  LayerBits layer{.layer = text.substr(0, equals), .weights = number_in<int>(op, bits[0], text)};
  require(layer.weights >= 1 && layer.weights <= 16, op, "'", text, "': bits of weights are 1 to 16");
  if (bits.size() > 1) {
    layer.activations = number_in<int>(op, bits[1], text);
    require(bits.size() == 2 && layer.activations >= kFewestActivationBits && layer.activations <= 16, op, "'", text,
            "': bits of activations are ", kFewestActivationBits, " to 16");
  }
  return layer;
}

bool matches(const std::vector<std::string>& patterns, std::string_view path) {
  return std::ranges::any_of(patterns, [&](const std::string& pattern) {
    return pattern.ends_with('*') ? path.starts_with(std::string_view(pattern).substr(0, pattern.size() - 1))
                                  : path == pattern;
  });
}

Codes weight_codes(const TensorSpec& spec) {
  const int32_t high = (1 << (spec.bits - 1)) - 1;
  if (!spec.symmetric) {
    return {-high - 1, high};
  }
  return spec.bits == 1 ? Codes{-1, 1} : Codes{-high, high};
}

Codes activation_codes(const TensorSpec& spec) { return {-(1 << (spec.bits - 1)), (1 << (spec.bits - 1)) - 1}; }

}  // namespace whittle::inline WHITTLE_PRECISION::quant
