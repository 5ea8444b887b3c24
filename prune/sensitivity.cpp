#include "prune/sensitivity.h"

#include <algorithm>

namespace whittle::inline WHITTLE_PRECISION::prune {

namespace {

// Puts a model's masks back at the end.
class MasksKept {
 public:
  explicit MasksKept(Module& model) : model_(model), masks_(masks(model)) {}
  ~MasksKept() { put_back(); }
  MasksKept(const MasksKept&) = delete;
  MasksKept& operator=(const MasksKept&) = delete;
  void put_back() { replace_masks(model_, masks_); }

 private:
  Module& model_;
  MaskSet masks_;
};

// What is pruned together.
std::vector<std::vector<Target>> parts_of(Module& model, const Shape& input, std::span<const Target> targets,
                                          const Granularity& granularity) {
  std::vector<std::vector<Target>> parts;
  if (granularity.kind != Granularity::Kind::kChannel) {
    for (const Target& target : targets) {
      parts.push_back({target});
    }
    return parts;
  }
  const ChannelGraph graph(model, input);
  for (const ChannelGraph::Group& group : graph.groups()) {
    std::vector<Target> part;
    bool whole = true;
    for (const int l : group.layers) {
      const ChannelGraph::Layer& layer = graph.layers()[static_cast<size_t>(l)];
      const auto found = std::ranges::find(targets, layer.weighted(), &Target::layer);
      if (found != targets.end()) {
        part.push_back(*found);
      }
      whole = whole && (found != targets.end() || layer.role == ChannelGraph::Role::kNorm);
    }
    if (whole) {
      parts.push_back(std::move(part));
    }
  }
  return parts;
}

}  // namespace

std::vector<Sensitivity> sensitivity(Module& model, const Shape& input, std::span<const Target> targets,
                                     const Scores& scores, const SelectOptions& options,
                                     std::span<const double> amounts, const std::function<double()>& measure) {
  std::vector<Sensitivity> rows;
  MasksKept kept(model);
  for (const std::vector<Target>& part : parts_of(model, input, targets, options.granularity)) {
    for (const double amount : amounts) {
      SelectOptions one = options;
      one.amount = amount;
      attach(model, select(model, input, part, scores, one));
      Sensitivity row{.layers = {}, .amount = amount};
      for (const Target& target : part) {
        row.layers += (row.layers.empty() ? "" : " + ") + target.path;
        row.elements += target.weight().shape().elements();
        const Mask* const mask = mask_of(target.weight());
        row.pruned += mask != nullptr ? mask->pruned() : 0;
      }
      row.value = measure();
      rows.push_back(std::move(row));
      kept.put_back();
    }
  }
  return rows;
}

}  // namespace whittle::inline WHITTLE_PRECISION::prune
