#include "optim/adam.h"

#include <cmath>
#include <limits>
#include <utility>

#include "core/error.h"
#include "core/train_kernels.h"

namespace whittle::inline WHITTLE_PRECISION::optim {

namespace {

const char* kind_of(const AdamOptions& options) { return options.decoupled ? "adamw" : "adam"; }

const AdamOptions& checked(const AdamOptions& options) {
  const auto is_decay = [](double beta) { return beta >= 0 && static_cast<real>(beta) < 1; };
  require(is_decay(options.beta1) && is_decay(options.beta2), kind_of(options),
          "beta1 and beta2 must be in [0, 1), got ", options.beta1, " and ", options.beta2);
  // Not 0, nor what `real` cannot tell from it: a weight whose gradient is 0 from
  // the start has v = 0 and would become 0 / 0.
  require(options.epsilon >= static_cast<double>(std::numeric_limits<real>::min()) && options.epsilon <= 1,
          kind_of(options), "epsilon must be above 0 and at most 1, got ", options.epsilon);
  return options;
}

}  // namespace

Adam::Adam(std::vector<NamedParameter> parameters, const AdamOptions& options)
    : Optimizer(kind_of(options), std::move(parameters),
                {.rate = checked(options).rate,
                 .weight_decay = options.weight_decay,
                 .decay_vectors = options.decay_vectors,
                 .decays = options.decays},
                {"m", "v"}),
      beta1_(options.beta1),
      beta2_(options.beta2),
      epsilon_(options.epsilon),
      decoupled_(options.decoupled) {}

void Adam::update(const Slice& slice) const {
  // What is the same for all elements is computed in double, once.
  const auto t = static_cast<double>(slice.updates);
  const kernels::AdamStep<real> step{
      .rate = static_cast<real>(rate / (1 - std::pow(beta1_, t))),
      .scale = static_cast<real>(1 / std::sqrt(1 - std::pow(beta2_, t))),  // sqrt(v^) = scale sqrt(v)
      .beta1 = static_cast<real>(beta1_),
      .beta2 = static_cast<real>(beta2_),
      .fresh1 = static_cast<real>(1 - beta1_),
      .fresh2 = static_cast<real>(1 - beta2_),
      .epsilon = static_cast<real>(epsilon_),
      .coupled = static_cast<real>(decoupled_ ? 0 : slice.weight_decay),
      .kept = static_cast<real>(decoupled_ ? 1 - rate * slice.weight_decay : 1)};
  train_kernels().loops.adam(step, slice.size, slice.gradient, slice.value, slice.state[0], slice.state[1]);
}

AdamW::AdamW(std::vector<NamedParameter> parameters, const AdamWOptions& options)
    : Adam(std::move(parameters), {.rate = options.rate,
                                   .beta1 = options.beta1,
                                   .beta2 = options.beta2,
                                   .epsilon = options.epsilon,
                                   .weight_decay = options.weight_decay,
                                   .decoupled = true,
                                   .decay_vectors = options.decay_vectors,
                                   .decays = options.decays}) {}

}  // namespace whittle::inline WHITTLE_PRECISION::optim
