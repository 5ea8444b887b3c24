// A smaller net: channels are taken out, and weights of layers stored in fewer bits, where the loss minds least for
// what it saves.
//
//   importance(c) = mean over batches of (sum over c's layers of y dL/dy)^2
//
// the first-order estimate of the squared change of the loss if channel c gave 0 (Molchanov et al. 2019): y dL/dy is
// gamma dL/dgamma + beta dL/dbeta behind a norm, else w dL/dw + b dL/db over the filter. Channels that are tied go
// together (prune/channels.h) and count together. Rounding the weights of a layer to 4 bits is measured the same way:
//
//   importance(l) = mean over batches of (sum over weights (rounded(w) - w) dL/dw)^2
//
// Again and again that is done whose importance for each unit of cost it saves is least, until the net costs what it
// shall.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "datasets/dataset.h"
#include "layers/zoo/zoo.h"
#include "prune/channels.h"

namespace whittle::inline WHITTLE_PRECISION::compress {

// What a layer of a thinned net costs.
struct LayerSize {
  std::string path;
  double weights = 0;
  double macs = 0;
  double out = 0;  // channels
  int bits = 8;    // of a weight
};
using LayerCost = std::function<double(const LayerSize& layer)>;

// How many bits weights may come down to, from eight.
inline constexpr int kFewBits = 4;
using WeightBits = std::map<std::string, int>;  // of layers that do not have 8, by path

// Both in evaluation mode, on samples spread over the data; gradients are zeros afterwards.
struct Importance {
  std::vector<double> channels;  // by class of the graph: 0 for those that are fixed
  std::vector<double> rounding;  // by layer of the graph: 0 for those without weights
};
Importance importance_of(Module& model, const prune::ChannelGraph& graph, const data::Dataset& data, int64_t samples);

struct ThinOptions {
  double cost = 0;             // what the layers together may cost
  double most_of_group = 0.5;  // of channels that compete, in one call
  int64_t samples = 1024;      // that importance is found on
};
struct Thinned {
  int64_t channels = 0;  // gone, counted in each layer
  int64_t layers = 0;    // that have fewer bits now
  bool reached = false;  // the cost
};

// Changes model, description and bits. `model` has no quantizers, `input` is the shape of a batch of one.
Thinned thin(Module& model, zoo::Description& description, WeightBits& bits, const Shape& input,
             const data::Dataset& data, const LayerCost& cost, const ThinOptions& options);

// Takes the same share of channels out of every group, those with small weights: nets whose ops are measured.
void thin_evenly(Module& model, zoo::Description& description, const Shape& input, double share);

}  // namespace whittle::inline WHITTLE_PRECISION::compress
