#include "quant/tap.h"

#include "core/json.h"

namespace whittle::inline WHITTLE_PRECISION::quant {

Json Tap::spec() const { return {}; }

}  // namespace whittle::inline WHITTLE_PRECISION::quant
