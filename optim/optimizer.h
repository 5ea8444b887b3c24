// What all optimizers share: the list of parameters, their state by name, and
// the walk over them.
//
//   optim::Sgd sgd(model.parameters(), {.rate = 0.1, .momentum = 0.9});
//   for (...) {
//     const Variable loss = ...;
//     sgd.zero_grad();
//     backward(loss);
//     sgd.rate = schedule.rate_at(sgd.steps());
//     sgd.step();
//   }
//
// An optimizer reads gradients and writes raw values, and knows of nothing else:
// a mask or a quantizer between the raw value and the layer is the chain's
// business. Rates over time are schedule.h, clipping is clip.h, averaged weights
// are ema.h: none of them is an optimizer, all go with every optimizer.
//
// A parameter without a gradient is left alone: value, state and count of
// updates stay as they are, and weight decay does not touch it.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/checkpoint.h"
#include "core/parameter.h"

namespace whittle::inline WHITTLE_PRECISION::optim {

class SavedState;

// Which parameters weight decay applies to; empty means all.
using DecayRule = std::function<bool(const NamedParameter& parameter)>;

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  double rate;  // may be changed between steps

  std::string_view kind() const { return kind_; }  // "sgd", "adam", "adamw"
  std::span<const NamedParameter> parameters() const { return parameters_; }
  int64_t steps() const { return steps_; }  // calls of step() so far

  void zero_grad();

  // One update of every parameter that has a gradient: one pass over its
  // elements, no allocation, the same bits for any number of threads. Throws,
  // before anything has changed, if the rate is not a finite number from 0 on or
  // a parameter has another shape than at construction.
  void step();

  // Every state tensor, as "conv1.weight.velocity".
  void visit_state(const std::function<void(std::string_view name, Tensor& state)>& visit);

  // With the parameters themselves (store_parameters), all that a training needs
  // to go on as if never interrupted: state tensors, rate and counts under
  // "optimizer/", and the kind as metadata. Options other than the rate are not
  // stored. restore() is all or nothing, and refuses what another kind of
  // optimizer, or one with other parameters, has written.
  void store(Checkpoint& checkpoint) const;
  void restore(const Checkpoint& checkpoint);

 protected:
  struct Common {
    double rate;
    double weight_decay;
    bool decay_vectors;
    DecayRule decays;
  };

  // The parameters must outlive the optimizer. Each gets one state tensor of its
  // own shape, initially 0, per name in `states`: at most kMaxStates.
  Optimizer(std::string kind, std::vector<NamedParameter> parameters, const Common& common,
            std::vector<std::string> states);

  static constexpr size_t kMaxStates = 2;

  // A run of elements of one parameter.
  struct Slice {
    int64_t size;
    const real* gradient;
    real* value;
    std::array<real*, kMaxStates> state;  // in the order of their names
    double weight_decay;                  // 0 if this parameter is exempt
    int64_t updates;                      // of this parameter, with the one under way
  };

  // The formula: all that one optimizer does differently from another. Called for
  // slices of fixed borders, in any order and from any thread.
  virtual void update(const Slice& slice) const = 0;

 private:
  struct Record {  // what belongs to one parameter
    Shape shape;
    double weight_decay = 0;
    int64_t updates = 0;
    std::vector<Tensor> state{};
  };

  SavedState saved_state();

  std::string kind_;
  std::vector<NamedParameter> parameters_;
  std::vector<std::string> state_names_;
  std::vector<Record> records_;  // one per parameter
  std::vector<Slice> slices_;    // of this step: the parameters that have a gradient, whole
  std::vector<int64_t> ends_;    // where they end, counting their elements from the first to the last
  int64_t steps_ = 0;
};

}  // namespace whittle::inline WHITTLE_PRECISION::optim
