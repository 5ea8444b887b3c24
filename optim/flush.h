// Where fading numbers end. Internal to optim/.
#pragma once

#include <cmath>
#include <limits>

#include "core/real.h"

namespace whittle::inline WHITTLE_PRECISION::optim {

// x, or 0 where |x| is below the smallest normal number (1e-38 in float).
//
// Running averages of a gradient that has become 0, which is what a mask makes
// of it, fade into the subnormal numbers and stay there: 0.999 x rounds to x. CPUs
// take many times longer over those, so a pruned network would train slower than
// a dense one. A NaN stays a NaN.
inline real flushed(real x) { return std::abs(x) < std::numeric_limits<real>::min() ? 0 : x; }

}  // namespace whittle::inline WHITTLE_PRECISION::optim
