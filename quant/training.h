// Quantization-aware training as a plan over the steps of a training:
//
//   w4a4,lsq,observe=0.02,freeze=0.8
//
// observes for the first 2 % of the steps, quantizes from there on, and fixes grids and norms
// at 80 %, so that the last fifth trains exactly what will run. (With batch statistics a net
// learns better; eight bits need but a twentieth without.) The words after the bits may be
//
//   lsq, pact, minmax, average, mse    how ranges are found (pact: of activations, weights by lsq)
//   tensor, channel, group:N           weight grids
//   symmetric                          activations without zero-points
//   edges=8                            bits of the network's input, first and last layer
//   sums=8                             bits of results that only sums and pools read
//   layers=PATH=4+PATH=8a8             bits of single layers: of weights, and of results
//   skip=PATH+PATH                     layers left in float
//   observe=SHARE, freeze=SHARE        of the steps
//   grid=NAME                          weights on another grid (quant/levels.h), from the first step to the last;
//   rounding=NAME, zero, terms=N       how they get there. `w4a0` leaves activations in float
#pragma once

#include <string>
#include <string_view>

#include "layers/module.h"
#include "quant/prepare.h"
#include "quant/spec.h"

namespace whittle::inline WHITTLE_PRECISION::quant {

struct TrainingPlan {
  QuantSpec spec{};
  double observe = 0.02;
  double freeze = 0.8;  // parse_training: 0.95 from 8 bits on

  // Steps are counted from 1 when done; at least one observes.
  int64_t adapt_at(int64_t steps) const;
  int64_t freeze_at(int64_t steps) const;
};

// Usual for the bits: below 8 learned steps (LSQ), edges and sums of 8 bits, from 8 on ranges as they are seen. Throws
// Error in one sentence on what it does not understand.
TrainingPlan parse_training(std::string_view text);

// To be called after every step: changes phases when their time has come.
void after_step(Module& model, const Shape& input, const TrainingPlan& plan, int64_t step, int64_t steps);

}  // namespace whittle::inline WHITTLE_PRECISION::quant
