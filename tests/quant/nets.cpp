#include "tests/quant/nets.h"

#include <algorithm>
#include <utility>

#include "layers/batch_norm.h"
#include "layers/dropout.h"
#include "layers/leaves.h"
#include "layers/linear.h"
#include "layers/trace.h"

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
  const auto scatter_norm = [](Norm& norm, RngKey own) {
    const Shape channels = norm.gamma.shape();
    norm.gamma.raw.assign(Tensor::normal(channels, own.child("gamma"), real(0.7), real(0.6)));
    norm.beta.raw.assign(Tensor::normal(channels, own.child("beta"), 0, real(0.4)));
    norm.running_mean = Tensor::normal(channels, own.child("mean"), 0, real(0.5));
    norm.running_variance = Tensor::uniform(channels, own.child("variance"), real(0.2), 2);
  };
  for (const auto& [path, module] : model.modules()) {
    if (auto* const leaf = dynamic_cast<BatchNorm*>(module)) {
      scatter_norm(leaf->norm, key.child("norm").child(path));
    }
  }
  for (WeightedLayer* const layer : weighted_layers(model)) {
    const RngKey own = key.child("scatter").child(number++);
    const Shape channels{layer->weight.shape()[0]};
    if (layer->bias.defined()) {
      layer->bias.raw.assign(Tensor::normal(channels, own.child("bias"), 0, real(0.3)));
    }
    if (layer->norm.defined()) {
      scatter_norm(layer->norm, own);
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

Act some_act(Rng& rng) { return static_cast<Act>(rng.below(3)); }

Conv2dOptions some_conv(Rng& rng, const Shape& x) {
  Conv2dOptions o{.in = x[3], .out = rng.between(1, 6), .act = some_act(rng)};
  const auto kind = rng.below(3);
  if (kind == 1) {  // depthwise, at times with two results per channel
    o.groups = o.in;
    o.out = o.in * rng.between(1, 2);
  } else if (kind == 2 && o.in % 2 == 0) {
    o.groups = 2;
    o.out = 2 * rng.between(1, 3);
  }
  o.dilation = {rng.between(1, 2), rng.between(1, 2)};
  o.stride = {rng.between(1, 2), rng.between(1, 2)};
  o.kernel = {rng.between(1, x[1] > 2 ? 3 : 1), rng.between(1, x[2] > 2 ? 3 : 1)};
  o.padding = {rng.between(0, 2), rng.between(0, 2), rng.between(0, 2), rng.between(0, 2)};
  o.padding.bottom += std::max<int64_t>(0, o.dilation.h * (o.kernel.h - 1) + 1 - x[1]);
  o.padding.right += std::max<int64_t>(0, o.dilation.w * (o.kernel.w - 1) + 1 - x[2]);
  o.norm = rng.below(2) == 0;
  o.norm_bias = rng.below(2) == 0;
  o.bias = rng.below(4) != 0;
  return o;
}

PoolGeometry some_pool(Rng& rng, const Shape& x) {
  PoolGeometry g{.kernel = {rng.between(1, std::min<int64_t>(3, x[1])), rng.between(1, std::min<int64_t>(3, x[2]))}};
  if (rng.below(2) == 0) {
    g.stride = {rng.between(1, 2), rng.between(1, 3)};
  }
  g.padding = {rng.between(0, g.kernel.h - 1), rng.between(0, g.kernel.w - 1), rng.between(0, g.kernel.h - 1),
               rng.between(0, g.kernel.w - 1)};
  return g;
}

std::shared_ptr<Wired> some_net(Rng& rng, const Shape& input, bool head) {
  const auto net = std::make_shared<Wired>();
  std::vector<int> from{-1};
  if (rng.below(3) != 0) {
    from = {net->then(std::make_shared<Input>(), {-1})};
  }
  net->add<Conv2d>(some_conv(rng, input), from);
  int first = net->last();
  const auto shapes = [&] {
    std::vector<Shape> all;
    for (const TracedCall& call : trace(*net, input).calls) {
      all.emplace_back(trace(*net, input).output_shape(call));
    }
    return all;
  };
  const int64_t steps = rng.between(2, 6);
  for (int64_t i = 0; i < steps; ++i) {
    const std::vector<Shape> known = shapes();
    const int a = static_cast<int>(rng.between(first, net->last()));
    const Shape& x = known[static_cast<size_t>(a)];
    std::vector<int> partners;
    std::vector<int> joinable;
    for (int b = first; b <= net->last(); ++b) {
      const Shape& y = known[static_cast<size_t>(b)];
      if (y == x) {
        partners.push_back(b);
      }
      if (y[1] == x[1] && y[2] == x[2]) {
        joinable.push_back(b);
      }
    }
    const auto any = [&](const std::vector<int>& of) { return of[static_cast<size_t>(rng.below(std::ssize(of)))]; };
    switch (rng.below(9)) {
      case 0:
        net->add<MaxPool>(some_pool(rng, x), {a});
        break;
      case 1:
        net->add<AvgPool>(some_pool(rng, x), {a});
        break;
      case 2:
        net->add<Add>({.act = some_act(rng)}, {a, any(partners)});
        break;
      case 3:
        net->add<Concat>({}, {a, any(joinable), any(joinable)});
        break;
      case 4:
        net->add<Activation>(
            {.function = static_cast<Function>(rng.below(static_cast<int64_t>(Function::kSoftmax))), .slope = 0.1},
            {a});
        break;
      case 6:
        net->add<BatchNorm>({.channels = x[3], .act = some_act(rng)}, {a});
        break;
      case 5:
        net->add<Dropout>({.p = 0.3}, {a});
        break;
      default:
        net->add<Conv2d>(some_conv(rng, x), {a});
        break;
    }
  }
  if (!head) {
    return net;
  }
  int at = net->last();
  if (rng.below(2) == 0) {
    at = net->then(std::make_shared<GlobalAvgPool>(), {at});
  } else {
    at = net->then(std::make_shared<Flatten>(), {at});
  }
  net->add<Linear>(
      {.in = shapes().back()[1], .out = rng.between(1, 5), .norm = rng.below(3) == 0, .act = some_act(rng)}, {at});
  if (rng.below(4) == 0) {
    net->add<Activation>({.function = Function::kSoftmax}, {net->last()});
  }
  return net;
}

quant::QuantSpec some_spec(Rng& rng) {
  quant::QuantSpec spec;
  spec.weights.bits = static_cast<int>(rng.between(1, 8));
  spec.weights.per = rng.below(2) == 0 ? quant::Granularity::kChannel : quant::Granularity::kTensor;
  spec.weights.symmetric = rng.below(4) != 0;
  spec.weights.range = rng.below(2) == 0 ? quant::RangeRule::kMinMax : quant::RangeRule::kMse;
  spec.activations.bits = rng.below(4) == 0 ? 16 : static_cast<int>(rng.between(2, 8));
  spec.activations.symmetric = rng.below(2) == 0;
  constexpr quant::RangeRule kRules[] = {quant::RangeRule::kMinMax, quant::RangeRule::kMovingAverage,
                                         quant::RangeRule::kPercentile, quant::RangeRule::kMse,
                                         quant::RangeRule::kEntropy};
  spec.activations.range = kRules[rng.below(std::ssize(kRules))];
  spec.activations.percentile = 99;
  return spec;
}

Shape some_input(Rng& rng) { return {1, rng.between(1, 8), rng.between(1, 8), rng.between(1, 4)}; }

Shape with_batch(const Shape& one, int64_t n) {
  std::vector<int64_t> extents(one.dims().begin(), one.dims().end());
  extents[0] = n;
  return Shape(extents);
}

}  // namespace whittle
