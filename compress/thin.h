// A thinner net: channels are taken out where the loss needs them least for what they cost.
//
//   importance(c) = mean over batches of (sum over c's layers of y dL/dy)^2
//
// the first-order estimate of the squared change of the loss if channel c gave 0 (Molchanov et al. 2019): y dL/dy is
// gamma dL/dgamma + beta dL/dbeta behind a norm, else w dL/dw + b dL/db over the filter. Channels that are tied go
// together (prune/channels.h) and count together. Again and again the channel goes whose importance for each unit of
// cost it saves is least, until the net costs what it shall.
#pragma once

#include <cstdint>
#include <functional>
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
};
using LayerCost = std::function<double(const LayerSize& layer)>;

// By class of the graph: 0 for those that are fixed. In evaluation mode; gradients are zeros afterwards.
std::vector<double> channel_importance(Module& model, const prune::ChannelGraph& graph, const data::Dataset& data,
                                       int64_t samples);

struct ThinOptions {
  double cost = 0;             // what the layers together may cost
  double most_of_group = 0.5;  // of channels that compete, in one call
  int64_t samples = 1024;      // that importance is found on
};
struct Thinned {
  int64_t channels = 0;  // gone, counted in each layer
  bool reached = false;  // the cost
};

// Changes model and description. `model` has no quantizers, `input` is the shape of a batch of one.
Thinned thin(Module& model, zoo::Description& description, const Shape& input, const data::Dataset& data,
             const LayerCost& cost, const ThinOptions& options);

// Takes the same share of channels out of every group, those with small weights: nets whose ops are measured.
void thin_evenly(Module& model, zoo::Description& description, const Shape& input, double share);

}  // namespace whittle::inline WHITTLE_PRECISION::compress
