// Knowledge distillation (Hinton, Vinyals and Dean 2015): a network learns what another one answers, with all of its
// doubts, and not the labels alone.
//
//   loss = (1 - a) CE(labels, softmax(s)) + a T^2 KL(softmax(t / T) || softmax(s / T))
//
// s: the student's logits, t: the teacher's, T: the temperature, a: the teacher's share. T^2 keeps the size of the
// second gradient, which would fall with 1 / T^2. For classes. The second loss is distillation_loss() of core/ops.h.
#pragma once

#include "datasets/dataset.h"
#include "layers/module.h"

namespace whittle::inline WHITTLE_PRECISION {

struct Distillation {
  Module* teacher = nullptr;  // null: nobody teaches. Its mode and weights stay as they are
  double share = 0.5;         // a, in (0, 1]
  double temperature = 4;     // T > 0
};

// Throws Error if a number is out of range.
void check_distillation(const Distillation& distillation);

// What the teacher answers, in evaluation.
Tensor taught(const Distillation& distillation, const Tensor& inputs);

}  // namespace whittle::inline WHITTLE_PRECISION
