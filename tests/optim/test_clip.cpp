// Clipping against plain loops, and the search for the gradient that broke.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/parallel.h"
#include "optim/clip.h"
#include "tests/optim/rig.h"
#include "tests/support/message.h"

namespace whittle {

namespace {

// Sizes around a tile and a lane, and one parameter without a gradient.
Rig rig_with_gradients() {
  Rig rig({{"a", {3, kElementGrain}}, {"none", {4}}, {"b", {kElementGrain + 1}}, {"c", {13}}, {"d", {}}});
  for (const size_t p : {0U, 2U, 3U, 4U}) {
    rig.set_gradient(p, 3);
  }
  return rig;
}

std::vector<real> gradients(const Rig& rig) {
  std::vector<real> all;
  for (const NamedParameter& named : rig.named) {
    if (const Tensor& g = named.parameter->raw.grad(); g.defined()) {
      all.insert(all.end(), g.values().begin(), g.values().end());
    }
  }
  return all;
}

double naive_norm(const std::vector<real>& g) {
  long double sum = 0;
  for (const real x : g) {
    sum += static_cast<long double>(x) * static_cast<long double>(x);
  }
  return static_cast<double>(std::sqrt(sum));
}

}  // namespace

TEST_SUITE("clip") {
  TEST_CASE("by value: every element is the nearest number in [-limit, limit]") {
    Rig rig = rig_with_gradients();
    auto expected = gradients(rig);
    for (real& g : expected) {
      g = g > real(0.25) ? real(0.25) : g < real(-0.25) ? real(-0.25) : g;
    }
    optim::clip_gradient_values(rig.named, 0.25);
    CHECK(gradients(rig) == expected);
    CHECK(std::ranges::count(expected, real(0.25)) > 1000);
    CHECK_FALSE(rig.named[1].parameter->raw.grad().defined());
  }

  TEST_CASE("by value: infinity becomes the limit and NaN stays visible") {
    Parameter w(Tensor::zeros({3}));
    w.raw.set_grad(Tensor::of({3}, {INFINITY, NAN, -INFINITY}));
    const NamedParameter named[] = {{"w", &w}};
    optim::clip_gradient_values(named, 2);
    CHECK(w.raw.grad().at({0}) == 2);
    CHECK(std::isnan(w.raw.grad().at({1})));
    CHECK(w.raw.grad().at({2}) == -2);
  }

  TEST_CASE("the norm is that of a plain loop in long double") {
    const Rig rig = rig_with_gradients();
    const double expected = naive_norm(gradients(rig));
    CHECK(std::abs(optim::gradient_norm(rig.named) - expected) <= 1e-13 * expected);
    CHECK(optim::gradient_norm({}) == 0);
    CHECK(optim::gradient_norm(std::span(rig.named).subspan(1, 1)) == 0);
    const NamedParameter three_four[] = {rig.named[3], rig.named[4]};
    three_four[0].parameter->raw.set_grad(Tensor::zeros({13}));
    Tensor three = Tensor::zeros({13});
    three.mutable_data()[12] = 3;
    three_four[0].parameter->raw.set_grad(three);
    three_four[1].parameter->raw.set_grad(Tensor::scalar(-4));
    CHECK(optim::gradient_norm(three_four) == 5);
  }

  TEST_CASE("by norm: above the limit all gradients shrink alike, below not a bit changes") {
    Rig rig = rig_with_gradients();
    const auto before = gradients(rig);
    const double norm = naive_norm(before);
    CHECK(optim::clip_gradient_norm(rig.named, norm * 1.001) == optim::gradient_norm(rig.named));
    CHECK(gradients(rig) == before);

    const double returned = optim::clip_gradient_norm(rig.named, 1.5);
    CHECK(std::abs(returned - norm) <= 1e-13 * norm);
    const auto after = gradients(rig);
    const double rounding = 2 * static_cast<double>(std::numeric_limits<real>::epsilon());
    for (size_t i = 0; i < after.size(); ++i) {
      const double expected = static_cast<double>(before[i]) * 1.5 / norm;
      if (std::abs(static_cast<double>(after[i]) - expected) > rounding * std::abs(expected)) {
        FAIL_CHECK("element " << i << " is " << after[i] << ", expected " << expected);
      }
    }
    CHECK(std::abs(naive_norm(after) - 1.5) <= 2 * rounding);
  }

  TEST_CASE("a norm that is not finite is returned, and the gradients stay as they are") {
    for (const real bad : {std::numeric_limits<real>::infinity(), std::numeric_limits<real>::quiet_NaN()}) {
      Rig rig = rig_with_gradients();
      Tensor broken = rig.named[2].parameter->raw.grad().clone();
      broken.mutable_data()[kElementGrain] = bad;
      rig.named[2].parameter->raw.set_grad(broken);
      const Tensor first = rig.named[0].parameter->raw.grad().clone();
      CHECK_FALSE(std::isfinite(optim::clip_gradient_norm(rig.named, 1)));
      CHECK(std::ranges::equal(rig.named[0].parameter->raw.grad().values(), first.values()));
      CHECK(optim::first_non_finite_gradient(rig.named) == "b");
    }
    CHECK(optim::first_non_finite_gradient(rig_with_gradients().named) == std::nullopt);
  }

#if !defined(WHITTLE_DOUBLE)
  TEST_CASE("no finite float is too large for the norm") {
    Parameter w(Tensor::full({100}, 3e38F));
    w.raw.set_grad(Tensor::full({100}, 3e38F));
    const NamedParameter named[] = {{"w", &w}};
    CHECK(optim::clip_gradient_norm(named, 1) == doctest::Approx(3e39));
    CHECK(w.raw.grad().at({7}) == doctest::Approx(0.1F));
  }
#endif

  TEST_CASE("a gradient that someone else also holds is copied, not written to") {
    Parameter w(Tensor::zeros({2}));
    const Tensor mine = Tensor::of({2}, {3, 4});
    w.raw.set_grad(mine);
    const NamedParameter named[] = {{"w", &w}};
    optim::clip_gradient_norm(named, 1);
    CHECK(mine.at({0}) == 3);
    CHECK(near(static_cast<double>(w.raw.grad().at({0})), 0.6));
  }

  TEST_CASE("the same bits for 1, 2, 3, 5 and 8 threads") {
    double first = 0;
    std::vector<real> clipped;
    for (const int threads : {1, 2, 3, 5, 8}) {
      set_num_threads(threads);
      Rig rig = rig_with_gradients();
      const double norm = optim::clip_gradient_norm(rig.named, 0.1);
      if (threads == 1) {
        first = norm;
        clipped = gradients(rig);
      }
      CHECK(norm == first);
      CHECK(gradients(rig) == clipped);
    }
    set_num_threads(0);
  }

  TEST_CASE("limits must be above 0") {
    CHECK(message_of([] { optim::clip_gradient_values({}, 0); }) ==
          "[clip_gradient_values] the limit must be above 0, got 0");
    CHECK(message_of([] { return optim::clip_gradient_norm({}, -1); }) ==
          "[clip_gradient_norm] the limit must be above 0, got -1");
    CHECK(message_of([] { return optim::clip_gradient_norm({}, NAN); }) ==
          "[clip_gradient_norm] the limit must be above 0, got nan");
    CHECK(optim::clip_gradient_norm({}, INFINITY) == 0);
  }
}

}  // namespace whittle
