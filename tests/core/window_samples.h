// Random convolutions and pools, of the awkward kind: single pixels, strides beyond
// the kernel, padding on one side, dilation, groups, windows that just fit.
#pragma once

#include <sstream>
#include <string>

#include "core/ops.h"
#include "tests/core/op_cases.h"

namespace whittle::inline WHITTLE_PRECISION {

struct ConvSample {
  Shape x, filter;
  bool has_bias = false;
  ConvGeometry geometry{};
  std::string description() const {
    const auto& [stride, p, dilation, groups, plain] = geometry;
    std::ostringstream text;
    text << "input " << x << " filter " << filter << " stride " << stride.h << ',' << stride.w << " padding {" << p.top
         << ',' << p.left << ',' << p.bottom << ',' << p.right << "} dilation " << dilation.h << ',' << dilation.w
         << " groups " << groups << (has_bias ? " bias" : "") << (plain ? " plain" : "");
    return text.str();
  }
};

struct PoolSample {
  Shape x;
  PoolGeometry geometry{};
  std::string description() const {
    const auto& [kernel, stride, p] = geometry;
    std::ostringstream text;
    text << "input " << x << " kernel " << kernel.h << ',' << kernel.w << " stride " << stride.h << ',' << stride.w
         << " padding {" << p.top << ',' << p.left << ',' << p.bottom << ',' << p.right << '}';
    return text.str();
  }
};

// An input extent into which a window of `reach` positions fits, sometimes with nothing to spare.
inline int64_t extent_for(Rng& rng, int64_t reach, int64_t padding) {
  return std::max<int64_t>(1, reach - padding) + (rng.uniform() < 0.2 ? 0 : rng.between(0, 6));
}

inline ConvSample some_convolution(Rng& rng) {
  ConvSample s;
  auto& [stride, padding, dilation, groups, plain] = s.geometry;
  int64_t inputs = some_extent(rng, 6);  // per group
  int64_t outputs = some_extent(rng, 6);
  const double kind = rng.uniform();
  if (kind < 0.2) {  // grouped
    groups = rng.between(2, 4);
  } else if (kind < 0.45) {  // depthwise, often with a multiplier
    groups = rng.uniform() < 0.7 ? rng.between(2, 9) : rng.between(10, 40);
    inputs = 1;
    outputs = rng.uniform() < 0.5 ? 1 : rng.between(2, 3);
  }
  Size2 kernel{some_extent(rng, 4), some_extent(rng, 4)};
  if (kind > 0.9) {  // pointwise
    kernel = {1, 1};
  } else {
    stride = {some_extent(rng, 4), some_extent(rng, 4)};
    dilation = {some_extent(rng, 3), some_extent(rng, 3)};
    if (rng.uniform() < 0.7) {
      padding = {rng.below(4), rng.below(4), rng.below(4), rng.below(4)};
    }
  }
  s.x = {some_extent(rng, 3), extent_for(rng, dilation.h * (kernel.h - 1) + 1, padding.top + padding.bottom),
         extent_for(rng, dilation.w * (kernel.w - 1) + 1, padding.left + padding.right), groups * inputs};
  s.filter = {groups * outputs, kernel.h, kernel.w, inputs};
  s.has_bias = rng.uniform() < 0.5;
  plain = rng.uniform() < 0.2;
  return s;
}

inline PoolSample some_pooling(Rng& rng) {
  PoolSample s;
  auto& [kernel, stride, padding] = s.geometry;
  kernel = {some_extent(rng, 4), some_extent(rng, 4)};
  if (rng.uniform() < 0.7) {
    stride = {some_extent(rng, 5), some_extent(rng, 5)};
  }
  if (rng.uniform() < 0.7) {
    padding = {rng.below(kernel.h), rng.below(kernel.w), rng.below(kernel.h), rng.below(kernel.w)};
  }
  s.x = {some_extent(rng, 3), extent_for(rng, kernel.h, padding.top + padding.bottom),
         extent_for(rng, kernel.w, padding.left + padding.right), some_channels(rng)};
  return s;
}

}  // namespace whittle::inline WHITTLE_PRECISION
