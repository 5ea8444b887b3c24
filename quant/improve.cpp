#include "quant/improve.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <utility>

#include "core/error.h"
#include "layers/conv2d.h"
#include "layers/fold.h"
#include "layers/trace.h"
#include "quant/tap.h"

namespace whittle::inline WHITTLE_PRECISION::quant {

namespace {

// The largest |w| of each output channel, or of each input channel (of the last axis, modulo `channels`: behind a
// flatten, every pixel repeats the channels).
std::vector<double> output_ranges(const Tensor& w) {
  std::vector<double> ranges(static_cast<size_t>(w.dim(0)), 0);
  const int64_t row = w.elements() / w.dim(0);
  for (int64_t i = 0; i < w.elements(); ++i) {
    double& most = ranges[static_cast<size_t>(i / row)];
    most = std::max(most, std::abs(static_cast<double>(w.data()[i])));
  }
  return ranges;
}
std::vector<double> input_ranges(const Tensor& w, int64_t channels) {
  std::vector<double> ranges(static_cast<size_t>(channels), 0);
  for (int64_t i = 0; i < w.elements(); ++i) {
    double& most = ranges[static_cast<size_t>(i % channels)];
    most = std::max(most, std::abs(static_cast<double>(w.data()[i])));
  }
  return ranges;
}

bool is_depthwise(const WeightedLayer& layer) {
  const auto* const conv = dynamic_cast<const Conv2d*>(&layer);
  return conv != nullptr && conv->options().groups > 1 && conv->options().groups == conv->options().in &&
         conv->options().out == conv->options().in;
}

bool is_dense(const WeightedLayer& layer) {
  const auto* const conv = dynamic_cast<const Conv2d*>(&layer);
  return conv == nullptr || conv->options().groups == 1;
}

bool scales_through(const Module& leaf) {
  return leaf.kind() == "max_pool" || leaf.kind() == "flatten" || leaf.kind() == "dropout" ||
         leaf.kind() == "avg_pool" || leaf.kind() == "global_avg_pool";
}

// The weighted layer that alone reads what `call` gives, or null.
WeightedLayer* only_reader(const Trace& traced, const TracedCall& call) {
  const TracedCall* at = &call;
  for (;;) {
    const TracedValue& value = traced.values[static_cast<size_t>(at->output)];
    if (value.readers.size() != 1 || at->output == traced.output) {
      return nullptr;
    }
    at = &traced.calls[static_cast<size_t>(value.readers[0])];
    if (!scales_through(*at->module)) {
      return dynamic_cast<WeightedLayer*>(at->module);
    }
  }
}

void scale_outputs(WeightedLayer& layer, const std::vector<real>& by) {
  const auto scale = [&by](Variable& v) {
    Tensor scaled = v.value().clone();
    const int64_t row = scaled.elements() / scaled.dim(0);
    for (int64_t i = 0; i < scaled.elements(); ++i) {
      scaled.mutable_data()[i] *= by[static_cast<size_t>(i / row)];
    }
    v.assign(scaled);
  };
  if (layer.norm.defined()) {
    scale(layer.norm.gamma.raw);
    scale(layer.norm.beta.raw);
    return;
  }
  scale(layer.weight.raw);
  if (layer.bias.defined()) {
    scale(layer.bias.raw);
  }
}

void scale_inputs(WeightedLayer& layer, const std::vector<real>& by) {
  Tensor scaled = layer.weight.raw.value().clone();
  const int64_t row = scaled.elements() / scaled.dim(0);
  const bool by_output = is_depthwise(layer);
  for (int64_t i = 0; i < scaled.elements(); ++i) {
    const auto channel = by_output ? static_cast<size_t>(i / row) : static_cast<size_t>(i) % by.size();
    scaled.mutable_data()[i] *= by[channel];
  }
  layer.weight.raw.assign(scaled);
}

// Where a constant per output channel can be added.
Parameter& additive(WeightedLayer& layer) { return layer.norm.defined() ? layer.norm.beta : layer.bias; }

}  // namespace

int64_t equalize(Module& model, const Shape& input, int rounds) {
  require(!is_quantized(model), "equalize", "the model is quantized already; weights are evened out before");
  fold_norms(model);
  const NoGrad no_grad;
  const Trace traced = trace(model, input);
  std::map<const Module*, int> calls;  // what is called twice has neighbours that scaling would not reach
  for (const TracedCall& call : traced.calls) {
    ++calls[call.module];
  }
  int64_t pairs = 0;
  for (int round = 0; round < rounds; ++round) {
    pairs = 0;
    for (const TracedCall& call : traced.calls) {
      auto* const first = dynamic_cast<WeightedLayer*>(call.module);
      WeightedLayer* const second = first == nullptr ? nullptr : only_reader(traced, call);
      // A ReLU6 cuts at a fixed place, which scaling would move.
      if (second == nullptr || calls[first] > 1 || calls[second] > 1 || first->act() == Act::kRelu6 ||
          !(is_dense(*second) || is_depthwise(*second))) {
        continue;
      }
      const Tensor w2 = second->weight_before(Stage::kFakeQuant).value();
      const std::vector<double> r1 = output_ranges(first->weight_before(Stage::kFakeQuant).value());
      const std::vector<double> r2 =
          is_depthwise(*second) ? output_ranges(w2) : input_ranges(w2, static_cast<int64_t>(r1.size()));
      std::vector<real> down(r1.size(), 1);
      std::vector<real> up(r1.size(), 1);
      for (size_t c = 0; c < r1.size(); ++c) {
        if (r1[c] > 0 && r2[c] > 0) {
          const double s = std::sqrt(r1[c] / r2[c]);
          up[c] = static_cast<real>(s);
          down[c] = static_cast<real>(1 / s);
        }
      }
      scale_outputs(*first, down);
      scale_inputs(*second, up);
      ++pairs;
    }
  }
  return pairs;
}

void correct_biases(Module& model, const Shape& input, const Batches& batches) {
  const EvaluationMode evaluation(model);
  const NoGrad no_grad;
  const Trace traced = trace(model, input);
  for (const TracedCall& call : traced.calls) {
    auto* const layer = dynamic_cast<WeightedLayer*>(call.module);
    if (layer == nullptr || layer->weight.chain.at(Stage::kFakeQuant) == nullptr || !additive(*layer).defined()) {
      continue;
    }
    const Variable lost = sub(layer->weight_before(Stage::kFakeQuant), layer->effective_weight());
    std::vector<double> sums(static_cast<size_t>(lost.shape()[0]), 0);
    int64_t count = 0;
    const Plugged tap(
        layer->input, std::make_shared<Tap>([&](const Variable& x) {
          const Tensor y = layer->sum_of(x, lost).value();
          const Variable means = mean(reshape(Variable(y), {y.elements() / y.dim(-1), y.dim(-1)}), {.axes = {0}});
          const int64_t rows = y.elements() / y.dim(-1);
          for (size_t c = 0; c < sums.size(); ++c) {
            sums[c] += static_cast<double>(means.value().data()[c]) * static_cast<double>(rows);
          }
          count += rows;
        }));
    const auto next = batches();
    for (Tensor batch = next(); batch.defined(); batch = next()) {
      model(batch);
    }
    require(count > 0, "correct_biases", "there are no data");
    Tensor corrected = additive(*layer).raw.value().clone();
    for (size_t c = 0; c < sums.size(); ++c) {
      corrected.mutable_data()[c] += static_cast<real>(sums[c] / static_cast<double>(count));
    }
    additive(*layer).raw.assign(corrected);
  }
}

std::vector<Sensitivity> sensitivities(Module& model, const Batches& batches, const std::function<double()>& metric) {
  const std::vector<NamedQuantizer> all = quantizers(model);
  require(!all.empty(), "sensitivities", "the model has no quantizers");
  const EvaluationMode evaluation(model);
  const NoGrad no_grad;
  std::map<std::string, std::vector<FakeQuant*>> layers;  // "conv1": of "conv1.weight" and "conv1/output"
  std::vector<std::string> order;
  for (const auto& [name, quantizer] : all) {
    const std::string layer = name.substr(0, name.find('/') != std::string::npos ? name.find('/') : name.rfind('.'));
    if (!layers.contains(layer)) {
      order.push_back(layer);
    }
    layers[layer].push_back(quantizer);
  }
  const auto turn = [&](bool on) {
    for (const auto& [name, quantizer] : all) {
      quantizer->turn(on);
    }
  };
  struct Back {  // on again, also if something throws
    std::function<void(bool)> turn;
    ~Back() { turn(true); }
  } back{turn};

  const auto results = [&] {
    std::vector<Tensor> found;
    const auto next = batches();
    for (Tensor batch = next(); batch.defined(); batch = next()) {
      found.push_back(model(batch).value());
    }
    return found;
  };
  turn(false);
  const std::vector<Tensor> truth = results();
  std::vector<Sensitivity> table;
  for (const std::string& layer : order) {
    turn(false);
    for (FakeQuant* quantizer : layers[layer]) {
      quantizer->turn(true);
    }
    double signal = 0;
    double noise = 0;
    const std::vector<Tensor> now = results();
    for (size_t b = 0; b < truth.size(); ++b) {
      for (int64_t i = 0; i < truth[b].elements(); ++i) {
        const auto y = static_cast<double>(truth[b].data()[i]);
        const double d = y - static_cast<double>(now[b].data()[i]);
        signal += y * y;
        noise += d * d;
      }
    }
    table.push_back({.layer = layer,
                     .sqnr = noise == 0 ? std::numeric_limits<double>::infinity() : 10 * std::log10(signal / noise),
                     .metric = metric ? metric() : 0});
  }
  return table;
}

}  // namespace whittle::inline WHITTLE_PRECISION::quant
