// Losses against hand-computed cases and plain sums in long double.

#include <doctest/doctest.h>

#include "tests/core/oracle.h"
#include "tests/core/some_shape.h"
#include "tests/support/seed.h"

namespace whittle {

namespace {

constexpr real kInfinity = std::numeric_limits<real>::infinity();
constexpr real kNan = std::numeric_limits<real>::quiet_NaN();

// Cross-entropy by its definition, from targets that may differ from row to row:
// loss = sum_n sum_c -u[n,c] ln p[n,c] / divisor, where u is target times weight.
struct Expected {
  long double loss = 0;
  std::vector<long double> gradient;
};
Expected cross_entropy_by_definition(const Tensor& logits, const std::vector<long double>& u, long double divisor) {
  const int64_t classes = logits.dim(1);
  Expected expected;
  for (int64_t n = 0; n < logits.dim(0); ++n) {
    std::vector<long double> p(static_cast<size_t>(classes));
    long double sum = 0;
    for (int64_t c = 0; c < classes; ++c) {
      p[static_cast<size_t>(c)] = std::exp(static_cast<long double>(logits.at({n, c})));
      sum += p[static_cast<size_t>(c)];
    }
    for (int64_t j = 0; j < classes; ++j) {
      const long double pj = p[static_cast<size_t>(j)] / sum;
      expected.loss -= u[static_cast<size_t>(n * classes + j)] * std::log(pj) / divisor;
      // d ln p_c / d z_j = [c == j] - p_j
      long double by_z = 0;
      for (int64_t c = 0; c < classes; ++c) {
        by_z -= u[static_cast<size_t>(n * classes + c)] * ((c == j ? 1 : 0) - pj);
      }
      expected.gradient.push_back(by_z / divisor);
    }
  }
  return expected;
}

void check_equal(const Variable& loss, const Variable& logits, const Expected& expected) {
  backward(loss);
  CHECK(loss.shape() == Shape{});
  const double magnitude = 1 + static_cast<double>(std::abs(expected.loss));
  CHECK(close(loss.value().item(), static_cast<double>(expected.loss), magnitude));
  int wrong = 0;
  for (int64_t i = 0; i < logits.value().elements(); ++i) {
    wrong += !close(logits.grad().data()[i], static_cast<double>(expected.gradient[static_cast<size_t>(i)]), 1);
  }
  CHECK(wrong == 0);
}

}  // namespace

TEST_SUITE("loss") {
  TEST_CASE("cross_entropy with labels, smoothing and class weights equals its definition") {
    CAPTURE(test_seed());
    Rng rng(test_seed());
    for (int round = 0; round < 80; ++round) {
      const Shape shape{some_extent(rng, 9), round == 0 ? 1000 : some_extent(rng, 12)};
      const real smoothing = round % 2 == 0 ? real(0) : static_cast<real>(rng.uniform(0, 0.9));
      std::vector<real> weights;
      std::vector<int32_t> labels;
      for (int64_t c = 0; c < shape[1] && round % 4 >= 2; ++c) {
        weights.push_back(static_cast<real>(rng.uniform(0.1, 3)));
      }
      const auto weight = [&](int64_t c) {
        return weights.empty() ? 1.0L : static_cast<long double>(weights[static_cast<size_t>(c)]);
      };
      long double divisor = 0;
      std::vector<long double> u;
      const long double e = static_cast<long double>(smoothing);
      for (int64_t n = 0; n < shape[0]; ++n) {
        labels.push_back(static_cast<int32_t>(rng.below(shape[1])));
        divisor += weight(labels.back());
        for (int64_t c = 0; c < shape[1]; ++c) {
          const long double onehot = c == labels.back() ? 1 : 0;
          u.push_back(weight(c) * ((1 - e) * onehot + e / static_cast<long double>(shape[1])));
        }
      }
      CAPTURE(shape.str());
      CAPTURE(smoothing);
      CAPTURE(weights.size());
      const Variable logits = Variable::leaf(some_tensor(rng, shape, -6, 6));
      check_equal(cross_entropy(logits, labels, {.label_smoothing = smoothing, .class_weights = weights}), logits,
                  cross_entropy_by_definition(logits.value(), u, divisor));
    }
  }

  TEST_CASE("cross_entropy with targets equals its definition; rows need not add up to 1") {
    CAPTURE(test_seed());
    Rng rng(test_seed());
    for (int round = 0; round < 40; ++round) {
      const Shape shape{some_extent(rng, 9), some_extent(rng, 12)};
      const Tensor targets = some_tensor(rng, shape, 0, round % 2 == 0 ? 1 : 0.2);
      const std::vector<long double> u(targets.values().begin(), targets.values().end());
      const Variable logits = Variable::leaf(some_tensor(rng, shape, -6, 6));
      CAPTURE(shape.str());
      check_equal(cross_entropy(logits, targets), logits,
                  cross_entropy_by_definition(logits.value(), u, static_cast<long double>(shape[0])));
    }
  }

  TEST_CASE("cross_entropy by hand") {
    const auto loss = [](const Tensor& logits, std::vector<int32_t> labels, const CrossEntropyOptions& options) {
      return static_cast<double>(cross_entropy(logits, labels, options).value().item());
    };
    const Tensor even = Tensor::zeros({1, 4});
    const double ln4 = std::log(4.0);
    CHECK(loss(even, {2}, {}) == doctest::Approx(ln4));
    CHECK(loss(even, {2}, {.label_smoothing = real(0.5)}) == doctest::Approx(ln4));
    // p = {3/4, 1/4}, with smoothing 0.2: t = {0.9, 0.1}.
    const Tensor odds = Tensor::of({1, 2}, {std::log(real(3)), 0});
    CHECK(loss(odds, {0}, {}) == doctest::Approx(std::log(4.0 / 3)));
    CHECK(loss(odds, {0}, {.label_smoothing = real(0.2)}) ==
          doctest::Approx(0.9 * std::log(4.0 / 3) + 0.1 * std::log(4.0)));
    // Weighted: (1 ln(4/3) + 3 ln 4) / (1 + 3), not divided by the number of samples.
    const Tensor two = Tensor::of({2, 2}, {std::log(real(3)), 0, std::log(real(3)), 0});
    const std::vector<real> weights = {1, 3};
    CHECK(loss(two, {0, 1}, {.class_weights = weights}) ==
          doctest::Approx((std::log(4.0 / 3) + 3 * std::log(4.0)) / 4));
    // A class of weight 0 does not count.
    const std::vector<real> only_second = {0, 2};
    CHECK(loss(two, {0, 1}, {.class_weights = only_second}) == doctest::Approx(std::log(4.0)));
    CHECK(loss(Tensor::of({1, 1}, {7}), {0}, {}) == 0);
  }

  TEST_CASE("one-hot targets give the loss of labels, bit for bit") {
    const Tensor x = Tensor::uniform({5, 3}, {.seed = test_seed()}, -4, 4);
    const std::vector<int32_t> labels = {2, 0, 1, 1, 2};
    Tensor targets = Tensor::zeros({5, 3});
    for (size_t n = 0; n < labels.size(); ++n) {
      targets.mutable_data()[3 * n + static_cast<size_t>(labels[n])] = 1;
    }
    const Variable a = Variable::leaf(x);
    const Variable b = Variable::leaf(x);
    const Variable by_label = cross_entropy(a, labels);
    const Variable by_target = cross_entropy(b, targets);
    backward(by_label);
    backward(by_target);
    CHECK(same_bits(by_label.value(), by_target.value()));
    CHECK(same_bits(a.grad(), b.grad()));
  }

  TEST_CASE("cross_entropy at extreme logits") {
    const auto check = [](const Tensor& x, int32_t label, real want, const Tensor& gradient) {
      const Variable logits = Variable::leaf(x);
      const Variable loss = cross_entropy(logits, std::span(&label, 1));
      backward(loss);
      CHECK(loss.value().item() == want);
      CHECK(same_bits(logits.grad(), gradient));
    };
    check(Tensor::of({1, 3}, {10000, -10000, 0}), 0, 0, Tensor::of({1, 3}, {0, 0, 0}));
    check(Tensor::of({1, 3}, {10000, -10000, 0}), 1, 20000, Tensor::of({1, 3}, {1, -1, 0}));
    check(Tensor::of({1, 3}, {5, -kInfinity, -kInfinity}), 0, 0, Tensor::of({1, 3}, {0, 0, 0}));
    check(Tensor::of({1, 3}, {5, -kInfinity, -kInfinity}), 2, kInfinity, Tensor::of({1, 3}, {1, 0, -1}));
    const Variable ruled_out = cross_entropy(Tensor::of({1, 2}, {3, -kInfinity}), Tensor::of({1, 2}, {1, 0}));
    CHECK(ruled_out.value().item() == 0);
  }

  TEST_CASE("distillation_loss is T^2 KL(teacher || student), and 0 where both agree") {
    Rng rng(test_seed());
    for (int round = 0; round < 40; ++round) {
      const Shape shape{rng.between(1, 8), rng.between(2, 12)};
      const auto temperature = static_cast<real>(rng.uniform(0.5, 8));
      const Tensor teacher = some_tensor(rng, shape, -6, 6);
      const Variable student = Variable::leaf(some_tensor(rng, shape, -6, 6));
      const auto soft = [&](const Tensor& logits, int64_t n) {
        std::vector<long double> p;
        long double sum = 0;
        for (int64_t c = 0; c < shape[1]; ++c) {
          p.push_back(std::exp(static_cast<long double>(logits.at({n, c})) / static_cast<long double>(temperature)));
          sum += p.back();
        }
        std::ranges::transform(p, p.begin(), [sum](long double share) { return share / sum; });
        return p;
      };
      Expected expected;
      const auto samples = static_cast<long double>(shape[0]);
      const long double t = temperature;
      for (int64_t n = 0; n < shape[0]; ++n) {
        const std::vector<long double> p = soft(teacher, n);
        const std::vector<long double> q = soft(student.value(), n);
        for (size_t c = 0; c < p.size(); ++c) {
          expected.loss += t * t * p[c] * std::log(p[c] / q[c]) / samples;
          expected.gradient.push_back(t * (q[c] - p[c]) / samples);
        }
      }
      CAPTURE(shape.str());
      CAPTURE(temperature);
      const Variable loss = distillation_loss(student, teacher, temperature);
      // The teacher's entropy, at most ln C, was added and taken away.
      const double magnitude = static_cast<double>(t * t * std::log(static_cast<long double>(shape[1])));
      CHECK(close(loss.value().item(), static_cast<double>(expected.loss), magnitude + 36));
      CHECK(close(distillation_loss(Variable(teacher), teacher, temperature).value().item(), 0, magnitude));
      backward(loss);
      int wrong = 0;
      for (int64_t i = 0; i < shape.elements(); ++i) {
        wrong += !close(student.grad().data()[i], static_cast<double>(expected.gradient[static_cast<size_t>(i)]),
                        temperature);
      }
      CHECK(wrong == 0);
    }
    const Variable two{Tensor::zeros({2, 3})};
    CHECK(message_of([&] {
            return distillation_loss(two, Tensor::zeros({2, 4}), 1);
          }) == "[distillation_loss] the student's logits have shape [2,3], the teacher's [2,4]");
    CHECK(message_of([&] {
            return distillation_loss(two, Tensor::zeros({2, 3}), 0);
          }) == "[distillation_loss] the temperature 0 is not a finite number > 0");
  }

  TEST_CASE("the scale of the gradient comes from above") {
    const Variable logits = Variable::leaf(Tensor::zeros({1, 2}));
    const int32_t label = 0;
    backward(3 * cross_entropy(logits, std::span(&label, 1)));
    CHECK(same_bits(logits.grad(), Tensor::of({1, 2}, {real(-1.5), real(1.5)})));
  }

  TEST_CASE("mse, l1 and huber by hand, kinks included") {
    // d = 0, 1, -3, 2
    const Tensor p = Tensor::of({2, 2}, {5, 1, -3, 4});
    const Tensor t = Tensor::of({2, 2}, {5, 0, 0, 2});
    struct Case {
      std::function<Variable(const Variable&, const Variable&)> op;
      real loss;
      Tensor gradient;
    };
    const auto huber = [](real delta) {
      return [delta](const Variable& a, const Variable& b) { return huber_loss(a, b, delta); };
    };
    for (const Case& c : {Case{mse_loss, real(3.5), Tensor::of({2, 2}, {0, real(0.5), real(-1.5), 1})},
                          Case{l1_loss, real(1.5), Tensor::of({2, 2}, {0, real(0.25), real(-0.25), real(0.25)})},
                          // 0, 1/2 (quadratic up to delta), 3 - 1/2, 2 - 1/2
                          Case{huber(1), real(1.125), Tensor::of({2, 2}, {0, real(0.25), real(-0.25), real(0.25)})},
                          // 0, 1/2, 2 (3 - 1), 2
                          Case{huber(2), real(1.625), Tensor::of({2, 2}, {0, real(0.25), real(-0.5), real(0.5)})}}) {
      const Variable a = Variable::leaf(p);
      const Variable b = Variable::leaf(t);
      const Variable loss = c.op(a, b);
      backward(loss);
      CHECK(loss.shape() == Shape{});
      CHECK(loss.value().item() == c.loss);
      CHECK(same_bits(a.grad(), c.gradient));
      for (int64_t i = 0; i < 4; ++i) {
        CHECK(b.grad().data()[i] == -c.gradient.data()[i]);
      }
      const Variable alone = Variable::leaf(p);
      backward(2 * c.op(alone, t));
      CHECK(alone.grad().data()[2] == 2 * c.gradient.data()[2]);
      CHECK(!c.op(alone, t).node()->backward(Tensor::scalar(1))[1].defined());
    }
  }

  TEST_CASE("misuse is refused with the op's name and the shapes") {
    const Variable x = Tensor::zeros({2, 3});
    const std::vector<int32_t> labels = {0, 2};
    const auto with_labels = [&](std::vector<int32_t> l) { return [&x, l] { return cross_entropy(x, l); }; };
    const auto with_smoothing = [&](real e) {
      return [&, e] { return cross_entropy(x, labels, {.label_smoothing = e}); };
    };
    const auto with_weights = [&](std::vector<real> w) {
      return [&, w] { return cross_entropy(x, labels, {.class_weights = w}); };
    };
    const auto with_target = [&](real t) {
      return [&x, t] { return cross_entropy(x, Tensor::of({2, 3}, {1, 0, 0, 0, t, 0})); };
    };
    for (const Misuse& misuse : std::vector<Misuse>{
             {[&] { return cross_entropy({}, labels); }, {"[cross_entropy] ", "undefined"}},
             {[&] { return cross_entropy(Tensor::zeros({6}), labels); }, {"[cross_entropy] ", "[6]", "[N,C]"}},
             {with_labels({0}), {"[cross_entropy] ", "1 labels", "[2,3]"}},
             {with_labels({}), {"[cross_entropy] ", "0 labels", "[2,3]"}},
             {with_labels({0, 3}), {"[cross_entropy] label 3 of sample 1 is outside [0, 3)", "[2,3]"}},
             {with_labels({-1, 0}), {"[cross_entropy] label -1 of sample 0 is outside [0, 3)", "[2,3]"}},
             {with_smoothing(1), {"[cross_entropy] ", "smoothing 1", "[2,3]"}},
             {with_smoothing(real(-0.5)), {"[cross_entropy] ", "smoothing -0.5", "[2,3]"}},
             {with_smoothing(kNan), {"[cross_entropy] ", "smoothing", "[2,3]"}},
             {with_weights({1, 1}), {"[cross_entropy] ", "2 class weights", "[2,3]"}},
             {with_weights({1, -1, 1}), {"[cross_entropy] ", "class weight 1 is -1", "[2,3]"}},
             {with_weights({1, 1, kNan}), {"[cross_entropy] ", "class weight 2", "[2,3]"}},
             {with_weights({1, kInfinity, 1}), {"[cross_entropy] ", "class weight 1", "[2,3]"}},
             {with_weights({0, 1, 0}), {"[cross_entropy] ", "class weights", "are 0", "[2,3]"}},
             {[&] {
                return cross_entropy({}, Tensor::zeros({2, 3}));
              },
              {"[cross_entropy] ", "undefined"}},
             {[&] { return cross_entropy(x, Tensor()); }, {"[cross_entropy] ", "targets are undefined", "[2,3]"}},
             {[&] {
                return cross_entropy(x, Tensor::zeros({2, 4}));
              },
              {"[cross_entropy] ", "[2,3]", "[2,4]"}},
             {with_target(-1), {"[cross_entropy] target -1 of sample 1", "[2,3]"}},
             {with_target(kNan), {"[cross_entropy] target ", " of sample 1", "[2,3]"}},
             {with_target(kInfinity), {"[cross_entropy] target inf of sample 1", "[2,3]"}},
             {[&] { return mse_loss({}, x); }, {"[mse_loss] ", "undefined"}},
             {[&] { return mse_loss(x, Tensor::zeros({3})); }, {"[mse_loss] ", "[2,3]", "[3]"}},
             {[&] { return l1_loss(x, {}); }, {"[l1_loss] ", "undefined"}},
             {[&] {
                return l1_loss(x, Tensor::zeros({3, 2}));
              },
              {"[l1_loss] ", "[2,3]", "[3,2]"}},
             {[&] { return huber_loss({}, x); }, {"[huber_loss] ", "undefined"}},
             {[&] { return huber_loss(x, Tensor::zeros({3})); }, {"[huber_loss] ", "[2,3]", "[3]"}},
             {[&] { return huber_loss(x, x, 0); }, {"[huber_loss] ", "delta 0", "[2,3]"}},
             {[&] { return huber_loss(x, x, kNan); }, {"[huber_loss] ", "delta", "[2,3]"}},
         }) {
      check_refused(misuse);
    }
  }

  TEST_CASE("the same bits for any number of threads") {
    const Tensor x = Tensor::uniform({9001, 7}, {.seed = 4}, -4, 4);
    const Tensor t = Tensor::uniform({9001, 7}, {.seed = 5}, 0, 1);
    std::vector<int32_t> labels(9001);
    for (size_t i = 0; i < labels.size(); ++i) {
      labels[i] = static_cast<int32_t>(i * i % 7);
    }
    check_same_bits_for_any_thread_count(
        [&](std::span<const Variable> in) { return cross_entropy(in[0], labels, {.label_smoothing = real(0.1)}); },
        {x});
    check_same_bits_for_any_thread_count([&](std::span<const Variable> in) { return cross_entropy(in[0], t); }, {x});
    for (const auto& op : {mse_loss, l1_loss}) {
      check_same_bits_for_any_thread_count([&](std::span<const Variable> in) { return op(in[0], in[1]); }, {x, t});
    }
    check_same_bits_for_any_thread_count([&](std::span<const Variable> in) { return huber_loss(in[0], in[1]); },
                                         {x, t});
  }
}

}  // namespace whittle
