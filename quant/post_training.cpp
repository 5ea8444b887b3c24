#include "quant/post_training.h"

#include <algorithm>
#include <array>
#include <utility>

#include "core/error.h"
#include "layers/fold.h"
#include "quant/half.h"

namespace whittle::inline WHITTLE_PRECISION::quant {

namespace {

constexpr std::array<std::pair<Method, std::string_view>, 4> kMethods{
    {{Method::kStatic, "static"}, {Method::kDynamic, "dynamic"}, {Method::kHybrid, "hybrid"}, {Method::kHalf, "fp16"}}};

}  // namespace

std::string_view name_of(Method method) {
  return std::ranges::find(kMethods, method, &std::pair<Method, std::string_view>::first)->second;
}

Method method_named(std::string_view name) {
  const auto* const found = std::ranges::find(kMethods, name, &std::pair<Method, std::string_view>::second);
  require(found != kMethods.end(), "quantize", "there is no method '", name,
          "'; there are static, dynamic, hybrid and fp16");
  return found->first;
}

QuantSpec usual_spec(int weight_bits, int activation_bits) {
  return {.weights = {.bits = weight_bits,
                      .per = Granularity::kChannel,
                      .range = weight_bits < 8 ? RangeRule::kMse : RangeRule::kMinMax},
          .activations = {.bits = activation_bits,
                          .symmetric = activation_bits > 8,
                          .range = activation_bits > 8 ? RangeRule::kMinMax : RangeRule::kMse}};
}

CalibrationReport quantize(Module& model, const Shape& input, const PostTrainingOptions& options,
                           const Batches& batches) {
  require(!is_quantized(model), "quantize", "the model is quantized already");
  const bool is_static = options.method == Method::kStatic;
  require(batches || !(is_static || options.correct_biases), "quantize",
          is_static ? "static quantization needs calibration data" : "bias correction needs data");
  QuantSpec spec = options.spec;
  if (options.method == Method::kDynamic) {
    spec.activations = {
        .bits = 8, .symmetric = false, .per = Granularity::kChannel, .range = RangeRule::kMinMax, .dynamic = true};
  } else if (!is_static) {
    spec.activations.bits = 0;
  }
  if (options.equalize) {
    equalize(model, input);
  }
  if (options.method == Method::kHalf) {
    prepare_half(model, spec.skip);
    return {};
  }
  prepare(model, input, spec);
  CalibrationReport report;
  if (is_static) {
    report = calibrate(model, batches(), options.progress);
  }
  freeze(model, input);
  if (options.correct_biases) {
    correct_biases(model, input, batches);
  }
  return report;
}

}  // namespace whittle::inline WHITTLE_PRECISION::quant
