// Small nets for pruning tests.
#pragma once

#include <memory>

#include "core/ops.h"
#include "layers/conv2d.h"
#include "layers/linear.h"
#include "layers/sequential.h"
#include "prune/mask.h"

namespace whittle::inline WHITTLE_PRECISION {

// conv1 3->8 (norm, relu), conv2 8->6 (bias), pool, fc 6->3, for [N,5,5,3].
inline std::unique_ptr<Sequential> small_net(uint64_t seed) {
  auto model = std::make_unique<Sequential>();
  model->add<Input>("input");
  model->add<Conv2d>("conv1", {.in = 3, .out = 8, .padding = Padding::all(1), .norm = true, .act = Act::kRelu});
  model->add<Conv2d>("conv2", {.in = 8, .out = 6, .padding = Padding::all(1), .act = Act::kRelu});
  model->add<GlobalAvgPool>("pool");
  model->add<Linear>("fc", {.in = 6, .out = 3});
  initialize(*model, {.seed = seed});
  return model;
}
inline const Shape kSmallInput{1, 5, 5, 3};

// A mask with about this share of zeros.
inline prune::Mask random_mask(const Shape& shape, RngKey key, double share) {
  prune::Mask mask = prune::Mask::ones(shape);
  for (size_t i = 0; i < mask.keep.size(); ++i) {
    mask.keep[i] = uniform(key, i) < share ? 0 : 1;
  }
  return mask;
}

// Gradients of a loss that depends on every output unequally.
inline void some_gradients(Module& model, const Shape& batch, RngKey key) {
  for (const NamedParameter& named : model.all_parameters()) {
    named.parameter->raw.zero_grad();
  }
  const Variable y = model(Tensor::normal(batch, key.child("x")));
  backward(sum(mul(y, mul(y, Tensor::uniform(y.shape(), key.child("g"), real(0.5), real(1.5))))));
}

}  // namespace whittle::inline WHITTLE_PRECISION
