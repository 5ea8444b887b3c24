#include "tests/core/some_shape.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

// At least four samples: the gradient of one of them, p - t, may be nearly 0
// everywhere, and its relative error then says nothing.
Shape some_logits(Rng& rng) { return {rng.between(4, 12), rng.uniform() < 0.8 ? some_extent(rng, 12) : 100}; }

// Labels, with or without smoothing, with or without class weights.
OpInstance labels_case(Rng& rng) {
  const Shape shape = some_logits(rng);
  std::vector<int32_t> labels(static_cast<size_t>(shape[0]));
  for (int32_t& label : labels) {
    label = static_cast<int32_t>(rng.below(shape[1]));
  }
  const real smoothing = rng.uniform() < 0.5 ? real(0) : real(0.125);
  std::vector<real> weights(rng.uniform() < 0.5 ? 0 : static_cast<size_t>(shape[1]));
  for (real& weight : weights) {
    weight = static_cast<real>(rng.below(4)) / 2;  // 0 among them
  }
  if (!weights.empty()) {
    weights[static_cast<size_t>(labels[0])] = 1;  // never all 0 over the batch
  }
  return {.description = shape.str() + ", smoothing " + std::to_string(smoothing) + ", " +
                         std::to_string(weights.size()) + " weights",
          .inputs = {some_tensor(rng, shape)},
          .run = [=](std::span<const Variable> in) {
            return cross_entropy(in[0], labels, {.label_smoothing = smoothing, .class_weights = weights});
          }};
}

OpInstance targets_case(Rng& rng) {
  const Shape shape = some_logits(rng);
  const Tensor targets = some_tensor(rng, shape, 0, 1);
  return {.description = shape.str() + " with targets",
          .inputs = {some_tensor(rng, shape)},
          .run = [=](std::span<const Variable> in) { return cross_entropy(in[0], targets); }};
}

OpInstance distillation_case(Rng& rng) {
  const Shape shape = some_logits(rng);
  const Tensor teacher = some_tensor(rng, shape);
  const auto temperature = static_cast<real>(rng.between(1, 16)) / 2;
  return {.description = shape.str() + ", temperature " + std::to_string(temperature),
          .inputs = {some_tensor(rng, shape)},
          .run = [=](std::span<const Variable> in) { return distillation_loss(in[0], teacher, temperature); }};
}

// Two tensors whose difference keeps away from the kinks of l1 (0) and huber (+-0.5).
template <class F>
std::function<OpInstance(Rng&)> difference(F op) {
  return [op](Rng& rng) {
    const Shape shape = some_shape(rng, 0, 4);
    const Tensor target = some_tensor(rng, shape);
    Tensor prediction = tensor_away_from(rng, shape, {-0.5, 0, 0.5}, -2, 2);
    for (int64_t i = 0; i < shape.elements(); ++i) {
      prediction.mutable_data()[i] =
          static_cast<float>(prediction.data()[i] + target.data()[i]);  // a float in both twins
    }
    return OpInstance{.description = shape.str(),
                      .inputs = {prediction, target},
                      .run = [op](std::span<const Variable> in) { return op(in[0], in[1]); }};
  };
}

}  // namespace

std::vector<OpCase> op_cases_loss() {
  // Bounds: about three times the worst of 2400 instances over 60 seeds; 0 where
  // nothing is rounded. distillation_loss takes away the teacher's entropy, which is
  // a hundred times the rest where the temperature is high.
  return {
      {.op = "cross_entropy", .value_bound = 6e-7, .gradient_bound = 1e-6, .make = labels_case},
      {.op = "cross_entropy", .value_bound = 6e-7, .gradient_bound = 1e-6, .make = targets_case},
      {.op = "distillation_loss", .value_bound = 1e-4, .gradient_bound = 3e-6, .make = distillation_case},
      {.op = "mse_loss", .value_bound = 5e-7, .gradient_bound = 4e-7, .make = difference(mse_loss)},
      {.op = "l1_loss", .value_bound = 4e-7, .gradient_bound = 2e-7, .make = difference(l1_loss)},
      {.op = "huber_loss",
       .value_bound = 4e-7,
       .gradient_bound = 3e-7,
       .make = difference([](const Variable& p, const Variable& t) { return huber_loss(p, t, real(0.5)); })},
  };
}

}  // namespace whittle::inline WHITTLE_PRECISION
