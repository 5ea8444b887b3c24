#include "quant/post_training.h"

#include <algorithm>
#include <array>
#include <map>
#include <utility>
#include <vector>

#include "core/error.h"
#include "layers/fold.h"
#include "quant/half.h"
#include "quant/levels.h"
#include "quant/patches.h"

namespace whittle::inline WHITTLE_PRECISION::quant {

namespace {

constexpr std::array<std::pair<Method, std::string_view>, 4> kMethods{
    {{Method::kStatic, "static"}, {Method::kDynamic, "dynamic"}, {Method::kHybrid, "hybrid"}, {Method::kHalf, "fp16"}}};

// The mean square of a run's share in its output, over rows of what the layer reads, as a fraction of the mean square
// of all outputs.
array::GroupError output_error(const WeightedLayer& layer, const Tensor& patches, const Tensor& weight, int64_t runs) {
  const Tensor sums = sums_over(layer, patches, Variable(weight)).value();
  double power = 0;
  for (const real y : sums.values()) {
    power += static_cast<double>(y) * static_cast<double>(y);
  }
  power /= static_cast<double>(sums.elements());
  const int64_t n = patches.dim(0);
  const int64_t inputs = patches.elements() / n / patches.dim(-1);  // positions of the window
  const int64_t read = weight.dim(-1);                              // channels of each that an output channel reads
  const int64_t channels = patches.dim(-1);
  const int64_t per_group = weight.dim(0) * read / channels;  // output channels that read the same inputs
  const int64_t length = weight.elements() / runs;
  const int64_t row = inputs * read;
  return [=](int64_t run, std::span<const float> residual) {
    double most = 0;  // of the output channels that the run is part of
    for (int64_t begin = 0; begin < length;) {
      const int64_t at = run * length + begin;  // in the weight
      const int64_t out = at / row;
      const int64_t first = at % row;
      const int64_t count = std::min(length - begin, row - first);
      const int64_t offset = read == channels ? 0 : out / per_group * read;
      double sum = 0;
      for (int64_t k = 0; k < n; ++k) {
        const real* const x = patches.data() + k * inputs * channels;
        double y = 0;
        for (int64_t i = 0; i < count; ++i) {
          const int64_t j = first + i;
          y += static_cast<double>(x[j / read * channels + offset + j % read]) *
               static_cast<double>(residual[static_cast<size_t>(begin + i)]);
        }
        sum += y * y;
      }
      most = std::max(most, sum / static_cast<double>(n));
      begin += count;
    }
    return power > 0 ? most / power : 0;
  };
}

// Weights on the levels that are found for them now.
void fix_levels(Module& model, const PostTrainingOptions& options, const Batches& batches) {
  std::vector<WeightedLayer*> layers;
  for (const auto& [path, module] : model.modules()) {
    auto* const layer = dynamic_cast<WeightedLayer*>(module);
    if (layer != nullptr && layer->weight.chain.find<Levels>() != nullptr) {
      layers.push_back(layer);
    }
  }
  const NoGrad no_grad;
  std::map<const WeightedLayer*, Tensor> patches;
  if (options.spec.levels->output_error.has_value()) {
    for (WeightedLayer* const layer : layers) {
      layer->weight.chain.find<Levels>()->turn(false);  // errors are measured where the net in float computes
    }
    patches = sampled_patches(model, batches, layers, {.per_sample = 2});
  }
  for (WeightedLayer* const layer : layers) {
    auto* const levels = layer->weight.chain.find<Levels>();
    const Tensor weight = unquantized_weight(*layer).value();
    levels->turn(true);
    levels->fix(levels->quantized(weight, patches.empty()
                                              ? array::GroupError()
                                              : output_error(*layer, patches.at(layer), weight, levels->runs())));
  }
}

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
  const bool by_output = options.spec.levels.has_value() && options.spec.levels->output_error.has_value();
  require(!options.spec.levels.has_value() || options.method == Method::kHybrid, "quantize",
          "grids beside the affine one are for weights alone, which is the method hybrid, not ",
          name_of(options.method));
  if (options.spec.levels.has_value()) {
    check(*options.spec.levels, options.spec.weights);
  }
  require(batches || !(is_static || options.correct_biases || by_output), "quantize",
          is_static   ? "static quantization needs calibration data"
          : by_output ? "multi-point by the error of outputs needs calibration data"
                      : "bias correction needs data");
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
  if (options.spec.levels.has_value()) {
    fix_levels(model, options, batches);
  }
  if (options.correct_biases) {
    correct_biases(model, input, batches);
  }
  return report;
}

}  // namespace whittle::inline WHITTLE_PRECISION::quant
