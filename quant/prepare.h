// Plugging quantizers into a model, letting them see data, and fixing what they found.
//
//   prepare(model, shape, spec);                 // still computes what it did
//   calibrate(model, batches);                   // observers watch
//   freeze(model, shape);                        // int8 from here on
//
// and for quantization-aware training
//
//   prepare(model, shape, spec, {.live_norms = true});
//   ... some steps ...  adapt(model);  ... training ...  freeze(model, shape);  ... a little more ...
//
// The trace says where: on the model's input, on the weight and the result of every
// convolution and linear layer, on the results of additions, average pools, concatenations
// and other functions. What only moves values (max-pool, flatten, dropout, ReLU) keeps
// the grid it is given. Norms inside layers are folded first (layers/fold.h). A learned clip
// (PACT) cuts at 0, so it goes where a ReLU ends a leaf; elsewhere ranges are moving averages.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "layers/weighted.h"
#include "quant/fake_quant.h"
#include "quant/spec.h"

namespace whittle::inline WHITTLE_PRECISION::quant {

struct PrepareOptions {
  bool live_norms = false;  // keep training with batch statistics until freeze()
};

// Throws Error, changing nothing, if the spec makes no sense, a name in `skip` fits no layer, a leaf is called twice or
// is quantized already, or the model computes something outside its leaves.
void prepare(Module& model, const Shape& input, const QuantSpec& spec, const PrepareOptions& options = {});

// Every quantizer with its owner: "conv1.weight", "conv1/output".
struct NamedQuantizer {
  std::string name;
  FakeQuant* quantizer;
};
std::vector<NamedQuantizer> quantizers(Module& model);

// A quantizer for which one sample alone has stretched the range.
struct RangeWarning {
  std::string name;
  double ratio = 1;  // of its largest number to that of the next sample
};
struct CalibrationReport {
  int64_t samples = 0;
  std::vector<RangeWarning> warnings;  // ratios above 2
};

// Runs the model over batches, in evaluation mode, until `next` gives an undefined one. `progress` is told how many
// samples have passed. Throws Error if there are none, or on NaN.
CalibrationReport calibrate(Module& model, const std::function<Tensor()>& next,
                            const std::function<void(int64_t samples)>& progress = {});

// Begins to quantize: from observing to adapting.
void adapt(Module& model);

// Folds are frozen and grids fixed. Where a bias would not fit into its integer, the weight's scale is raised (A5).
void freeze(Module& model, const Shape& input);

// By FakeQuant or Half.
bool is_quantized(Module& model);
// Takes all quantizers away; folds remain.
void strip(Module& model);

// What a weight is before it is quantized: masked and folded.
Variable unquantized_weight(WeightedLayer& layer);

}  // namespace whittle::inline WHITTLE_PRECISION::quant
