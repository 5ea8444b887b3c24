// The functions of kernels/functions.h against libm's in extended precision.

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "kernels/functions.h"
#include "tests/kernels/draw.h"
#include "tests/support/seed.h"

namespace whittle {

namespace {

// The largest relative error over random x in [lowest, highest], where the result is normal.
template <class Ours, class Exact>
double worst(double lowest, double highest, Ours ours, Exact exact) {
  Draw draw(RngKey{.seed = test_seed()}.child("functions"));
  double result = 0;
  for (int i = 0; i < 20000; ++i) {
    const double x = i % 3 == 0 ? draw.real_in(lowest, highest) : draw.real_in(lowest, highest) * std::exp2(-i % 40);
    const long double y = exact(static_cast<long double>(x));
    if (std::abs(y) > static_cast<long double>(std::numeric_limits<double>::min())) {
      result = std::max(result, static_cast<double>(std::abs((static_cast<long double>(ours(x)) - y) / y)));
    }
  }
  return result;
}

}  // namespace

TEST_SUITE("functions") {
  TEST_CASE("relative error below 1e-12") {
    CAPTURE(test_seed());
    using namespace functions;
    using L = long double;
    CHECK(worst(
              -745, 709.5, [](double x) { return exp(x); }, [](L x) { return std::exp(x); }) < 1e-12);
    CHECK(worst(
              0, 1e300, [](double x) { return log(x); }, [](L x) { return std::log(x); }) < 1e-12);
    CHECK(worst(
              0, 3, [](double x) { return log(x); }, [](L x) { return std::log(x); }) < 1e-12);
    CHECK(worst(
              -700, 700, [](double x) { return sigmoid(x); }, [](L x) { return 1 / (1 + std::exp(-x)); }) < 1e-12);
    CHECK(worst(
              -30, 30, [](double x) { return functions::tanh(x); }, [](L x) { return std::tanh(x); }) < 1e-12);
    CHECK(worst(
              -37, 37, [](double x) { return gelu(x); }, [](L x) { return x * std::erfc(-x / std::sqrt(L{2})) / 2; }) <
          1e-12);
    CHECK(worst(
              -10, 10, [](double x) { return hard_swish(x); },
              [](L x) { return x * std::min(std::max(x + 3, L{0}), L{6}) / 6; }) < 1e-12);
  }

  TEST_CASE("ends") {
    constexpr double kInf = std::numeric_limits<double>::infinity();
    CHECK(functions::exp(kInf) == kInf);
    CHECK(functions::exp(-kInf) == 0);
    CHECK(functions::exp(710) == kInf);
    CHECK(functions::exp(0) == 1);
    CHECK(std::isnan(functions::exp(NAN)));
    CHECK(functions::log(0) == -kInf);
    CHECK(functions::log(kInf) == kInf);
    CHECK(functions::log(1) == 0);
    CHECK(std::isnan(functions::log(-1)));
    CHECK(functions::log(5e-324) == doctest::Approx(std::log(5e-324)));
    CHECK(functions::sigmoid(kInf) == 1);
    CHECK(functions::sigmoid(-kInf) == 0);
    CHECK(functions::tanh(kInf) == 1);
    CHECK(functions::tanh(-kInf) == -1);
    CHECK(functions::tanh(0) == 0);
    CHECK(functions::gelu(-kInf) == 0);
    CHECK(functions::gelu(kInf) == kInf);
    CHECK(std::isnan(functions::gelu(NAN)));
    CHECK(functions::hard_swish(-kInf) == 0);
    CHECK(functions::leaky_relu(-2, 0.25) == -0.5);
  }
}

}  // namespace whittle
