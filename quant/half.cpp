#include "quant/half.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "core/error.h"
#include "core/json.h"
#include "layers/fold.h"
#include "layers/weighted.h"
#include "quant/spec.h"

namespace whittle::inline WHITTLE_PRECISION::quant {

float to_half(float x) {
  constexpr float kMost = 65520;  // from here on the nearest is infinity
  constexpr float kNormal = 0x1p-14F;
  const float magnitude = std::abs(x);
  if (!(magnitude < kMost)) {
    return std::isnan(x) ? x : std::copysign(INFINITY, x);
  }
  // Spacing of the numbers around x: 11 significant bits, and 2^-24 below the normal ones.
  const float unit = magnitude < kNormal ? 0x1p-24F : std::ldexp(1.0F, std::ilogb(magnitude) - 10);
  const float steps = magnitude / unit;  // exact, at most 2048
  return std::copysign(std::nearbyint(steps) * unit, x);
}

uint16_t half_bits(float x) {
  const float half = to_half(x);
  const auto sign = static_cast<uint16_t>(std::signbit(half) ? 0x8000 : 0);
  const float magnitude = std::abs(half);
  if (std::isnan(half)) {
    return 0x7e00;
  }
  if (std::isinf(half)) {
    return static_cast<uint16_t>(sign | 0x7c00);
  }
  if (magnitude < 0x1p-14F) {
    return static_cast<uint16_t>(sign | static_cast<uint16_t>(magnitude * 0x1p24F));
  }
  const int exponent = std::ilogb(magnitude);
  const auto fraction = static_cast<int>(std::ldexp(magnitude, 10 - exponent)) - 1024;
  return static_cast<uint16_t>(sign | (exponent + 15) << 10 | fraction);
}

Variable Half::apply(const Variable& x) {
  Tensor y = Tensor::empty(x.shape());
  for (int64_t i = 0; i < x.value().elements(); ++i) {
    const float rounded = to_half(static_cast<float>(x.value().data()[i]));
    require(std::isfinite(rounded), "half", "the weight ", x.value().data()[i], " is beyond binary16");
    y.mutable_data()[i] = static_cast<real>(rounded);
  }
  return make_op("half", std::move(y), {x}, [](const Tensor& g) -> Gradients { return {g}; });
}

Json Half::spec() const { return Json::object(); }

void prepare_half(Module& model, const std::vector<std::string>& skip) {
  const std::vector<NamedModule> modules = model.modules();
  for (const std::string& pattern : skip) {
    require(std::ranges::any_of(modules, [&](const NamedModule& m) { return matches({pattern}, m.name); }), "quantize",
            "skip '", pattern, "' fits no layer of the model");
  }
  fold_norms(model);
  for (const auto& [path, module] : modules) {
    auto* const layer = dynamic_cast<WeightedLayer*>(module);
    if (layer != nullptr && !matches(skip, path)) {
      layer->weight.chain.attach(std::make_shared<Half>());
    }
  }
}

void add_half_kind(TransformKinds& kinds) {
  kinds.add("half", [](const Json&, const Shape&) { return std::make_shared<Half>(); });
}

}  // namespace whittle::inline WHITTLE_PRECISION::quant
