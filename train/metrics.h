// Numbers that say how good a model is.
#pragma once

#include <cstdint>
#include <span>

#include "core/tensor.h"

namespace whittle::inline WHITTLE_PRECISION {

// The share of rows of logits [N,C] whose largest entry (the first, on ties)
// stands at the row's label.
double accuracy(const Tensor& logits, std::span<const int32_t> labels);

}  // namespace whittle::inline WHITTLE_PRECISION
