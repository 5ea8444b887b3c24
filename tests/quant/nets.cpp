#include "tests/quant/nets.h"

#include <algorithm>
#include <utility>

#include "layers/batch_norm.h"

namespace whittle {

int Wired::then(std::shared_ptr<Module> leaf, std::vector<int> from) {
  leaves_.push_back(add_module("n" + std::to_string(leaves_.size()), std::move(leaf)));
  from_.push_back(std::move(from));
  return last();
}

Variable Wired::forward(std::span<const Variable> inputs) {
  std::vector<Variable> results;
  for (size_t k = 0; k < leaves_.size(); ++k) {
    std::vector<Variable> in;
    for (const int from : from_[k]) {
      in.push_back(from < 0 ? inputs[0] : results[static_cast<size_t>(from)]);
    }
    results.push_back(leaves_[k]->call(in));
  }
  return results.back();
}

std::vector<WeightedLayer*> weighted_layers(Module& model) {
  std::vector<WeightedLayer*> layers;
  for (const auto& [path, module] : model.modules()) {
    if (auto* const layer = dynamic_cast<WeightedLayer*>(module)) {
      layers.push_back(layer);
    }
  }
  return layers;
}

void scatter(Module& model, RngKey key) {
  initialize(model, key);
  uint64_t number = 0;
  for (const auto& [path, module] : model.modules()) {
    const RngKey own = key.child("scatter").child(number++);
    auto* const layer = dynamic_cast<WeightedLayer*>(module);
    auto* const alone = dynamic_cast<BatchNorm*>(module);
    if (layer != nullptr && layer->bias.defined()) {
      layer->bias.raw.assign(Tensor::normal(layer->bias.shape(), own.child("bias"), 0, real(0.3)));
    }
    Norm* const norm = layer != nullptr ? &layer->norm : alone != nullptr ? &alone->norm : nullptr;
    if (norm != nullptr && norm->defined()) {
      const Shape channels = norm->gamma.shape();
      norm->gamma.raw.assign(Tensor::normal(channels, own.child("gamma"), real(0.7), real(0.6)));
      norm->beta.raw.assign(Tensor::normal(channels, own.child("beta"), 0, real(0.4)));
      norm->running_mean = Tensor::normal(channels, own.child("mean"), 0, real(0.5));
      norm->running_variance = Tensor::uniform(channels, own.child("variance"), real(0.2), 2);
    }
  }
}

quant::Batches noise_batches(const Shape& shape, int count, RngKey key) {
  return [=] {
    return [=, at = 0]() mutable {
      return at < count ? Tensor::normal(shape, key.child(static_cast<uint64_t>(at++))) : Tensor();
    };
  };
}

void quantize_static(Module& model, const Shape& input, const quant::QuantSpec& spec, const quant::Batches& batches) {
  quant::prepare(model, input, spec);
  quant::calibrate(model, batches());
  quant::freeze(model, input);
}

TestMask::TestMask(const Shape& shape, int64_t every) : mask(Tensor::full(shape, 1)) {
  for (int64_t i = 0; i < mask.elements(); i += every) {
    mask.mutable_data()[i] = 0;
  }
}

Variable TestMask::apply(const Variable& x) { return mul(x, Variable(mask)); }

Tensor evaluated(Module& model, const Tensor& x) {
  const EvaluationMode evaluation(model);
  const NoGrad no_grad;
  return model(x).value();
}

}  // namespace whittle
