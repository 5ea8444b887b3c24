// Trainings of a second: two half moons, a net for them, and a hand that stops at a step.
#pragma once

#include <atomic>
#include <memory>

#include "datasets/generators.h"
#include "layers/linear.h"
#include "layers/sequential.h"
#include "tests/support/seed.h"
#include "train/fit.h"

namespace whittle {

inline data::Dataset moons(uint64_t seed, int64_t samples, double noise = 0.1) {
  const data::Labelled points = data::moons({.samples = samples, .noise = noise, .seed = seed});
  data::Samples rows;
  for (const real x : points.inputs.values()) {
    rows.values.push_back(static_cast<double>(x));
  }
  rows.labels = points.labels;
  return {data::Preprocessing{.data = "moons", .sample = Shape{2}, .classes = {"upper", "lower"}}, std::move(rows)};
}

inline std::unique_ptr<Sequential> net(bool norm = false) {
  auto model = std::make_unique<Sequential>();
  model->add<Linear>("fc1", {.in = 2, .out = 24, .act = Act::kRelu});
  model->add<Linear>("fc2", {.in = 24, .out = 16, .norm = norm, .act = Act::kRelu});
  model->add<Linear>("fc3", {.in = 16, .out = 2});
  initialize(*model, {.seed = test_seed()});
  return model;
}

class StopAt : public FitObserver {
 public:
  explicit StopAt(int64_t steps) : left_(steps) {}
  void step(const StepReport& /*report*/) override { stop = --left_ <= 0; }
  std::atomic<bool> stop{false};

 private:
  int64_t left_;
};

}  // namespace whittle
