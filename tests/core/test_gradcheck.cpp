// Every op's gradient against central differences. Compiled in the double twin.

#include <doctest/doctest.h>

#include "tests/core/gradcheck.h"
#include "tests/core/op_cases.h"
#include "tests/support/seed.h"

namespace whittle {

static_assert(sizeof(real) == sizeof(double), "gradient checks need the double twin");

TEST_SUITE("gradcheck") {
  TEST_CASE("every op: gradient equals central differences over random geometries") {
    constexpr int kGeometries = 30;
    constexpr double kTolerance = 1e-7;
    for (const OpCase& op_case : all_op_cases()) {
      CAPTURE(op_case.op);
      Rng rng(RngKey{.seed = test_seed()}.child(op_case.op));
      double worst = 0;
      for (int i = 0; i < kGeometries; ++i) {
        const OpInstance instance = op_case.make(rng);
        CAPTURE(instance.description);
        CAPTURE(test_seed());
        const GradientCheck check = check_gradient(instance.run, instance.inputs, rng);
        CAPTURE(check.analytic);
        CAPTURE(check.numeric);
        CHECK(check.relative_error <= kTolerance);
        worst = std::max(worst, check.relative_error);
      }
      MESSAGE(op_case.op << ": " << kGeometries << " geometries, worst relative error " << worst);
    }
  }

  TEST_CASE("the check itself fails on a wrong gradient") {
    const auto wrong = [](std::span<const Variable> in) {
      Tensor doubled = in[0].value().clone();
      add_in_place(doubled, in[0].value());
      return make_op("wrong", std::move(doubled), {in[0]}, [](const Tensor& g) -> Gradients { return {g}; });
    };
    Rng rng(test_seed());
    const Tensor x = some_tensor(rng, {1});  // one element: no direction in which the mistake could cancel
    CHECK(check_gradient(wrong, std::span(&x, 1), rng).relative_error > 0.5);
  }
}

}  // namespace whittle
