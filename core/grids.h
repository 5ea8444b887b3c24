// Which numbers a tensor can hold, where that is known: the socket between fake
// quantization, which puts values on grids, and exact evaluation, which needs to know.
//
// A list of n grids stands for n equal runs of consecutive elements, so that one form
// serves for one grid per tensor (n = 1), per output channel of a filter OHWI (n = O),
// per group of a filter's inputs, and per sample of a batch.
#pragma once

#include <memory>
#include <vector>

#include "kernels/arithmetic.h"

namespace whittle {

using Grids = std::vector<Grid>;
using GridsPtr = std::shared_ptr<const Grids>;  // null: not on a grid

inline GridsPtr make_grids(Grids grids) { return std::make_shared<const Grids>(std::move(grids)); }

inline bool operator==(const Grid& a, const Grid& b) {
  return a.scale == b.scale && a.zero_point == b.zero_point && a.qmin == b.qmin && a.qmax == b.qmax;
}

// Null and not null differ; otherwise the grids count, not where they are stored.
inline bool same_grids(const GridsPtr& a, const GridsPtr& b) { return a == b || (a && b && *a == *b); }

}  // namespace whittle
