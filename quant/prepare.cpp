#include "quant/prepare.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <set>
#include <utility>

#include "core/error.h"
#include "layers/fold.h"
#include "layers/leaves.h"
#include "layers/trace.h"
#include "quant/levels.h"

namespace whittle::inline WHITTLE_PRECISION::quant {

namespace {

// Results that lie where their inputs lay, or that a device does not compute in integers (the last softmax).
bool keeps_values(const Module& leaf) {
  const std::string_view kind = leaf.kind();
  if (const auto* const activation = dynamic_cast<const Activation*>(&leaf)) {
    const Function f = activation->options().function;
    return f == Function::kRelu || f == Function::kSoftmax || f == Function::kLogSoftmax;
  }
  return kind == "max_pool" || kind == "flatten" || kind == "dropout";
}

// Where a learned clip may cut at 0.
bool ends_in_relu(const Module& leaf) {
  if (const auto* const layer = dynamic_cast<const WeightedLayer*>(&leaf)) {
    return layer->act() != Act::kNone;
  }
  if (const auto* const sum = dynamic_cast<const Add*>(&leaf)) {
    return sum->options().act != Act::kNone;
  }
  const auto* const activation = dynamic_cast<const Activation*>(&leaf);
  return activation != nullptr && activation->options().function == Function::kRelu6;
}

bool reads_input(const TracedCall& call) {
  return call.module->kind() != "input" && std::ranges::count(call.inputs, 0) > 0;
}

void check_layers(const char* what, const std::vector<std::string>& patterns, const Trace& traced) {
  for (const std::string& pattern : patterns) {
    require(std::ranges::any_of(traced.calls, [&](const TracedCall& call) { return matches({pattern}, call.path); }),
            "quantize", what, " '", pattern, "' fits no layer of the model");
  }
}

// What each call gets, before anything is attached.
class Plan {
 public:
  Plan(const QuantSpec& spec, const Trace& traced) : spec_(spec) {
    for (const TracedCall& call : traced.calls) {
      if (dynamic_cast<const WeightedLayer*>(call.module) != nullptr) {
        first_ = first_ == nullptr ? &call : first_;
        last_ = &call;
      }
    }
    // Backwards, so that a value's readers are known before what makes it.
    std::vector<bool> multiplied(traced.values.size());
    for (auto at = traced.calls.rbegin(); at != traced.calls.rend(); ++at) {
      const TracedCall& call = *at;
      const bool passes_on = keeps_values(*call.module) && multiplied[static_cast<size_t>(call.output)];
      if (passes_on || dynamic_cast<const WeightedLayer*>(call.module) != nullptr) {
        for (const int input : call.inputs) {
          multiplied[static_cast<size_t>(input)] = true;
        }
      }
      if (multiplied[static_cast<size_t>(call.output)]) {
        multiplied_.insert(&call);
      }
    }
  }

  bool skips(const TracedCall& call) const { return matches(spec_.skip, call.path); }
  TensorSpec weights(const TracedCall& call) const {
    TensorSpec spec = spec_.weights;
    const bool at_an_edge = &call == first_ || &call == last_;
    spec.bits = skips(call) ? 0 : bits(call, &LayerBits::weights, {at_an_edge ? spec_.edge_bits : 0, spec.bits});
    const LayerBits* const own = own_bits(call, &LayerBits::weights);
    spec.range = own != nullptr ? own->range.value_or(spec.range) : spec.range;
    return spec;
  }
  TensorSpec activations(const TracedCall& call) const {
    TensorSpec spec = spec_.activations;
    const bool at_an_edge = call.module->kind() == "input" || &call == last_;
    spec.bits = bits(call, &LayerBits::activations,
                     {at_an_edge ? spec_.edge_bits : 0, multiplied_.contains(&call) ? 0 : spec_.sum_bits, spec.bits});
    // A clip cuts at 0 too, so it is for what a ReLU has cut already.
    if (spec.range == RangeRule::kLearnedClip && !ends_in_relu(*call.module)) {
      spec.range = RangeRule::kMovingAverage;
    }
    return spec;
  }

 private:
  // What was asked of this layer, else the first of `rules` that says something; the last is what is usual, and 0
  // there is float whatever the others say.
  int bits(const TracedCall& call, int LayerBits::*part, std::initializer_list<int> rules) const {
    const int usual = *std::prev(rules.end());
    if (usual == 0) {
      return 0;
    }
    const LayerBits* const own = own_bits(call, part);
    return own != nullptr ? own->*part : *std::ranges::find_if(rules, [](int rule) { return rule > 0; });
  }
  const LayerBits* own_bits(const TracedCall& call, int LayerBits::*part) const {
    const auto own = std::ranges::find_if(
        spec_.bits, [&](const LayerBits& other) { return other.*part > 0 && matches({other.layer}, call.path); });
    return own == spec_.bits.end() ? nullptr : &*own;
  }

  const QuantSpec& spec_;
  const TracedCall* first_ = nullptr;
  const TracedCall* last_ = nullptr;
  std::set<const TracedCall*> multiplied_;  // whose results a convolution or linear layer reads
};

FakeQuant* quantizer_in(const TransformChain& chain) { return chain.find<FakeQuant>(); }

// The grids of a weight, with scales raised where the bias would not fit beside inputs of scale sx (A5).
GridsPtr with_room_for(const Tensor& bias, float sx, const GridsPtr& grids) {
  if (!bias.defined() || (grids->size() != 1 && static_cast<int64_t>(grids->size()) != bias.elements())) {
    return grids;
  }
  Grids raised = *grids;
  for (int64_t c = 0; c < bias.elements(); ++c) {
    float& scale = raised[raised.size() == 1 ? 0 : static_cast<size_t>(c)].scale;
    scale = arithmetic::scale_with_room(scale, static_cast<float>(bias.data()[c]), sx);
  }
  return make_grids(std::move(raised));
}

}  // namespace

void prepare(Module& model, const Shape& input, const QuantSpec& spec, const PrepareOptions& options) {
  check_weights(spec.weights);
  check_activations(spec.activations);
  const Trace traced = trace(model, input);
  check_layers("skip", spec.skip, traced);
  for (const LayerBits& other : spec.bits) {
    check_layers("the bits of", {other.layer}, traced);
  }
  const Plan plan(spec, traced);
  std::set<const Module*> called;
  for (const TracedCall& call : traced.calls) {
    require(!spec.activations.quantizes() || spec.activations.dynamic || !reads_input(call) || call.inputs.size() == 1,
            "quantize", "'", call.path,
            "' reads the model's input beside other values, so the model has to begin with ",
            "an Input leaf, where the input gets a grid");
    require(called.insert(call.module).second, "quantize", "'", call.path,
            "' is called twice; one grid cannot serve two results, so give each call a layer of its own");
    require(quantizer_in(call.module->output) == nullptr && quantizer_in(call.module->input) == nullptr, "quantize",
            "'", call.path, "' is quantized already");
    check_activations(plan.activations(call));
    if (const auto* const layer = dynamic_cast<const WeightedLayer*>(call.module)) {
      require(layer->weight.chain.at(Stage::kFakeQuant) == nullptr, "quantize", "'", call.path,
              "' is quantized already");
      const TensorSpec weights = plan.weights(call);
      check_weights(weights);
      if (weights.quantizes()) {
        (void)weight_runs(layer->weight.shape(), weights);
      }
      if (weights.quantizes() && spec.levels.has_value()) {
        check(*spec.levels, weights);
        require(layer->weight.chain.at(Stage::kMask) == nullptr || has_zero(*spec.levels), "quantize",
                "the weight of '", call.path, "' is pruned, and a grid of kind '", spec.levels->grid,
                "' has no level at 0");
      }
    }
  }

  fold_norms(model, {.live = options.live_norms});
  for (const TracedCall& call : traced.calls) {
    auto* const layer = dynamic_cast<WeightedLayer*>(call.module);
    const TensorSpec weights = plan.weights(call);
    const TensorSpec activations = plan.activations(call);
    const auto attach_to = [&](TransformChain& chain) {
      chain.attach(std::make_shared<FakeQuant>(Role::kActivation, activations));
    };
    if (layer != nullptr && weights.quantizes()) {
      const Shape& shape = layer->weight.shape();
      layer->weight.chain.attach(
          spec.levels.has_value() ? std::shared_ptr<Transform>(std::make_shared<Levels>(*spec.levels, weights, shape))
                                  : std::make_shared<FakeQuant>(Role::kWeight, weights, shape));
    }
    if (!activations.quantizes()) {
      continue;
    }
    if (activations.dynamic) {
      if (layer != nullptr && weights.quantizes()) {
        attach_to(layer->input);
      }
      continue;
    }
    // A model that begins without an Input leaf: its first readers quantize for themselves.
    if (reads_input(call)) {
      attach_to(call.module->input);
    }
    const bool is_last = call.output == traced.output;
    // Behind a skipped layer others go on with codes; a skipped input or sum has nothing else to leave in float.
    if (!keeps_values(*call.module) && !(plan.skips(call) && (is_last || layer == nullptr))) {
      attach_to(call.module->output);
    }
  }
}

std::vector<NamedQuantizer> quantizers(Module& model) {
  std::vector<NamedQuantizer> found;
  const auto add = [&found](const std::string& name, const TransformChain& chain) {
    if (FakeQuant* const quantizer = quantizer_in(chain)) {
      found.push_back({name, quantizer});
    }
  };
  for (const auto& [name, parameter] : model.parameters()) {
    add(name, parameter->chain);
  }
  for (const NamedChain& named : model.activation_chains()) {
    add(named.name, *named.chain);
  }
  return found;
}

CalibrationReport calibrate(Module& model, const std::function<Tensor()>& next,
                            const std::function<void(int64_t samples)>& progress) {
  const std::vector<NamedQuantizer> found = quantizers(model);
  require(!found.empty(), "calibrate", "the model has no quantizers; prepare() plugs them in");
  const EvaluationMode evaluation(model);
  const NoGrad no_grad;
  CalibrationReport report;
  for (Tensor batch = next(); batch.defined(); batch = next()) {
    require(batch.all_finite(), "calibrate", "the calibration data hold NaN or infinity, in samples ", report.samples,
            " to ", report.samples + batch.dim(0) - 1);
    model(batch);
    report.samples += batch.dim(0);
    if (progress) {
      progress(report.samples);
    }
  }
  require(report.samples > 0, "calibrate", "the calibration set is empty");
  constexpr double kTooMuch = 2;
  for (const auto& [name, quantizer] : found) {
    const double ratio = quantizer->observer().outlier_ratio();
    if (quantizer->role() == Role::kActivation && ratio > kTooMuch) {
      report.warnings.push_back({name, ratio});
    }
  }
  return report;
}

Variable unquantized_weight(WeightedLayer& layer) { return layer.weight_before(Stage::kFakeQuant); }

void adapt(Module& model) {
  for (const auto& [path, module] : model.modules()) {
    for (TransformChain* const chain : {&module->input, &module->output}) {
      if (FakeQuant* const quantizer = quantizer_in(*chain)) {
        quantizer->adapt();
      }
    }
    if (auto* const layer = dynamic_cast<WeightedLayer*>(module)) {
      if (FakeQuant* const quantizer = quantizer_in(layer->weight.chain)) {
        const NoGrad no_grad;
        quantizer->adapt(unquantized_weight(*layer).value());
      }
    }
  }
}

void freeze(Module& model, const Shape& input) {
  freeze_folds(model);
  for (const NamedChain& named : model.activation_chains()) {
    if (FakeQuant* const quantizer = quantizer_in(*named.chain)) {
      quantizer->fix();
    }
  }
  // Which grid each leaf reads from decides whether its bias fits.
  const NoGrad no_grad;
  const Trace traced = trace(model, input);
  for (const TracedCall& call : traced.calls) {
    auto* const layer = dynamic_cast<WeightedLayer*>(call.module);
    FakeQuant* const quantizer = layer == nullptr ? nullptr : quantizer_in(layer->weight.chain);
    if (quantizer == nullptr || quantizer->phase() == Phase::kFixed) {
      continue;
    }
    quantizer->fix(unquantized_weight(*layer).value());
    const GridsPtr from =
        layer->input.empty() ? traced.values[static_cast<size_t>(call.inputs[0])].grids : layer->input.grids();
    if (from != nullptr && from->size() == 1) {
      quantizer->fix_on(with_room_for(layer->effective_bias().value(), (*from)[0].scale, quantizer->grids()));
    }
  }
}

namespace {

std::vector<TransformChain*> chains(Module& model) {
  std::vector<TransformChain*> all;
  for (const auto& [name, parameter] : model.parameters()) {
    all.push_back(&parameter->chain);
  }
  for (const NamedChain& named : model.activation_chains()) {
    all.push_back(named.chain);
  }
  return all;
}

}  // namespace

bool is_quantized(Module& model) {
  return std::ranges::any_of(chains(model),
                             [](const TransformChain* chain) { return chain->at(Stage::kFakeQuant) != nullptr; });
}

void strip(Module& model) {
  for (TransformChain* const chain : chains(model)) {
    chain->detach(Stage::kFakeQuant);
  }
}

}  // namespace whittle::inline WHITTLE_PRECISION::quant
