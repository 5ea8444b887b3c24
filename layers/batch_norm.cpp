#include "layers/batch_norm.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "layers/exact.h"
#include "layers/norm_product.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

// running + momentum (batch - running), as a new tensor: the old one may be on the tape of an evaluation.
Tensor moved(const Tensor& running, const Tensor& batch, double momentum, double correction) {
  Tensor result = Tensor::empty(running.shape());
  const auto weight = static_cast<real>(momentum);
  const auto factor = static_cast<real>(correction);
  std::ranges::transform(running.values(), batch.values(), result.mutable_data(),
                         [=](real old, real now) { return old + weight * (factor * now - old); });
  return result;
}

}  // namespace

Norm::Norm(int64_t channels, const NormOptions& norm_options) : options(norm_options) {
  require(channels >= 1, "batch_norm", "channels must be at least 1, got ", channels);
  require(options.epsilon > 0, "batch_norm", "epsilon ", options.epsilon, " is not positive");
  require(options.momentum >= 0 && options.momentum <= 1, "batch_norm", "momentum ", options.momentum,
          " is outside [0, 1]");
  resize(channels);
}

void Norm::resize(int64_t channels) {
  gamma.raw = Variable::leaf(Tensor::full({channels}, 1));
  beta.raw = Variable::leaf(Tensor::zeros({channels}));
  running_mean = Tensor::zeros({channels});
  running_variance = Tensor::full({channels}, 1);
}

void Norm::reset() {
  gamma.raw.assign(Tensor::full(gamma.shape(), 1));
  beta.raw.assign(Tensor::zeros(beta.shape()));
  running_mean = Tensor::zeros(gamma.shape());
  running_variance = Tensor::full(gamma.shape(), 1);
}

Variable Norm::apply(const Variable& x, Act act, bool training) {
  const auto epsilon = static_cast<real>(options.epsilon);
  if (!training) {
    return batch_norm_eval(x, gamma.value(), beta.value(), running_mean, running_variance, epsilon, act);
  }
  return learn(batch_norm_train(x, gamma.value(), beta.value(), epsilon, act), x.shape().elements() / x.shape()[-1]);
}

Variable Norm::apply_scaled(const Variable& x, const Tensor& factor, Act act) {
  return learn(batch_norm_train_scaled(x, factor, gamma.value(), beta.value(), static_cast<real>(options.epsilon), act),
               x.shape().elements() / x.shape()[-1]);
}

Variable Norm::learn(const BatchNormResult& normed, int64_t count) {
  const auto n = static_cast<double>(count);
  running_mean = moved(running_mean, normed.mean, options.momentum, 1);
  running_variance = moved(running_variance, normed.variance, options.momentum, n / (n - 1));
  return normed.y;
}

Tensor Norm::inverse_deviation() const {
  Tensor inverse = Tensor::empty(running_variance.shape());
  std::ranges::transform(running_variance.values(), inverse.mutable_data(),
                         [e = static_cast<real>(options.epsilon)](real v) { return 1 / std::sqrt(v + e); });
  return inverse;
}

Variable Norm::factor() const { return mul(gamma.value(), inverse_deviation()); }

Variable Norm::shift(const Variable& bias) const {
  const Variable apart = bias.defined() ? sub(bias, running_mean) : affine(Variable(running_mean), -1, 0);
  return add(beta.value(), mul(apart, factor()));
}

Tensor Norm::constant_factor() const {
  constexpr auto kLeast = static_cast<real>(0x1p-20);  // the square of it, times epsilon, is a usual number
  Tensor factor = inverse_deviation();
  const Variable scale = gamma.value();
  for (int64_t c = 0; c < factor.elements(); ++c) {
    const real g = scale.value().data()[c];
    factor.mutable_data()[c] *= g == 0 ? 1 : std::copysign(std::max(std::abs(g), kLeast), g);
  }
  return factor;
}

BatchNorm::BatchNorm(const Options& options)
    : norm(options.channels, {.epsilon = options.epsilon, .momentum = options.momentum}), options_(options) {
  add_parameter("gamma", norm.gamma);
  add_parameter("beta", norm.beta);
  add_state("running_mean", norm.running_mean);
  add_state("running_variance", norm.running_variance);
}

std::string BatchNorm::details() const { return std::string(act_name(options_.act)); }

void BatchNorm::resize(const LayerWidths& widths) {
  require(widths.in >= 1 && widths.in == widths.out, "batch_norm", "cannot read ", widths.in, " channels and make ",
          widths.out);
  require(norm.gamma.chain.empty() && norm.beta.chain.empty(), "batch_norm",
          "cannot change its width: a parameter has transforms");
  norm.resize(widths.out);
  options_.channels = widths.out;
}

void BatchNorm::reset(RngKey /*key*/) { norm.reset(); }

Variable BatchNorm::forward(std::span<const Variable> inputs) {
  const Variable& x = inputs[0];
  const GridsPtr to = output.grids();
  if (training() || !is_exact(inputs, to)) {
    return norm.apply(x, options_.act, training());
  }
  require(x.shape()[-1] == options_.channels, "batch_norm", "input has ", x.shape()[-1], " channels, the norm has ",
          options_.channels);
  const NormProduct product = norm_product(norm, (*x.grids())[0].scale);
  const Tensor exact = exact_weighted(x, product.weight, product.bias, to, options_.act,
                                      [this](const Variable& xs, const Variable& ws, const Variable& bs) {
                                        const Variable y = mul(xs, reshape(ws, {options_.channels}));
                                        return bs.defined() ? add(y, bs) : y;
                                      });
  return grad_enabled() ? with_value(norm.apply(x, options_.act, false), exact) : Variable(exact);
}

std::string_view act_name(Act act) {
  switch (act) {
    case Act::kNone:
      return "";
    case Act::kRelu:
      return "relu";
    case Act::kRelu6:
      return "relu6";
  }
  return "?";
}

}  // namespace whittle::inline WHITTLE_PRECISION
