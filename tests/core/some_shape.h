// A random small shape, for the cases of ops that take any.
#pragma once

#include <algorithm>
#include <vector>

#include "tests/core/op_cases.h"

namespace whittle::inline WHITTLE_PRECISION {

// Of rank least_rank to most_rank, with extents up to 5, many of them 1.
inline Shape some_shape(Rng& rng, int least_rank, int most_rank) {
  std::vector<int64_t> dims(static_cast<size_t>(rng.between(least_rank, most_rank)));
  std::ranges::generate(dims, [&] { return some_extent(rng, 5); });
  return Shape(dims);
}

}  // namespace whittle::inline WHITTLE_PRECISION
