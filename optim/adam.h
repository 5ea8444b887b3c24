// Adam and AdamW: steps of about equal size for every weight, whatever the scale
// of its gradients.
#pragma once

#include <vector>

#include "optim/optimizer.h"

namespace whittle::inline WHITTLE_PRECISION::optim {

struct AdamOptions {
  double rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0;
  bool decoupled = false;     // what makes it AdamW
  bool decay_vectors = true;  // false: biases and norm parameters (rank 0 and 1) do not decay
  DecayRule decays{};         // a further choice by name or shape
};

// For each parameter with value w, gradient g and moments m, v (initially 0), at
// its t-th update (Kingma and Ba 2015, Algorithm 1):
//
//   g' = g + weight_decay w                                  coupled decay
//   m  = beta1 m + (1 - beta1) g'
//   v  = beta2 v + (1 - beta2) g'^2
//   w  = w - rate m^ / (sqrt(v^) + epsilon)     with m^ = m / (1 - beta1^t), v^ = v / (1 - beta2^t)
//
// m and v start at 0 and are too small at first; m^ and v^ correct for that. t
// counts the updates of this parameter, so one that receives its first gradient
// late is corrected like any other.
class Adam : public Optimizer {
 public:
  Adam(std::vector<NamedParameter> parameters, const AdamOptions& options);

 private:
  void update(const Slice& slice) const override;

  double beta1_;
  double beta2_;
  double epsilon_;
  bool decoupled_;
};

struct AdamWOptions {
  double rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.01;
  bool decay_vectors = true;
  DecayRule decays{};
};

// Adam with decoupled decay (Loshchilov and Hutter 2019): g' = g, and the last
// line starts from (1 - rate weight_decay) w. Adam divides coupled decay by
// sqrt(v^) with the rest of the gradient, so that weights with large gradients
// hardly decay; here all decay alike.
class AdamW : public Adam {
 public:
  AdamW(std::vector<NamedParameter> parameters, const AdamWOptions& options);
};

}  // namespace whittle::inline WHITTLE_PRECISION::optim
