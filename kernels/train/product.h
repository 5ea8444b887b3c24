// Matrix products, as the kernel tables offer them (table.h).
#pragma once

#include <stdint.h>

namespace whittle::kernels {

// C[r, n] = start + sum over s < segments, k < depth of A_r[offsets[s] + k] B[s depth + k, n]
// for r < rows, n < columns. A_r is a pointer per row, so rows may lie anywhere; with an
// offset per filter tap this is a convolution that never builds a matrix of patches.
template <class T>
struct RowProduct {
  int64_t rows;
  const T* const* a;
  const int64_t* offsets;
  int64_t segments;
  int64_t depth;
  const T* b;  // packed by pack()
  int64_t columns;
  T* const* c;
  const T* bias;  // start: bias[n] if given, else what C holds if `add`, else 0
  bool add;
};

// C[o, k] (+)= sum over p < points of A_p[o] B_p[offset + k], for o < rows, k < columns:
// a sum of outer products. B_p is a pointer per point.
template <class T>
struct OuterProduct {
  int64_t points;
  const T* a;
  int64_t a_stride;  // from A_p to A_p+1
  const T* const* b;
  int64_t offset;
  int64_t rows;
  int64_t columns;
  T* c;
  int64_t c_stride;
  bool add;
};

template <class T>
struct ProductKernels {
  int64_t panel;  // columns in a panel of a packed matrix: at a multiple of it, columns can be split
  // Numbers that pack() writes for a matrix of so many rows and columns.
  int64_t (*packed_size)(int64_t rows, int64_t columns);
  // Packs rows [first, first + rows) of a matrix B of `all_rows` rows. B[k, n] for these
  // rows is at b[k k_stride + n n_stride], counted from the first; one stride must be 1.
  void (*pack)(const T* b, int64_t k_stride, int64_t n_stride, int64_t first, int64_t rows, int64_t all_rows,
               int64_t columns, T* packed);
  // out[j out_stride + i] = in[i in_stride + j] for i < rows, j < columns.
  void (*transpose)(const T* in, int64_t in_stride, int64_t rows, int64_t columns, T* out, int64_t out_stride);
  void (*row_product)(const RowProduct<T>& product);
  // out[r, s depth + k] = A_r[offsets[s] + k]: the left side of a row product as a matrix, for runs that are too short
  // to be a vector each.
  void (*gather)(int64_t rows, const T* const* a, const int64_t* offsets, int64_t segments, int64_t depth, T* out);
  void (*outer_product)(const OuterProduct<T>& product);
};

}  // namespace whittle::kernels
