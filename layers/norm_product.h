// A batch norm that stands alone, as a product: what integer arithmetic makes of it (A15).
//
//   w = gamma / sqrt(variance + epsilon)    b = beta - mean w
//
// with one 8-bit grid per channel for w (A4), raised where b would not fit beside inputs of
// scale sx (A5). Evaluation and export both read it here. A norm behind a convolution or
// linear layer is folded instead (layers/fold.h).
#pragma once

#include "layers/batch_norm.h"

namespace whittle::inline WHITTLE_PRECISION {

struct NormProduct {
  Variable weight;  // [C, 1, 1, 1], on its grids
  Variable bias;    // [C]
};

NormProduct norm_product(const Norm& norm, float sx);

}  // namespace whittle::inline WHITTLE_PRECISION
