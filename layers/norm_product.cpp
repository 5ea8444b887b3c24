#include "layers/norm_product.h"

#include <algorithm>
#include <cmath>

#include "core/ops.h"

namespace whittle::inline WHITTLE_PRECISION {

NormProduct norm_product(const Norm& norm, float sx) {
  constexpr int32_t kHighest = 127;
  const NoGrad no_grad;
  const Tensor gamma = norm.gamma.value().value();
  const Tensor beta = norm.beta.value().value();
  const int64_t channels = gamma.elements();
  Tensor weight = Tensor::empty({channels, 1, 1, 1});
  Tensor bias = Tensor::empty({channels});
  float largest = 0;
  for (int64_t c = 0; c < channels; ++c) {
    const auto at = [c](const Tensor& of) { return static_cast<float>(of.data()[c]); };
    const float deviation = std::sqrt(at(norm.running_variance) + static_cast<float>(norm.options.epsilon));
    const float w = at(gamma) / deviation;
    weight.mutable_data()[c] = static_cast<real>(w);
    bias.mutable_data()[c] = static_cast<real>(at(beta) - at(norm.running_mean) * w);
    largest = std::max(largest, std::abs(w));
  }
  Grids grids;
  for (int64_t c = 0; c < channels; ++c) {
    const float own = std::abs(static_cast<float>(weight.data()[c]));
    constexpr auto kTop = static_cast<float>(kHighest);
    const float scale = largest < arithmetic::kNothing ? 1 : arithmetic::floored_scale(own / kTop, largest / kTop);
    grids.push_back(
        {arithmetic::scale_with_room(scale, static_cast<float>(bias.data()[c]), sx), 0, -kHighest, kHighest});
  }
  return {fake_quant(Variable(weight), make_grids(std::move(grids))), Variable(bias)};
}

}  // namespace whittle::inline WHITTLE_PRECISION
