// Post-training quantization in one call.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "quant/improve.h"
#include "quant/prepare.h"

namespace whittle::inline WHITTLE_PRECISION::quant {

enum class Method : uint8_t {
  kStatic,   // weights and activations on fixed grids: integer arithmetic
  kDynamic,  // integer products; each sample's range is found as it passes
  kHybrid,   // weights on grids, float activations
  kHalf      // weights in binary16, float activations
};
std::string_view name_of(Method method);
Method method_named(std::string_view name);  // "static", "dynamic", "hybrid", "fp16"; throws Error with the names

struct PostTrainingOptions {
  Method method = Method::kStatic;
  QuantSpec spec{};  // kDynamic, kHybrid and kHalf look at what concerns them; `levels` are for kHybrid
  bool equalize = false;
  bool correct_biases = false;
  std::function<void(int64_t samples)> progress{};  // of calibration
};

// What is usual for so many bits: weights per channel, by least error below 8 bits; activations by least error,
// symmetric from 9 bits on.
QuantSpec usual_spec(int weight_bits, int activation_bits);

// Quantizes a float model in place. Calibration data are wanted by kStatic, by correct_biases, and by multi-point that
// looks at the error of outputs.
CalibrationReport quantize(Module& model, const Shape& input, const PostTrainingOptions& options,
                           const Batches& batches = {});

}  // namespace whittle::inline WHITTLE_PRECISION::quant
