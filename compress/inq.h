// Incremental network quantization while a net trains: weights become powers of two share by share, the largest
// first, and those that are not yet are trained on to make up for it (Zhou et al. 2017).
//
//   prepare_inq(model, plan);                 quant/array/inq.h has the levels and the choice
//   fit(model, splits, {.hooks = inq_hooks(model, plan), ...});
//
// A share freezes when its part of the training begins: of n shares, the k-th after (k - 1) / n of the steps. The last,
// 1, leaves biases and norms to be trained. Norms stay as they are: it is the raw weight that consists of powers of
// two.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/parameter.h"
#include "train/fit.h"

namespace whittle::inline WHITTLE_PRECISION::compress {

struct InqPlan {
  int bits = 5;  // 2 to 16
  std::vector<double> shares{0.5, 0.75, 0.875, 1};
  std::vector<std::string> skip{};  // paths of layers left in float; "*" at the end stands for anything

  int64_t freeze_at(size_t share, int64_t steps) const;  // a number of steps done, from 1
};

// "5,shares=0.5+0.75+1,skip=conv1+fc". Throws Error in one sentence on what it does not understand.
InqPlan parse_inq(std::string_view text);

// A weight of which a part is frozen.
class Inq : public Transform {
 public:
  static constexpr std::string_view kKind = "inq";

  Inq(int bits, const Shape& shape);
  std::string_view kind() const override { return kKind; }
  Stage stage() const override { return Stage::kFakeQuant; }
  // The frozen values where there are any, else x; gx = g where it is not frozen.
  Variable apply(const Variable& x) override;
  Json spec() const override;
  void visit_state(const std::function<void(std::string_view, Tensor&)>& visit) override;

  // Freezes until `share` of all are; levels follow from the largest magnitude at the first time.
  void freeze(const Tensor& x, double share);
  double share() const;
  std::vector<float> levels() const;

 private:
  int bits_;
  Shape shape_;
  Tensor frozen_, values_;  // 0 or 1, and the levels of these
  Tensor largest_;          // [1]: max|w| at the beginning
};
void add_inq_kind(TransformKinds& kinds);

// Attaches to every convolution and linear layer but those skipped. Throws Error, changing nothing, if a weight is
// quantized already or a name fits no layer.
void prepare_inq(Module& model, const InqPlan& plan);
// The model must outlive the hooks. A model may be kept once all is frozen.
FitHooks inq_hooks(Module& model, const InqPlan& plan);

}  // namespace whittle::inline WHITTLE_PRECISION::compress
