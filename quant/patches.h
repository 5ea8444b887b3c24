// What convolutions and linear layers read on calibration data, as rows that a weight is
// multiplied with: a sample of the places at which a layer computes.
//
// A layer's sum over its rows is a small matrix product, so fitting a weight to its outputs
// (AdaRound, multi-point by output error) costs little however large the pictures are.
#pragma once

#include <cstdint>
#include <map>
#include <span>

#include "layers/weighted.h"
#include "quant/improve.h"

namespace whittle::inline WHITTLE_PRECISION::quant {

struct PatchOptions {
  int64_t per_sample = 8;  // places of each sample; a linear layer has one
  uint64_t seed = 0;
};

// Rows [n, kh, kw, in] of a convolution, zeros where it reads padding, and [n, 1, 1, in] of a linear layer, for each of
// `layers`. Which places they come from depends on the seed, the layer's path and the sample's number alone, so that a
// model in float and the same model quantized give rows of the same places. The model runs in evaluation mode.
// Throws Error if there are no data.
std::map<const WeightedLayer*, Tensor> sampled_patches(Module& model, const Batches& batches,
                                                       std::span<WeightedLayer* const> layers,
                                                       const PatchOptions& options = {});

// sum(row, weight) for each row and output channel, [n, out], without bias, norm and activation.
Variable sums_over(const WeightedLayer& layer, const Tensor& patches, const Variable& weight);

}  // namespace whittle::inline WHITTLE_PRECISION::quant
