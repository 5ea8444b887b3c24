// The learning rate over time, as a pure function of the step.
//
//   const optim::Schedule schedule({.rate = 0.1, .epochs = 30, .steps_per_epoch = 391},
//                                  optim::Cosine{.final_fraction = 0.01}, {.epochs = 5});
//   sgd.rate = schedule.rate_at(sgd.steps());
//
// or, from a command line, Schedule::parse("warmup:5+cosine:0.01", {.rate = 0.1, ...}).
//
// A schedule remembers nothing, so a resumed training needs no state of it, and it
// never looks at the loss. Lengths are epochs, which is how recipes are written
// (let steps_per_epoch be 1 and they are steps); heights are fractions of the rate.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/real.h"

namespace whittle::inline WHITTLE_PRECISION::optim {

// What a schedule is laid over: the rate that fraction 1 means, and the training.
struct ScheduleFrame {
  double rate = 0.1;
  double epochs = 1;
  int64_t steps_per_epoch = 1;
};

// The shapes. Below, p goes from 0 to 1 over the training, or over the part of it
// that a warm-up leaves; cosine(a, b, x) is half a wave from a at x = 0 to b at x = 1:
// a + (b - a) (1 - cos(pi x)) / 2.

// 1
struct Constant {};

// gamma^k after k milestones, which are epochs from the beginning of training.
struct Milestones {
  std::vector<double> epochs;  // ascending, above 0; those beyond the end are never reached
  double gamma = 0.1;
};

// cosine(1, final_fraction, p)                     (Loshchilov and Hutter 2017, no restarts)
struct Cosine {
  double final_fraction = 0;
};

// cosine(start_fraction, 1, p / peak_at) up to the peak, then
// cosine(1, final_fraction, (p - peak_at) / (1 - peak_at))      (Smith and Topin 2018)
struct OneCycle {
  double peak_at = 0.3;
  double start_fraction = 0.04;
  double final_fraction = 4e-6;
};

using ScheduleShape = std::variant<Constant, Milestones, Cosine, OneCycle>;

// A line in front of any shape, from start_fraction of what the shape begins with
// up to it. Large rates need it: at random weights the gradient is at its wildest
// (Goyal et al. 2017).
struct WarmUp {
  double epochs = 0;
  double start_fraction = 0.1;
};

class Schedule {
 public:
  explicit Schedule(const ScheduleFrame& frame, ScheduleShape shape = Constant{}, const WarmUp& warm_up = {});

  // The text form, in which numbers in brackets may be left out from the right:
  //
  //   constant    step:30,60[:gamma]    cosine[:final]    onecycle[:peak_at[:start[:final]]]
  //
  // with warmup:EPOCHS[:start]+ in front of any of them.
  static Schedule parse(std::string_view text, const ScheduleFrame& frame);

  // The rate of step 0, 1, ...; after steps() it stays where it ended.
  double rate_at(int64_t step) const;

  int64_t steps() const { return steps_; }  // of the whole training
  std::string text() const;                 // what parse() makes the same shape of

 private:
  double fraction_at(int64_t step) const;

  double rate_;
  int64_t steps_ = 0;
  int64_t warm_steps_ = 0;
  std::vector<int64_t> milestone_steps_;
  ScheduleShape shape_;
  WarmUp warm_up_;
};

}  // namespace whittle::inline WHITTLE_PRECISION::optim
