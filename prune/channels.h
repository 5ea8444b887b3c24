// Which channels of a model belong together.
//
// A channel can only be taken out whole: the filter that makes it, its bias and norm, and
// the input slices of everyone who reads it. Where two layers' results are added, their
// channels are tied: one goes with the other. A depthwise convolution passes channels on, flattening
// repeats each at every position, concatenation lines them up.
//
// The graph is read off the trace. Every feature (an element of a value's last axis) of
// every value gets a class; features of one class go together. Classes are fixed where
// nothing may be taken out: the model's input and result, both sides of a grouped
// convolution that is not depthwise, and of anything that mixes channels or does not map 0 to 0.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "layers/batch_norm.h"
#include "layers/trace.h"
#include "layers/weighted.h"

namespace whittle::inline WHITTLE_PRECISION::prune {

class ChannelGraph {
 public:
  enum class Role : uint8_t {
    kMixer,      // convolution or linear layer: reads all of `in`, makes `out`
    kDepthwise,  // in and out are the same classes; a filter, bias and norm per channel
    kNorm,       // a BatchNorm leaf: likewise, with scale and shift alone
    kGrouped,    // a grouped convolution; all its classes are fixed
  };
  struct Layer {
    std::string path;
    Module* module = nullptr;
    Role role = Role::kMixer;
    std::vector<int> in;   // class of each input feature
    std::vector<int> out;  // class of each output feature
    int64_t macs = 0;      // of one call on the traced input

    WeightedLayer* weighted() const { return dynamic_cast<WeightedLayer*>(module); }
    Norm& norm() const;  // behind its weights, or the one that it is
  };
  // A channel of a layer.
  struct Member {
    int layer;
    int64_t channel;
    friend auto operator<=>(const Member&, const Member&) = default;
  };

  explicit ChannelGraph(const Trace& trace);
  ChannelGraph(Module& model, const Shape& input) : ChannelGraph(trace(model, input)) {}

  const std::vector<Layer>& layers() const { return layers_; }
  int classes() const { return static_cast<int>(fixed_.size()); }
  bool fixed(int c) const { return fixed_[static_cast<size_t>(c)]; }
  // The channels that make, or pass on, this class; in the order of layers.
  const std::vector<Member>& members(int c) const { return members_[static_cast<size_t>(c)]; }

  // Groups of classes whose members are channels of the same layers: the channels that
  // compete with each other. Without fixed classes; in the order of layers.
  struct Group {
    std::vector<int> layers;
    std::vector<int> classes;
  };
  std::vector<Group> groups() const;

 private:
  std::vector<Layer> layers_;
  std::vector<bool> fixed_;
  std::vector<std::vector<Member>> members_;
};

}  // namespace whittle::inline WHITTLE_PRECISION::prune
