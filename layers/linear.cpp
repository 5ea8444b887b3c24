#include "layers/linear.h"

#include "core/error.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

Shape weight_shape(const LinearOptions& o) {
  require(o.in >= 1 && o.out >= 1, "linear", "in and out must be at least 1, got ", o.in, " and ", o.out);
  return {o.out, o.in};
}

}  // namespace

Linear::Linear(const Options& options) : WeightedLayer(weight_shape(options), options), options_(options) {}

void Linear::resize(const LayerWidths& widths) {
  LinearOptions resized = options_;
  resized.in = widths.in;
  resized.out = widths.out;
  reshape_parameters(weight_shape(resized));
  options_ = resized;
}

std::string Linear::details() const {
  return std::to_string(options_.in) + "->" + std::to_string(options_.out) + suffix();
}

int64_t Linear::macs(std::span<const Shape> /*inputs*/, const Shape& result) const {
  return result.elements() * options_.in;
}

Variable Linear::weighted_sum(const Variable& x, const Variable& w, const Variable& b, bool /*plain*/) const {
  return linear(x, w, b);
}

}  // namespace whittle::inline WHITTLE_PRECISION
