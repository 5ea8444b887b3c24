// The backends core/blas.cpp chooses from. Internal to core/.
#pragma once

#include "core/blas.h"

namespace whittle::inline WHITTLE_PRECISION {

// A product of two matrices on the calling thread, and multiply() made of it.
using Gemm = void (*)(const MatrixIn& a, const MatrixIn& b, const MatrixOut& c, Store store);
void multiply_in_tiles(Gemm gemm, const MatrixIn& a, const MatrixIn& b, const MatrixOut& c, Store store,
                       const real* bias);

// C = sum, or C = C + sum; sum is [c.rows, c.cols].
void store_sum(const real* sum, const MatrixOut& c, Store store);

const BlasBackend& kernels_blas();
const BlasBackend& naive_blas();
#if defined(WHITTLE_HAVE_OPENBLAS)
const BlasBackend& openblas();
#endif

}  // namespace whittle::inline WHITTLE_PRECISION
