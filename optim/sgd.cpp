#include "optim/sgd.h"

#include <utility>

#include "core/error.h"
#include "core/train_kernels.h"

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
  const kernels::SgdStep<real> step{.rate = static_cast<real>(rate),
                                    .momentum = static_cast<real>(momentum_),
                                    .coupled = static_cast<real>(decoupled_ ? 0 : slice.weight_decay),
                                    .kept = static_cast<real>(decoupled_ ? 1 - rate * slice.weight_decay : 1),
                                    .nesterov = nesterov_};
  train_kernels().loops.sgd(step, slice.size, slice.gradient, slice.value, slice.state[0]);
}

}  // namespace whittle::inline WHITTLE_PRECISION::optim
