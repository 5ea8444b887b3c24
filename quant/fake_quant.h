// The transforms that put a weight or an activation on a grid: what fake quantization is.
//
//   raw -> mask -> fold -> FakeQuant -> what the layer multiplies by
//   what a leaf computes -> FakeQuant -> what the next one reads
//
// Three phases, in this order:
//
//   kObserve   numbers pass as they are; activations are watched
//   kAdapt     quantized; ranges follow: a weight's is that of its present values, an
//              activation's is learned in training mode and stands in evaluation
//   kFixed     quantized, on grids that no longer change
//
// A learned step or clip is a Parameter that any optimizer trains; it is fixed by kFixed as
// well. Steps of the rows of a folded weight are learned in units of the fold's |f|, as if the
// weight were quantized before the fold: f follows statistics of what the quantized weight
// gives, and with steps of their own rows that round to 0 would drive f and steps apart. Gradients pass straight
// through, with the clip's mask (core/ops.h: fake_quant) where something can lie outside: not for min-max weights that
// adapt.
#pragma once

#include "core/parameter.h"
#include "quant/observer.h"
#include "quant/spec.h"

namespace whittle::inline WHITTLE_PRECISION::quant {

enum class Phase : uint8_t { kObserve, kAdapt, kFixed };
enum class Role : uint8_t { kWeight, kActivation };

class FakeQuant : public Transform {
 public:
  static constexpr std::string_view kKind = "fake_quant";

  // `shape` of the weight; activations need none.
  FakeQuant(Role role, const TensorSpec& spec, const Shape& shape = {1}, Phase phase = Phase::kObserve);

  std::string_view kind() const override { return kKind; }
  Stage stage() const override { return Stage::kFakeQuant; }
  Variable apply(const Variable& x) override;
  GridsPtr grids() const override;
  void set_factor(const Variable& factor) override;
  void train(bool on) override { training_ = on; }
  Json spec() const override;
  void visit_state(const std::function<void(std::string_view, Tensor&)>& visit) override;
  void visit_parameters(const std::function<void(std::string_view, Parameter&)>& visit) override;

  Role role() const { return role_; }
  Phase phase() const { return phase_; }
  const TensorSpec& tensor_spec() const { return spec_; }
  const Observer& observer() const { return observer_; }

  // While off, numbers pass as they are and nothing is watched.
  void turn(bool on) { on_ = on; }

  // Begins to quantize. A learned step or clip starts from what was observed; the weight's from `value`, the weight as
  // it now comes here.
  void adapt(const Tensor& value = {});
  // Fixes the grids: a weight's for `value`.
  void fix(const Tensor& value = {});
  // Fixed on these, whatever was found.
  void fix_on(const GridsPtr& grids);

 private:
  bool learns_step() const { return spec_.range == RangeRule::kLearnedStep; }
  bool learns_clip() const { return spec_.range == RangeRule::kLearnedClip; }
  Variable on_learned_step(const Variable& x);
  Variable on_learned_clip(const Variable& x);
  GridsPtr learned_grids() const;
  GridsPtr found_grids(const Tensor& x) const;
  void store(const GridsPtr& grids);
  GridsPtr stored_grids() const;
  void remember_observer();
  void recall_observer();

  Role role_;
  TensorSpec spec_;
  Phase phase_;
  int64_t runs_;  // how many grids
  bool training_ = true;
  bool on_ = true;
  Observer observer_;
  Parameter learned_;          // steps [n], or a clip [1]; or undefined
  Tensor unit_;                // [n], what learned steps are multiplied by; undefined: 1
  Tensor scale_, zero_point_;  // fixed grids, [n] each
  // What the observer of an activation keeps: low and high of all, of the average, and half the histogram's limit, [5];
  // its counts as multiples of 2^24 and the rest, [2, bins].
  Tensor ranges_, histogram_;
  mutable GridsPtr fixed_;  // of scale_ and zero_point_
};

// So that checkpoints with it can be read.
void add_fake_quant_kind(TransformKinds& kinds);

// alpha sign(x) per grid, alpha its scale; 0 stays 0. gx = g: the straight-through estimator of binary weights.
Variable binarize(const Variable& x, const GridsPtr& grids);

}  // namespace whittle::inline WHITTLE_PRECISION::quant
