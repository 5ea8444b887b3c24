// A batch norm folded into the weight in front of it.
//
//   w' = w f    b' = beta + (b - mean) f    f = gamma / sqrt(variance + epsilon)
//
// per output channel, so that act(norm(conv(x, w) + b)) is act(conv(x, w') + b'): what
// an integer kernel computes, and so what has to be quantized. The fold is a transform of
// the weight, between mask and fake quantization; the norm keeps its parameters, its
// statistics and their names, and the fold can be taken away again.
//
// A frozen fold takes f from the running statistics, always. A live one does so in
// evaluation; in training it lets the norm go on with batch statistics: the layer
// multiplies the weight by f, so that quantizers see the numbers they will have to deal
// with, and norms the sum divided by f.
//
// A norm with batch statistics does not mind how large w is. Decay makes it small and f
// large, and in a frozen fold a step of w then moves w' by f^2 times what it would without
// a norm: training bursts. So where |f| > 1, the gradients of w and b are divided by f^2.
#pragma once

#include "layers/module.h"

namespace whittle::inline WHITTLE_PRECISION {

class Fold : public Transform {
 public:
  explicit Fold(bool live = false) : live_(live) {}
  std::string_view kind() const override { return "fold"; }
  Stage stage() const override { return Stage::kFold; }
  Variable apply(const Variable& weight) override;
  Json spec() const override;

  bool live() const { return live_; }
  void freeze() { live_ = false; }

  void set_factor(const Variable& factor) override { factor_ = factor; }
  // x, [C, ...], with the gradient of a frozen fold.
  Variable slowed(const Variable& x) const;

 private:
  Shape rows(const Variable& x) const;

  bool live_;
  Variable factor_;
};

struct FoldOptions {
  bool live = false;
};

// Folds every norm that sits inside a Conv2d or Linear and is not folded yet.
void fold_norms(Module& model, const FoldOptions& options = {});
// From now on running statistics are used in training too.
void freeze_folds(Module& model);
// So that checkpoints with folds can be read.
void add_fold_kind(TransformKinds& kinds);

}  // namespace whittle::inline WHITTLE_PRECISION
