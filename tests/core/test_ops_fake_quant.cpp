// Fake quantization as an op: values against the one arithmetic, gradients against the
// surrogate that core/ops.h writes down, both by a plain loop, for every way of cutting a
// tensor into runs. Kernels have tests of their own (tests/kernels/test_fake_quant.cpp).

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "core/error.h"
#include "core/ops.h"
#include "core/parallel.h"
#include "tests/support/seed.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

struct Case {
  Tensor x, g;
  GridsPtr grids;
};

Case some_case(Rng& rng, int64_t runs, int64_t length) {
  Grids grids;
  for (int64_t r = 0; r < runs; ++r) {
    const auto bits = static_cast<int>(rng.between(1, 8));
    const int32_t qmin = -(1 << (bits - 1));
    const int32_t qmax = (1 << (bits - 1)) - 1;
    grids.push_back({static_cast<float>(std::exp(rng.uniform() * 6 - 5)), static_cast<int32_t>(rng.between(qmin, qmax)),
                     qmin, qmax});
  }
  Case c{.x = Tensor::empty({runs, length}), .g = Tensor::empty({runs, length}), .grids = make_grids(grids)};
  for (int64_t i = 0; i < c.x.elements(); ++i) {
    const Grid& grid = grids[static_cast<size_t>(i / length)];
    const double reach = 1.5 * (grid.qmax - grid.qmin + 1);
    double codes = (2 * rng.uniform() - 1) * reach;
    codes = rng.uniform() < 0.2 ? std::round(codes) : codes;  // among them the limits themselves
    c.x.mutable_data()[i] = static_cast<real>(static_cast<float>(codes) * grid.scale);
    c.g.mutable_data()[i] = static_cast<real>(static_cast<float>(2 * rng.uniform() - 1));
  }
  return c;
}

// Sum of g y, so that g arrives as the gradient of y.
void run_backward(const Variable& y, const Tensor& g) { backward(sum(mul(y, Variable(g)))); }

}  // namespace

TEST_SUITE("fake quantization op") {
  TEST_CASE("values and straight-through gradients, for one run, many, short and long ones") {
    Rng rng(test_seed());
    const std::vector<std::pair<int64_t, int64_t>> cuts{{1, 1}, {1, 70'000}, {3, 40'000}, {64, 9}, {5'000, 3}, {7, 1}};
    for (const auto& [runs, length] : cuts) {
      CAPTURE(runs);
      CAPTURE(length);
      const Case c = some_case(rng, runs, length);
      for (const int threads : {1, 3}) {
        set_num_threads(threads);
        const Variable x = Variable::leaf(c.x.clone());
        const Variable y = fake_quant(x, c.grids);
        CHECK(same_grids(y.grids(), c.grids));
        run_backward(y, c.g);
        bool values = true;
        bool gradients = true;
        for (int64_t i = 0; i < c.x.elements(); ++i) {
          const Grid& grid = (*c.grids)[static_cast<size_t>(i / length)];
          const auto v = static_cast<float>(c.x.data()[i]);
          values = values && y.value().data()[i] ==
                                 static_cast<real>(arithmetic::dequantize(arithmetic::quantize(v, grid), grid));
          const real ratio = c.x.data()[i] / static_cast<real>(grid.scale);
          const bool inside = ratio >= static_cast<real>(grid.qmin - grid.zero_point) &&
                              ratio <= static_cast<real>(grid.qmax - grid.zero_point);
          gradients = gradients && x.grad().data()[i] == (inside ? c.g.data()[i] : 0);
        }
        CHECK(values);
        CHECK(gradients);
      }
      set_num_threads(0);
    }
  }

  TEST_CASE("learned scales: gradients against the formula in double") {
    Rng rng(test_seed());
    for (const auto& [runs, length] : std::vector<std::pair<int64_t, int64_t>>{{1, 50'000}, {12, 27}, {2, 33'000}}) {
      CAPTURE(runs);
      const Case c = some_case(rng, runs, length);
      const Variable x = Variable::leaf(c.x.clone());
      Tensor scales = Tensor::empty({runs});
      for (int64_t r = 0; r < runs; ++r) {
        scales.mutable_data()[r] = static_cast<real>((*c.grids)[static_cast<size_t>(r)].scale);
      }
      const Variable scale = Variable::leaf(scales);
      constexpr double kFactor = 0.125;
      const Variable y = fake_quant_learned(x, scale, c.grids, static_cast<real>(kFactor));
      run_backward(y, c.g);
      for (int64_t r = 0; r < runs; ++r) {
        const Grid& grid = (*c.grids)[static_cast<size_t>(r)];
        double expected = 0;
        double size = 0;
        for (int64_t i = r * length; i < (r + 1) * length; ++i) {
          // Divided as the op divides: what lies on a limit has no slope of its own.
          const auto ratio = static_cast<double>(c.x.data()[i] / static_cast<real>(grid.scale));
          const double low = grid.qmin - grid.zero_point;
          const double high = grid.qmax - grid.zero_point;
          const auto code =
              static_cast<double>(arithmetic::quantize(static_cast<float>(c.x.data()[i]), grid) - grid.zero_point);
          const double slope = ratio < low ? low : ratio > high ? high : code - ratio;
          expected += static_cast<double>(c.g.data()[i]) * slope;
          size += std::abs(static_cast<double>(c.g.data()[i]) * slope);
        }
        CHECK(std::abs(static_cast<double>(scale.grad().data()[r]) - kFactor * expected) <= 1e-5 * (size + 1));
      }
    }
  }

  TEST_CASE("fake quantization is idempotent and 0 stays 0") {
    Rng rng(test_seed());
    const Case c = some_case(rng, 16, 500);
    const Variable once = fake_quant(Variable(c.x), c.grids);
    const Variable twice = fake_quant(once, c.grids);
    CHECK(std::ranges::equal(once.value().values(), twice.value().values()));
    const Variable zeros = fake_quant(Variable(Tensor::zeros(c.x.shape())), c.grids);
    CHECK(std::ranges::all_of(zeros.value().values(), [](real v) { return v == 0; }));
  }

  TEST_CASE("what only moves values keeps their grid, what computes drops it") {
    const GridsPtr grids = make_grids({Grid{0.5F, 0, -8, 7}});
    const Variable x = fake_quant(Variable(Tensor::of({1, 2, 2, 1}, {1, -2, 0.5, 3})), grids);
    CHECK(same_grids(reshape(x, {4}).grids(), grids));
    CHECK(same_grids(flatten(x).grids(), grids));
    CHECK(same_grids(max_pool(x).grids(), grids));
    CHECK(same_grids(relu(x).grids(), grids));
    CHECK(same_grids(slice(x, 1, 0, 1).grids(), grids));
    CHECK(same_grids(concat({x, x}, 3).grids(), grids));
    CHECK(concat({x, Variable(x.value())}, 3).grids() == nullptr);
    CHECK(add(x, x).grids() == nullptr);
    CHECK(relu6(x).grids() == nullptr);
    CHECK(x.detach().grids() == nullptr);
  }

  TEST_CASE("grids that are none are refused in a sentence") {
    const Variable x(Tensor::zeros({2, 3}));
    CHECK_THROWS_WITH_AS(fake_quant(x, nullptr), doctest::Contains("[fake_quant] input [2,3] does not divide"), Error);
    CHECK_THROWS_WITH_AS(fake_quant(x, make_grids(Grids(4, Grid{1, 0, -1, 1}))), doctest::Contains("into 4 runs"),
                         Error);
    CHECK_THROWS_WITH_AS(fake_quant(x, make_grids({Grid{0, 0, -1, 1}})), doctest::Contains("scale 0"), Error);
    CHECK_THROWS_WITH_AS(fake_quant(x, make_grids({Grid{NAN, 0, -1, 1}})), doctest::Contains("is not a positive"),
                         Error);
    CHECK_THROWS_WITH_AS(fake_quant(x, make_grids({Grid{1, 5, -1, 1}})), doctest::Contains("zero-point 5"), Error);
    CHECK_THROWS_WITH_AS(fake_quant_learned(x, Variable(Tensor::zeros({3})), make_grids({Grid{1, 0, -1, 1}})),
                         doctest::Contains("scales of shape [3]"), Error);
  }
}

}  // namespace whittle::inline WHITTLE_PRECISION
