// Matrix multiplication, and the backends it can be done by.
//
// `kernels` is our own (kernels/train/). `openblas` calls cblas_?gemm pinned to one
// thread; `naive` is three plain loops: slow, and the reference the others are tested
// against. Each cuts the result into fixed tiles, so that bits do not depend on the
// thread count. The default is `kernels` where there is a table for the CPU's vectors.
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
  void (*multiply)(const MatrixIn& a, const MatrixIn& b, const MatrixOut& c, Store store, const real* bias);
};

std::span<const BlasBackend> blas_backends();  // the default first, "naive" last
const BlasBackend& blas_backend();             // the one in use
void set_blas_backend(std::string_view name);  // throws on an unknown name; not during a computation

// C = A B (+ C), on several threads. With a bias [c.cols], every row of C starts from it: C = bias + A B; store is
// then kOverwrite.
void multiply(const MatrixIn& a, const MatrixIn& b, const MatrixOut& c, Store store = Store::kOverwrite,
              const real* bias = nullptr);

}  // namespace whittle::inline WHITTLE_PRECISION
