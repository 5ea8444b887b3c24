// Pruning as the Edge project (2020) did it, to compare with its tables. For anything
// else take select(): this one is kept with its faults, which its numbers depend on.
//
// Per tensor: magnitudes get dense ranks 0..R (equal ones share a rank), and every entry of rank at most
// t = ceil(R fraction) becomes 0. What follows from that:
//
//   - at 0 % the smallest entry of each tensor goes all the same
//   - of few distinct magnitudes, as in a quantized tensor, a share of the levels goes and not of
//     the weights: at 4 bits "20 %" is about half of them
//   - it runs over all tensors but the very last one, the output's bias: biases, norm
//     parameters and the output weight are pruned too, and on a CPU running statistics as well
//   - zeros are written into the weights; there is no mask, and training would revive them
#pragma once

#include <array>
#include <functional>

#include "layers/module.h"

namespace whittle::inline WHITTLE_PRECISION::prune {

// The percentages of its tables: of 15 November 2020, and those that 20 November added (dense nets, FMNIST ResNet-9).
inline constexpr std::array kEdgePercentages{0, 25, 50, 60, 70, 80, 90, 95, 97, 99};
inline constexpr std::array kEdgeMorePercentages{5, 10, 15, 20, 30, 35, 40, 45};

struct EdgePruneOptions {
  double fraction = 0.2;                    // in [0, 1]
  bool running_statistics = true;           // as on its CPU; on its GPU they stayed whole
  std::function<void(Module&)> quantize{};  // called before pruning: its tables "pruned 20 %" quantize first
};

// In place. Refuses, before anything changes, a model with masks or other transforms and
// values that are not numbers.
void edge_prune(Module& model, const EdgePruneOptions& options = {});

// The tensor without its lowest ranks.
Tensor without_lowest_ranks(const Tensor& x, double fraction);

}  // namespace whittle::inline WHITTLE_PRECISION::prune
