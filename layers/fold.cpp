#include "layers/fold.h"

#include "core/error.h"
#include "core/json.h"
#include "layers/weighted.h"

namespace whittle::inline WHITTLE_PRECISION {

Variable Fold::apply(const Variable& weight) {
  require(factor_.defined(), "fold", "the weight of a folded layer is read through the layer: effective_weight()");
  std::vector<int64_t> extents(static_cast<size_t>(weight.shape().rank()), 1);
  extents[0] = factor_.shape()[0];
  return mul(weight, reshape(factor_, Shape(extents)));
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
