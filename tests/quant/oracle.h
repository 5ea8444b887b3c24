// A whole network in integers, computed from docs/arithmetic.md alone: the answer that a
// frozen model's evaluation has to give, code by code.
//
// Slow and plain. It shares no arithmetic with the product: from the model it takes the
// graph, options, stored numbers and grids, and everything else is worked out here, with
// int64 sums, and with every rounding to binary32 written down as one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/grids.h"
#include "layers/module.h"
#include "layers/weighted.h"

namespace whittle {

struct Codes64 {
  Shape shape;
  std::vector<int64_t> codes;  // empty: the oracle does not know this value (float)
  Grid grid{};
};

// Every value of trace(model, batch.shape()), for a model with static grids.
std::vector<Codes64> oracle_run(Module& model, const Tensor& batch);

// A24: what a convolution or linear layer of dynamic quantization makes of x.
std::vector<float> oracle_dynamic(WeightedLayer& layer, const Tensor& x, const Shape& result);

// Runs model and oracle on a batch, compares what each leaf reads and the result, and says
// what differs: "" if nothing does. `compared` counts codes.
std::string oracle_differences(Module& model, const Tensor& batch, int64_t* compared = nullptr);

}  // namespace whittle
