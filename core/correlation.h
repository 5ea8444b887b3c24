// A convolution as its loops see it. Internal to core/.
#pragma once

#include <cstdint>

#include "core/ops.h"
#include "core/window.h"

namespace whittle::inline WHITTLE_PRECISION {

// Filters are [groups * outputs, h.taps, w.taps, inputs]; the source has
// groups * inputs channels, the target groups * outputs. Window (i, j) is the target's pixel
// (i step.h + offset.h, j step.w + offset.w).
struct Correlation {
  int64_t images = 0;
  WindowAxis h{}, w{};
  int64_t groups = 0, inputs = 0, outputs = 0;  // channels per group
  int64_t target_h = 0, target_w = 0;
  Size2 step{1, 1};
  Size2 offset{0, 0};
  bool plain = false;  // as in ConvGeometry

  int64_t rows() const { return images * h.out; }
  int64_t pixels() const { return rows() * w.out; }
  int64_t depth() const { return h.taps * w.taps * inputs; }  // numbers in a patch
  int64_t source_channels() const { return groups * inputs; }
  int64_t target_channels() const { return groups * outputs; }
  bool fills_target() const { return step == Size2{1, 1}; }  // then window (i, j) is pixel (i, j)
  bool is_depthwise() const { return inputs == 1 && outputs == 1 && groups > 1; }
  bool is_pointwise() const {  // patches are the pixels themselves
    return groups == 1 && h.reads_each_once() && w.reads_each_once() && fills_target();
  }
  // Neighbouring taps are neighbours in memory.
  bool taps_touch() const { return groups == 1 && w.dilation == 1; }
};

}  // namespace whittle::inline WHITTLE_PRECISION
