#include "quant/training.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <vector>

#include "core/error.h"
#include "quant/levels.h"
#include "quant/words.h"

namespace whittle::inline WHITTLE_PRECISION::quant {

namespace {

// "w4a8": the bits.
void read_bits(const std::string& word, QuantSpec& spec) {
  const size_t a = word.find('a');
  require(word.starts_with('w') && a != std::string::npos, "qat", "'", word,
          "' does not say the bits of weights and activations, as w8a8 does");
  spec.weights.bits = number_in<int>("qat", std::string_view(word).substr(1, a - 1), word);
  spec.activations.bits = number_in<int>("qat", std::string_view(word).substr(a + 1), word);
}

void read_word(const std::string& word, TrainingPlan& plan) {
  QuantSpec& spec = plan.spec;
  const auto levels = [&spec]() -> LevelSpec& {
    return spec.levels.has_value() ? *spec.levels : spec.levels.emplace();
  };
  const size_t equals = word.find('=');
  if (equals != std::string::npos) {
    const std::string key = word.substr(0, equals);
    const std::string value = word.substr(equals + 1);
    if (key == "edges") {
      spec.edge_bits = number_in<int>("qat", value, word);
    } else if (key == "sums") {
      spec.sum_bits = number_in<int>("qat", value, word);
    } else if (key == "skip") {
      spec.skip = parts_of(value, '+');
    } else if (key == "layers") {
      for (const std::string& layer : parts_of(value, '+')) {
        spec.bits.push_back(layer_bits_from("qat", layer));
      }
    } else if (key == "observe") {
      plan.observe = number_in<double>("qat", value, word);
    } else if (key == "freeze") {
      plan.freeze = number_in<double>("qat", value, word);
    } else if (key == "grid") {
      levels().grid = value;
    } else if (key == "rounding") {
      levels().rounding = value;
    } else if (key == "terms") {
      levels().terms = number_in<int>("qat", value, word);
    } else {
      fail("qat", "'", key,
           "' is not known; there are edges, sums, layers, skip, observe, freeze, grid, rounding and terms");
    }
    return;
  }
  if (word.starts_with("group:")) {
    spec.weights.per = Granularity::kGroup;
    spec.weights.group = number_in<int64_t>("qat", std::string_view(word).substr(6), word);
  } else if (word == "tensor" || word == "channel") {
    spec.weights.per = granularity_named(word);
  } else if (word == "symmetric") {
    spec.activations.symmetric = true;
  } else if (word == "zero") {
    levels().zero = true;
  } else if (word == "pact") {
    spec.weights.range = RangeRule::kLearnedStep;
    spec.activations.range = RangeRule::kLearnedClip;
  } else if (word == "average") {
    spec.activations.range = RangeRule::kMovingAverage;
  } else {
    require(word == "lsq" || word == "minmax" || word == "mse", "qat", "'", word,
            "' is not known; there are lsq, pact, minmax, average, mse, tensor, channel, group:N, symmetric and zero");
    spec.weights.range = range_rule_named(word);
    // A least-error range needs a histogram, which training does not keep.
    spec.activations.range = word == "mse" ? RangeRule::kMovingAverage : spec.weights.range;
  }
}

}  // namespace

TrainingPlan parse_training(std::string_view text) {
  TrainingPlan plan;
  const std::vector<std::string> words = parts_of(text, ',');
  read_bits(words[0], plan.spec);
  const auto usual = [](int bits, RangeRule wide) { return bits < 8 ? RangeRule::kLearnedStep : wide; };
  // The scale of binary weights is their mean magnitude.
  const auto usual_of_weights = [&](int bits) {
    return bits == 1 ? RangeRule::kMinMax : usual(bits, RangeRule::kMinMax);
  };
  const RangeRule of_weights = usual_of_weights(plan.spec.weights.bits);
  plan.spec.weights.range = of_weights;
  plan.spec.activations.range = usual(plan.spec.activations.bits, RangeRule::kMovingAverage);
  const bool on_levels = std::ranges::any_of(words, [](const std::string& w) { return w.starts_with("grid="); });
  const bool is_wide =
      plan.spec.weights.bits >= 8 && (plan.spec.activations.bits >= 8 || plan.spec.activations.bits == 0);
  plan.spec.edge_bits = plan.spec.sum_bits = is_wide || on_levels ? 0 : 8;
  plan.freeze = is_wide ? 0.95 : 0.8;
  for (size_t i = 1; i < words.size(); ++i) {
    read_word(words[i], plan);
  }
  for (LayerBits& layer : plan.spec.bits) {
    if (plan.spec.weights.range == of_weights && layer.weights > 0) {  // nobody asked for another
      layer.range = usual_of_weights(layer.weights);
    }
  }
  check_weights(plan.spec.weights);
  check_activations(plan.spec.activations);
  if (plan.spec.levels.has_value()) {
    plan.spec.weights.range = RangeRule::kMinMax;  // a grid finds its own
    require(on_levels, "qat", "rounding, terms and zero are for weights on a grid that is named by grid=");
    check(*plan.spec.levels, plan.spec.weights);
  }
  for (const auto& [key, bits] : {std::pair{"edges", plan.spec.edge_bits}, {"sums", plan.spec.sum_bits}}) {
    require(bits >= 0 && bits <= 16, "qat", key, "=", bits, " is outside 0 to 16");
  }
  require(plan.observe >= 0 && plan.freeze <= 1 && plan.observe < plan.freeze, "qat", "observe=", plan.observe,
          " and freeze=", plan.freeze, " are not shares of the training, one after the other");
  return plan;
}

int64_t TrainingPlan::adapt_at(int64_t steps) const {
  return std::max<int64_t>(1, std::llround(observe * static_cast<double>(steps)));
}

int64_t TrainingPlan::freeze_at(int64_t steps) const {
  return std::max(adapt_at(steps), static_cast<int64_t>(std::llround(freeze * static_cast<double>(steps))));
}

void after_step(Module& model, const Shape& input, const TrainingPlan& plan, int64_t step, int64_t steps) {
  if (step == plan.adapt_at(steps)) {
    adapt(model);
  }
  if (step == plan.freeze_at(steps)) {
    freeze(model, input);
  }
}

}  // namespace whittle::inline WHITTLE_PRECISION::quant
