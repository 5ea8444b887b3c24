// The loops of a depthwise convolution, for ops_conv.cpp. Internal to core/.
#pragma once

#include "core/real.h"
#include "core/window.h"

namespace whittle::inline WHITTLE_PRECISION {

// x [images, h.in, w.in, channels] to y [images, h.out, w.out, channels], with a filter
// [channels, h.taps, w.taps].
struct Depthwise {
  int64_t images;
  WindowAxis h, w;
  int64_t channels;
};

void depthwise_correlate(const Depthwise& d, const real* x, const real* filter, const real* bias, real* y);
void depthwise_input_gradient(const Depthwise& d, const real* g, const real* filter, real* gx);
void depthwise_filter_gradient(const Depthwise& d, const real* x, const real* g, real* gfilter);

}  // namespace whittle::inline WHITTLE_PRECISION
