// A running average of the weights, to evaluate and to ship.
//
//   optim::Ema ema(model.parameters(), {.decay = 0.999});
//   for (...) {
//     ...
//     sgd.step();
//     ema.update();
//   }
//   {
//     const optim::EmaScope averaged(ema);   // the model holds the averages here ...
//     evaluate(model);
//   }                                        // ... and the trained weights again
//
// Steps jump about the bottom of a valley; the average of the last thousand lies
// nearer to it (Polyak and Juditsky 1992). It takes no part in training: the
// optimizer never sees it. One more copy of the weights is its price.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/checkpoint.h"
#include "core/parameter.h"

namespace whittle::inline WHITTLE_PRECISION::optim {

class SavedState;

struct EmaOptions {
  double decay = 0.999;
  bool warm_up = true;  // forget faster at first
};

// A tensor that is saved but not trained, such as a running mean.
struct NamedTensor {
  std::string name;
  Tensor* tensor;
};

// At its update number t = 0, 1, ...:
//
//   average = average + (1 - d) (weight - average)
//   d = decay, or with warm_up   min(decay, (1 + t) / (10 + t))
//
// The average starts as a copy of the weights. They are random then, and without
// warm-up a decay of 0.999 remembers a tenth of them after 2300 updates.
class Ema {
 public:
  // Parameters and tensors must outlive the average. Running statistics of norms
  // belong to the weights they were measured with: pass them as `tensors`, so that
  // both are averaged and swapped together.
  explicit Ema(std::vector<NamedParameter> parameters, const EmaOptions& options = {},
               std::vector<NamedTensor> tensors = {});

  void update();  // after each step
  int64_t updates() const { return updates_; }
  bool swapped_in() const { return swapped_in_; }

  // Every average by the name of what it averages.
  void visit_state(const std::function<void(std::string_view name, Tensor& average)>& visit);

  // "ema/conv1.weight" and so on, and the number of updates. restore() is all or
  // nothing. Refused, like update(), while the averages are swapped in.
  void store(Checkpoint& checkpoint) const;
  void restore(const Checkpoint& checkpoint);

 private:
  friend class EmaScope;
  struct Average {
    std::string name;
    Parameter* parameter;  // one of these two is null
    Tensor* tensor;
    Tensor average;
    const Tensor& source() const { return parameter != nullptr ? parameter->raw.value() : *tensor; }
  };

  void add(std::string name, Parameter* parameter, Tensor* tensor);
  void require_swapped_out(const char* what) const;
  void swap() noexcept;
  SavedState saved_state();

  EmaOptions options_;
  std::vector<Average> averages_;
  int64_t updates_ = 0;
  bool swapped_in_ = false;
};

// While one lives, the model holds the averages. The values of before come back
// bit for bit.
class EmaScope {
 public:
  explicit EmaScope(Ema& ema);
  ~EmaScope();
  EmaScope(const EmaScope&) = delete;
  EmaScope& operator=(const EmaScope&) = delete;

 private:
  Ema& ema_;
};

}  // namespace whittle::inline WHITTLE_PRECISION::optim
