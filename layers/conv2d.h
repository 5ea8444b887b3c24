// The convolution layer: act(norm(conv(x) + bias)), NHWC.
#pragma once

#include "layers/weighted.h"

namespace whittle::inline WHITTLE_PRECISION {

struct Conv2dOptions {
  int64_t in = 0;
  int64_t out = 0;
  Size2 kernel{3, 3};
  Size2 stride{1, 1};
  Padding padding{};
  Size2 dilation{1, 1};
  int64_t groups = 1;      // groups == in: depthwise
  bool bias = true;        // without effect, and left out, when norm is on
  bool norm = false;       // batch norm after the convolution
  bool norm_bias = false;  // with norm: keep the bias, which the norm cancels, for nets that were published so
  Act act = Act::kNone;
  double norm_epsilon = 1e-5;
  double norm_momentum = 0.1;  // weight of a new batch in the running statistics
};

class Conv2d : public WeightedLayer {  // weight [out, kh, kw, in / groups]
 public:
  using Options = Conv2dOptions;
  explicit Conv2d(const Options& options);
  std::string_view kind() const override { return "conv2d"; }
  std::string details() const override;
  int64_t macs(std::span<const Shape> inputs, const Shape& result) const override;
  const Options& options() const { return options_; }
  LayerWidths widths() const override { return {options_.in, options_.out}; }
  void resize(const LayerWidths& widths) override;

 protected:
  Variable weighted_sum(const Variable& x, const Variable& w, const Variable& b, bool plain) const override;

 private:
  Options options_;
};

}  // namespace whittle::inline WHITTLE_PRECISION
