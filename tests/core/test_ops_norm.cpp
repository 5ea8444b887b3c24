// Batch normalisation against its formula channel by channel in double, and where
// single precision is easily lost.

#include <doctest/doctest.h>

#include <algorithm>

#include "tests/core/distance.h"
#include "tests/core/op_cases.h"
#include "tests/core/oracle.h"
#include "tests/core/some_shape.h"
#include "tests/support/seed.h"

namespace whittle {

namespace {

constexpr Act kActs[] = {Act::kNone, Act::kRelu, Act::kRelu6};
constexpr bool kDouble = sizeof(real) == 8;
constexpr double kBound = kDouble ? 1e-12 : 2.5e-6;  // relative to the terms that are added; worst seen 8e-7

struct Inputs {
  Tensor x, gamma, beta;
  Tensor mean{}, variance{};  // undefined: training
  real epsilon = real(1e-3);
  Act act = Act::kNone;
  Variable run(std::span<const Variable> in) const {
    return mean.defined() ? batch_norm_eval(in[0], in[1], in[2], mean, variance, epsilon, act)
                          : batch_norm_train(in[0], in[1], in[2], epsilon, act).y;
  }
};

struct Normalised {
  std::vector<double> mean, variance, y, gx, ggamma, gbeta;
  // The largest sum of magnitudes behind any number of its kind: what rounding errors are relative to. (With two
  // elements per channel, for one, h is +1 and -1 whatever x is, and gx is what remains of terms that cancel.)
  double x_terms = 0, y_terms = 0, gx_terms = 0, ggamma_terms = 0;
};

// The formulas of ops.h, one channel at a time. The gradient through the statistics is written out as the chain rule
// has it (gradient of variance, then of mean), not in the closed form the op uses.
Normalised normalise(const Inputs& in, const Tensor& g) {
  const auto channels = static_cast<size_t>(in.x.dim(-1));
  const auto elements = static_cast<size_t>(in.x.elements());
  const auto n = static_cast<double>(elements / channels);
  const auto number = [](const Tensor& t, size_t i) { return static_cast<double>(t.values()[i]); };
  const auto zeros = [](size_t count) { return std::vector<double>(count, 0.0); };
  Normalised r{.mean = zeros(channels),
               .variance = zeros(channels),
               .y = zeros(elements),
               .gx = zeros(elements),
               .ggamma = zeros(channels),
               .gbeta = zeros(channels)};
  for (size_t c = 0; c < channels; ++c) {
    double& m = r.mean[c];
    double& v = r.variance[c];
    for (size_t i = c; i < elements; i += channels) {
      m += number(in.x, i) / n;
    }
    for (size_t i = c; i < elements; i += channels) {
      v += (number(in.x, i) - m) * (number(in.x, i) - m) / n;
    }
    if (in.mean.defined()) {  // evaluation
      m = number(in.mean, c);
      v = number(in.variance, c);
    }
    const double deviation = std::sqrt(v + static_cast<double>(in.epsilon));
    double g_variance = 0;
    double g_mean = 0;
    double ggamma_terms = 0;
    for (size_t i = c; i < elements; i += channels) {
      const double d = number(in.x, i) - m;
      const double t = number(in.gamma, c) * d / deviation + number(in.beta, c);
      const double low = in.act == Act::kNone ? -INFINITY : 0;
      const double high = in.act == Act::kRelu6 ? 6 : INFINITY;
      r.y[i] = std::clamp(t, low, high);
      const double g_t = t > low && t < high ? number(g, i) : 0;
      const double g_h = g_t * number(in.gamma, c);
      r.gbeta[c] += g_t;
      r.ggamma[c] += g_t * d / deviation;
      r.gx[i] = g_h / deviation;
      g_variance += g_h * d * -0.5 / (deviation * deviation * deviation);
      g_mean -= g_h / deviation;
      r.x_terms = std::max(r.x_terms, std::abs(number(in.x, i)));
      r.y_terms = std::max(r.y_terms, std::abs(t - number(in.beta, c)) + std::abs(number(in.beta, c)));
      r.gx_terms = std::max(r.gx_terms, std::abs(number(g, i) * number(in.gamma, c) / deviation));
      ggamma_terms += std::abs(g_t * d / deviation);
    }
    r.ggamma_terms = std::max(r.ggamma_terms, ggamma_terms);
    for (size_t i = c; !in.mean.defined() && i < elements; i += channels) {
      r.gx[i] += g_variance * 2 * (number(in.x, i) - m) / n + g_mean / n;
    }
  }
  return r;
}

// Rows alternate about -1.5 and 1.5, so that no channel is nearly constant: a large mean has a test of its own. And the
// activation's argument keeps away from its kinks, where rounding decides the side: a channel's beta is shifted until
// none is within 1e-4.
Inputs some_inputs(Rng& rng, const Shape& shape, Act act, bool training) {
  const Shape channels{shape[-1]};
  Inputs in{.x = some_tensor(rng, shape, -1, 1),
            .gamma = some_tensor(rng, channels),
            .beta = some_tensor(rng, channels, -1, 5),
            .mean = training ? Tensor() : some_tensor(rng, channels, -1, 1),
            .variance = training ? Tensor() : some_tensor(rng, channels, 0.2, 3),
            .act = act};
  for (int64_t i = 0; i < shape.elements(); ++i) {
    in.x.mutable_data()[i] += static_cast<real>(i / shape[-1] % 2 == 0 ? 1.5 : -1.5);
  }
  for (bool again = act != Act::kNone; again;) {
    again = false;
    Inputs plain = in;
    plain.act = Act::kNone;
    const Normalised t = normalise(plain, in.x);
    for (size_t i = 0; i < t.y.size(); ++i) {
      if (std::abs(t.y[i]) < 1e-4 || std::abs(t.y[i] - 6) < 1e-4) {
        in.beta.mutable_values()[i % static_cast<size_t>(shape[-1])] += real(0.00037);
        again = true;
      }
    }
  }
  return in;
}

double check_against_formula(const Inputs& in) {
  CAPTURE(in.x.shape().str());
  CAPTURE(static_cast<int>(in.act));
  CAPTURE(in.mean.defined());
  Tensor g;
  const Run got = run([&](std::span<const Variable> v) { return in.run(v); }, {in.x, in.gamma, in.beta},
                      [&](const Shape& s) { return g = Tensor::uniform(s, {.seed = 5}, real(0.5), real(1.5)); });
  const Normalised want = normalise(in, g);
  std::vector<double> errors{
      distance(got.value, want.y, want.y_terms), distance(got.gradients[0], want.gx, want.gx_terms),
      distance(got.gradients[1], want.ggamma, want.ggamma_terms), distance(got.gradients[2], want.gbeta)};
  if (!in.mean.defined()) {
    const BatchNormResult result = batch_norm_train(in.x, in.gamma, in.beta, in.epsilon, in.act);
    CHECK(same_bits(result.y.value(), got.value));
    errors.push_back(distance(result.mean, want.mean, want.x_terms));
    errors.push_back(distance(result.variance, want.variance));
  }
  for (size_t i = 0; i < errors.size(); ++i) {
    CAPTURE(i);  // y, gx, ggamma, gbeta, mean, variance
    CHECK(errors[i] <= kBound);
  }
  return std::ranges::max(errors);
}

}  // namespace

TEST_SUITE("norm") {
  TEST_CASE(
      "batch_norm: values, statistics and gradients of 400 random shapes equal the formula, on every kernel table") {
    CAPTURE(test_seed());
    double worst = 0;
    for_each_table([&] {
      Rng rng(RngKey{.seed = test_seed()}.child("norm shapes"));
      for (int i = 0; i < 400; ++i) {
        Shape shape = some_shape(rng, 2, 5).with(-1, some_channels(rng));
        if (shape.elements() == shape[-1]) {
          shape = shape.with(0, 2);
        }
        const Act act = kActs[rng.below(3)];
        worst = std::max(worst, check_against_formula(some_inputs(rng, shape, act, i % 2 == 0)));
      }
    });
    MESSAGE("batch_norm against the formula: worst relative error " << worst);
  }

  TEST_CASE("batch_norm: rows around the borders of tiles") {
    for_each_table([] {
      Rng rng(test_seed());
      for (const Shape& shape :
           {Shape{5460, 3}, Shape{5461, 3}, Shape{5462, 3}, Shape{63, 400}, Shape{64, 400}, Shape{65, 400},
            Shape{2, 1000}, Shape{3, 17, 23, 16}, Shape{20000, 1}, Shape{130, 127}, Shape{130, 129}}) {
        check_against_formula(some_inputs(rng, shape, Act::kNone, true));
        check_against_formula(some_inputs(rng, shape, Act::kRelu, false));
      }
    });
  }

  TEST_CASE("batch_norm_train: a large mean costs the variance no digits") {
    for (const Shape& shape : {Shape{200000, 2}, Shape{4, 50, 50, 64}, Shape{3, 1}}) {
      CAPTURE(shape.str());
      const Tensor x = Tensor::normal(shape, {.seed = test_seed()}, 10000, 1);
      const Tensor ones = Tensor::full({shape[-1]}, 1);
      const BatchNormResult got = batch_norm_train(x, ones, ones);
      const Normalised want = normalise({.x = x, .gamma = ones, .beta = ones}, x);
      for (size_t c = 0; c < want.mean.size(); ++c) {
        const double variance = static_cast<double>(got.variance.values()[c]);
        const double mean = static_cast<double>(got.mean.values()[c]);
        CHECK(std::abs(variance - want.variance[c]) <= (kDouble ? 1e-12 : 1e-5) * want.variance[c]);
        CHECK(std::abs(mean - want.mean[c]) <= (kDouble ? 1e-12 : 1e-7) * want.mean[c]);
      }
    }
  }

  TEST_CASE("batch_norm_train: a constant channel has variance 0 and becomes beta") {
    for (const real value : {real(0), real(0.1), real(12345.678)}) {
      CAPTURE(value);
      const Tensor x = Tensor::full({3000, 2}, value);
      const BatchNormResult r = batch_norm_train(x, Tensor::of({2}, {2, 3}), Tensor::of({2}, {5, 7}));
      CHECK(r.variance.values()[0] >= 0);
      CHECK(static_cast<double>(r.variance.values()[0]) <= 1e-12);
      CHECK(r.mean.values()[0] == value);
      CHECK(std::abs(r.y.value().at({2999, 0}) - 5) <= real(1e-3));
      CHECK(std::abs(r.y.value().at({0, 1}) - 7) <= real(1e-3));
    }
  }

  TEST_CASE("batch_norm: an activation inside is the activation behind") {
    Rng rng(test_seed());
    const Inputs in = some_inputs(rng, {6, 5, 5, 4}, Act::kRelu6, true);
    for (const bool training : {true, false}) {
      for (const Act act : kActs) {
        const auto norm = [&](std::span<const Variable> v, Act inside) {
          return training ? batch_norm_train(v[0], v[1], v[2], real(1e-5), inside).y
                          : batch_norm_eval(v[0], v[1], v[2], in.gamma, Tensor::full({4}, 2), real(1e-5), inside);
        };
        const auto g = [](const Shape& s) { return Tensor::uniform(s, {.seed = 5}, -1, 1); };
        const std::vector<Tensor> inputs{in.x, in.gamma, in.beta};
        const Run fused = run([&](std::span<const Variable> v) { return norm(v, act); }, inputs, g);
        const Run apart =
            run([&](std::span<const Variable> v) { return activate(norm(v, Act::kNone), act); }, inputs, g);
        CHECK(same_bits(fused.value, apart.value));
        for (size_t i = 0; i < inputs.size(); ++i) {
          CHECK(same_bits(fused.gradients[i], apart.gradients[i]));
        }
      }
    }
  }

  TEST_CASE("batch_norm: a residual inside is the addition behind, on every kernel table") {
    for_each_table([] {
      Rng rng(test_seed());
      for (const Shape& shape : {Shape{6, 5, 5, 4}, Shape{3, 17, 23, 16}, Shape{300, 37}, Shape{65, 300}}) {
        const Inputs in = some_inputs(rng, shape, Act::kNone, true);
        const std::vector<Tensor> inputs{in.x, in.gamma, in.beta, some_tensor(rng, shape)};
        const Tensor mean = Tensor::full({shape[-1]}, real(0.5));
        const Tensor variance = Tensor::full({shape[-1]}, 2);
        for (const bool training : {true, false}) {
          for (const Act act : kActs) {
            const auto norm = [&](std::span<const Variable> v, Act inside, const Variable& residual) {
              return training ? batch_norm_train(v[0], v[1], v[2], real(1e-5), inside, residual).y
                              : batch_norm_eval(v[0], v[1], v[2], mean, variance, real(1e-5), inside, residual);
            };
            const auto g = [](const Shape& s) { return Tensor::uniform(s, {.seed = 5}, -1, 1); };
            const Run fused = run([&](std::span<const Variable> v) { return norm(v, act, v[3]); }, inputs, g);
            const Run apart =
                run([&](std::span<const Variable> v) { return add(norm(v, Act::kNone, {}), v[3], act); }, inputs, g);
            CHECK(same_bits(fused.value, apart.value));
            for (size_t i = 0; i < inputs.size(); ++i) {
              CHECK(same_bits(fused.gradients[i], apart.gradients[i]));
            }
          }
        }
      }
    });
  }

  TEST_CASE("batch_norm: at its kinks an activation inside has derivative 0") {
    const Tensor zero = Tensor::zeros({1});
    const Tensor one = Tensor::full({1}, 1);
    const auto gradient = [&](Act act) {  // with variance + epsilon = 1 the argument of the activation is x
      const Variable x = Variable::leaf(Tensor::of({5, 1}, {-1, 0, 3, 6, 7}));
      backward(sum(batch_norm_eval(x, one, zero, zero, Tensor::full({1}, real(0.75)), real(0.25), act)));
      return x.grad();
    };
    CHECK(same_bits(gradient(Act::kNone), Tensor::of({5, 1}, {1, 1, 1, 1, 1})));
    CHECK(same_bits(gradient(Act::kRelu), Tensor::of({5, 1}, {0, 0, 1, 1, 1})));
    CHECK(same_bits(gradient(Act::kRelu6), Tensor::of({5, 1}, {0, 0, 1, 0, 0})));
  }

  TEST_CASE("batch_norm: a NaN spoils its own channel and no other") {
    for (const Act act : kActs) {
      Tensor x = Tensor::uniform({100, 3}, {.seed = 1}, -1, 1);
      x.mutable_data()[50 * 3 + 1] = std::numeric_limits<real>::quiet_NaN();
      const Tensor ones = Tensor::full({3}, 1);
      const Tensor y = batch_norm_train(x, ones, ones, real(1e-5), act).y.value();
      const Tensor z = batch_norm_eval(x, ones, ones, ones, ones, real(1e-5), act).value();
      for (int64_t r = 0; r < 100; ++r) {
        CHECK(std::isfinite(y.at({r, 0})));
        CHECK(std::isnan(y.at({r, 1})));
        CHECK(std::isfinite(y.at({r, 2})));
        CHECK(std::isnan(z.at({r, 1})) == (r == 50));
      }
    }
  }

  TEST_CASE("batch_norm: same bits for any thread count") {
    for (const Shape& shape : {Shape{4, 33, 31, 16}, Shape{3, 20, 20, 200}, Shape{40000, 1}}) {
      const Tensor channels = Tensor::uniform({shape[-1]}, {.seed = 2}, real(0.5), 2);
      const Inputs training{
          .x = Tensor::normal(shape, {.seed = 1}), .gamma = channels, .beta = channels, .act = Act::kRelu6};
      Inputs evaluation = training;
      evaluation.mean = channels;
      evaluation.variance = channels;
      for (const Inputs& in : {training, evaluation}) {
        check_same_bits_for_any_thread_count([&](std::span<const Variable> v) { return in.run(v); },
                                             {in.x, in.gamma, in.beta});
      }
      check_same_bits_for_any_thread_count(
          [&](std::span<const Variable> v) {
            return batch_norm_train(v[0], v[1], v[2], real(1e-5), Act::kRelu, v[3]).y;
          },
          {training.x, channels, channels, training.x});
      const auto statistics = [&](int threads) {
        set_num_threads(threads);
        const BatchNormResult r = batch_norm_train(training.x, channels, channels);
        set_num_threads(0);
        return std::pair(r.mean, r.variance);
      };
      const auto [mean, variance] = statistics(1);
      const auto [mean_of_5, variance_of_5] = statistics(5);
      CHECK(same_bits(mean, mean_of_5));
      CHECK(same_bits(variance, variance_of_5));
    }
  }

  TEST_CASE("batch_norm: backward is pure, skips what is not wanted, and y is not kept") {
    for (const bool training : {true, false}) {
      for (const int wanted : {0, 1, 2}) {
        CAPTURE(training);
        CAPTURE(wanted);
        const Tensor c = Tensor::full({3}, 2);
        const auto as_input = [&](const Tensor& t, int place) {
          return wanted == place ? Variable::leaf(t) : Variable(t);
        };
        const Variable x = as_input(Tensor::uniform({50, 3}, {.seed = 1}), 0);
        const Variable y = training ? batch_norm_train(x, as_input(c, 1), as_input(c, 2)).y
                                    : batch_norm_eval(x, as_input(c, 1), as_input(c, 2), c, c);
        CHECK(y.value().is_unique());
        const Tensor g = Tensor::uniform(y.shape(), {.seed = 4}, -1, 1);
        const Gradients once = y.node()->backward(g);
        const Gradients again = y.node()->backward(g);
        REQUIRE(once.size() == 4);
        for (size_t i = 0; i < 4; ++i) {
          CHECK(once[i].defined() == (static_cast<int>(i) == wanted));
          CHECK(same_bits(once[i], again[i]));
        }
      }
    }
  }

  TEST_CASE("batch_norm: misuse is refused with its name and shapes") {
    const Variable x(Tensor::zeros({4, 2, 2, 3}));
    const Tensor c = Tensor::full({3}, 1);
    const Tensor two = Tensor::full({2}, 1);
    const Tensor negative = Tensor::of({3}, {1, real(-0.5), 1});
    const Tensor nan = Tensor::of({3}, {1, 1, std::numeric_limits<real>::quiet_NaN()});
    const real inf = std::numeric_limits<real>::infinity();
    const auto train = [](const Variable& v, const Variable& gamma, const Variable& beta, real epsilon = real(1e-5)) {
      return batch_norm_train(v, gamma, beta, epsilon).y;
    };
    const Misuse misuses[] = {
        {[&] { return train(Variable(), c, c); }, {"[batch_norm_train]", "undefined"}},
        {[&] { return train(x, Variable(), c); }, {"[batch_norm_train]", "undefined"}},
        {[&] { return train(x, c, Variable()); }, {"[batch_norm_train]", "undefined"}},
        {[&] { return train(c, c, c); }, {"[batch_norm_train]", "[3]", "rank 2"}},
        {[&] { return train(x, two, c); }, {"[batch_norm_train]", "gamma [2]", "beta [3]", "[4,2,2,3]"}},
        {[&] { return train(x, c, two); }, {"[batch_norm_train]", "gamma [3]", "beta [2]", "[4,2,2,3]"}},
        {[&] { return train(x, c, c, 0); }, {"[batch_norm_train]", "epsilon 0", "[4,2,2,3]"}},
        {[&] { return train(x, c, c, -1); }, {"[batch_norm_train]", "epsilon -1"}},
        {[&] { return train(x, c, c, inf); }, {"[batch_norm_train]", "epsilon inf"}},
        {[&] { return train(x, c, c, inf - inf); }, {"[batch_norm_train]", "epsilon"}},
        {[&] {
           return train(Tensor::zeros({1, 1, 1, 3}), c, c);
         },
         {"[batch_norm_train]", "[1,1,1,3]", "one element per channel"}},
        {[&] { return batch_norm_eval(Variable(), c, c, c, c); }, {"[batch_norm_eval]", "undefined"}},
        {[&] { return batch_norm_eval(x, c, two, c, c); }, {"[batch_norm_eval]", "beta [2]", "[4,2,2,3]"}},
        {[&] { return batch_norm_eval(x, c, c, two, c); }, {"[batch_norm_eval]", "mean [2]", "[4,2,2,3]"}},
        {[&] { return batch_norm_eval(x, c, c, c, two); }, {"[batch_norm_eval]", "variance [2]", "[4,2,2,3]"}},
        {[&] { return batch_norm_eval(x, c, c, Tensor(), c); }, {"[batch_norm_eval]", "mean", "[4,2,2,3]"}},
        {[&] { return batch_norm_eval(x, c, c, c, Tensor()); }, {"[batch_norm_eval]", "variance", "[4,2,2,3]"}},
        {[&] { return batch_norm_eval(x, c, c, c, negative); }, {"[batch_norm_eval]", "variance of -0.5", "[4,2,2,3]"}},
        {[&] { return batch_norm_eval(x, c, c, c, nan); }, {"[batch_norm_eval]", "variance of nan", "[4,2,2,3]"}},
        {[&] { return batch_norm_train(x, c, c, 1, Act::kNone, Variable(c)).y; },
         {"[batch_norm_train]", "residual", "[3]", "[4,2,2,3]"}},
        {[&] { return batch_norm_eval(x, c, c, c, c, 0); }, {"[batch_norm_eval]", "epsilon 0"}},
    };
    for (const Misuse& misuse : misuses) {
      check_refused(misuse);
    }
  }
}

}  // namespace whittle
