// Stochastic gradient descent: plain, with momentum, with Nesterov's momentum.
#pragma once

#include <vector>

#include "optim/optimizer.h"

namespace whittle::inline WHITTLE_PRECISION::optim {

struct SgdOptions {
  double rate = 0.1;
  double momentum = 0;
  bool nesterov = false;
  double weight_decay = 0;
  bool decoupled = false;     // decay shrinks the weight instead of joining the gradient
  bool decay_vectors = true;  // false: biases and norm parameters (rank 0 and 1) do not decay
  DecayRule decays{};         // a further choice by name or shape
};

// For each parameter with value w, gradient g and velocity v (initially 0):
//
//   g' = g + weight_decay w                                  coupled decay: part of the loss
//   v  = momentum v + g'
//   w  = w - rate v            or, with nesterov,   w - rate (g' + momentum v)
//
// Decoupled (Loshchilov and Hutter 2019, SGDW): g' = g, and the last line starts
// from (1 - rate weight_decay) w, so that decay does not gather momentum.
//
// Nesterov's form is that of Sutskever et al. 2013 rewritten for gradients taken
// at w itself. The rate multiplies v and is not inside it, so a change of rate
// acts at once. Without momentum there is no velocity, in memory or in checkpoints.
class Sgd : public Optimizer {
 public:
  Sgd(std::vector<NamedParameter> parameters, const SgdOptions& options);

 private:
  void update(const Slice& slice) const override;

  double momentum_;
  bool nesterov_;
  bool decoupled_;
};

}  // namespace whittle::inline WHITTLE_PRECISION::optim
