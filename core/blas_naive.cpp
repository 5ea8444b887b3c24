// The backend that needs no library: three loops, ordered so that the compiler
// can vectorise the inner one. It is the reference for the other backends.

#include <algorithm>

#include "core/blas_backends.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

real element(const MatrixIn& x, int64_t i, int64_t j) {
  return x.transposed ? x.data[j * x.stride + i] : x.data[i * x.stride + j];
}

void gemm_naive(const MatrixIn& a, const MatrixIn& b, const MatrixOut& c, Store store) {
  for (int64_t i = 0; i < c.rows; ++i) {
    real* row = c.data + i * c.stride;
    if (store == Store::kOverwrite) {
      std::fill_n(row, c.cols, real(0));
    }
    for (int64_t k = 0; k < a.cols; ++k) {
      const real factor = element(a, i, k);
      for (int64_t j = 0; j < c.cols; ++j) {
        row[j] += factor * element(b, k, j);
      }
    }
  }
}

}  // namespace

const BlasBackend& naive_blas() {
  static constexpr BlasBackend backend{
      .name = "naive",
      .multiply = [](const MatrixIn& a, const MatrixIn& b, const MatrixOut& c, Store store, const real* bias) {
        multiply_in_tiles(gemm_naive, a, b, c, store, bias);
      }};
  return backend;
}

}  // namespace whittle::inline WHITTLE_PRECISION
