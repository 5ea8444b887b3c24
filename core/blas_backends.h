// The backends core/blas.cpp chooses from. Internal to core/.
#pragma once

#include "core/blas.h"

namespace whittle::inline WHITTLE_PRECISION {

const BlasBackend& naive_blas();
#if defined(WHITTLE_HAVE_OPENBLAS)
const BlasBackend& openblas();
#endif

}  // namespace whittle::inline WHITTLE_PRECISION
