// 3x3 convolutions by Winograd's minimal filtering (kernels/train/winograd.h): two to
// four times fewer multiplications, a few times the rounding error. Internal to core/.
#pragma once

#include "core/correlation.h"
#include "core/train_kernels.h"

namespace whittle::inline WHITTLE_PRECISION {

// The form to use for c, or null if the direct one is better, cannot be done otherwise or was asked for
// (set_convolution()).
const kernels::WinogradKernels<real>* winograd_for(const Correlation& c);

// Tap t of input i and output o is at data[t tap_stride + i input_stride + o]: outputs are neighbours.
struct WinogradFilter {
  const real* data;
  int64_t tap_stride;
  int64_t input_stride;
};

// target = correlation of the source with the filter, + bias or null.
void correlate_winograd(const kernels::WinogradKernels<real>& form, const Correlation& c, const real* source,
                        const WinogradFilter& filter, const real* bias, real* target);

void filter_gradient_winograd(const kernels::WinogradKernels<real>& form, const Correlation& c, const real* source,
                              const real* g, real* gfilter);

}  // namespace whittle::inline WHITTLE_PRECISION
