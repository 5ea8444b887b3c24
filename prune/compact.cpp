#include "prune/compact.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "core/error.h"
#include "prune/channels.h"
#include "prune/mask.h"

namespace whittle::inline WHITTLE_PRECISION::prune {

namespace {

using Layer = ChannelGraph::Layer;
using Role = ChannelGraph::Role;

void require_masks_only(const TransformChain& chain, const std::string& name) {
  for (const Stage stage : {Stage::kMask, Stage::kFold, Stage::kFakeQuant}) {
    const Transform* const transform = chain.at(stage);
    require(transform == nullptr || transform->kind() == "mask", "compact", "'", name, "' has a transform of kind '",
            transform == nullptr ? "" : transform->kind(), "': take channels out first and quantize the result");
  }
}

// What a layer reads: raw values where the mask has a 1.
std::vector<real> values_of(const Parameter& parameter) {
  const std::span<const real> raw = parameter.raw.value().values();
  std::vector<real> values(raw.begin(), raw.end());
  if (const Mask* mask = mask_of(parameter); mask != nullptr) {
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = mask->keep[i] != 0 ? values[i] : real(0);
    }
  }
  return values;
}

bool is_zero(const Parameter& parameter, int64_t channel) {
  return !parameter.defined() || values_of(parameter)[static_cast<size_t>(channel)] == 0;
}

// Is the layer's result 0 wherever its sum is?
bool adds_nothing(const Layer& layer, int64_t channel) {
  const Norm& norm = layer.norm();
  if (norm.defined()) {
    return is_zero(norm.gamma, channel) && is_zero(norm.beta, channel);
  }
  return is_zero(layer.weighted()->bias, channel);
}

class Removal {
 public:
  explicit Removal(const ChannelGraph& graph)
      : graph_(graph),
        dead_(static_cast<size_t>(graph.classes()), false),
        unread_(static_cast<size_t>(graph.classes()), false),
        connected_(graph.layers().size()) {
    for (size_t l = 0; l < graph.layers().size(); ++l) {
      if (graph.layers()[l].role == Role::kMixer) {
        connected_[l] = connections(graph.layers()[l]);
      }
    }
    while (find_dead() || find_unread()) {
    }
    for (const Layer& layer : graph.layers()) {
      keep_one(layer.in);
      keep_one(layer.out);
    }
  }

  bool gone(int c) const { return dead_[static_cast<size_t>(c)] || unread_[static_cast<size_t>(c)]; }

  // Positions of `side` that stay.
  std::vector<int64_t> kept(const std::vector<int>& side) const {
    std::vector<int64_t> positions;
    for (size_t i = 0; i < side.size(); ++i) {
      if (!gone(side[i])) {
        positions.push_back(static_cast<int64_t>(i));
      }
    }
    return positions;
  }

 private:
  // [out][in]: does any tap connect them?
  static std::vector<bool> connections(const Layer& layer) {
    const std::vector<real> w = values_of(layer.weighted()->weight);
    const size_t rows = layer.out.size();
    const size_t columns = layer.in.size();
    const size_t taps = w.size() / (rows * columns);
    std::vector<bool> connected(rows * columns, false);
    for (size_t i = 0; i < w.size(); ++i) {
      if (w[i] != 0) {
        connected[i / columns / taps * columns + i % columns] = true;
      }
    }
    return connected;
  }

  bool is_dead(int c) const {
    return std::ranges::all_of(graph_.members(c), [this](const ChannelGraph::Member& m) {
      const auto l = static_cast<size_t>(m.layer);
      const Layer& layer = graph_.layers()[l];
      if (layer.role == Role::kMixer) {
        const size_t columns = layer.in.size();
        for (size_t i = 0; i < columns; ++i) {
          if (connected_[l][static_cast<size_t>(m.channel) * columns + i] && !dead_[static_cast<size_t>(layer.in[i])]) {
            return false;
          }
        }
      }
      return adds_nothing(layer, m.channel);
    });
  }

  bool find_dead() {
    bool found = false;
    for (int c = 0; c < graph_.classes(); ++c) {
      if (!graph_.fixed(c) && !gone(c) && is_dead(c)) {
        dead_[static_cast<size_t>(c)] = found = true;
      }
    }
    return found;
  }

  bool find_unread() {
    std::vector<bool> read(unread_.size(), false);
    for (size_t l = 0; l < graph_.layers().size(); ++l) {
      const Layer& layer = graph_.layers()[l];
      if (layer.role != Role::kMixer) {
        continue;
      }
      for (size_t row = 0; row < layer.out.size(); ++row) {
        if (gone(layer.out[row])) {
          continue;
        }
        for (size_t i = 0; i < layer.in.size(); ++i) {
          if (connected_[l][row * layer.in.size() + i]) {
            read[static_cast<size_t>(layer.in[i])] = true;
          }
        }
      }
    }
    bool found = false;
    for (int c = 0; c < graph_.classes(); ++c) {
      if (!graph_.fixed(c) && !gone(c) && !read[static_cast<size_t>(c)]) {
        unread_[static_cast<size_t>(c)] = found = true;
      }
    }
    return found;
  }

  // There are no empty tensors. Keeping what could go changes nothing either: a dead channel
  // computes its 0, and nobody reads an unread one.
  void keep_one(const std::vector<int>& side) {
    if (!side.empty() && std::ranges::all_of(side, [this](int c) { return gone(c); })) {
      dead_[static_cast<size_t>(side[0])] = false;
      unread_[static_cast<size_t>(side[0])] = false;
    }
  }

  const ChannelGraph& graph_;
  std::vector<bool> dead_;
  std::vector<bool> unread_;
  std::vector<std::vector<bool>> connected_;  // by layer; of mixers
};

// ---- Cutting tensors ------------------------------------------------------------------------

// [rows, taps, columns] -> what stays of rows and columns.
template <class T>
std::vector<T> cut(std::span<const T> x, int64_t columns, int64_t taps, const std::vector<int64_t>& rows_kept,
                   const std::vector<int64_t>& columns_kept) {
  std::vector<T> result;
  result.reserve(rows_kept.size() * columns_kept.size() * static_cast<size_t>(taps));
  for (const int64_t row : rows_kept) {
    for (int64_t tap = 0; tap < taps; ++tap) {
      for (const int64_t column : columns_kept) {
        result.push_back(x[static_cast<size_t>((row * taps + tap) * columns + column)]);
      }
    }
  }
  return result;
}

// A parameter's values and mask, cut and waiting for the layer to be resized.
struct Cut {
  Parameter* parameter;
  std::vector<real> values;
  std::optional<std::vector<uint8_t>> keep;
};

Cut cut_of(Parameter& parameter, const std::vector<int64_t>& rows, const std::vector<int64_t>& columns_kept,
           int64_t columns) {
  const int64_t taps = parameter.shape().elements() / (parameter.shape()[0] * columns);
  Cut result{&parameter, cut(parameter.raw.value().values(), columns, taps, rows, columns_kept), std::nullopt};
  if (const Mask* mask = mask_of(parameter); mask != nullptr) {
    std::vector<uint8_t> keep = cut(std::span<const uint8_t>(mask->keep), columns, taps, rows, columns_kept);
    if (std::ranges::count(keep, uint8_t{0}) > 0) {
      result.keep = std::move(keep);
    }
  }
  return result;
}

void cut_layer(const Layer& layer, const std::vector<int64_t>& in, const std::vector<int64_t>& out) {
  const std::vector<int64_t> whole{0};
  std::vector<Cut> cuts;
  const auto per_channel = [&](Parameter& parameter) {
    if (parameter.defined()) {
      cuts.push_back(cut_of(parameter, out, whole, 1));
    }
  };
  Norm& norm = layer.norm();
  if (layer.role != Role::kNorm) {
    WeightedLayer& weighted = *layer.weighted();
    const bool mixes = layer.role == Role::kMixer;
    cuts.push_back(cut_of(weighted.weight, out, mixes ? in : whole, mixes ? static_cast<int64_t>(layer.in.size()) : 1));
    per_channel(weighted.bias);
  }
  per_channel(norm.gamma);
  per_channel(norm.beta);
  const std::vector<real> mean =
      norm.defined() ? cut(norm.running_mean.values(), 1, 1, out, whole) : std::vector<real>();
  const std::vector<real> variance =
      norm.defined() ? cut(norm.running_variance.values(), 1, 1, out, whole) : std::vector<real>();

  for (const Cut& c : cuts) {
    drop_mask(*c.parameter);
  }
  layer.module->resize({static_cast<int64_t>(in.size()), static_cast<int64_t>(out.size())});
  for (const Cut& c : cuts) {
    std::ranges::copy(c.values, c.parameter->raw.mutable_data());
    if (c.keep.has_value()) {
      set_mask(*c.parameter, {c.parameter->shape(), *c.keep});
    }
  }
  if (norm.defined()) {
    std::ranges::copy(mean, norm.running_mean.mutable_data());
    std::ranges::copy(variance, norm.running_variance.mutable_data());
  }
}

}  // namespace

Compaction compact(Module& model, const Shape& input) {
  for (const auto& [name, parameter] : model.parameters()) {
    require_masks_only(parameter->chain, name);
  }
  for (const auto& [path, module] : model.modules()) {
    require(module->output.empty(), "compact", "the output of '", path,
            "' has a transform: take channels out first and quantize the result");
  }
  const ChannelGraph graph(model, input);
  const Removal removal(graph);
  Compaction result;
  for (const Layer& layer : graph.layers()) {
    const std::vector<int64_t> in = removal.kept(layer.in);
    const std::vector<int64_t> out = removal.kept(layer.out);
    if (in.size() == layer.in.size() && out.size() == layer.out.size()) {
      continue;
    }
    cut_layer(layer, in, out);
    result.widths.emplace(layer.path, layer.module->widths());
    result.channels += static_cast<int64_t>(layer.out.size() - out.size());
  }
  return result;
}

}  // namespace whittle::inline WHITTLE_PRECISION::prune
