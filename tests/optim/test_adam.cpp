// Adam and AdamW against closed forms and Algorithm 1 of the paper in double.

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "optim/adam.h"
#include "tests/optim/rig.h"
#include "tests/support/message.h"

namespace whittle {

namespace {

// One weight as the paper writes it, with the corrected moments spelled out.
struct Paper {
  double w;
  optim::AdamOptions options;
  double m = 0, v = 0;
  int t = 0;

  void step(double rate, double g) {
    ++t;
    const double decay = options.weight_decay * w;
    g += options.decoupled ? 0 : decay;
    m = options.beta1 * m + (1 - options.beta1) * g;
    v = options.beta2 * v + (1 - options.beta2) * g * g;
    const double corrected_m = m / (1 - std::pow(options.beta1, t));
    const double corrected_v = v / (1 - std::pow(options.beta2, t));
    w = w - rate * corrected_m / (std::sqrt(corrected_v) + options.epsilon) - (options.decoupled ? rate * decay : 0);
  }
};

double only(const Parameter& w) { return static_cast<double>(w.raw.value().item()); }

}  // namespace

TEST_SUITE("adam") {
  TEST_CASE("under a constant gradient every step is rate g / (|g| + epsilon), from the very first") {
    // That is what the correction is for: without it the first step would be
    // (1 - beta1) / sqrt(1 - beta2) = 3.2 times too long.
    for (const double g : {3.0, -0.002}) {
      Parameter w(Tensor::of({1}, {1}));
      optim::Adam adam({{"w", &w}}, {.rate = 0.01, .epsilon = 1e-3});
      for (int n = 1; n <= 100; ++n) {
        w.raw.set_grad(Tensor::full({1}, static_cast<real>(g)));
        adam.step();
        CHECK(near(only(w), 1 - n * 0.01 * g / (std::abs(g) + 1e-3)));
      }
    }
  }

  TEST_CASE("every option follows the paper for 80 steps of changing rate") {
    for (const double decay : {0.0, 0.05}) {
      for (const bool decoupled : {false, true}) {
        for (const auto& betas : {std::pair{0.9, 0.999}, std::pair{0.5, 0.9}, std::pair{0.0, 0.99}}) {
          CAPTURE(decay);
          CAPTURE(decoupled);
          CAPTURE(betas.first);
          const optim::AdamOptions options{.beta1 = betas.first,
                                           .beta2 = betas.second,
                                           .epsilon = 1e-6,
                                           .weight_decay = decay,
                                           .decoupled = decoupled};
          Rig rig({{"w", {3, 7}}});
          optim::Adam adam(rig.named, options);
          std::vector<Paper> papers;
          for (int64_t i = 0; i < 21; ++i) {
            papers.push_back({static_cast<double>(static_cast<real>(start_value(0, i))), options});
          }
          for (int step = 0; step < 80; ++step) {
            adam.rate = 0.005 * (1 + step % 4);
            rig.set_gradients(step);
            adam.step();
            for (int64_t i = 0; i < 21; ++i) {
              Paper& paper = papers[static_cast<size_t>(i)];
              paper.step(adam.rate, gradient_of(0, i, step, paper.w));
            }
          }
          for (int64_t i = 0; i < 21; ++i) {
            CHECK(near(rig.value(0, i), papers[static_cast<size_t>(i)].w));
          }
        }
      }
    }
  }

  TEST_CASE("AdamW is Adam with decoupled decay, 0.01 unless told otherwise") {
    Rig a({{"w", {5, 5}}}), b({{"w", {5, 5}}});
    optim::AdamW adamw(a.named, {.rate = 0.02});
    optim::Adam adam(b.named, {.rate = 0.02, .weight_decay = 0.01, .decoupled = true});
    for (int step = 0; step < 20; ++step) {
      a.set_gradients(step);
      b.set_gradients(step);
      adamw.step();
      adam.step();
    }
    CHECK(a.values() == b.values());
    CHECK(adamw.kind() == "adamw");
    CHECK(adam.kind() == "adamw");
    CHECK(optim::Adam(b.named, {}).kind() == "adam");
  }

  TEST_CASE("decay without a gradient: AdamW shrinks by (1 - rate decay), Adam steps by about the rate") {
    Parameter w(Tensor::of({1}, {5})), u(Tensor::of({1}, {5}));
    optim::AdamW adamw({{"w", &w}}, {.rate = 0.5, .weight_decay = 0.1});
    optim::Adam adam({{"u", &u}}, {.rate = 0.5, .epsilon = 1e-8, .weight_decay = 0.1});
    w.raw.set_grad(Tensor::zeros({1}));
    u.raw.set_grad(Tensor::zeros({1}));
    for (int n = 1; n <= 50; ++n) {
      adamw.step();
    }
    adam.step();
    CHECK(near(only(w), 5 * std::pow(0.95, 50)));
    CHECK(near(only(u), 5 - 0.5 * 0.5 / (0.5 + 1e-8)));
  }

  TEST_CASE("a parameter that gets its first gradient late is corrected by its own count of updates") {
    Parameter early(Tensor::of({1}, {1})), late(Tensor::of({1}, {1}));
    optim::Adam adam({{"early", &early}, {"late", &late}}, {.rate = 0.01, .epsilon = 1e-6});
    for (int n = 1; n <= 60; ++n) {
      early.raw.set_grad(Tensor::of({1}, {2}));
      if (n > 50) {
        late.raw.set_grad(Tensor::of({1}, {2}));
      }
      adam.step();
    }
    const double length = 0.01 * 2 / (2 + 1e-6);
    CHECK(near(only(early), 1 - 60 * length));
    CHECK(near(only(late), 1 - 10 * length));
  }

  TEST_CASE("a weight whose gradient is always 0 stays exactly where it is") {
    Parameter w(Tensor::of({1}, {0.3F}));
    const real before = w.raw.value().item();
    optim::Adam adam({{"w", &w}}, {.rate = 1});
    for (int n = 0; n < 10; ++n) {
      w.raw.set_grad(Tensor::zeros({1}));
      adam.step();
    }
    CHECK(w.raw.value().item() == before);
  }

  TEST_CASE("options out of range are refused") {
    Parameter w(Tensor::of({1}, {4}));
    const auto message = [&w](const optim::AdamOptions& options) {
      return message_of([&] { optim::Adam({{"w", &w}}, options); });
    };
    CHECK(message({.rate = -1}) == "[adam] the rate must be a finite number not below 0, got -1");
    CHECK(message({.beta1 = 1}) == "[adam] beta1 and beta2 must be in [0, 1), got 1 and 0.999");
    CHECK(message({.beta2 = -0.1}) == "[adam] beta1 and beta2 must be in [0, 1), got 0.9 and -0.1");
    CHECK(message({.beta2 = NAN}) == "[adam] beta1 and beta2 must be in [0, 1), got 0.9 and nan");
    CHECK(message({.epsilon = 0}) == "[adam] epsilon must be above 0 and at most 1, got 0");
    CHECK(message({.epsilon = INFINITY}) == "[adam] epsilon must be above 0 and at most 1, got inf");
    CHECK(message({.weight_decay = NAN}) == "[adam] weight decay must be a finite number not below 0, got nan");
    CHECK(message_of([&] {
            optim::AdamW({{"w", &w}}, {.weight_decay = -1});
          }) == "[adamw] weight decay must be a finite number not below 0, got -1");
    CHECK(message({}) == "no error");
  }
}

}  // namespace whittle
