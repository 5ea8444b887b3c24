// Weights on any grid of quant/array: mid-rise, landmark sets, powers of two, codebooks,
// binary and ternary, sums of several terms. For weights alone: what these grids hold is
// multiplied in float, so activations stay as they are.
//
//   prepare(model, shape, {.activations = {.bits = 0}, .levels = LevelSpec{.grid = "kmeans"}});
//
// Levels follow the weights: the grid is fitted anew to what comes in, in training at every
// step, and in evaluation the result is a function of the weight alone. fix() keeps what
// was found. Gradients pass straight through, and none to what Tukey's fences clip.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "core/json_fwd.h"
#include "core/parameter.h"
#include "core/rng.h"
#include "quant/array/multipoint.h"
#include "quant/array/quantized.h"
#include "quant/spec.h"

namespace whittle::inline WHITTLE_PRECISION::quant {

// The names of grids: those of quant/array/grids.h, and binary, ternary, ternary-exact, multipoint.
std::string grid_names();
// Whether what is exactly 0 stays so.
bool has_zero(const LevelSpec& spec);
// Throws Error in one sentence if the options do not fit together or a name is not known.
void check(const LevelSpec& spec, const TensorSpec& weights);

// The bare array through the grid; `groups` as weight_runs() counts them. `error` says when multi-point is good enough.
array::Quantized quantize_levels(std::span<const float> values, const LevelSpec& spec, int bits, int64_t groups,
                                 RngKey key, const array::GroupError& error = {});

class Levels : public Transform {
 public:
  static constexpr std::string_view kKind = "levels";

  Levels(const LevelSpec& spec, const TensorSpec& weights, const Shape& shape);

  std::string_view kind() const override { return kKind; }
  Stage stage() const override { return Stage::kFakeQuant; }
  Variable apply(const Variable& x) override;
  void train(bool on) override { training_ = on; }
  Json spec() const override;
  void visit_state(const std::function<void(std::string_view, Tensor&)>& visit) override;

  const LevelSpec& level_spec() const { return levels_; }
  const TensorSpec& tensor_spec() const { return weights_; }
  int64_t runs() const { return groups_; }  // of weights with a grid each
  bool fixed() const { return values_.defined(); }

  // What is known of a fixed weight beside its values.
  struct About {
    int64_t bits = 0;  // all that is stored
    int64_t distinct_codes = 0;
    int64_t terms = 0;  // of all runs together
  };
  static About about_of(const array::Quantized& found);
  const About& about() const { return about_; }
  void describe(const About& about) { about_ = about; }

  // What evaluation makes of the weight, unless it is fixed.
  array::Quantized quantized(const Tensor& x, const array::GroupError& error = {}) const;
  // From now on the weight is this.
  void fix(const array::Quantized& found);
  // While off, numbers pass as they are.
  void turn(bool on) { on_ = on; }

 private:
  Tensor values_of(const array::Quantized& found) const;
  Tensor inside(const Tensor& x, const array::Quantized& found) const;

  LevelSpec levels_;
  TensorSpec weights_;
  Shape shape_;
  int64_t groups_;
  bool training_ = true;
  bool on_ = true;
  int64_t draws_ = 0;             // of stochastic rounding: how many training steps have drawn
  Tensor values_;                 // fixed
  About about_{};                 // of these
  Tensor seen_, found_, inside_;  // the last weight, what became of it, and where its gradient passes
};

// So that checkpoints with it can be read.
void add_levels_kind(TransformKinds& kinds);

}  // namespace whittle::inline WHITTLE_PRECISION::quant
