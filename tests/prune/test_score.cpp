// Scores against formulas written out, and targets found in the trace.

#include <doctest/doctest.h>

#include <cmath>

#include "layers/blocks.h"
#include "layers/dropout.h"
#include "layers/zoo/zoo.h"
#include "prune/mask.h"
#include "prune/score.h"
#include "tests/prune/nets.h"
#include "tests/support/message.h"
#include "tests/support/same_bits.h"
#include "tests/support/seed.h"

namespace whittle {

using namespace prune;

namespace {

std::vector<std::string> paths(const std::vector<Target>& targets) {
  std::vector<std::string> result;
  for (const Target& target : targets) {
    result.push_back(target.path);
  }
  return result;
}

// Owns the head before the body, and a spare layer it never calls.
class HeadFirst : public Module {
 public:
  HeadFirst() {
    head_ = add_module("head", std::make_shared<Linear>(LinearOptions{.in = 4, .out = 2}));
    spare_ = add_module("spare", std::make_shared<Linear>(LinearOptions{.in = 4, .out = 2}));
    body_ = add_module("body", std::make_shared<Linear>(LinearOptions{.in = 3, .out = 4}));
  }
  std::string_view kind() const override { return "head_first"; }

 protected:
  Variable forward(std::span<const Variable> inputs) override { return (*head_)((*body_)(inputs[0])); }

 private:
  std::shared_ptr<Module> head_, spare_, body_;
};

}  // namespace

TEST_SUITE("targets") {
  TEST_CASE("conv and linear weights that are called, the last layer spared wherever it is registered") {
    HeadFirst odd;
    CHECK(paths(targets(odd, {1, 3})) == std::vector<std::string>{"body"});
    CHECK(paths(targets(odd, {1, 3}, {.spare_last = false})) == std::vector<std::string>{"body", "head"});
    CHECK(paths(targets(odd, {1, 3}, {.include = {"head"}})) == std::vector<std::string>{"head"});

    Sequential sum;  // the result is a sum: both of its layers are last
    sum.add<Conv2d>("stem", {.in = 3, .out = 4, .padding = Padding::all(1)});
    sum.add<ResidualBlock>("block", {.in = 4, .out = 6});
    CHECK(last_layers(trace(sum, {1, 5, 5, 3})) == std::vector<std::string>{"block.conv2", "block.shortcut"});
    CHECK(paths(targets(sum, {1, 5, 5, 3})) == std::vector<std::string>{"stem", "block.conv1"});

    const auto net = zoo::build(zoo::describe("resnet8"));
    const std::vector<Target> all = targets(*net, {1, 32, 32, 3});
    CHECK(all.size() == 9);  // stem, three blocks of two, two shortcuts; not fc
    CHECK(all.front().name == "conv1.weight");
    for (const Target& target : all) {
      CHECK(target.path != "fc");
    }
    CHECK(paths(targets(*net, {1, 32, 32, 3}, {.include = {"layer1", "fc"}})) ==
          std::vector<std::string>{"layer1.0.conv1", "layer1.0.conv2", "fc"});
    CHECK(targets(*net, {1, 32, 32, 3}, {.skip = {"layer1", "conv1.weight"}}).size() == 6);
  }

  TEST_CASE("names that fit nothing, and nothing left, are refused") {
    const auto net = small_net(1);
    CHECK(message_of([&] { targets(*net, kSmallInput, {.skip = {"conv"}}); }) ==
          "[prune] there is no convolution or linear layer 'conv'; there are conv1, conv2, fc");
    CHECK(message_of([&] {
            targets(*net, kSmallInput, {.skip = {"conv1", "conv2"}});
          }) == "[prune] no layer is left to prune: the last one is spared and the others are skipped");
    Sequential empty;
    empty.add<Flatten>("flatten");
    CHECK(message_of([&] { targets(empty, {1, 3}); }) == "[prune] the model has no convolution or linear layer");
  }
}

TEST_SUITE("score") {
  TEST_CASE("magnitude, random, norm scale, sigma") {
    const auto net = small_net(test_seed());
    const std::vector<Target> layers = targets(*net, kSmallInput);
    const Scores size = magnitude(layers);
    REQUIRE(size.size() == 2);
    const std::span<const real> w = layers[1].weight().raw.value().values();
    double sum = 0, squares = 0;
    for (size_t i = 0; i < w.size(); ++i) {
      CHECK(size.at("conv2.weight").values()[i] == std::abs(w[i]));
      sum += w[i];
      squares += static_cast<double>(w[i]) * w[i];
    }
    const double n = static_cast<double>(w.size());
    CHECK(deviations(layers).at("conv2.weight") ==
          doctest::Approx(std::sqrt(squares / n - sum / n * (sum / n))).epsilon(1e-9));

    const RngKey key{.seed = 5};
    CHECK(same_bits(random(layers, key).at("conv2.weight").values(),
                    random(std::span(layers).subspan(1), key).at("conv2.weight").values()));
    CHECK_FALSE(same_bits(random(layers, key).at("conv2.weight").values(),
                          random(layers, {.seed = 6}).at("conv2.weight").values()));

    layers[0].layer->norm.gamma.raw.assign(Tensor::of({8}, {1, -2, 3, -4, 5, -6, 7, -8}));
    const Scores scale = norm_scale(layers);
    CHECK(scale.size() == 1);  // conv2 has no norm
    CHECK(scale.at("conv1.weight").at({1}) == 2);
    CHECK(message_of([&] { norm_scale(std::span(layers).subspan(1)); }) ==
          "[prune] no layer has a batch norm whose scale could be its channels' score");
  }

  TEST_CASE("Taylor, Fisher and movement over batches, from the gradients one by one") {
    const auto net = small_net(test_seed());
    const std::vector<Target> layers = targets(*net, kSmallInput);
    GradientScores taylor(layers, GradientScores::Kind::kTaylor);
    GradientScores fisher(layers, GradientScores::Kind::kFisher);
    GradientScores movement(layers, GradientScores::Kind::kMovement);
    CHECK(message_of([&] { taylor.scores(); }) == "[prune] no gradient was added to the scores");
    CHECK(message_of([&] { taylor.add(); }) ==
          "[prune] 'conv1.weight' has no gradient: scores are added after backward()");
    const size_t n = static_cast<size_t>(layers[0].weight().shape().elements());
    std::vector<double> t(n), f(n), m(n);
    for (uint64_t batch = 0; batch < 3; ++batch) {
      some_gradients(*net, {4, 5, 5, 3}, RngKey{.seed = test_seed()}.child(batch));
      taylor.add();
      fisher.add();
      movement.add();
      for (size_t i = 0; i < n; ++i) {
        const double w = layers[0].weight().raw.value().values()[i], g = layers[0].weight().raw.grad().values()[i];
        t[i] += std::abs(w * g) / 3;
        f[i] += w * w * g * g / 6;
        m[i] -= w * g;
      }
    }
    for (size_t i = 0; i < n; ++i) {
      CHECK(taylor.scores().at("conv1.weight").values()[i] == doctest::Approx(t[i]).epsilon(1e-5));
      CHECK(fisher.scores().at("conv1.weight").values()[i] == doctest::Approx(f[i]).epsilon(1e-5));
      CHECK(std::abs(static_cast<double>(movement.scores().at("conv1.weight").values()[i]) - m[i]) <= 1e-5 * 3 * t[i]);
    }

    // Stopped and gone on.
    Checkpoint checkpoint;
    movement.store(checkpoint);
    GradientScores resumed(layers, GradientScores::Kind::kMovement);
    resumed.restore(checkpoint);
    CHECK(resumed.batches() == 3);
    movement.add();
    resumed.add();
    CHECK(same_bits(resumed.scores().at("conv1.weight").values(), movement.scores().at("conv1.weight").values()));
    checkpoint.tensors.erase("train/prune.conv2.weight");
    CHECK_THROWS_AS(resumed.restore(checkpoint), Error);
  }

  TEST_CASE("activation energy is the mean square of each channel's result, and leaves no trace") {
    const auto net = small_net(test_seed());
    net->train(false);
    const std::vector<Target> layers = targets(*net, kSmallInput);
    const RngKey key{.seed = test_seed()};
    const Tensor x[] = {Tensor::normal({3, 5, 5, 3}, key.child("a")), Tensor::normal({2, 5, 5, 3}, key.child("b"))};
    Scores scores;
    {
      const ActivationEnergy energy(layers);
      CHECK(message_of([&] { energy.scores(); }) == "[prune] 'conv1' was not called: run the model on data first");
      CHECK(message_of([&] { ActivationEnergy twice(layers); }).find("already has a transform") != std::string::npos);
      for (const Tensor& batch : x) {
        (*net)(batch);
      }
      scores = energy.scores();
    }
    CHECK(layers[0].layer->output.empty());
    std::vector<double> sums(8);
    for (const Tensor& batch : x) {
      const Tensor y = (*layers[0].layer)(Variable(batch)).value();
      for (size_t i = 0; i < y.values().size(); ++i) {
        sums[i % 8] += static_cast<double>(y.values()[i]) * y.values()[i];
      }
    }
    for (int64_t c = 0; c < 8; ++c) {
      CHECK(scores.at("conv1.weight").at({c}) ==
            doctest::Approx(sums[static_cast<size_t>(c)] / (5 * 25)).epsilon(1e-6));
    }
  }

  TEST_CASE("the proximal step shrinks, sets exact zeros, and solves a lasso whose answer is known") {
    const auto net = small_net(test_seed());
    const std::vector<Target> layers = targets(*net, kSmallInput);
    const Tensor before = layers[0].weight().raw.value().clone();
    soft_threshold(layers, 0.1);
    for (size_t i = 0; i < before.values().size(); ++i) {
      const real w = before.values()[i], now = layers[0].weight().raw.value().values()[i];
      if (std::abs(w) <= real(0.1)) {
        CHECK((now == 0 && !std::signbit(now)));
      } else {
        CHECK(now == (w > 0 ? w - real(0.1) : w + real(0.1)));
      }
    }
    CHECK(message_of([&] { soft_threshold(layers, -1); }) ==
          "[prune] the threshold -1 of the proximal step is not a finite number >= 0");

    // min (w - a)^2 / 2 + lambda |w| has the answer sign(a) max(|a| - lambda, 0).
    Linear line({.in = 4, .out = 1, .bias = false});
    line.weight.raw.assign(Tensor::of({1, 4}, {0.3F, -0.7F, 0.9F, 0.1F}));
    const double a[] = {0.05, -0.8, 1.5, -0.2};
    const std::vector<Target> one{{.name = "weight", .path = "", .layer = &line}};
    for (int step = 0; step < 200; ++step) {
      real* w = line.weight.raw.mutable_data();
      for (size_t i = 0; i < 4; ++i) {
        w[i] -= real(0.1) * (w[i] - static_cast<real>(a[i]));
      }
      soft_threshold(one, 0.1 * 0.25);
    }
    const std::span<const real> w = line.weight.raw.value().values();
    CHECK(w[0] == 0);
    CHECK(w[1] == doctest::Approx(-0.55).epsilon(1e-5));
    CHECK(w[2] == doctest::Approx(1.25).epsilon(1e-5));
    CHECK(w[3] == 0);
  }
}

}  // namespace whittle
