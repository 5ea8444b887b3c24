// Batch normalisation over rows of channels, as the kernel tables offer it (table.h).
#pragma once

#include "kernels/train/loops.h"

namespace whittle::kernels {

// y = clamp((x - mean) scale + beta + residual), with numbers per channel.
template <class T>
struct Norm {
  int64_t channels;
  const T *mean, *scale, *beta;
  Clamp<T> clamp;
};

template <class T>
struct NormKernels {
  // Per channel: a pivot near the mean, and the sums of x - pivot and (x - pivot)^2. With
  // the pivot, neither the mean nor the variance loses digits to the size of x.
  void (*statistics)(const T* x, int64_t rows, int64_t channels, T* pivot, T* sum, T* square);
  // The residual may be null.
  void (*normalise)(const Norm<T>& norm, const T* x, const T* residual, int64_t rows, T* y);
  // Per channel, the sums of g and of g (x - mean), g taken through the clamp. It is known
  // from x what the clamp let through; with a residual it is known from y, and g as it went
  // through is written to `passed`. Both null: no residual.
  void (*gradient_sums)(const Norm<T>& norm, const T* x, const T* g, const T* y, int64_t rows, T* passed, T* sum_g,
                        T* sum_gd);
  // gx = scale (g - mean_g - (x - mean) slope), g taken through the clamp
  void (*input_gradient)(const Norm<T>& norm, const T* x, const T* g, const T* mean_g, const T* slope, int64_t rows,
                         T* gx);
};

}  // namespace whittle::kernels
