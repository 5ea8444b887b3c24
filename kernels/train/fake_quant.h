// Fake quantization, as the kernel tables offer it (table.h): numbers replaced by the
// nearest ones that a grid can hold, in one pass, and the gradients that training uses
// in place of the true ones, which are 0 almost everywhere.
#pragma once

#include <stdint.h>

#include "kernels/arithmetic.h"

namespace whittle::kernels {

template <class T>
struct FakeQuantKernels {
  // y = dequantize(quantize(x)), the functions of kernels/arithmetic.h, bit for bit.
  void (*apply)(const T* x, int64_t n, const Grid& grid, T* y);
  // With r = x / scale and [low, high] = [qmin - zero_point, qmax - zero_point]:
  //   gx = g where low <= r <= high, else 0 (straight through, with the clip's mask)
  // and the result is the sum of g times the slope of y along the scale:
  //   rne(r) - r inside, low or high outside (Esser et al. 2020).
  double (*gradient)(const T* g, const T* x, int64_t n, const Grid& grid, T* gx);
};

}  // namespace whittle::kernels
