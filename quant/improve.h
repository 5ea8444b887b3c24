// What post-training quantization does beside choosing ranges: evening out the weights of
// neighbouring layers, taking back the mean error, and finding out which layer hurts.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "layers/module.h"
#include "quant/prepare.h"

namespace whittle::inline WHITTLE_PRECISION::quant {

// Cross-layer equalization (Nagel et al. 2019). Where the result of one convolution or linear layer, through a ReLU or
// nothing, is read by one other alone, channel c of the first is divided and that of the second multiplied by
//   s[c] = sqrt(r1[c] / r2[c]),  r the largest |w| of the channel,
// after which both have the range sqrt(r1 r2). The model computes what it did. Returns how many pairs were evened out.
// Run it on float models; norms are folded on the way.
int64_t equalize(Module& model, const Shape& input, int rounds = 10);

// Bias correction: adds to each bias what quantizing the weight has taken from the mean of the layer's sum,
//   b[o] += mean over data of (sum(x, w) - sum(x, quantized w))[o],
// with x as the quantized layers before it give. For a frozen model. `batches` starts the data anew at each call.
using Batches = std::function<std::function<Tensor()>()>;
void correct_biases(Module& model, const Shape& input, const Batches& batches);

// How much one layer alone, quantized in an otherwise float model, disturbs the result.
struct Sensitivity {
  std::string layer;
  double sqnr = 0;    // decibels: 10 log10 of sum y^2 / sum (y - y_quantized)^2
  double metric = 0;  // what `metric` gave
};
// For a frozen model; all quantizers are on again afterwards. `metric` may be empty.
std::vector<Sensitivity> sensitivities(Module& model, const Batches& batches,
                                       const std::function<double()>& metric = {});

}  // namespace whittle::inline WHITTLE_PRECISION::quant
