// What fake quantization costs a training step:
//
//   bench_qat_step [PLAN] [THREADS]      w8a8 and 1 unless said otherwise
//
// Three copies of a net take turns on the same batch: in float, with grids that move, and
// after the freeze. Prints medians in milliseconds and the ratios to float.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/ops.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "layers/zoo/zoo.h"
#include "optim/sgd.h"
#include "quant/prepare.h"
#include "quant/training.h"

using namespace whittle;

namespace {

struct Net {
  const char* description;
  int64_t batch;
};
constexpr Net kNets[] = {
    {R"({"name":"mlp"})", 64},       {R"({"name":"edge-cnn"})", 64}, {R"({"name":"resnet8"})", 64},
    {R"({"name":"resnet20"})", 128}, {R"({"name":"ds-cnn"})", 64},   {R"({"name":"resnet18-3x3"})", 32},
};

struct Batch {
  Tensor inputs;
  std::vector<int32_t> labels;
};

Batch batch_of(const Shape& input, int64_t classes, int64_t count) {
  const RngKey key{.seed = 1};
  std::vector<int64_t> dims = {count};
  dims.insert(dims.end(), input.dims().begin(), input.dims().end());
  Batch batch{Tensor::uniform(Shape(dims), key.child("inputs"), -1, 1), {}};
  Rng rng(key.child("labels"));
  for (int64_t i = 0; i < count; ++i) {
    batch.labels.push_back(static_cast<int32_t>(rng.between(0, classes - 1)));
  }
  return batch;
}

class Contender {
 public:
  enum class Phase { kFloat, kAdapting, kFrozen };

  Contender(const zoo::Description& description, const Batch& batch, const quant::TrainingPlan& plan, Phase phase)
      : batch_(batch), model_(zoo::make(description)) {
    const Shape input = batch.inputs.shape();
    if (phase != Phase::kFloat) {
      quant::prepare(*model_, input, plan.spec, {.live_norms = true});
    }
    sgd_ = std::make_unique<optim::Sgd>(model_->parameters(), optim::SgdOptions{.rate = 0.001, .momentum = 0.9});
    step();
    if (phase != Phase::kFloat) {
      quant::adapt(*model_);
      sgd_ = std::make_unique<optim::Sgd>(model_->parameters(), optim::SgdOptions{.rate = 0.001, .momentum = 0.9});
      step();
    }
    if (phase == Phase::kFrozen) {
      quant::freeze(*model_, input);
      sgd_ = std::make_unique<optim::Sgd>(model_->parameters(), optim::SgdOptions{.rate = 0.001, .momentum = 0.9});
    }
  }

  void measure(int steps) {
    using Clock = std::chrono::steady_clock;
    step();  // what the others left in the caches is not ours
    for (int i = 0; i < steps; ++i) {
      const auto start = Clock::now();
      step();
      times_.push_back(std::chrono::duration<double, std::milli>(Clock::now() - start).count());
    }
  }
  double median() const {
    std::vector<double> sorted = times_;
    std::sort(sorted.begin(), sorted.end());
    return sorted[sorted.size() / 2];
  }

 private:
  void step() {
    const Variable loss = cross_entropy((*model_)(batch_.inputs), batch_.labels);
    sgd_->zero_grad();
    backward(loss);
    sgd_->step();
  }

  const Batch& batch_;
  std::shared_ptr<Module> model_;
  std::unique_ptr<optim::Sgd> sgd_;
  std::vector<double> times_;
};

void compare(const Net& net, const quant::TrainingPlan& plan) {
  const zoo::Description description = zoo::from_text(net.description);
  const Batch batch = batch_of(*description.options.input, *description.options.classes, net.batch);
  using Phase = Contender::Phase;
  Contender contenders[] = {{description, batch, plan, Phase::kFloat},
                            {description, batch, plan, Phase::kAdapting},
                            {description, batch, plan, Phase::kFrozen}};
  for (int turn = 0; turn < 9; ++turn) {
    for (Contender& contender : contenders) {
      contender.measure(3);
    }
  }
  const double base = contenders[0].median();
  std::printf("%-34s %5lld %9.3f %9.3f %6.2f %9.3f %6.2f\n", net.description, static_cast<long long>(net.batch), base,
              contenders[1].median(), contenders[1].median() / base, contenders[2].median(),
              contenders[2].median() / base);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const quant::TrainingPlan plan = quant::parse_training(argc > 1 ? argv[1] : "w8a8");
    set_num_threads(argc > 2 ? std::stoi(argv[2]) : 1);
    std::printf("%-34s %5s %9s %9s %6s %9s %6s\n", "net", "batch", "float", "adapting", "ratio", "frozen", "ratio");
    for (const Net& net : kNets) {
      compare(net, plan);
    }
  } catch (const std::exception& error) {
    std::cerr << "bench_qat_step: " << error.what() << '\n';
    return 1;
  }
}
