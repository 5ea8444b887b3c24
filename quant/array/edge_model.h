// A whole network through one of Edge's quantizers (edge.h).
//
//   edge_quantize(*model, {.method = parse_edge_method("rr:uniform"), .bits = 4});
//
// Every trainable tensor's raw values are replaced by quantized ones: first and last
// layer, biases, and batch norm's gamma and beta too, which is half of what went
// wrong. Running statistics stay. Level sets are made per layer from weight and bias
// together, and from gamma and beta together; mid-rise takes each tensor alone.
// Multi-point leaves out the first tensor of the network and every bias and beta, so
// that it does quantize the last layer.
#pragma once

#include <optional>

#include "layers/module.h"
#include "quant/array/edge.h"

namespace whittle::inline WHITTLE_PRECISION::quant::edge {

struct EdgeOptions {
  Method method{};
  int bits = 8;                // 1 to 16
  uint64_t seed = 0;           // of stochastic rounding and of multi-point's candidates
  std::optional<int> terms{};  // of multi-point: bits + 1
};

// Nothing changes if it throws: a layer without a bias (Edge had none), a parameter that
// is masked or quantized already, bits out of range, values that are not finite. The
// result of mid-rise may hold NaN, as Edge's did.
void edge_quantize(Module& model, const EdgeOptions& options);

}  // namespace whittle::inline WHITTLE_PRECISION::quant::edge
