// The OpenBLAS backend. OpenBLAS runs on the calling thread only: threads are
// ours (core/parallel.h), because a BLAS that picks its blocking by the thread
// count changes the bits of the result with it.

#include <cblas.h>

#include "core/blas_backends.h"
#include "core/error.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

void gemm_openblas(const MatrixIn& a, const MatrixIn& b, const MatrixOut& c, Store store) {
  const auto size = [](int64_t n) {
    require(n <= INT32_MAX, "gemm", "a size of ", n, " is too large for OpenBLAS");
    return static_cast<blasint>(n);
  };
  const auto order = [](const MatrixIn& x) { return x.transposed ? CblasTrans : CblasNoTrans; };
  const real beta = store == Store::kAdd ? 1 : 0;
#if defined(WHITTLE_DOUBLE)
  const auto cblas_gemm = cblas_dgemm;
#else
  const auto cblas_gemm = cblas_sgemm;
#endif
  cblas_gemm(CblasRowMajor, order(a), order(b), size(c.rows), size(c.cols), size(a.cols), 1, a.data, size(a.stride),
             b.data, size(b.stride), beta, c.data, size(c.stride));
}

}  // namespace

const BlasBackend& openblas() {
  static const BlasBackend backend = [] {
    openblas_set_num_threads(1);
    return BlasBackend{.name = "openblas",
                       .multiply = [](const MatrixIn& a, const MatrixIn& b, const MatrixOut& c, Store store,
                                      const real* bias) { multiply_in_tiles(gemm_openblas, a, b, c, store, bias); }};
  }();
  return backend;
}

}  // namespace whittle::inline WHITTLE_PRECISION
