#include "layers/statistics.h"

#include "layers/batch_norm.h"
#include "layers/weighted.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

Norm* norm_in(Module* module) {
  if (auto* const leaf = dynamic_cast<BatchNorm*>(module)) {
    return &leaf->norm;
  }
  auto* const layer = dynamic_cast<WeightedLayer*>(module);
  return layer != nullptr && layer->norm.defined() ? &layer->norm : nullptr;
}

}  // namespace

void measure_statistics(Module& model, const std::function<Tensor()>& next) {
  const NoGrad no_grad;
  const EvaluationMode as_before(model);  // afterwards
  model.train(true);
  std::vector<std::pair<Norm*, double>> norms;  // and how fast they learn otherwise
  for (const auto& [path, module] : model.modules()) {
    if (Norm* const norm = norm_in(module)) {
      norms.emplace_back(norm, norm->options.momentum);
    }
  }
  double batches = 0;
  for (Tensor x = next(); x.defined(); x = next()) {
    ++batches;
    for (const auto& [norm, momentum] : norms) {
      norm->options.momentum = 1 / batches;
    }
    (void)model(x);
  }
  for (const auto& [norm, momentum] : norms) {
    norm->options.momentum = momentum;
  }
}

}  // namespace whittle::inline WHITTLE_PRECISION
