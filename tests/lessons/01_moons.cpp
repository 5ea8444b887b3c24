// Lesson 1: train a small network on two interleaved half moons.
#include <cstdio>

#include "core/ops.h"
#include "datasets/generators.h"
#include "layers/linear.h"
#include "layers/sequential.h"
#include "optim/sgd.h"
#include "train/metrics.h"

using namespace whittle;

int main() {
  const data::Labelled train = data::moons({.samples = 1000, .noise = 0.1, .seed = 1});
  const data::Labelled test = data::moons({.samples = 1000, .noise = 0.1, .seed = 2});

  Sequential model;
  model.add<Linear>({.in = 2, .out = 32, .act = Act::kRelu});
  model.add<Linear>({.in = 32, .out = 32, .act = Act::kRelu});
  model.add<Linear>({.in = 32, .out = 2});
  initialize(model, {.seed = 1});

  optim::Sgd sgd(model.parameters(), {.rate = 0.1, .momentum = 0.9});
  for (int step = 0; step <= 400; ++step) {
    const Variable loss = cross_entropy(model(train.inputs), train.labels);
    sgd.zero_grad();
    backward(loss);
    sgd.step();
    if (step % 100 == 0) {
      std::printf("step %3d  loss %.4f\n", step, static_cast<double>(loss.value().item()));
    }
  }

  const double right = accuracy(model(test.inputs).value(), test.labels);
  std::printf("test accuracy %.1f %% of %zu points\n", 100 * right, test.labels.size());
  return right >= 0.99 ? 0 : 1;
}
