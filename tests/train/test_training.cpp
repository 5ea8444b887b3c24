// Training as a whole: the same bits for any number of threads, no allocation
// per step, and nets that learn. Float twin.

#include <doctest/doctest.h>

#include <functional>
#include <vector>

#include "core/blas.h"
#include "core/ops.h"
#include "core/parallel.h"
#include "core/pool.h"
#include "datasets/generators.h"
#include "datasets/sha256.h"
#include "layers/conv2d.h"
#include "layers/linear.h"
#include "layers/sequential.h"
#include "optim/sgd.h"
#include "tests/support/news.h"
#include "tests/support/seed.h"
#include "train/metrics.h"

namespace whittle {

namespace {

// A model with its data: what one training step needs.
struct Job {
  std::unique_ptr<Sequential> model;
  Tensor inputs;
  std::vector<int32_t> labels;
};

Job mlp_job() {
  Job job{.model = std::make_unique<Sequential>(), .inputs = {}, .labels = {}};
  job.model->add<Linear>({.in = 2, .out = 300, .act = Act::kRelu});
  job.model->add<Linear>({.in = 300, .out = 100, .act = Act::kRelu});
  job.model->add<Linear>({.in = 100, .out = 2});
  initialize(*job.model, {.seed = test_seed()});
  data::Labelled spirals = data::spirals({.samples = 400, .noise = 0.02, .seed = test_seed()});
  job.inputs = spirals.inputs;
  job.labels = spirals.labels;
  return job;
}

// Small images whose class is which quarter is bright.
Job conv_job() {
  Job job{.model = std::make_unique<Sequential>(), .inputs = {}, .labels = {}};
  job.model->add<Conv2d>({.in = 3, .out = 16, .padding = Padding::all(1), .norm = true, .act = Act::kRelu});
  job.model->add<Conv2d>(
      {.in = 16, .out = 16, .padding = Padding::all(1), .groups = 16, .norm = true, .act = Act::kRelu6});
  job.model->add<Conv2d>({.in = 16, .out = 32, .kernel = {1, 1}, .norm = true, .act = Act::kRelu});
  job.model->add<MaxPool>();
  job.model->add<Conv2d>({.in = 32, .out = 32, .stride = {2, 2}, .padding = Padding::all(1), .act = Act::kRelu});
  job.model->add<Conv2d>({.in = 32, .out = 32, .padding = Padding::all(1), .groups = 2, .act = Act::kRelu});
  job.model->add<GlobalAvgPool>();
  job.model->add<Linear>({.in = 32, .out = 4});
  initialize(*job.model, {.seed = test_seed()});
  constexpr int64_t kImages = 24;
  job.inputs = Tensor::normal({kImages, 12, 12, 3}, RngKey{.seed = test_seed()}.child("images"), 0, 1);
  for (int64_t n = 0; n < kImages; ++n) {
    const auto label = static_cast<int32_t>(n % 4);
    job.labels.push_back(label);
    for (int64_t y = 0; y < 6; ++y) {
      for (int64_t x = 0; x < 6; ++x) {
        const int64_t row = y + (label / 2) * 6;
        const int64_t col = x + (label % 2) * 6;
        job.inputs.mutable_data()[((n * 12 + row) * 12 + col) * 3] += 2;
      }
    }
  }
  return job;
}

// The jobs of this file, with a number of steps for each.
struct NamedJob {
  std::string name;
  Job (*make)();
  int steps;
};
std::vector<NamedJob> jobs(int mlp_steps, int conv_steps) {
  return {{"mlp", mlp_job, mlp_steps}, {"conv", conv_job, conv_steps}};
}

real train_step(Job& job, optim::Sgd& sgd) {
  const Variable loss = cross_entropy((*job.model)(job.inputs), job.labels);
  sgd.zero_grad();
  backward(loss);
  sgd.step();
  return loss.value().item();
}

std::string sha_of_weights(Sequential& model) {
  std::vector<std::byte> bytes;
  const auto append = [&bytes](const Tensor& t) {
    const auto raw = std::as_bytes(t.values());
    bytes.insert(bytes.end(), raw.begin(), raw.end());
  };
  for (const auto& [name, parameter] : model.parameters()) {
    append(parameter->raw.value());
  }
  for (const auto& [name, state] : model.states()) {
    append(*state);
  }
  return sha256(bytes);
}

}  // namespace

TEST_SUITE("training") {
  TEST_CASE("SHA-256 itself") {
    CHECK(sha256({}) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    const std::string abc = "abc";
    CHECK(sha256(std::as_bytes(std::span(abc))) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  }

  TEST_CASE("the SHA of all weights after training is the same for 1, 2, 3, 5 and 8 threads") {
    CAPTURE(test_seed());
    for (const BlasBackend& backend : blas_backends()) {
      set_blas_backend(backend.name);
      const bool fast = backend.name != "naive";
      for (const NamedJob& named : fast ? jobs(60, 20) : jobs(5, 3)) {
        std::string first;
        for (const int threads : {1, 2, 3, 5, 8}) {
          set_num_threads(threads);
          Job job = named.make();
          optim::Sgd sgd(job.model->parameters(), {.rate = 0.05, .momentum = 0.9, .weight_decay = 1e-4});
          for (int step = 0; step < named.steps; ++step) {
            train_step(job, sgd);
          }
          const std::string sha = sha_of_weights(*job.model);
          if (first.empty()) {
            first = sha;
          }
          CAPTURE(named.name);
          CAPTURE(threads);
          CHECK(sha == first);
        }
        MESSAGE(std::string(backend.name) << " " << named.name << ", 1 2 3 5 8 threads: " << first);
        set_num_threads(0);
      }
    }
    set_blas_backend(blas_backends().front().name);
  }

  TEST_CASE("after step 3 the system is asked for no tensor memory, and for few other blocks") {
    for (const NamedJob& named : jobs(10, 10)) {
      Job job = named.make();
      optim::Sgd sgd(job.model->parameters(), {.rate = 0.01, .momentum = 0.9});
      for (int step = 0; step < 3; ++step) {
        train_step(job, sgd);
      }
      const uint64_t system_before = pool_stats().system_allocations;
      const uint64_t requests_before = pool_stats().requests;
      const uint64_t news_before = news();
      for (int step = 0; step < named.steps; ++step) {
        train_step(job, sgd);
      }
      const auto steps = static_cast<uint64_t>(named.steps);
      const uint64_t news_per_step = (news() - news_before) / steps;
      MESSAGE(named.name << ": pool blocks per step " << (pool_stats().requests - requests_before) / steps
                         << ", operator new per step " << news_per_step);
      CHECK(pool_stats().system_allocations == system_before);
      // Graph nodes, closures and gradient lists all live in the pool.
      CHECK(news_per_step <= 8);
    }
  }

  TEST_CASE("both nets learn their data") {
    for (const NamedJob& named : jobs(600, 60)) {
      Job job = named.make();
      optim::Sgd sgd(job.model->parameters(), {.rate = 0.05, .momentum = 0.9});
      const real before = train_step(job, sgd);
      real after = before;
      for (int step = 0; step < named.steps; ++step) {
        after = train_step(job, sgd);
      }
      CAPTURE(named.name);
      CAPTURE(test_seed());
      MESSAGE(named.name << ": loss " << before << " -> " << after);
      CHECK(after < before / 10);
      CHECK(accuracy((*job.model)(job.inputs).value(), job.labels) >= 0.99);
    }
  }
}

}  // namespace whittle
