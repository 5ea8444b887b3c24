// Codebooks and roundings against a search through all levels.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/parallel.h"
#include "quant/array/codebook.h"
#include "quant/array/grids.h"
#include "tests/quant_array/samples.h"
#include "tests/support/message.h"
#include "tests/support/seed.h"

namespace whittle {

namespace {

using namespace quant::array;  // NOLINT(google-build-using-namespace)

constexpr Rounding kRoundings[] = {Rounding::kNearestEven, Rounding::kNearestUp, Rounding::kStochastic,
                                   Rounding::kFloor};

// A few of each form.
std::vector<Codebook> codebooks(RngKey key) {
  std::vector<Codebook> all;
  Rng rng(key);
  for (int bits = 1; bits <= 6; ++bits) {
    const int32_t half = int32_t{1} << (bits - 1);
    const auto scale = static_cast<float>(rng.uniform(0.01, 2));
    all.push_back(Codebook::affine({scale, static_cast<int32_t>(rng.between(-half, half - 1)), -half, half - 1}));
    all.push_back(Codebook::affine({0.25F, 0, -half, half - 1}));  // ties are exact
    all.push_back(Codebook::mid_rise(scale, bits));
    all.push_back(Codebook::mid_rise(0.5F, bits));
    all.push_back(Codebook::of(normal_array(2 * half, key.child(static_cast<uint64_t>(bits)))));
    all.push_back(Codebook::of({-1.5F, -1, 0, 0.25F, 4}));
  }
  return all;
}

// Numbers on, between and beyond the levels.
std::vector<float> probes(const Codebook& codebook, RngKey key) {
  std::vector<float> all = normal_array(50, key);
  for (int32_t code = codebook.first(); code <= codebook.last(); ++code) {
    const float level = codebook.value(code);
    all.insert(all.end(), {level, std::nextafter(level, INFINITY), std::nextafter(level, -INFINITY)});
    if (code < codebook.last()) {
      all.push_back(0.5F * (level + codebook.value(code + 1)));
    }
  }
  all.insert(all.end(), {-1e30F, 1e30F, 0.0F, 1e-30F, -1e-30F});
  return all;
}

}  // namespace

TEST_SUITE("codebook") {
  TEST_CASE("levels are sorted, and codes run from first to last") {
    CAPTURE(test_seed());
    for (const Codebook& codebook : codebooks({test_seed(), 1})) {
      for (int32_t code = codebook.first(); code < codebook.last(); ++code) {
        CHECK(codebook.value(code) < codebook.value(code + 1));
      }
      CHECK(codebook.size() == codebook.last() - codebook.first() + 1);
    }
    CHECK(Codebook::of({2, 1, 2, -0.0F, 0}).size() == 3);
    CHECK_FALSE(std::signbit(Codebook::of({-0.0F}).value(0)));
  }

  TEST_CASE("every rounding against its definition, by searching all levels") {
    CAPTURE(test_seed());
    int64_t ties = 0;
    for (const Codebook& codebook : codebooks({test_seed(), 2})) {
      for (const float x : probes(codebook, {test_seed(), 3})) {
        // The levels around x; outside the grid both are the end.
        int32_t below = codebook.first();
        int32_t above = codebook.last();
        for (int32_t code = codebook.first(); code <= codebook.last(); ++code) {
          if (codebook.value(code) <= x) {
            below = code;
          }
        }
        for (int32_t code = codebook.last(); code >= codebook.first(); --code) {
          if (codebook.value(code) >= x) {
            above = code;
          }
        }
        const auto lo = static_cast<long double>(codebook.value(below));
        const auto hi = static_cast<long double>(codebook.value(above));
        const long double to_lo = std::abs(static_cast<long double>(x) - lo);
        const long double to_hi = std::abs(hi - static_cast<long double>(x));
        // Grids divide by a float, so within a rounding error of a border both sides are right.
        const long double slack = 3e-7L * (std::abs(lo) + std::abs(hi) + std::abs(static_cast<long double>(x)));
        for (const Rounding rounding : kRoundings) {
          for (const double draw : {0.0, 0.3, 0.999}) {
            const int32_t code = codebook.code(x, rounding, draw);
            const bool is_near_level = std::min(to_lo, to_hi) <= slack;
            CAPTURE(x);
            CAPTURE(static_cast<int>(rounding));
            if (rounding == Rounding::kNearestEven || rounding == Rounding::kNearestUp) {
              const long double error =
                  std::abs(static_cast<long double>(codebook.value(code)) - static_cast<long double>(x));
              CHECK(error <= std::min(to_lo, to_hi) + slack);
              const bool lost = x != 0 && std::abs(x) < 1e-20F;  // beside the levels even in long double
              if (!lost && to_lo == to_hi && above != below &&
                  (codebook.affine_grid() == nullptr || lo * 4 == std::floor(lo * 4))) {
                ++ties;
                if (std::abs(to_lo * 8 - std::round(to_lo * 8)) == 0) {  // dyadic: no rounding anywhere
                  CHECK(code == (rounding == Rounding::kNearestUp || above % 2 == 0 ? above : below));
                }
              }
            } else if (is_near_level) {
              CHECK(code >= codebook.first());
              CHECK(code <= codebook.last());
            } else if (rounding == Rounding::kFloor || above == below) {
              CHECK(code == below);
            } else if (std::abs(static_cast<long double>(draw) - to_lo / (hi - lo)) > 1e-5L) {
              CHECK(code == (static_cast<long double>(draw) < to_lo / (hi - lo) ? above : below));
            }
          }
        }
      }
    }
    CHECK(ties > 100);
  }

  TEST_CASE("an affine grid rounded to nearest even is the arithmetic of the integer program") {
    const Grid grid{.scale = 0.013F, .zero_point = 3, .qmin = -128, .qmax = 127};
    const Codebook codebook = Codebook::affine(grid);
    for (const float x : normal_array(2000, {test_seed(), 4})) {
      CHECK(codebook.code(x, Rounding::kNearestEven) == arithmetic::quantize(x, grid));
      CHECK(codebook.value(codebook.code(x, Rounding::kNearestEven)) ==
            arithmetic::dequantize(arithmetic::quantize(x, grid), grid));
    }
  }

  TEST_CASE("mid-rise is d (floor(w / d) + 1/2), bit for bit, and 0 is never a level") {
    CAPTURE(test_seed());
    for (int bits = 1; bits <= 16; ++bits) {
      const std::vector<float> values = normal_array(500, {test_seed(), 5});
      const Codebook codebook = fit_grid(values, {.kind = GridKind::kMidRise, .bits = bits}).codebook;
      float most = 0;
      for (const float w : values) {
        most = std::max(most, std::abs(w));
      }
      const float d = most / static_cast<float>(1 << (bits - 1));
      for (const float w : values) {
        float k = std::floor(w / d);
        k = std::min(k, static_cast<float>((1 << (bits - 1)) - 1));  // the one clip: max|w| itself
        CHECK(codebook.value(codebook.code(w, Rounding::kNearestUp)) == d * (k + 0.5F));
        CHECK(std::abs(d * (k + 0.5F) - w) <= d * 0.5F + 2e-7F * most);  // w / d has 24 digits
      }
      CHECK(codebook.size() == int64_t{1} << bits);
      CHECK(std::abs(codebook.value(codebook.code(0, Rounding::kNearestUp))) == d * 0.5F);
    }
  }

  TEST_CASE("stochastic rounding is unbiased: the mean error of 1e6 draws is within 4 sigma of 0") {
    CAPTURE(test_seed());
    constexpr int64_t kDraws = 1000000;
    const std::vector<float> values = normal_array(kDraws, {test_seed(), 6}, 0, 0.3);
    for (const GridSpec& grid :
         {GridSpec{.kind = GridKind::kAffine, .bits = 4}, GridSpec{.kind = GridKind::kUniformRange, .bits = 3},
          GridSpec{.kind = GridKind::kPriorNormal, .bits = 4}}) {
      const QuantizeOptions options{.grid = grid, .rounding = Rounding::kStochastic, .key = {test_seed(), 7}};
      const Quantized q = quantize(values, options);
      const std::vector<float> rounded = q.values();
      double sum = 0;
      double squares = 0;
      for (size_t i = 0; i < values.size(); ++i) {
        const double error = static_cast<double>(rounded[i]) - static_cast<double>(values[i]);
        sum += error;
        squares += error * error;
      }
      CAPTURE(grid_name(grid.kind));
      CHECK(std::abs(sum) <= 4 * std::sqrt(squares));
      CHECK(q.codes() != quantize(values, {.grid = grid, .rounding = Rounding::kStochastic, .key = {1, 2}}).codes());
      // The other roundings of the same array are biased: the test can fail.
      const std::vector<float> floored = quantize(values, {.grid = grid, .rounding = Rounding::kFloor}).values();
      double bias = 0;
      for (size_t i = 0; i < values.size(); ++i) {
        bias += static_cast<double>(floored[i]) - static_cast<double>(values[i]);
      }
      CHECK(std::abs(bias) > 100 * std::sqrt(squares));
      for (const int threads : {1, 2, 5}) {
        set_num_threads(threads);
        CHECK(quantize(values, options).codes() == q.codes());
      }
      set_num_threads(0);
    }
  }

  TEST_CASE("names and bad forms") {
    for (const Rounding rounding : kRoundings) {
      CHECK(parse_rounding(rounding_name(rounding)) == rounding);
    }
    CHECK(message_of([] { return parse_rounding("up"); }) ==
          "[rounding] 'up' is none of nearest, nearest-up, stochastic, floor");
    CHECK(message_of([] { return Codebook::of({}); }) == "[codebook] a list of levels is empty");
    CHECK(message_of([] { return Codebook::of({1, NAN}); }) == "[codebook] a level is nan");
    CHECK(message_of([] {
            return Codebook::affine({0, 0, 0, 1});
          }) == "[codebook] an affine grid needs a scale above 0, got 0");
    CHECK(message_of([] {
            return Codebook::affine({1, 0, 2, 1});
          }) == "[codebook] the codes of an affine grid end at 1, below their start 2");
    CHECK(message_of([] { return Codebook::mid_rise(-1, 4); }) ==
          "[codebook] a mid-rise grid needs a step above 0, got -1");
  }
}

}  // namespace whittle
