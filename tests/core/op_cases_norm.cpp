#include <cmath>

#include "tests/core/op_cases.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

struct NormInputs {
  Tensor x, gamma, beta;
  Tensor mean, variance;  // for evaluation
  Tensor residual{};      // often undefined
  real epsilon;
  Act act;
  std::string description;
};

// Two conditions make the derivative measurable by differences. Each channel has a deviation near 1: rows alternate
// about -1 and +1, or the curvature of 1 / sqrt(variance) would swamp the estimate. And nothing lies near a kink of
// the activation: beta is drawn again until its channel keeps 0.03 away. All in double, so that both twins draw alike.
// Betas of 0.5 and more leave every channel an output that large, for errors to be relative to.
NormInputs some_norm(Rng& rng, bool training) {
  const int64_t rank = rng.between(2, 4);
  Shape shape{rng.between(2, 12), some_channels(rng)};
  if (rank == 3) {
    shape = {some_extent(rng, 3), shape[0], shape[1]};
  } else if (rank == 4) {
    shape = {some_extent(rng, 2), some_extent(rng, 3), shape[0], shape[1]};
  }
  const int64_t channels = shape[-1];
  const int64_t rows = shape.elements() / channels;
  NormInputs in{.x = Tensor::empty(shape),
                .gamma = some_tensor(rng, {channels}),
                .beta = Tensor::empty({channels}),
                .mean = some_tensor(rng, {channels}, -0.3, 0.3),
                .variance = some_tensor(rng, {channels}, 0.5, 3),
                .epsilon = static_cast<real>(rng.uniform() < 0.5 ? 0x1p-17 : 0x1p-7),
                .act = static_cast<Act>(rng.below(3)),
                .description = ""};
  if (rng.uniform() < 0.4) {
    in.residual = Tensor::empty(shape);
  }
  in.description =
      (in.residual.defined() ? "residual " : "") + shape.str() + " act " + std::to_string(static_cast<int>(in.act));
  for (int64_t i = 0; i < shape.elements(); ++i) {
    const double sign = i / channels % 2 == 0 ? 1 : -1;
    in.x.mutable_data()[i] = static_cast<real>(static_cast<float>(sign + rng.uniform(-0.6, 0.6)));
  }
  for (int64_t c = 0; c < channels; ++c) {
    std::vector<double> h;
    for (int64_t r = 0; r < rows; ++r) {
      h.push_back(static_cast<double>(in.x.data()[r * channels + c]));
    }
    double mean = static_cast<double>(in.mean.data()[c]);
    double variance = static_cast<double>(in.variance.data()[c]);
    if (training) {
      mean = variance = 0;
      for (const double v : h) {
        mean += v / static_cast<double>(rows);
      }
      for (const double v : h) {
        variance += (v - mean) * (v - mean) / static_cast<double>(rows);
      }
    }
    const auto near_a_kink = [&](double beta) {
      for (const double v : h) {
        const double t = static_cast<double>(in.gamma.data()[c]) * (v - mean) /
                             std::sqrt(variance + static_cast<double>(in.epsilon)) +
                         beta;
        if (std::abs(t) < 0.03 || std::abs(t - 6) < 0.03) {
          return true;
        }
      }
      return false;
    };
    double beta = 0;
    do {
      beta = static_cast<double>(static_cast<float>(rng.uniform(0.5, 7)));
    } while (near_a_kink(beta));
    in.beta.mutable_data()[c] = static_cast<real>(beta);
    for (int64_t r = 0; in.residual.defined() && r < rows; ++r) {
      const double t = static_cast<double>(in.gamma.data()[c]) * (h[static_cast<size_t>(r)] - mean) /
                           std::sqrt(variance + static_cast<double>(in.epsilon)) +
                       beta;
      double added = 0;
      do {
        added = static_cast<double>(static_cast<float>(rng.uniform(-2, 2)));
      } while (std::abs(t + added) < 0.03 || std::abs(t + added - 6) < 0.03);
      in.residual.mutable_data()[r * channels + c] = static_cast<real>(added);
    }
  }
  return in;
}

std::vector<Tensor> inputs_of(const NormInputs& in) {
  std::vector<Tensor> inputs{in.x, in.gamma, in.beta};
  if (in.residual.defined()) {
    inputs.push_back(in.residual);
  }
  return inputs;
}

// Powers of two of either sign: what is multiplied by them keeps its bits, and its distance from kinks.
Tensor some_scale(Rng& rng, int64_t channels) {
  Tensor scale = Tensor::empty({channels});
  for (int64_t c = 0; c < channels; ++c) {
    scale.mutable_data()[c] =
        static_cast<real>(std::ldexp(rng.uniform() < 0.5 ? 1 : -1, static_cast<int>(rng.between(-2, 2))));
  }
  return scale;
}

Variable residual_of(std::span<const Variable> inputs) { return inputs.size() > 3 ? inputs[3] : Variable(); }

}  // namespace

// Bounds: about three times the worst of 1800 instances over 45 seeds; sums have at most 72 terms.
std::vector<OpCase> op_cases_norm() {
  return {
      {.op = "batch_norm_train",
       .value_bound = 5e-7,
       .gradient_bound = 9e-7,
       .make =
           [](Rng& rng) {
             const NormInputs in = some_norm(rng, true);
             return OpInstance{
                 .description = in.description, .inputs = inputs_of(in), .run = [in](std::span<const Variable> v) {
                   return batch_norm_train(v[0], v[1], v[2], in.epsilon, in.act, residual_of(v)).y;
                 }};
           }},
      {.op = "batch_norm_train_scaled",  // of x times numbers of either sign, as where norms are folded
       .value_bound = 9e-7,
       .gradient_bound = 2e-6,
       .make =
           [](Rng& rng) {
             NormInputs in = some_norm(rng, true);
             in.residual = Tensor();
             const Tensor scale = some_scale(rng, in.x.dim(-1));
             std::vector<Tensor> inputs = inputs_of(in);
             for (int64_t i = 0; i < in.x.elements(); ++i) {
               inputs[0].mutable_data()[i] *= scale.data()[i % in.x.dim(-1)];
             }
             return OpInstance{.description = in.description,
                               .inputs = std::move(inputs),
                               .run = [in, scale](std::span<const Variable> v) {
                                 return batch_norm_train_scaled(v[0], scale, v[1], v[2], in.epsilon, in.act).y;
                               }};
           }},
      {.op = "batch_norm_eval",
       .value_bound = 5e-7,
       .gradient_bound = 9e-7,
       .make =
           [](Rng& rng) {
             const NormInputs in = some_norm(rng, false);
             return OpInstance{
                 .description = in.description, .inputs = inputs_of(in), .run = [in](std::span<const Variable> v) {
                   return batch_norm_eval(v[0], v[1], v[2], in.mean, in.variance, in.epsilon, in.act, residual_of(v));
                 }};
           }},
  };
}

}  // namespace whittle::inline WHITTLE_PRECISION
