// SGD against closed forms and an independent trajectory in double.

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "core/ops.h"
#include "optim/sgd.h"
#include "tests/optim/rig.h"
#include "tests/support/message.h"

namespace whittle {

namespace {

// One parameter with loss a w^2 / 2 per element, so the gradient is a w.
struct Bowl {
  Parameter w{Tensor::of({2}, {1, -3})};
  Tensor a = Tensor::of({2}, {2, 0.5});

  void step(optim::Sgd& sgd) {
    sgd.zero_grad();
    backward(affine(sum(mul(a, mul(w.raw, w.raw))), real(0.5), 0));
    sgd.step();
  }
  double at(int64_t i) const { return static_cast<double>(w.raw.value().at({i})); }
};

}  // namespace

TEST_SUITE("sgd") {
  TEST_CASE("plain descent on a bowl has a closed form: w (1 - rate a)^n") {
    Bowl bowl;
    optim::Sgd sgd({{"w", &bowl.w}}, {.rate = 0.1});
    for (int i = 0; i < 20; ++i) {
      bowl.step(sgd);
    }
    CHECK(near(bowl.at(0), std::pow(0.8, 20)));
    CHECK(near(bowl.at(1), -3 * std::pow(0.95, 20)));
    CHECK(sgd.steps() == 20);
  }

  TEST_CASE("under a constant gradient momentum gathers to g (1 - momentum^n) / (1 - momentum)") {
    Parameter w(Tensor::of({1}, {5}));
    optim::Sgd sgd({{"w", &w}}, {.rate = 0.01, .momentum = 0.9});
    double expected = 5;
    for (int n = 1; n <= 60; ++n) {
      w.raw.set_grad(Tensor::of({1}, {3}));
      sgd.step();
      expected -= 0.01 * 3 * (1 - std::pow(0.9, n)) / 0.1;
      CHECK(near(static_cast<double>(w.raw.value().item()), expected));
    }
  }

  TEST_CASE("with no gradient but decay, both kinds shrink the weight by (1 - rate decay) a step") {
    for (const bool decoupled : {false, true}) {
      Parameter w(Tensor::of({1}, {5}));
      optim::Sgd sgd({{"w", &w}}, {.rate = 0.5, .weight_decay = 0.1, .decoupled = decoupled});
      for (int n = 1; n <= 50; ++n) {
        w.raw.set_grad(Tensor::zeros({1}));
        sgd.step();
      }
      CHECK(near(static_cast<double>(w.raw.value().item()), 5 * std::pow(0.95, 50)));
    }
  }

  TEST_CASE("every option follows the written recurrence for 80 steps of changing rate") {
    for (const double mu : {0.0, 0.9}) {
      for (const bool nesterov : {false, true}) {
        for (const double decay : {0.0, 0.03}) {
          for (const bool decoupled : {false, true}) {
            if (nesterov && mu == 0) {
              continue;
            }
            CAPTURE(mu);
            CAPTURE(nesterov);
            CAPTURE(decay);
            CAPTURE(decoupled);
            Rig rig({{"w", {3, 7}}});
            optim::Sgd sgd(rig.named,
                           {.momentum = mu, .nesterov = nesterov, .weight_decay = decay, .decoupled = decoupled});
            std::vector<double> w(21), v(21);
            for (int64_t i = 0; i < 21; ++i) {
              w[static_cast<size_t>(i)] = static_cast<double>(static_cast<real>(start_value(0, i)));
            }
            for (int step = 0; step < 80; ++step) {
              sgd.rate = 0.02 * (1 + step % 4);
              rig.set_gradients(step);
              sgd.step();
              for (size_t i = 0; i < w.size(); ++i) {
                double g = gradient_of(0, static_cast<int64_t>(i), step, w[i]);
                const double shrink = decoupled ? sgd.rate * decay * w[i] : 0;
                g += decoupled ? 0 : decay * w[i];
                v[i] = mu * v[i] + g;
                w[i] = w[i] - shrink - sgd.rate * (nesterov ? g + mu * v[i] : v[i]);
              }
            }
            for (size_t i = 0; i < w.size(); ++i) {
              CHECK(near(rig.value(0, static_cast<int64_t>(i)), w[i]));
            }
          }
        }
      }
    }
  }

  TEST_CASE("the rate acts at once: rate 0 stands still, whatever the velocity") {
    Bowl bowl;
    optim::Sgd sgd({{"w", &bowl.w}}, {.rate = 0.1, .momentum = 0.9});
    bowl.step(sgd);
    sgd.rate = 0;
    bowl.step(sgd);
    CHECK(near(bowl.at(0), 0.8));
  }

  TEST_CASE("options out of range are refused") {
    Parameter w(Tensor::of({1}, {4}));
    const auto message = [&w](const optim::SgdOptions& options) {
      return message_of([&] { optim::Sgd({{"w", &w}}, options); });
    };
    CHECK(message({.rate = -1}) == "[sgd] the rate must be a finite number not below 0, got -1");
    CHECK(message({.rate = NAN}) == "[sgd] the rate must be a finite number not below 0, got nan");
    CHECK(message({.rate = INFINITY}) == "[sgd] the rate must be a finite number not below 0, got inf");
    CHECK(message({.momentum = 1}) == "[sgd] momentum must be in [0, 1), got 1");
    CHECK(message({.momentum = -0.5}) == "[sgd] momentum must be in [0, 1), got -0.5");
    CHECK(message({.momentum = NAN}) == "[sgd] momentum must be in [0, 1), got nan");
    CHECK(message({.weight_decay = -0.1}) == "[sgd] weight decay must be a finite number not below 0, got -0.1");
    CHECK(message({.nesterov = true}) == "[sgd] nesterov needs a momentum above 0");
    CHECK(message({}) == "no error");
  }
}

}  // namespace whittle
