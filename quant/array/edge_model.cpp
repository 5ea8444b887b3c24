#include "quant/array/edge_model.h"

#include <utility>
#include <vector>

#include "core/error.h"

namespace whittle::inline WHITTLE_PRECISION::quant::edge {

namespace {

struct Change {
  Parameter* parameter;
  std::vector<float> values;
};

std::vector<float> values_of(const Parameter& parameter) {
  const auto values = parameter.raw.value().values();
  return {values.begin(), values.end()};
}

// A weight and its bias, or a norm's gamma and beta.
struct Pair {
  NamedParameter weight;
  NamedParameter bias;
};

// Names are unique in a model, so the numbers drawn for a tensor do not depend on the others.
RngKey key_of(const EdgeOptions& options, const std::string& name) { return RngKey{options.seed}.child(name); }

void quantize_pair(const Pair& pair, const EdgeOptions& options, bool first, std::vector<Change>& changes) {
  const std::vector<float> weight = values_of(*pair.weight.parameter);
  const std::vector<float> bias = values_of(*pair.bias.parameter);
  const auto rows = [](const NamedParameter& named) { return named.parameter->shape()[0]; };
  const auto change = [&](const NamedParameter& named, std::vector<float> values) {
    changes.push_back({named.parameter, std::move(values)});
  };
  switch (options.method.rounding) {
    case Rounding::kMidRise:
      change(pair.weight, mid_rise(weight, rows(pair.weight), options.bits, options.method.set));
      change(pair.bias, mid_rise(bias, rows(pair.bias), options.bits, options.method.set));
      break;
    case Rounding::kMultiPoint:
      if (!first) {
        change(pair.weight,
               multipoint(weight, {.bits = options.bits, .terms = options.terms}, key_of(options, pair.weight.name)));
      }
      break;
    default: {
      std::vector<float> layer = weight;
      layer.insert(layer.end(), bias.begin(), bias.end());
      const std::vector<double> levels = level_set(layer, options.method.set, options.bits);
      for (const NamedParameter& named : {pair.weight, pair.bias}) {
        const std::vector<float>& values = named.parameter == pair.weight.parameter ? weight : bias;
        change(named, options.method.rounding == Rounding::kRegular
                          ? regular_rounding(values, levels)
                          : stochastic_rounding(values, levels, key_of(options, named.name)));
      }
    }
  }
}

}  // namespace

void edge_quantize(Module& model, const EdgeOptions& options) {
  const std::vector<NamedParameter> parameters = model.parameters();
  require(!parameters.empty(), "edge", "the model has nothing to quantize");
  std::vector<Change> changes;
  for (size_t i = 0; i < parameters.size(); i += 2) {
    const auto ends_in = [&](size_t at, std::string_view ending) {
      return at < parameters.size() && parameters[at].name.ends_with(ending);
    };
    require((ends_in(i, "weight") && ends_in(i + 1, "bias")) || (ends_in(i, "gamma") && ends_in(i + 1, "beta")), "edge",
            "'", parameters[i].name,
            "' has no bias with it; Edge quantizes layers of weight and bias, or gamma and beta");
    for (const NamedParameter& named : {parameters[i], parameters[i + 1]}) {
      require(named.parameter->chain.empty(), "edge", "'", named.name,
              "' is masked or quantized already; Edge's methods take a float network");
    }
    quantize_pair({parameters[i], parameters[i + 1]}, options, i == 0, changes);
  }
  for (const Change& change : changes) {
    real* raw = change.parameter->raw.mutable_data();
    for (size_t i = 0; i < change.values.size(); ++i) {
      raw[i] = static_cast<real>(change.values[i]);
    }
  }
}

}  // namespace whittle::inline WHITTLE_PRECISION::quant::edge
