// The fully connected layer: act(norm(x W^T + bias)), x [..., in] -> [..., out].
#pragma once

#include "layers/weighted.h"

namespace whittle::inline WHITTLE_PRECISION {

struct LinearOptions {
  int64_t in = 0;
  int64_t out = 0;
  bool bias = true;        // without effect, and left out, when norm is on
  bool norm = false;       // batch norm over the rows
  bool norm_bias = false;  // with norm: keep the bias, which the norm cancels
  Act act = Act::kNone;
  double norm_epsilon = 1e-5;
  double norm_momentum = 0.1;
};

class Linear : public WeightedLayer {  // weight [out, in]
 public:
  using Options = LinearOptions;
  explicit Linear(const Options& options);
  std::string_view kind() const override { return "linear"; }
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
