#include "layers/fold.h"

#include <algorithm>

#include "core/error.h"
#include "core/json.h"
#include "core/loops.h"
#include "layers/exact.h"
#include "layers/weighted.h"

namespace whittle::inline WHITTLE_PRECISION {

Variable Fold::slowed(const Variable& x) const {
  if (live_ || !grad_enabled() || !x.defined() || !x.requires_grad()) {
    return x;
  }
  const Tensor rate = map(factor_.value(), [](real f) { return 1 / std::max(real(1), f * f); });
  return with_value(mul(x, Variable(rate.reshape(rows(x)))), x.value());
}

Variable Fold::apply(const Variable& weight) {
  require(factor_.defined(), "fold", "the weight of a folded layer is read through the layer: effective_weight()");
  return mul(slowed(weight), reshape(factor_, rows(weight)));
}

Shape Fold::rows(const Variable& x) const {
  std::vector<int64_t> extents(static_cast<size_t>(x.shape().rank()), 1);
  extents[0] = factor_.shape()[0];
  return Shape(extents);
}

Json Fold::spec() const { return {{"live", live_}}; }

void fold_norms(Module& model, const FoldOptions& options) {
  for (const auto& [path, module] : model.modules()) {
    auto* const layer = dynamic_cast<WeightedLayer*>(module);
    if (layer != nullptr && layer->norm.defined() && layer->fold() == nullptr) {
      layer->weight.chain.attach(std::make_shared<Fold>(options.live));
    }
  }
}

void freeze_folds(Module& model) {
  for (const auto& [path, module] : model.modules()) {
    auto* const layer = dynamic_cast<WeightedLayer*>(module);
    if (layer != nullptr && layer->fold() != nullptr) {
      layer->fold()->freeze();
    }
  }
}

void add_fold_kind(TransformKinds& kinds) {
  kinds.add("fold", [](const Json& spec, const Shape&) { return std::make_shared<Fold>(spec.at("live").get<bool>()); });
}

}  // namespace whittle::inline WHITTLE_PRECISION
