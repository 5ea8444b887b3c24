#include "prune/channels.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "core/error.h"
#include "layers/conv2d.h"
#include "layers/leaves.h"
#include "layers/linear.h"

namespace whittle::inline WHITTLE_PRECISION::prune {

namespace {

// Features that were found to be one channel: a forest with path halving.
class Classes {
 public:
  std::vector<int> fresh(int64_t n) {
    std::vector<int> ids(static_cast<size_t>(n));
    std::iota(ids.begin(), ids.end(), static_cast<int>(parent_.size()));
    parent_.insert(parent_.end(), ids.begin(), ids.end());
    fixed_.resize(parent_.size(), false);
    return ids;
  }
  int root(int a) {
    while (parent_[static_cast<size_t>(a)] != a) {
      auto& up = parent_[static_cast<size_t>(a)];
      up = parent_[static_cast<size_t>(up)];
      a = up;
    }
    return a;
  }
  // The older one stands for both, so that classes are numbered in the order of execution.
  void tie(int a, int b) {
    a = root(a);
    b = root(b);
    const auto [low, high] = std::minmax(a, b);
    parent_[static_cast<size_t>(high)] = low;
    fixed_[static_cast<size_t>(low)] = fixed_[static_cast<size_t>(low)] || fixed_[static_cast<size_t>(high)];
  }
  void tie(const std::vector<int>& a, const std::vector<int>& b) {
    for (size_t i = 0; i < a.size(); ++i) {
      tie(a[i], b[i]);
    }
  }
  void fix(const std::vector<int>& ids) {
    for (const int id : ids) {
      fixed_[static_cast<size_t>(root(id))] = true;
    }
  }
  bool fixed(int a) { return fixed_[static_cast<size_t>(root(a))]; }
  size_t size() const { return parent_.size(); }

 private:
  std::vector<int> parent_;
  std::vector<bool> fixed_;
};

// Functions of one channel that are 0 at 0, so that a channel of zeros stays one.
bool keeps_zero_channels(const Module& module) {
  const std::string_view kind = module.kind();
  if (kind == "activation") {
    const Function f = dynamic_cast<const Activation&>(module).options().function;
    return f != Function::kSigmoid && f != Function::kSoftmax && f != Function::kLogSoftmax;
  }
  return kind == "input" || kind == "max_pool" || kind == "avg_pool" || kind == "global_avg_pool" || kind == "dropout";
}

bool joins_last_axis(const Concat& concat, const Shape& result) {
  return result.normal_axis(concat.options().axis) == result.rank() - 1;
}

}  // namespace

Norm& ChannelGraph::Layer::norm() const {
  if (WeightedLayer* const carrier = weighted()) {
    return carrier->norm;
  }
  auto* const alone = dynamic_cast<BatchNorm*>(module);
  require(alone != nullptr, "channels", path, " is neither a weighted layer nor a norm");
  return alone->norm;
}

ChannelGraph::ChannelGraph(const Trace& trace) {
  Classes classes;
  std::vector<std::vector<int>> features(trace.values.size());  // of each value's last axis
  const auto width = [&trace](int value) { return trace.values[static_cast<size_t>(value)].shape[-1]; };
  features[0] = classes.fresh(width(0));
  classes.fix(features[0]);

  std::map<const Module*, size_t> known;  // layers met before: called twice, they tie their calls' channels
  for (const TracedCall& call : trace.calls) {
    Module& module = *call.module;
    const std::string_view kind = module.kind();
    std::vector<int>& out = features[static_cast<size_t>(call.output)];
    const std::vector<int>& in = features[static_cast<size_t>(call.inputs[0])];
    const auto layer = [&](Role role) {
      const auto [place, is_new] = known.emplace(&module, layers_.size());
      if (is_new) {
        layers_.push_back({.path = call.path,
                           .module = &module,
                           .role = role,
                           .in = in,
                           .out = out,
                           .macs = module.macs(trace.input_shapes(call), trace.output_shape(call))});
      } else {
        classes.tie(layers_[place->second].in, in);
        classes.tie(layers_[place->second].out, out);
      }
    };
    if (const auto* conv = dynamic_cast<const Conv2d*>(&module); conv != nullptr) {
      const Conv2dOptions& o = conv->options();
      const bool depthwise = o.groups == o.in && o.groups == o.out && o.groups > 1;
      out = depthwise ? in : classes.fresh(o.out);
      if (o.groups > 1 && !depthwise) {
        classes.fix(in);
        classes.fix(out);
      }
      layer(depthwise ? Role::kDepthwise : o.groups > 1 ? Role::kGrouped : Role::kMixer);
    } else if (dynamic_cast<const Linear*>(&module) != nullptr) {
      out = classes.fresh(width(call.output));
      layer(Role::kMixer);
    } else if (dynamic_cast<const BatchNorm*>(&module) != nullptr) {
      out = in;
      layer(Role::kNorm);
    } else if (kind == "add") {
      out = in;
      classes.tie(out, features[static_cast<size_t>(call.inputs[1])]);
    } else if (kind == "flatten") {
      for (int64_t i = 0; i < width(call.output); ++i) {  // NHWC: channels vary fastest
        out.push_back(in[static_cast<size_t>(i) % in.size()]);
      }
    } else if (const auto* concat = dynamic_cast<const Concat*>(&module);
               concat != nullptr && joins_last_axis(*concat, trace.output_shape(call))) {
      for (const int input : call.inputs) {
        const std::vector<int>& part = features[static_cast<size_t>(input)];
        out.insert(out.end(), part.begin(), part.end());
      }
    } else if (keeps_zero_channels(module) && width(call.output) == static_cast<int64_t>(in.size())) {
      out = in;
    } else {  // whatever else there is: nothing goes, on either side
      for (const int input : call.inputs) {
        classes.fix(features[static_cast<size_t>(input)]);
      }
      out = classes.fresh(width(call.output));
      classes.fix(out);
    }
  }
  classes.fix(features[static_cast<size_t>(trace.output)]);

  // Roots, numbered in their order.
  std::vector<int> number(classes.size(), -1);
  for (size_t id = 0; id < classes.size(); ++id) {
    const int root = classes.root(static_cast<int>(id));
    if (number[static_cast<size_t>(root)] < 0) {
      number[static_cast<size_t>(root)] = static_cast<int>(fixed_.size());
      fixed_.push_back(classes.fixed(root));
    }
    number[id] = number[static_cast<size_t>(root)];
  }
  members_.resize(fixed_.size());
  for (size_t l = 0; l < layers_.size(); ++l) {
    for (std::vector<int>* side : {&layers_[l].in, &layers_[l].out}) {
      std::ranges::transform(*side, side->begin(), [&number](int id) { return number[static_cast<size_t>(id)]; });
    }
    for (size_t c = 0; c < layers_[l].out.size(); ++c) {
      members_[static_cast<size_t>(layers_[l].out[c])].push_back({static_cast<int>(l), static_cast<int64_t>(c)});
    }
  }
}

std::vector<ChannelGraph::Group> ChannelGraph::groups() const {
  std::map<std::vector<int>, std::vector<int>> found;
  for (int c = 0; c < classes(); ++c) {
    std::vector<int> layers;
    for (const Member& member : members(c)) {
      if (layers.empty() || layers.back() != member.layer) {
        layers.push_back(member.layer);
      }
    }
    if (!fixed(c) && !layers.empty()) {
      found[layers].push_back(c);
    }
  }
  std::vector<Group> groups;
  groups.reserve(found.size());
  for (auto& [layers, members] : found) {
    groups.push_back({layers, std::move(members)});
  }
  return groups;
}

}  // namespace whittle::inline WHITTLE_PRECISION::prune
