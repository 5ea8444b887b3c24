// Gradients of quantization-aware training: live folds against norms, learned steps and
// clips against their formulas. Float, and in the double twin to 1e-9.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "core/ops.h"
#include "core/real.h"
#include "layers/conv2d.h"
#include "layers/fold.h"
#include "layers/linear.h"
#include "quant/fake_quant.h"
#include "tests/support/seed.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

using quant::FakeQuant;
using quant::Granularity;
using quant::Phase;
using quant::RangeRule;
using quant::Role;
using quant::TensorSpec;

constexpr double kClose = sizeof(real) == 8 ? 1e-9 : 2e-4;

RngKey key_of(std::string_view name) { return RngKey{.seed = test_seed()}.child(name); }

double distance(const Tensor& a, const Tensor& b) {  // relative to the largest number
  double most = 1e-30;
  double apart = 0;
  for (int64_t i = 0; i < a.elements(); ++i) {
    most = std::max(most, std::abs(static_cast<double>(a.data()[i])));
    apart = std::max(apart, std::abs(static_cast<double>(a.data()[i]) - static_cast<double>(b.data()[i])));
  }
  return apart / most;
}

// A loss whose gradient differs everywhere.
Variable weighted(const Variable& y, RngKey key) { return sum(mul(y, Tensor::normal(y.shape(), key))); }

struct Step {
  Tensor y, input, weight, gamma, beta, mean, variance;
};
template <class Layer, class Options>
Step training_step(const Options& options, const Tensor& x, bool folded, const std::vector<real>& gammas) {
  Layer layer(options);
  layer.weight.raw.assign(Tensor::normal(layer.weight.shape(), key_of("weight")));
  layer.norm.gamma.raw.assign(Tensor::from(layer.norm.gamma.shape(), gammas));
  layer.norm.beta.raw.assign(Tensor::normal(layer.norm.beta.shape(), key_of("beta")));
  layer.norm.running_mean = Tensor::normal(layer.norm.beta.shape(), key_of("mean"));
  layer.norm.running_variance = Tensor::uniform(layer.norm.beta.shape(), key_of("variance"), real(0.1), 5);
  if (layer.bias.defined()) {
    layer.bias.raw.assign(Tensor::normal(layer.bias.shape(), key_of("bias")));
  }
  if (folded) {
    fold_norms(layer, {.live = true});
  }
  const Variable input = Variable::leaf(x);
  const Variable y = layer(input);
  backward(weighted(y, key_of("loss")));
  return {y.value(),
          input.grad(),
          layer.weight.raw.grad(),
          layer.norm.gamma.raw.grad(),
          layer.norm.beta.raw.grad(),
          layer.norm.running_mean,
          layer.norm.running_variance};
}

template <class Layer, class Options>
void compare_fold(const Options& options, const Tensor& x, const std::vector<real>& gammas) {
  const Step plain = training_step<Layer>(options, x, false, gammas);
  const Step live = training_step<Layer>(options, x, true, gammas);
  CHECK(distance(plain.y, live.y) < kClose);
  CHECK(distance(plain.input, live.input) < 10 * kClose);
  CHECK(distance(plain.weight, live.weight) < 10 * kClose);
  CHECK(distance(plain.gamma, live.gamma) < 10 * kClose);
  CHECK(distance(plain.beta, live.beta) < 10 * kClose);
  CHECK(distance(plain.mean, live.mean) < kClose);
  CHECK(distance(plain.variance, live.variance) < kClose);
}

// Behind a training call and adapt(): an activation's quantizer.
std::shared_ptr<FakeQuant> adapted(Role role, const TensorSpec& spec, const Tensor& x) {
  const auto quantizer = std::make_shared<FakeQuant>(role, spec, x.shape());
  (void)quantizer->apply(x);
  quantizer->adapt(x);
  return quantizer;
}

Parameter& learned(FakeQuant& quantizer) {
  Parameter* found = nullptr;
  quantizer.visit_parameters([&](std::string_view, Parameter& p) { found = &p; });
  REQUIRE(found != nullptr);
  return *found;
}

}  // namespace

TEST_SUITE("gradients") {
  TEST_CASE("a live fold trains as the norm it stands for, also with gamma 0 or negative") {
    CAPTURE(test_seed());
    const std::vector<real> gammas{1, 0, real(-0.7), real(0.01), real(3), real(-1e-3)};
    for (const bool bias : {false, true}) {
      compare_fold<Conv2d>(
          Conv2dOptions{.in = 3, .out = 6, .padding = Padding::all(1), .norm = true, .norm_bias = bias},
          Tensor::normal({4, 5, 6, 3}, key_of("x")), gammas);
      compare_fold<Conv2d>(Conv2dOptions{.in = 6, .out = 6, .groups = 6, .norm = true, .norm_bias = bias},
                           Tensor::normal({4, 5, 6, 6}, key_of("x")), gammas);
      compare_fold<Linear>(LinearOptions{.in = 5, .out = 6, .norm = true, .norm_bias = bias},
                           Tensor::normal({16, 5}, key_of("x")), gammas);
    }
  }

  TEST_CASE("a live fold survives gammas that weight decay has all but wiped out") {
    CAPTURE(test_seed());
    const Conv2dOptions options{.in = 3, .out = 3, .norm = true};
    const Tensor x = Tensor::normal({4, 5, 6, 3}, key_of("x"));
    const std::vector<real> gammas{real(1e-12), real(-1e-20), real(1e-30)};
    const Step plain = training_step<Conv2d>(options, x, false, gammas);
    const Step live = training_step<Conv2d>(options, x, true, gammas);
    CHECK(live.y.all_finite());
    CHECK(live.variance.all_finite());
    CHECK(distance(plain.y, live.y) < kClose);
    CHECK(distance(plain.variance, live.variance) < kClose);
    CHECK(distance(plain.gamma, live.gamma) < 10 * kClose);
  }

  TEST_CASE("min-max weights that adapt: every gradient passes, that of the largest weight too") {
    CAPTURE(test_seed());
    for (const int bits : {2, 4, 8}) {
      for (const bool symmetric : {true, false}) {
        const Tensor w = Tensor::normal({500, 9}, key_of("minmax"));
        const auto quantizer =
            adapted(Role::kWeight, {.bits = bits, .symmetric = symmetric, .per = Granularity::kChannel}, w);
        const Variable in = Variable::leaf(w);
        const Variable y = quantizer->apply(in);
        CHECK(y.grids() != nullptr);
        CHECK(distance(y.value(), fake_quant(Variable(w), quant::weight_grids(w, quantizer->tensor_spec())).value()) ==
              0);
        const Tensor g = Tensor::normal(w.shape(), key_of("g"));
        backward(sum(mul(y, g)));
        CHECK(distance(g, in.grad()) == 0);
      }
    }
  }

  TEST_CASE("learned steps (Esser et al. 2020): the gradient of step and number, written out") {
    CAPTURE(test_seed());
    for (const auto role : {Role::kWeight, Role::kActivation}) {
      for (const auto per : {Granularity::kTensor, Granularity::kChannel}) {
        if (role == Role::kActivation && per == Granularity::kChannel) {
          continue;
        }
        const Tensor x = Tensor::normal({6, 4, 5}, key_of("x"));
        const TensorSpec spec{.bits = 3, .per = per, .range = RangeRule::kLearnedStep};
        const auto quantizer = adapted(role, spec, x);
        Parameter& step = learned(*quantizer);
        const int64_t runs = per == Granularity::kChannel ? 6 : 1;
        CHECK(step.shape() == Shape{runs});
        // Steps at which about a third of the numbers lie outside.
        step.raw.assign(Tensor::uniform({runs}, key_of("step"), real(0.15), real(0.35)));
        const Variable in = Variable::leaf(x);
        const Variable y = quantizer->apply(in);
        const Tensor g = Tensor::normal(x.shape(), key_of("g"));
        backward(sum(mul(y, g)));
        const double low = role == Role::kWeight ? -3 : -4;
        const double high = 3;
        const int64_t length = x.elements() / runs;
        // n: numbers that share a step, of one sample.
        const double n = role == Role::kWeight ? static_cast<double>(length) : 20;
        double wrong_x = 0;
        for (int64_t r = 0; r < runs; ++r) {
          // Values move in binary32 in both builds.
          const auto s = static_cast<double>(static_cast<float>(step.raw.value().data()[r]));
          double sum_of = 0;
          double size = 0;
          for (int64_t i = r * length; i < (r + 1) * length; ++i) {
            const double v = static_cast<double>(x.data()[i]) / s;
            const double d = v <= low ? low : v >= high ? high : std::nearbyint(v) - v;
            sum_of += static_cast<double>(g.data()[i]) * d;
            size += std::abs(static_cast<double>(g.data()[i]) * d);
            const double gx = v >= low && v <= high ? static_cast<double>(g.data()[i]) : 0;
            wrong_x = std::max(wrong_x, std::abs(gx - static_cast<double>(in.grad().data()[i])));
          }
          const double expected = sum_of / std::sqrt(n * high);
          CHECK(std::abs(static_cast<double>(step.raw.grad().data()[r]) - expected) <
                1e-5 * size / std::sqrt(n * high));
        }
        CHECK(wrong_x == 0);
      }
    }
  }

  TEST_CASE("a negative step is its magnitude, with the gradient's sign turned") {
    const Tensor x = Tensor::of({4}, {real(0.4), real(-2), real(0.9), real(1.2)});
    const auto quantizer = adapted(Role::kWeight, {.bits = 3, .range = RangeRule::kLearnedStep}, x.reshape({1, 4}));
    Parameter& step = learned(*quantizer);
    double gradients[2];
    Tensor values[2];
    for (const int negative : {0, 1}) {
      step.raw.assign(Tensor::of({1}, {negative == 1 ? real(-0.5) : real(0.5)}));
      const Variable y = quantizer->apply(Variable::leaf(x.reshape({1, 4})));
      step.raw.zero_grad();
      backward(sum(y));
      gradients[negative] = static_cast<double>(step.raw.grad().data()[0]);
      values[negative] = y.value();
    }
    CHECK(gradients[0] == -gradients[1]);
    CHECK(distance(values[0], values[1]) == 0);
  }

  TEST_CASE("learned clips (Choi et al. 2018): the gradient goes to the clip where it cuts, for every clip") {
    CAPTURE(test_seed());
    Rng rng(test_seed());
    for (int i = 0; i < 300; ++i) {
      const int bits = i % 2 == 0 ? 8 : 4;
      const Tensor x = Tensor::normal({2, 20}, key_of("x").child(static_cast<uint64_t>(i)), 1, 2);
      const auto quantizer =
          adapted(Role::kActivation, {.bits = bits, .symmetric = false, .range = RangeRule::kLearnedClip}, x);
      Parameter& clip = learned(*quantizer);
      const auto alpha = static_cast<real>(static_cast<float>(rng.uniform(0.5, 3)));
      clip.raw.assign(Tensor::full({1}, alpha));
      const Variable in = Variable::leaf(x);
      const Variable y = quantizer->apply(in);
      const Tensor g = Tensor::normal(x.shape(), key_of("g").child(static_cast<uint64_t>(i)));
      backward(sum(mul(y, g)));
      double expected = 0;
      int64_t wrong = 0;
      for (int64_t k = 0; k < x.elements(); ++k) {
        const real v = x.data()[k];
        expected += v >= alpha ? static_cast<double>(g.data()[k]) : 0;
        wrong += in.grad().data()[k] != (v > 0 && v < alpha ? g.data()[k] : 0);
        const double levels = (1 << bits) - 1;
        const double cut = std::min(std::max(static_cast<double>(v), 0.0), static_cast<double>(alpha));
        const double step = static_cast<double>(alpha) / levels;
        // Within rounding of a tie either neighbour will do.
        wrong += std::abs(static_cast<double>(y.value().data()[k]) - cut) > step * 0.5001;
      }
      CHECK(wrong == 0);
      CHECK(static_cast<double>(clip.raw.grad().data()[0]) == doctest::Approx(expected).epsilon(1e-4));
    }
  }
}

}  // namespace whittle::inline WHITTLE_PRECISION
