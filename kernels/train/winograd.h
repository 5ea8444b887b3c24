// Winograd's minimal filtering for 3x3 filters, as the kernel tables offer it (table.h).
//
// A tile of m x m results of a 3x3 correlation is read from a (m + 2) x (m + 2) patch. With
// fixed matrices B, G and A it is  Y = A^T [(G g G^T) * (B^T d B)] A,  where * multiplies
// point by point: (m + 2)^2 multiplications in place of 9 m^2, which is 2.25 times fewer
// for m = 2 and 4 times fewer for m = 4. Summed over input channels, each of the points
// is a matrix product [tiles, inputs] [inputs, outputs]; these kernels do what comes
// before and after. The gradient of the filter reads the same formula backwards:
//   dg = G^T [sum over tiles of (A dY A^T) * (B^T d B)] G.
//
// The price is rounding: intermediate numbers are larger than the results. The points of
// evaluation are 0, infinity and +-1 for m = 2, and 0, infinity, +-3/4 and +-3/2 for
// m = 4; the usual +-1 and +-2 give twice the error.
#pragma once

#include <stdint.h>

namespace whittle::kernels {

// A block of an image: pixel (i, j) is at data + i * row_stride + j * pixel_stride.
template <class T>
struct WinogradBlock {
  T* data;
  int64_t row_stride;
  int64_t pixel_stride;
};

// The rows [top, bottom) and columns [left, right) of a patch that exist; they may exceed the patch.
struct WinogradInside {
  int64_t top, left, bottom, right;
};

// All for one tile and every channel. Point p of the result or argument is at
// p * point_stride, channels next to each other.
template <class T>
struct WinogradKernels {
  int64_t outputs;  // m: results per tile and axis
  int64_t points;   // (m + 2)^2

  // v = B^T d B. Pixels of the patch that are not inside are 0 and are not read.
  void (*input)(const WinogradBlock<const T>& d, const WinogradInside& inside, int64_t channels, T* v,
                int64_t point_stride);
  // y = A^T m A + bias; only the first `rows` x `columns` results are stored. No bias: null.
  void (*output)(const T* m, int64_t point_stride, int64_t channels, const T* bias, const WinogradBlock<T>& y,
                 int64_t rows, int64_t columns);
  // z = A dy A^T, taking all but the first `rows` x `columns` of dy as 0.
  void (*output_gradient)(const WinogradBlock<const T>& dy, int64_t rows, int64_t columns, int64_t channels, T* z,
                          int64_t point_stride);
  // Rows [first, last) of the right side of every point's product, packed as ProductKernels::pack() does it:
  // B_p[k, n] = (G g_kn G^T)_p, where tap t of g_kn is at g[k * row_stride + t * tap_stride + n]. A negative
  // tap_stride turns g round.
  void (*filter)(const T* g, int64_t row_stride, int64_t tap_stride, int64_t first, int64_t last, int64_t rows,
                 int64_t columns, T* packed, int64_t point_stride);
  // dg = G^T u G: tap t of channel n goes to dg[t * tap_stride + n].
  void (*filter_gradient)(const T* u, int64_t point_stride, int64_t channels, T* dg, int64_t tap_stride);
};

}  // namespace whittle::kernels
