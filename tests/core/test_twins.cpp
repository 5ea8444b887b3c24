// The float build against the double build, op by op, on the same inputs.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "core/train_kernels.h"
#include "tests/core/op_evaluation.h"
#include "tests/support/seed.h"

namespace whittle {

namespace {

// max |a - b| / max |b|, or infinity where the sizes differ or a number is NaN.
double distance(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) {
    return INFINITY;
  }
  double largest = 1e-30;
  double difference = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!(std::isfinite(a[i]) && std::isfinite(b[i]))) {
      return INFINITY;
    }
    largest = std::max(largest, std::abs(b[i]));
    difference = std::max(difference, std::abs(a[i] - b[i]));
  }
  return difference / largest;
}

}  // namespace

TEST_SUITE("twins") {
  TEST_CASE("every op: float agrees with double within the op's bound, on every kernel table") {
    constexpr int kPerOp = 40;
    const auto in_double = evaluate_ops_in_double(test_seed(), kPerOp);
    std::map<std::string, std::pair<double, double>> worst;
    const std::string before = train_kernels().name;
    for (const TrainKernels* table : available_train_kernels()) {
      const std::string name = table->name;
      CAPTURE(name);
      set_train_kernels(name);
      const auto in_float = evaluate_ops_in_float(test_seed(), kPerOp);
      REQUIRE(in_float.size() == in_double.size());
      for (size_t i = 0; i < in_float.size(); ++i) {
        CAPTURE(in_double[i].op);
        CAPTURE(in_double[i].description);
        CAPTURE(test_seed());
        REQUIRE(in_float[i].description == in_double[i].description);
        const double value = distance(in_float[i].value, in_double[i].value);
        const double gradient = distance(in_float[i].gradients, in_double[i].gradients);
        CHECK(value <= in_double[i].value_bound);
        CHECK(gradient <= in_double[i].gradient_bound);
        auto& [worst_value, worst_gradient] = worst[in_double[i].op];
        worst_value = std::max(worst_value, value);
        worst_gradient = std::max(worst_gradient, gradient);
      }
    }
    set_train_kernels(before);
    for (const auto& [op, error] : worst) {
      MESSAGE(op << ": worst value " << error.first << ", worst gradient " << error.second);
    }
  }
}

}  // namespace whittle
