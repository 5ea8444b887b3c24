// Schedules: how much is pruned when. Pure functions, and the two actions they need.
//
//   one-shot    the amount, once
//   iterative   rounds of pruning and retraining; round i of k ends at 1 - (1 - amount)^(i/k), so that every
//               round takes the same share of what is left (Han et al. 2015)
//   gradual     while training: s(t) = final + (initial - final) (1 - (t - begin) / (end - begin))^3, every
//               `every` steps (Zhu and Gupta 2017)
//   rewinding   between rounds, the weights go back to those of an earlier step (Frankle et al. 2019)
//
// None of them knows how weights are scored or chosen.
#pragma once

#include <cstdint>
#include <functional>

#include "core/checkpoint.h"
#include "prune/select.h"

namespace whittle::inline WHITTLE_PRECISION::prune {

// What is gone after so many rounds that each take `share` of what is left.
double compounded_amount(double share, int64_t rounds);
// What is gone after `round` (from 1) of `rounds`, for `amount` after the last.
double iterative_amount(double amount, int64_t round, int64_t rounds);
// The same where each round takes `factor` of its share: the output layer at half the
// rate is factor 0.5.
double iterative_amount(double amount, int64_t round, int64_t rounds, double factor);

struct Gradual {
  double initial = 0;
  double amount = 0.5;  // final
  int64_t begin = 0;    // steps done when the first pruning happens
  int64_t end = 1000;   // ... and the last
  int64_t every = 100;  // steps between; the last happens at `end` all the same

  void check() const;                    // throws if the numbers make no sense
  bool due(int64_t step) const;          // is there a pruning when `step` steps are done?
  double amount_at(int64_t step) const;  // initial before, final after
};

// Prunes while something else trains. Call it when so many steps are done, beginning
// with 0; it scores, chooses and attaches where the schedule says so. It keeps nothing
// that a checkpoint of the model has not, so a training that is resumed prunes on.
class GradualPruner {
 public:
  GradualPruner(Module& model, const Shape& input, std::vector<Target> targets, const Gradual& schedule,
                SelectOptions selection, std::function<Scores(std::span<const Target>)> score = magnitude);

  bool operator()(int64_t step);  // true if it pruned
  bool finished(int64_t step) const { return step >= schedule_.end; }
  const Gradual& schedule() const { return schedule_; }

 private:
  Module& model_;
  Shape input_;
  std::vector<Target> targets_;
  Gradual schedule_;
  SelectOptions selection_;
  std::function<Scores(std::span<const Target>)> score_;
};

// The parameters' raw values, running statistics and random positions as a checkpoint of
// the same model has them, to the bit; masks and other transforms stay as they are now. A
// checkpoint of the dense model, or of any round, will do. All or nothing.
void rewind(Module& model, const Checkpoint& checkpoint);

}  // namespace whittle::inline WHITTLE_PRECISION::prune
