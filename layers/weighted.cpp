#include "layers/weighted.h"

#include <utility>

#include "core/error.h"
#include "layers/exact.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

thread_local bool draw_initial_values = true;
thread_local WeightLimit* weight_limit = nullptr;

}  // namespace

NoInitialValues::NoInitialValues() : previous_(std::exchange(draw_initial_values, false)) {}
NoInitialValues::~NoInitialValues() { draw_initial_values = previous_; }

WeightLimit::WeightLimit(int64_t most, const char* what)
    : most_(most), what_(what), previous_(std::exchange(weight_limit, this)) {}
WeightLimit::~WeightLimit() { weight_limit = previous_; }

WeightLimit* WeightLimit::active() { return weight_limit; }

void WeightLimit::spend(int64_t weights) {
  require(weights <= most_ - spent_, "layers", "the model would have more than ", most_, " weights, ", what_);
  spent_ += weights;
  if (previous_ != nullptr) {
    previous_->spend(weights);
  }
}

WeightedLayer::WeightedLayer(const Shape& weight_shape, bool with_bias, bool with_norm, const NormOptions& norm_options,
                             Act act)
    : act_(act) {
  const int64_t out = weight_shape[0];
  if (WeightLimit* limit = WeightLimit::active(); limit != nullptr) {
    limit->spend(weight_shape.elements());
  }
  weight = Parameter(Tensor::zeros(weight_shape));
  add_parameter("weight", weight);
  if (with_bias) {
    bias = Parameter(Tensor::zeros({out}));
    add_parameter("bias", bias);
  }
  if (with_norm) {
    norm = Norm(out, norm_options);
    add_parameter("gamma", norm.gamma);
    add_parameter("beta", norm.beta);
    add_state("running_mean", norm.running_mean);
    add_state("running_variance", norm.running_variance);
  }
  if (draw_initial_values) {
    WeightedLayer::reset({});
  }
}

void WeightedLayer::reset(RngKey key) {
  const int64_t fan_in = weight.shape().elements() / weight.shape()[0];
  weight.raw.assign(he_normal(weight.shape(), fan_in, key.child("weight")));
  if (bias.defined()) {
    bias.raw.assign(Tensor::zeros(bias.shape()));
  }
  if (norm.defined()) {
    norm.reset();
  }
}

void WeightedLayer::reshape_parameters(const Shape& weight_shape) {
  for (const NamedParameter& named : own_parameters()) {
    require(named.parameter->chain.empty(), kind(), "cannot change its width: '", named.name, "' has transforms");
  }
  const int64_t out = weight_shape[0];
  weight.raw = Variable::leaf(Tensor::zeros(weight_shape));
  if (bias.defined()) {
    bias.raw = Variable::leaf(Tensor::zeros({out}));
  }
  if (norm.defined()) {
    norm.resize(out);
  }
}

Variable WeightedLayer::weight_before(Stage stage) {
  if (fold() != nullptr) {
    weight.chain.set_factor(norm.factor());
  }
  return weight.chain.before(stage, weight.raw);
}

Variable WeightedLayer::effective_weight() {
  if (fold() != nullptr) {
    weight.chain.set_factor(norm.factor());
  }
  return weight.value();
}

Variable WeightedLayer::effective_bias() {
  if (fold() == nullptr) {
    return bias_value();
  }
  weight.chain.set_factor(norm.factor());
  return norm.shift(fold()->slowed(bias_value()));
}

Variable WeightedLayer::forward(std::span<const Variable> inputs) {
  const Variable& x = inputs[0];
  if (norm.defined() && fold() == nullptr) {
    return norm.apply(weighted_sum(x, weight.value(), bias_value(), false), act_, training());
  }
  if (fold() != nullptr && fold()->live() && training()) {
    const Tensor factor = norm.constant_factor();
    weight.chain.set_factor(factor);
    const Variable added = bias.defined() ? mul(bias_value(), factor) : Variable();
    return norm.apply_scaled(weighted_sum(x, weight.value(), added, false), factor, act_);
  }
  const Variable w = effective_weight();
  const Variable b = effective_bias();
  if (training() || !is_exact_product(x, w)) {
    return activate(weighted_sum(x, w, b, false), act_);
  }
  const Tensor exact = exact_weighted(
      x, w, b, output.grids(), act_,
      [this](const Variable& xs, const Variable& ws, const Variable& bs) { return weighted_sum(xs, ws, bs, true); });
  return grad_enabled() ? with_value(activate(weighted_sum(x, w, b, false), act_), exact) : Variable(exact);
}

std::string WeightedLayer::suffix() const {
  return std::string(norm.defined() ? " norm" : "") + (act_ == Act::kNone ? "" : " ") + std::string(act_name(act_));
}

}  // namespace whittle::inline WHITTLE_PRECISION
