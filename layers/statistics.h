// Statistics of batch norms from data, where training keeps averages of its last ten batches or so. A channel that
// answers rarely has quiet batches; a norm that goes by these makes its next answer huge.
#pragma once

#include <functional>

#include "layers/module.h"

namespace whittle::inline WHITTLE_PRECISION {

// The running means and variances of all norms become the plain means over the batches that `next` gives until it gives
// an empty tensor; without a batch they stay. The model answers in training mode for that: what it learns by answering
// (ranges of activations) it goes on learning, and dropout drops.
void measure_statistics(Module& model, const std::function<Tensor()>& next);

}  // namespace whittle::inline WHITTLE_PRECISION
