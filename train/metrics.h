// Numbers that say how good a model is.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/tensor.h"

namespace whittle::inline WHITTLE_PRECISION {

// The share of rows of logits [N,C] whose largest entry (the first, on ties)
// stands at the row's label.
double accuracy(const Tensor& logits, std::span<const int32_t> labels);

// How many those are. Whether each row is one of them is appended to `each`, if it is there.
int64_t right_answers(const Tensor& logits, std::span<const int32_t> labels, std::vector<bool>* each = nullptr);

}  // namespace whittle::inline WHITTLE_PRECISION
