// How much each layer bears: one layer (or, for channels, one group of coupled layers) is
// pruned at a time, by several amounts, everything else stays whole, and someone measures.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "prune/select.h"

namespace whittle::inline WHITTLE_PRECISION::prune {

struct Sensitivity {
  std::string layers;  // "conv1", or "conv1 + layer1.0.conv2"
  double amount = 0;   // asked for
  int64_t elements = 0;
  int64_t pruned = 0;  // weights of these layers that were gone while it was measured
  double value = 0;    // what was measured
};

// Row by row in the order of layers, then of amounts. The masks that the model has stay on
// while others are tried, and are all it has afterwards, also if something throws.
std::vector<Sensitivity> sensitivity(Module& model, const Shape& input, std::span<const Target> targets,
                                     const Scores& scores, const SelectOptions& options,
                                     std::span<const double> amounts, const std::function<double()>& measure);

}  // namespace whittle::inline WHITTLE_PRECISION::prune
