// AdaRound: which weights are rounded up and which down is learned, so that each layer's
// output on calibration data changes least (Nagel et al. 2020).
//
//   w~ = S clamp(floor(w / S) + h(V), low, high)     h(V) = clamp(1.2 sigmoid(V) - 0.1, 0, 1)
//   minimise  |act(x^ w~ + b) - act(x w + b)|^2 + lambda mean(1 - |2 h(V) - 1|^beta)
//
// with x what the layer reads in the net in float, x^ what it reads where the layers before it are
// quantized, and beta falling, so that every h ends at 0 or 1. Nothing else of the net is trained and
// no labels are needed.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "quant/improve.h"

namespace whittle::inline WHITTLE_PRECISION::compress {

struct AdaRoundOptions {
  int64_t steps = 1000;    // of Adam, for each layer
  int64_t batch = 256;     // rows of a step
  int64_t per_sample = 8;  // places of each sample that become rows (quant/patches.h)
  double rate = 0.01;
  double regularizer = 1;  // lambda, where the error of nearest rounding is 1 and the sum a mean
  double warm_up = 0.2;    // share of the steps without it
  double beta_begin = 20;
  double beta_end = 2;
  uint64_t seed = 0;
  std::function<void(const std::string& layer)> progress{};  // before each layer
};

// Mean squared errors of a layer's output on its rows, against that of the net in float.
struct RoundedLayer {
  std::string layer;
  double nearest = 0;
  double learned = 0;   // never above nearest: an output channel that gained nothing keeps nearest rounding
  int64_t changed = 0;  // weights whose code is not the nearest
};

// For a frozen model. Raw weights are moved to the middle of their codes' cells, where they are rounded to these codes
// by whoever rounds to nearest, so evaluation, files and programs need to know nothing. Weights of exactly 0 stay.
// Throws Error if there are no data, or no weights of 2 to 16 bits on fixed affine grids.
std::vector<RoundedLayer> adaround(Module& model, const Shape& input, const quant::Batches& batches,
                                   const AdaRoundOptions& options = {});

}  // namespace whittle::inline WHITTLE_PRECISION::compress
