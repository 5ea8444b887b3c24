// Matrix multiplication: the port to a BLAS, and the tiling above it.
//
// A backend multiplies two matrices on the calling thread. `openblas` calls
// cblas_?gemm pinned to one thread; `naive` is three plain loops and needs no
// library: slow, and the reference the other is tested against. multiply() cuts
// the result into fixed tiles, so that bits do not depend on the thread count.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "core/real.h"

namespace whittle::inline WHITTLE_PRECISION {

// A read-only matrix in memory: element (i, j) is data[i * stride + j], or
// data[j * stride + i] when transposed. rows and cols are what the product
// sees, so t() swaps them.
struct MatrixIn {
  const real* data;
  int64_t rows;
  int64_t cols;
  int64_t stride;
  bool transposed = false;

  MatrixIn(const real* d, int64_t r, int64_t c) : MatrixIn(d, r, c, c) {}
  MatrixIn(const real* d, int64_t r, int64_t c, int64_t s) : data(d), rows(r), cols(c), stride(s) {}
  MatrixIn t() const;
  MatrixIn block(int64_t row, int64_t col, int64_t row_count, int64_t col_count) const;
};

struct MatrixOut {
  real* data;
  int64_t rows;
  int64_t cols;
  int64_t stride;

  MatrixOut(real* d, int64_t r, int64_t c) : MatrixOut(d, r, c, c) {}
  MatrixOut(real* d, int64_t r, int64_t c, int64_t s) : data(d), rows(r), cols(c), stride(s) {}
  MatrixOut block(int64_t row, int64_t col, int64_t row_count, int64_t col_count) const;
};

enum class Store : uint8_t { kOverwrite, kAdd };  // C = A B, or C = C + A B

struct BlasBackend {
  std::string_view name;
  void (*gemm)(const MatrixIn& a, const MatrixIn& b, const MatrixOut& c, Store store);
};

std::span<const BlasBackend> blas_backends();  // the default first, "naive" last
const BlasBackend& blas_backend();             // the one in use
void set_blas_backend(std::string_view name);  // throws on an unknown name; not during a computation

// C = A B (+ C) on the calling thread. For use inside a tile.
void gemm(const MatrixIn& a, const MatrixIn& b, const MatrixOut& c, Store store = Store::kOverwrite);

// C = A B (+ C), cut into tiles of C and, where C is small and the inner
// dimension long (weight gradients), into chunks of the sum that are added in a
// fixed tree. The cut depends on the three sizes only.
void multiply(const MatrixIn& a, const MatrixIn& b, const MatrixOut& c, Store store = Store::kOverwrite);

}  // namespace whittle::inline WHITTLE_PRECISION
