#include "optim/sgd.h"

#include <utility>

#include "core/error.h"
#include "optim/flush.h"

namespace whittle::inline WHITTLE_PRECISION::optim {

namespace {

const SgdOptions& checked(const SgdOptions& options) {
  require(options.momentum >= 0 && static_cast<real>(options.momentum) < 1, "sgd", "momentum must be in [0, 1), got ",
          options.momentum);
  require(!options.nesterov || options.momentum > 0, "sgd", "nesterov needs a momentum above 0");
  return options;
}

}  // namespace

Sgd::Sgd(std::vector<NamedParameter> parameters, const SgdOptions& options)
    : Optimizer("sgd", std::move(parameters),
                {.rate = checked(options).rate,
                 .weight_decay = options.weight_decay,
                 .decay_vectors = options.decay_vectors,
                 .decays = options.decays},
                options.momentum > 0 ? std::vector<std::string>{"velocity"} : std::vector<std::string>{}),
      momentum_(options.momentum),
      nesterov_(options.nesterov),
      decoupled_(options.decoupled) {}

void Sgd::update(const Slice& slice) const {
  const auto step = static_cast<real>(rate);
  const auto momentum = static_cast<real>(momentum_);
  const auto coupled = static_cast<real>(decoupled_ ? 0 : slice.weight_decay);
  const auto kept = static_cast<real>(decoupled_ ? 1 - rate * slice.weight_decay : 1);
  const real* gradient = slice.gradient;
  real* value = slice.value;
  real* velocity = slice.state[0];
  if (velocity == nullptr) {
    for (int64_t i = 0; i < slice.size; ++i) {
      value[i] = kept * value[i] - step * (gradient[i] + coupled * value[i]);
    }
    return;
  }
  for (int64_t i = 0; i < slice.size; ++i) {
    const real g = gradient[i] + coupled * value[i];
    const real v = flushed(momentum * velocity[i] + g);
    velocity[i] = v;
    value[i] = kept * value[i] - step * (nesterov_ ? g + momentum * v : v);
  }
}

}  // namespace whittle::inline WHITTLE_PRECISION::optim
