// Scores: how much each weight matters. A higher score stays longer.
//
//   magnitude     |w|                                  Han et al. 2015
//   random        uniform in [0, 1), by seed           the control
//   Taylor        mean over batches of |w g|           Molchanov et al. 2017
//   Fisher        mean over batches of w^2 g^2 / 2     Optimal Brain Damage (LeCun et al. 1990) with the empirical
//                                                      Fisher diagonal for the Hessian's (Theis et al. 2018)
//   movement      -sum over training steps of w g      Sanh et al. 2020; may be negative
//   norm scale    |gamma|, per output channel          Liu et al. 2017
//   activation    mean of y^2, per output channel      of the layer's result y, on data
//
// A score is a tensor by the parameter's name: of the weight's shape, or [out] where a
// whole output channel is scored. Which weights go is select.h's business, and so is what
// a block or channel makes of its weights' scores. w is the raw value; what a mask has
// already pruned has a gradient of 0, and is no candidate anyway.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/checkpoint.h"
#include "prune/targets.h"

namespace whittle::inline WHITTLE_PRECISION::prune {

using Scores = std::map<std::string, Tensor>;  // by the parameter's name

Scores magnitude(std::span<const Target> targets);
// Each weight tensor draws from a key of its own name: the same numbers whatever else is scored.
Scores random(std::span<const Target> targets, RngKey key);
// Layers without a norm get no score, and are left alone by a selection.
Scores norm_scale(std::span<const Target> targets);

// Scores that gradients tell. Call add() after each backward() and before the optimizer's
// step, with gradients of one batch: zero_grad() before it.
class GradientScores {
 public:
  enum class Kind { kTaylor, kFisher, kMovement };

  GradientScores(std::span<const Target> targets, Kind kind);

  void add();
  int64_t batches() const { return batches_; }
  Scores scores() const;  // throws before the first add()

  // For trainings that stop and go on: tensors "train/prune.<name>" and a count.
  void store(Checkpoint& checkpoint) const;
  void restore(const Checkpoint& checkpoint);

 private:
  std::vector<Target> targets_;
  Kind kind_;
  std::vector<Tensor> sums_;
  int64_t batches_ = 0;
};

// Energy of activations. While one lives, it watches the results of the targets' layers;
// run the model on data, then ask. Takes the mask's place in the layers' output chains,
// and refuses where that is taken.
class ActivationEnergy {
 public:
  explicit ActivationEnergy(std::span<const Target> targets);
  ~ActivationEnergy();
  ActivationEnergy(const ActivationEnergy&) = delete;
  ActivationEnergy& operator=(const ActivationEnergy&) = delete;

  Scores scores() const;  // throws if a layer was never called

 private:
  class Probe;
  std::vector<Target> targets_;
  std::vector<std::shared_ptr<Probe>> probes_;
};

// The proximal step of L1 regularisation, w = sign(w) max(|w| - threshold, 0), on the raw
// values: after an optimizer's step of rate r, with threshold r * lambda, this is proximal gradient
// descent on loss + lambda |w|_1 (ISTA), and zeros are exact. Those are what
// Mask::of_nonzeros takes. With Adam it is a heuristic: its step is not the gradient's.
void soft_threshold(std::span<const Target> targets, double threshold);

// The population standard deviation of each weight, for thresholds of s sigma. Of the dense
// model: ask before pruning.
std::map<std::string, double> deviations(std::span<const Target> targets);

}  // namespace whittle::inline WHITTLE_PRECISION::prune
