// Fake quantization of every kernel table against the one arithmetic, number by number.

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "core/rng.h"
#include "core/train_kernels.h"
#include "kernels/arithmetic.h"
#include "tests/support/seed.h"

namespace whittle {

namespace {

Grid some_grid(Rng& rng) {
  const auto bits = static_cast<int>(rng.between(1, 8));
  const bool is_signed = rng.uniform() < 0.5;
  const int32_t qmin = is_signed ? -(1 << (bits - 1)) : 0;
  const int32_t qmax = qmin + (1 << bits) - 1;
  return {static_cast<float>(std::exp(rng.uniform() * 12 - 9)), static_cast<int32_t>(rng.between(qmin, qmax)), qmin,
          qmax};
}

// Numbers about the grid: inside, far outside, exactly on codes and between two of them.
std::vector<float> some_numbers(Rng& rng, const Grid& grid, int64_t n) {
  std::vector<float> x;
  const double reach = 1.5 * (grid.qmax - grid.qmin + 1);
  for (int64_t i = 0; i < n; ++i) {
    const double codes = (2 * rng.uniform() - 1) * reach;
    const double choice = rng.uniform();
    x.push_back(grid.scale * static_cast<float>(choice < 0.6   ? codes
                                                : choice < 0.8 ? std::round(codes)
                                                               : std::round(codes) + 0.5));
  }
  return x;
}

}  // namespace

TEST_SUITE("fake quantization") {
  TEST_CASE("every table: values have the bits of dequantize(quantize(x)), whatever the tail") {
    Rng rng(test_seed());
    for (int i = 0; i < 200; ++i) {
      const Grid grid = some_grid(rng);
      std::vector<float> x = some_numbers(rng, grid, rng.between(1, 130));
      if (i % 10 == 0) {
        x.insert(x.end(), {NAN, INFINITY, -INFINITY, 0.0f, -0.0f, std::numeric_limits<float>::max(), 1e-42f});
      }
      std::vector<float> expected;
      for (const float value : x) {
        expected.push_back(arithmetic::dequantize(arithmetic::quantize(value, grid), grid));
      }
      for (const TrainKernels* table : available_train_kernels()) {
        CAPTURE(table->name);
        std::vector<float> y(x.size() + 1, 77.0f);
        table->fake_quant.apply(x.data(), static_cast<int64_t>(x.size()), grid, y.data());
        CHECK(std::memcmp(y.data(), expected.data(), expected.size() * sizeof(float)) == 0);
        CHECK(y.back() == 77.0f);
      }
    }
  }

  TEST_CASE("every table: gradients are the formula's") {
    Rng rng(test_seed());
    for (int i = 0; i < 200; ++i) {
      const Grid grid = some_grid(rng);
      const std::vector<float> x = some_numbers(rng, grid, rng.between(1, i % 20 == 0 ? 3000 : 130));
      std::vector<float> g;
      double expected = 0;
      double size = 0;
      std::vector<float> gx;
      for (const float value : x) {
        g.push_back(static_cast<float>(2 * rng.uniform() - 1));
        const float r = value / grid.scale;
        const auto low = static_cast<float>(grid.qmin - grid.zero_point);
        const auto high = static_cast<float>(grid.qmax - grid.zero_point);
        const bool inside = r >= low && r <= high;
        gx.push_back(inside ? g.back() : 0.0f);
        const double slope = inside ? std::nearbyint(static_cast<double>(r)) - static_cast<double>(r)
                                    : static_cast<double>(r < low ? low : high);
        expected += static_cast<double>(g.back()) * slope;
        size += std::abs(static_cast<double>(g.back()) * slope);
      }
      for (const TrainKernels* table : available_train_kernels()) {
        CAPTURE(table->name);
        std::vector<float> found(x.size());
        const double sum =
            table->fake_quant.gradient(g.data(), x.data(), static_cast<int64_t>(x.size()), grid, found.data());
        CHECK(found == gx);
        CHECK(std::abs(sum - expected) <= 1e-6 * size + 1e-12);
      }
    }
  }
}

}  // namespace whittle
