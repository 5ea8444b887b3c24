// Batch normalisation over the last axis: inside a convolution or linear layer as
// `Norm`, or standing alone as the leaf `BatchNorm`.
//
// In training mode the statistics of the batch are used, and running averages of
// them learned; in evaluation mode the running ones are constants.
#pragma once

#include "layers/module.h"

namespace whittle::inline WHITTLE_PRECISION {

struct NormOptions {
  double epsilon = 1e-5;
  double momentum = 0.1;  // weight of a new batch in the running statistics
};

// What a leaf with a batch norm owns. Default-constructed: no norm.
struct Norm {
  Norm() = default;
  Norm(int64_t channels, const NormOptions& options);

  Parameter gamma, beta;                  // [C]
  Tensor running_mean, running_variance;  // [C], the variance unbiased

  bool defined() const { return gamma.defined(); }
  void resize(int64_t channels);  // and as new
  void reset();                   // gamma 1, beta 0, mean 0, variance 1
  // act(gamma (x - mean) / sqrt(variance + epsilon) + beta)
  Variable apply(const Variable& x, Act act, bool training);

  // For folds (layers/fold.h). factor() = gamma / sqrt(running variance + epsilon), and
  // shift(b) = beta + (b - running mean) factor(); an undefined b counts as 0.
  Variable factor() const;
  Variable shift(const Variable& bias) const;
  // factor() as a constant, for a gamma of 1 where it is 0 and of at least 2^-20 elsewhere, so that one can divide by
  // it; and what apply() gives in training for x / factor.
  Tensor constant_factor() const;
  Variable apply_scaled(const Variable& x, const Tensor& factor, Act act);

  NormOptions options{};

 private:
  Tensor inverse_deviation() const;
  Variable learn(const BatchNormResult& normed, int64_t count);
};

struct BatchNormOptions {
  int64_t channels = 0;
  Act act = Act::kNone;
  double epsilon = 1e-5;
  double momentum = 0.1;
};

// The leaf. Prefer the norm inside Conv2d or Linear where one precedes: it folds
// into the weights at no cost, while a norm of its own is a kernel of its own.
class BatchNorm : public Module {
 public:
  using Options = BatchNormOptions;
  explicit BatchNorm(const Options& options);
  std::string_view kind() const override { return "batch_norm"; }
  std::string details() const override;
  const Options& options() const { return options_; }
  LayerWidths widths() const override { return {options_.channels, options_.channels}; }
  void resize(const LayerWidths& widths) override;
  void reset(RngKey key) override;

  Norm norm;

 protected:
  Variable forward(std::span<const Variable> inputs) override;

 private:
  Options options_;
};

std::string_view act_name(Act act);  // "", "relu", "relu6"

}  // namespace whittle::inline WHITTLE_PRECISION
