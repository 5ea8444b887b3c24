// What Conv2d and Linear have in common: a weight, and behind the weighted sum an
// optional bias, batch norm and activation.
//
// One leaf is what one integer kernel does, so norm and activation live inside:
// compression folds and fuses without looking for patterns. Code that prunes,
// quantizes or folds "all conv and linear weights" looks for this class.
#pragma once

#include <string>

#include "layers/batch_norm.h"
#include "layers/fold.h"
#include "layers/module.h"

namespace whittle::inline WHITTLE_PRECISION {

// New layers draw their weights, so that one that is forgotten by initialize() still
// trains. Drawing takes seconds for the largest nets; whoever is going to initialize
// or load anyway holds one of these while building, and the weights begin as zeros.
class NoInitialValues {
 public:
  NoInitialValues();
  ~NoInitialValues();
  NoInitialValues(const NoInitialValues&) = delete;
  NoInitialValues& operator=(const NoInitialValues&) = delete;

 private:
  bool previous_;
};

// While it lives, layers made on this thread may have so many weights together; the
// one that would exceed it throws, before it takes memory. For building what a file or
// a command line describes.
class WeightLimit {
 public:
  // `what` ends the sentence "... more than 1,000 weights, ".
  WeightLimit(int64_t most, const char* what);
  ~WeightLimit();
  WeightLimit(const WeightLimit&) = delete;
  WeightLimit& operator=(const WeightLimit&) = delete;

  void spend(int64_t weights);
  static WeightLimit* active();  // of this thread; null: there is none

 private:
  int64_t most_;
  int64_t spent_ = 0;
  const char* what_;
  WeightLimit* previous_;
};

class WeightedLayer : public Module {
 public:
  Parameter weight;  // [out, ...]
  Parameter bias;    // [out], or undefined
  Norm norm;         // over [out], or not norm.defined()

  // Null: the norm, if there is one, is computed behind the sum.
  Fold* fold() const { return weight.chain.find<Fold>(); }
  // What the inputs are multiplied by and what is added, in evaluation: through their chains,
  // and of a folded layer with the norm in them. The bias may be undefined.
  Variable effective_weight();
  Variable effective_bias();
  // The weight as the transforms of earlier stages leave it.
  Variable weight_before(Stage stage);
  // The layer's sum over x with other weights, without bias, norm and activation.
  Variable sum_of(const Variable& x, const Variable& weights) const { return weighted_sum(x, weights, {}, false); }

  Act act() const { return act_; }
  // Weights by He et al. with the inputs of one output as fan-in, biases 0, norm 1 and 0.
  void reset(RngKey key) override;

 protected:
  // Everything that has a row per output, as new.
  void reshape_parameters(const Shape& weight_shape);
  // From Conv2dOptions or LinearOptions, which agree in these fields.
  template <class Options>
  WeightedLayer(const Shape& weight_shape, const Options& o)
      : WeightedLayer(weight_shape, o.norm ? o.norm_bias : o.bias, o.norm, {o.norm_epsilon, o.norm_momentum}, o.act) {}

  Variable forward(std::span<const Variable> inputs) final;
  // The sum alone, + bias if it is defined. Plain: products are not rearranged.
  virtual Variable weighted_sum(const Variable& x, const Variable& weight, const Variable& bias, bool plain) const = 0;
  std::string suffix() const;  // " norm relu", for details()

 private:
  WeightedLayer(const Shape& weight_shape, bool with_bias, bool with_norm, const NormOptions& norm_options, Act act);
  Variable bias_value() const { return bias.defined() ? bias.value() : Variable(); }
  Act act_ = Act::kNone;
};

}  // namespace whittle::inline WHITTLE_PRECISION
