// What is pruned: the weights of convolutions and linear layers, never norms or biases,
// and by default not those of the last layer, whose outputs are the answer.
//
// Layers are found in the trace, in the order in which they run. So the last layer is
// the one whose result is the model's, wherever its parameters stand in a list, and a
// layer that the model owns and never calls is no target.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "layers/trace.h"
#include "layers/weighted.h"

namespace whittle::inline WHITTLE_PRECISION::prune {

struct Target {
  std::string name;  // of the parameter: "layer1.0.conv1.weight"
  std::string path;  // of the layer:     "layer1.0.conv1"
  WeightedLayer* layer = nullptr;

  Parameter& weight() const { return layer->weight; }
};

struct TargetOptions {
  // Layers by path, or whole parts of the model: "layer1" stands for "layer1.0.conv1" too.
  std::vector<std::string> include{};  // only these, also if one is the last; empty: all
  std::vector<std::string> skip{};
  bool spare_last = true;
};

// Throws if a name fits no layer, or nothing is left.
std::vector<Target> targets(const Trace& trace, const TargetOptions& options = {});
std::vector<Target> targets(Module& model, const Shape& input, const TargetOptions& options = {});

// The paths of the weighted layers that no other weighted layer stands behind: one, or
// several where the result is a sum.
std::vector<std::string> last_layers(const Trace& trace);

}  // namespace whittle::inline WHITTLE_PRECISION::prune
