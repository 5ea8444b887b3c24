#include "layers/conv2d.h"

#include <sstream>

#include "core/error.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

Shape weight_shape(const Conv2dOptions& o) {
  require(o.in >= 1 && o.out >= 1 && o.groups >= 1 && o.in % o.groups == 0 && o.out % o.groups == 0, "conv2d", "in ",
          o.in, " and out ", o.out, " must be positive multiples of groups ", o.groups);
  require(o.kernel.h >= 1 && o.kernel.w >= 1, "conv2d", "kernel ", o.kernel.h, "x", o.kernel.w,
          " must be at least 1x1");
  return {o.out, o.kernel.h, o.kernel.w, o.in / o.groups};
}

}  // namespace

Conv2d::Conv2d(const Options& options) : WeightedLayer(weight_shape(options), options), options_(options) {}

void Conv2d::resize(const LayerWidths& widths) {
  Conv2dOptions resized = options_;
  resized.in = widths.in;
  resized.out = widths.out;
  if (options_.groups > 1 && options_.groups == options_.in && options_.groups == options_.out) {  // depthwise
    resized.groups = widths.in;
  }
  reshape_parameters(weight_shape(resized));
  options_ = resized;
}

std::string Conv2d::details() const {
  const Options& o = options_;
  std::ostringstream text;
  text << o.kernel.h << 'x' << o.kernel.w << ' ' << o.in << "->" << o.out;
  if (o.stride != Size2{1, 1}) {
    text << " stride " << o.stride.h;
    if (o.stride.h != o.stride.w) {
      text << 'x' << o.stride.w;
    }
  }
  if (o.groups > 1) {
    text << " groups " << o.groups;
  }
  text << suffix();
  return text.str();
}

// Taps that fall on padding count too, as everywhere in the literature.
int64_t Conv2d::macs(std::span<const Shape> /*inputs*/, const Shape& result) const {
  return result.elements() * options_.kernel.h * options_.kernel.w * (options_.in / options_.groups);
}

Variable Conv2d::weighted_sum(const Variable& x, const Variable& w, const Variable& b, bool plain) const {
  return conv2d(x, w, b,
                {.stride = options_.stride,
                 .padding = options_.padding,
                 .dilation = options_.dilation,
                 .groups = options_.groups,
                 .plain = plain});
}

}  // namespace whittle::inline WHITTLE_PRECISION
