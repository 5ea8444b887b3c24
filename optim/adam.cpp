#include "optim/adam.h"

#include <cmath>
#include <limits>
#include <utility>

#include "core/error.h"
#include "optim/flush.h"

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
  const auto step = static_cast<real>(rate / (1 - std::pow(beta1_, t)));
  const auto scale = static_cast<real>(1 / std::sqrt(1 - std::pow(beta2_, t)));  // sqrt(v^) = scale sqrt(v)
  const auto beta1 = static_cast<real>(beta1_);
  const auto beta2 = static_cast<real>(beta2_);
  const auto fresh1 = static_cast<real>(1 - beta1_);
  const auto fresh2 = static_cast<real>(1 - beta2_);
  const auto epsilon = static_cast<real>(epsilon_);
  const auto coupled = static_cast<real>(decoupled_ ? 0 : slice.weight_decay);
  const auto kept = static_cast<real>(decoupled_ ? 1 - rate * slice.weight_decay : 1);
  const real* gradient = slice.gradient;
  real* value = slice.value;
  real* first = slice.state[0];
  real* second = slice.state[1];
  for (int64_t i = 0; i < slice.size; ++i) {
    const real g = gradient[i] + coupled * value[i];
    const real m = flushed(beta1 * first[i] + fresh1 * g);
    const real v = flushed(beta2 * second[i] + fresh2 * g * g);
    first[i] = m;
    second[i] = v;
    value[i] = kept * value[i] - step * m / (scale * std::sqrt(v) + epsilon);
  }
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
