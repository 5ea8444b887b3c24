// Activations against their formulas in long double, at kinks and at extremes.

#include <doctest/doctest.h>

#include <numbers>

#include "core/error.h"
#include "tests/core/oracle.h"
#include "tests/core/some_shape.h"
#include "tests/support/seed.h"

namespace whittle {

namespace {

constexpr real kInfinity = std::numeric_limits<real>::infinity();
constexpr real kNan = std::numeric_limits<real>::quiet_NaN();

struct Pointwise {
  std::string name;
  std::function<Variable(const Variable&)> op;
  std::function<long double(long double)> value;
  std::function<long double(long double)> slope;
};

long double normal_below(long double x) { return std::erfc(-x / std::sqrt(2.0L)) / 2; }

const std::vector<Pointwise> kPointwise = {
    {"relu", relu, [](long double x) { return x > 0 ? x : 0; }, [](long double x) { return x > 0 ? 1 : 0; }},
    {"relu6", relu6, [](long double x) { return std::min(std::max(x, 0.0L), 6.0L); },
     [](long double x) { return x > 0 && x < 6 ? 1 : 0; }},
    {"leaky_relu", [](const Variable& x) { return leaky_relu(x, real(0.25)); },
     [](long double x) { return x > 0 ? x : x / 4; }, [](long double x) { return x > 0 ? 1 : 0.25L; }},
    {"sigmoid", sigmoid, [](long double x) { return 1 / (1 + std::exp(-x)); },
     [](long double x) { return 1 / (1 + std::exp(-x)) / (1 + std::exp(x)); }},
    {"tanh", tanh, [](long double x) { return std::tanh(x); },
     [](long double x) { return 1 / std::cosh(x) / std::cosh(x); }},
    {"hard_swish", hard_swish, [](long double x) { return x * std::min(std::max(x + 3, 0.0L), 6.0L) / 6; },
     [](long double x) { return x <= -3 ? 0
                                : x > 3 ? 1
                                        : (2 * x + 3) / 6; }},
    {"gelu", gelu, [](long double x) { return x * normal_below(x); },
     [](long double x) {
       return normal_below(x) + x * std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi_v<long double>);
     }},
};

// The softmax of one row, and ln of it.
struct Row {
  std::vector<long double> p;
  std::vector<long double> log_p;
};
Row softmax_of(const real* x, int64_t n) {
  long double sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    sum += std::exp(static_cast<long double>(x[i]) - static_cast<long double>(x[0]));
  }
  Row row;
  for (int64_t i = 0; i < n; ++i) {
    row.log_p.push_back(static_cast<long double>(x[i]) - static_cast<long double>(x[0]) - std::log(sum));
    row.p.push_back(std::exp(row.log_p.back()));
  }
  return row;
}

Tensor weights_for(const Shape& shape) { return Tensor::uniform(shape, {.seed = 3}, real(0.5), real(1.5)); }

}  // namespace

TEST_SUITE("activation") {
  TEST_CASE("pointwise: values and slopes equal the formula over [-20, 20], kinks included, on every kernel table") {
    for_each_table([] {
      for (const Pointwise& f : kPointwise) {
        CAPTURE(f.name);
        Tensor x = Tensor::empty({641});
        for (int64_t i = 0; i < 641; ++i) {
          x.mutable_data()[i] = static_cast<real>(i - 320) / 16;  // -3, 0, 3 and 6 are among them
        }
        const Tensor g = weights_for(x.shape());
        const Run got =
            run([&](std::span<const Variable> in) { return f.op(in[0]); }, {x}, [&](const Shape&) { return g; });
        for (int64_t i = 0; i < 641; ++i) {
          const long double at = static_cast<long double>(x.data()[i]);
          const double value = static_cast<double>(f.value(at));
          const double slope = static_cast<double>(f.slope(at) * static_cast<long double>(g.data()[i]));
          CAPTURE(x.data()[i]);
          // The rounding of an argument is amplified by its size in exp(-x^2 / 2);
          // slopes read off y near 1 are as exact as 1 - y.
          CHECK(close(got.value.data()[i], value, std::abs(value), 8 + static_cast<double>(at * at)));
          CHECK(close(got.gradients[0].data()[i], slope, 1, 4));
        }
      }
    });
  }

  TEST_CASE("pointwise: at a kink the slope is that of the left side, but 0 for relu6 at 6") {
    const auto slope_at = [](const std::function<Variable(const Variable&)>& op, real at) {
      const Variable x = Variable::leaf(Tensor::scalar(at));
      backward(op(x));
      return x.grad().item();
    };
    CHECK(slope_at(relu, 0) == 0);
    CHECK(slope_at(relu6, 0) == 0);
    CHECK(slope_at(relu6, 6) == 0);
    CHECK(slope_at([](const Variable& x) { return leaky_relu(x, real(0.25)); }, 0) == real(0.25));
    CHECK(slope_at(hard_swish, -3) == 0);
    CHECK(slope_at(hard_swish, 3) == real(1.5));
  }

  TEST_CASE("pointwise: infinite inputs give limits, NaN gives NaN") {
    struct Limits {
      std::string name;
      real low, high, slope_low, slope_high;
    };
    for (const Limits& limits :
         {Limits{"relu", 0, kInfinity, 0, 1}, Limits{"relu6", 0, 6, 0, 0},
          Limits{"leaky_relu", -kInfinity, kInfinity, real(0.25), 1}, Limits{"sigmoid", 0, 1, 0, 0},
          Limits{"tanh", -1, 1, 0, 0}, Limits{"hard_swish", 0, kInfinity, 0, 1}, Limits{"gelu", 0, kInfinity, 0, 1}}) {
      CAPTURE(limits.name);
      for (const Pointwise& f : kPointwise) {
        if (f.name != limits.name) {
          continue;
        }
        for (const real size : {kInfinity, real(1e30), real(1e4)}) {
          CAPTURE(size);
          const Variable x = Variable::leaf(Tensor::of({3}, {-size, size, kNan}));
          const Variable y = f.op(x);
          backward(sum(slice(y, 0, 0, 2)));
          const auto scaled = [size](real limit) { return std::isinf(limit) ? std::copysign(size, limit) : limit; };
          const real low = f.name == "leaky_relu" ? -size / 4 : scaled(limits.low);
          CHECK(y.value().data()[0] == low);
          CHECK(y.value().data()[1] == scaled(limits.high));
          CHECK(std::isnan(y.value().data()[2]));
          CHECK(x.grad().data()[0] == limits.slope_low);
          CHECK(x.grad().data()[1] == limits.slope_high);
        }
      }
    }
  }

  TEST_CASE("sigmoid keeps the digits of small results") {
    const Variable x = Tensor::of({2}, {-80, -20});
    for (int64_t i = 0; i < 2; ++i) {
      const double want = 1 / (1 + std::exp(-static_cast<double>(x.value().data()[i])));
      CHECK(close(sigmoid(x).value().data()[i], want, want));
    }
    // Further down e^-x overflows, and 1 / (1 + e^-x) would be 0.
    CHECK(sigmoid(Tensor::scalar(-std::log(std::numeric_limits<real>::max()) - 3)).value().item() > 0);
  }

  TEST_CASE("softmax and log_softmax equal sums over rows, forward and backward") {
    CAPTURE(test_seed());
    Rng rng(test_seed());
    for (int round = 0; round < 40; ++round) {
      const Shape shape = round == 0 ? Shape{3, 5000} : some_shape(rng, 1, 4);
      CAPTURE(shape.str());
      const Tensor x = some_tensor(rng, shape, -6, 6);
      const Tensor g = weights_for(shape);
      const auto with_g = [&](const Shape&) { return g; };
      const Run plain = run([](std::span<const Variable> in) { return softmax(in[0]); }, {x}, with_g);
      const Run logs = run([](std::span<const Variable> in) { return log_softmax(in[0]); }, {x}, with_g);
      const int64_t n = shape[-1];
      int wrong = 0;
      for (int64_t first = 0; first < x.elements(); first += n) {
        const Row row = softmax_of(x.data() + first, n);
        long double sum_g = 0;
        long double sum_gp = 0;
        for (int64_t i = 0; i < n; ++i) {
          const long double gi = static_cast<long double>(g.data()[first + i]);
          sum_g += gi;
          sum_gp += gi * row.p[static_cast<size_t>(i)];
        }
        for (int64_t i = 0; i < n; ++i) {
          const long double p = row.p[static_cast<size_t>(i)];
          const long double log_p = row.log_p[static_cast<size_t>(i)];
          const long double gi = static_cast<long double>(g.data()[first + i]);
          wrong += !close(plain.value.data()[first + i], static_cast<double>(p), static_cast<double>(p), 40);
          wrong += !close(plain.gradients[0].data()[first + i], static_cast<double>(p * (gi - sum_gp)),
                          static_cast<double>(p), 40);
          wrong += !close(logs.value.data()[first + i], static_cast<double>(log_p), 12);
          wrong += !close(logs.gradients[0].data()[first + i], static_cast<double>(gi - p * sum_g),
                          static_cast<double>(gi + p * sum_g), 40);
        }
      }
      CHECK(wrong == 0);
    }
  }

  TEST_CASE("softmax and log_softmax at extreme logits") {
    const Variable x = Variable::leaf(Tensor::of({4, 3}, {10000, -10000, 0,            //
                                                          -kInfinity, 1, 1,            //
                                                          real(3e30), real(-3e30), 0,  //
                                                          -10000, -10000, -kInfinity}));
    const Tensor p = softmax(x).value();
    const Tensor log_p = log_softmax(x).value();
    const real half = real(0.5);
    CHECK(same_bits(p, Tensor::of({4, 3}, {1, 0, 0, 0, half, half, 1, 0, 0, half, half, 0})));
    const real ln_half = -std::log(real(2));
    const real far = real(3e30);
    CHECK(same_bits(log_p, Tensor::of({4, 3}, {0, -20000, -10000, -kInfinity, ln_half, ln_half, 0, -far - far, -far,
                                               ln_half, ln_half, -kInfinity})));
    backward(sum(mul(softmax(x), weights_for({4, 3}))) + sum(slice(log_softmax(x), 1, 1, 2)));
    CHECK(x.grad().all_finite());
  }

  TEST_CASE("softmax does not depend on a shift and each row adds up to 1") {
    const Tensor x = Tensor::uniform({50, 30}, {.seed = test_seed()}, -4, 4);
    const Tensor p = softmax(x).value();
    const Tensor shifted = softmax(affine(x, 1, 64)).value();
    for (int64_t r = 0; r < 50; ++r) {
      real total = 0;
      for (int64_t c = 0; c < 30; ++c) {
        total += p.at({r, c});
        CHECK(std::abs(shifted.at({r, c}) - p.at({r, c})) < real(1e-5));
      }
      CHECK(close(total, 1, 1));
    }
  }

  TEST_CASE("activate is none, relu or relu6") {
    const Variable x = Tensor::of({3}, {-1, 2, 9});
    CHECK(activate(x, Act::kNone).value().shares_storage_with(x.value()));
    CHECK(same_bits(activate(x, Act::kRelu).value(), Tensor::of({3}, {0, 2, 9})));
    CHECK(same_bits(activate(x, Act::kRelu6).value(), Tensor::of({3}, {0, 2, 6})));
  }

  TEST_CASE("misuse is refused with the op's name and the shapes") {
    const Variable x = Tensor::zeros({2, 3});
    const Variable scalar = Tensor::scalar(1);
    for (const Misuse& misuse : std::vector<Misuse>{
             {[&] { return relu({}); }, {"[relu] ", "undefined"}},
             {[&] { return relu6({}); }, {"[relu6] ", "undefined"}},
             {[&] { return leaky_relu({}); }, {"[leaky_relu] ", "undefined"}},
             {[&] { return leaky_relu(x, kNan); }, {"[leaky_relu] ", "slope", "[2,3]"}},
             {[&] { return leaky_relu(x, kInfinity); }, {"[leaky_relu] ", "slope inf", "[2,3]"}},
             {[&] { return sigmoid({}); }, {"[sigmoid] ", "undefined"}},
             {[&] { return tanh({}); }, {"[tanh] ", "undefined"}},
             {[&] { return hard_swish({}); }, {"[hard_swish] ", "undefined"}},
             {[&] { return gelu({}); }, {"[gelu] ", "undefined"}},
             {[&] { return softmax({}); }, {"[softmax] ", "undefined"}},
             {[&] { return softmax(scalar); }, {"[softmax] ", "shape []"}},
             {[&] { return log_softmax({}); }, {"[log_softmax] ", "undefined"}},
             {[&] { return log_softmax(scalar); }, {"[log_softmax] ", "shape []"}},
             {[&] { return activate({}, Act::kNone); }, {"[activate] ", "undefined"}},
             {[&] { return activate(x, static_cast<Act>(9)); }, {"[activate] ", "9", "[2,3]"}},
         }) {
      check_refused(misuse);
    }
  }

  TEST_CASE("the same bits for any number of threads") {
    const Tensor x = Tensor::uniform({7, 9001}, {.seed = 4}, -8, 8);
    for (const Pointwise& f : kPointwise) {
      CAPTURE(f.name);
      check_same_bits_for_any_thread_count([&](std::span<const Variable> in) { return f.op(in[0]); }, {x});
    }
    for (const Shape& shape : {Shape{7, 9001}, Shape{9001, 7}, Shape{63007}}) {
      for (const auto& op : {softmax, log_softmax}) {
        check_same_bits_for_any_thread_count([&](std::span<const Variable> in) { return op(in[0]); },
                                             {x.reshape(shape)});
      }
    }
  }
}

}  // namespace whittle
