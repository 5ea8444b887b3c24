#include "prune/edge.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "core/error.h"

namespace whittle::inline WHITTLE_PRECISION::prune {

Tensor without_lowest_ranks(const Tensor& x, double fraction) {
  require(fraction >= 0 && fraction <= 1, "edge_prune", "the fraction ", fraction, " is not in [0, 1]");
  std::vector<real> ranks(x.values().begin(), x.values().end());
  for (real& value : ranks) {
    require(!std::isnan(value), "edge_prune", "a value is not a number and has no rank");
    value = std::abs(value);
  }
  std::sort(ranks.begin(), ranks.end());
  ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
  const auto last = static_cast<double>(ranks.size() - 1);
  const real threshold = ranks[static_cast<size_t>(std::ceil(last * fraction))];
  Tensor result = Tensor::empty(x.shape());
  std::ranges::transform(x.values(), result.mutable_data(),
                         [threshold](real value) { return std::abs(value) <= threshold ? real(0) : value; });
  return result;
}

void edge_prune(Module& model, const EdgePruneOptions& options) {
  require(options.fraction >= 0 && options.fraction <= 1, "edge_prune", "the fraction ", options.fraction,
          " is not in [0, 1]");
  for (const auto& [name, parameter] : model.parameters()) {
    require(parameter->chain.empty(), "edge_prune", "'", name, "' has transforms; this mode is for plain weights");
  }
  if (options.quantize) {
    options.quantize(model);
  }
  // In the order in which PyTorch lists a state: a layer's parameters, then its statistics.
  std::vector<std::pair<Parameter*, Tensor*>> tensors;
  for (const auto& [path, module] : model.modules()) {
    for (const NamedParameter& named : module->own_parameters()) {
      tensors.emplace_back(named.parameter, nullptr);
    }
    for (const NamedState& named : module->own_states()) {
      tensors.emplace_back(nullptr, named.state);
    }
  }
  require(!tensors.empty(), "edge_prune", "the model has no tensors");
  tensors.pop_back();
  std::vector<Tensor> pruned;
  pruned.reserve(tensors.size());
  for (const auto& [parameter, state] : tensors) {
    pruned.push_back(without_lowest_ranks(parameter != nullptr ? parameter->raw.value() : *state, options.fraction));
  }
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (tensors[i].first != nullptr) {
      tensors[i].first->raw.assign(pruned[i]);
    } else if (options.running_statistics) {
      *tensors[i].second = std::move(pruned[i]);
    }
  }
}

}  // namespace whittle::inline WHITTLE_PRECISION::prune
