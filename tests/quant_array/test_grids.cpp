// Each grid against its formula, written here once more without the library's helpers.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <set>
#include <vector>

#include "core/parallel.h"
#include "quant/array/distribution.h"
#include "quant/array/grids.h"
#include "tests/quant_array/samples.h"
#include "tests/support/message.h"
#include "tests/support/seed.h"

namespace whittle {

namespace {

using namespace quant::array;  // NOLINT(google-build-using-namespace)

std::vector<float> levels_of(const Codebook& codebook) {
  std::vector<float> levels;
  for (int32_t code = codebook.first(); code <= codebook.last(); ++code) {
    levels.push_back(codebook.value(code));
  }
  return levels;
}

// As long as `expected`, and each level within a rounding error of its own.
void check_levels(const Codebook& codebook, const std::vector<double>& expected) {
  const std::vector<float> levels = levels_of(codebook);
  REQUIRE(levels.size() == expected.size());
  for (size_t i = 0; i < levels.size(); ++i) {
    CHECK(static_cast<double>(levels[i]) == doctest::Approx(expected[i]).epsilon(1e-6));
  }
}

bool legal(const GridSpec& spec) {
  return message_of([&] {
           check(spec);
           return 0;
         }) == "no error";
}

double squared_error(const std::vector<float>& values, const std::vector<float>& levels) {
  double sum = 0;
  for (const float x : values) {
    double least = std::numeric_limits<double>::infinity();
    for (const float level : levels) {
      least = std::min(least, std::abs(static_cast<double>(x) - static_cast<double>(level)));
    }
    sum += least * least;
  }
  return sum;
}

// The least squared error over all ways to cut sorted numbers into k intervals.
double least_error(std::vector<float> values, int64_t k) {
  std::ranges::sort(values);
  const std::function<double(size_t, int64_t)> best = [&](size_t begin, int64_t left) -> double {
    double least = std::numeric_limits<double>::infinity();
    for (size_t end = left == 1 ? values.size() : begin + 1; end <= values.size(); ++end) {
      double mean = 0;
      for (size_t i = begin; i < end; ++i) {
        mean += static_cast<double>(values[i]) / static_cast<double>(end - begin);
      }
      double error = 0;
      for (size_t i = begin; i < end; ++i) {
        error += (static_cast<double>(values[i]) - mean) * (static_cast<double>(values[i]) - mean);
      }
      const double rest = left == 1 ? 0 : end < values.size() ? best(end, left - 1) : 0;
      least = std::min(least, error + rest);
    }
    return least;
  };
  return best(0, k);
}

}  // namespace

TEST_SUITE("grids") {
  TEST_CASE("no grid with any rounding uses more than 2^p codes, whatever the array") {
    CAPTURE(test_seed());
    for (const Sample& sample : samples({test_seed(), 1})) {
      for (const GridKind kind : all_grids()) {
        for (const int bits : {1, 2, 3, 4, 8, 12, 16}) {
          for (const bool flag : {false, true}) {
            GridSpec spec{.kind = kind, .bits = bits};
            (kind == GridKind::kAffine ? spec.symmetric : spec.zero) = flag;
            if (!legal(spec)) {
              continue;
            }
            for (const Rounding rounding :
                 {Rounding::kNearestEven, Rounding::kNearestUp, Rounding::kStochastic, Rounding::kFloor}) {
              const Quantized q = quantize(sample.values, {.grid = spec, .rounding = rounding, .key = {3, 4}});
              CAPTURE(sample.name);
              CAPTURE(grid_name(kind));
              CAPTURE(bits);
              CHECK(q.distinct_codes() <= int64_t{1} << bits);
              CHECK(q.groups.front().codebook.size() <= int64_t{1} << bits);
              const std::vector<float> values = q.values();
              const std::set<float> distinct(values.begin(), values.end());
              CHECK(static_cast<int64_t>(distinct.size()) <= int64_t{1} << bits);
              CHECK(std::ranges::all_of(values, [](float v) { return std::isfinite(v); }));
              if (spec.zero || kind == GridKind::kPowerOfTwo || kind == GridKind::kAffine) {
                const Codebook& codebook = q.groups.front().codebook;
                CHECK(codebook.value(codebook.code(0, rounding)) == 0);
              }
              if (rounding == Rounding::kNearestEven) {  // idempotent
                const Codebook& codebook = q.groups.front().codebook;
                for (const float v : values) {
                  CHECK(codebook.value(codebook.code(v, rounding)) == v);
                }
              }
            }
          }
        }
      }
    }
  }

  TEST_CASE("affine: symmetric and asymmetric scales, zero exact, errors at most half a step") {
    CAPTURE(test_seed());
    for (const Sample& sample : samples({test_seed(), 2})) {
      if (sample.name == "tiny" || sample.name == "huge") {
        continue;  // steps below or ranges beyond the floats, which the formula does not know
      }
      double low = 0;
      double high = 0;
      for (const float x : sample.values) {
        low = std::min(low, static_cast<double>(x));
        high = std::max(high, static_cast<double>(x));
      }
      for (int bits = 1; bits <= 16; ++bits) {
        for (const bool symmetric : {true, false}) {
          if (symmetric && bits == 1) {
            continue;
          }
          CAPTURE(sample.name);
          CAPTURE(bits);
          const FittedGrid fitted = fit_grid(sample.values, {.bits = bits, .symmetric = symmetric});
          const Grid& grid = *fitted.codebook.affine_grid();
          const double steps = std::pow(2, bits);
          if (symmetric) {
            CHECK(grid.zero_point == 0);
            CHECK(grid.qmin == -grid.qmax);
            CHECK(grid.qmax == static_cast<int32_t>(steps / 2) - 1);
          } else {
            CHECK(grid.qmax - grid.qmin == static_cast<int32_t>(steps) - 1);
          }
          const double expected = symmetric ? std::max(-low, high) / (steps / 2 - 1) : (high - low) / (steps - 1);
          CHECK(static_cast<double>(grid.scale) == doctest::Approx(expected > 0 ? expected : 1).epsilon(1e-6));
          CHECK(grid.zero_point >= grid.qmin);
          CHECK(grid.zero_point <= grid.qmax);
          for (const float x : sample.values) {
            const float back = fitted.codebook.value(fitted.codebook.code(x, Rounding::kNearestEven));
            // Rounding the zero-point shifts the range by up to half a step more; the division and the
            // product round to 24 digits each.
            const double bound = (symmetric ? 0.5 : 1.0) * static_cast<double>(grid.scale) +
                                 2 * 0x1.01p-24 * std::abs(static_cast<double>(x));
            CHECK(std::abs(static_cast<double>(back) - static_cast<double>(x)) <= bound);
          }
        }
      }
    }
  }

  TEST_CASE("landmark sets from their formulas") {
    CAPTURE(test_seed());
    for (int64_t round = 0; round < 20; ++round) {
      Rng rng(RngKey{test_seed(), 3}.child(static_cast<uint64_t>(round)));
      const std::vector<float> values = normal_array(rng.between(8, 300), rng.key().child("v"), 0.1, 0.4);
      std::vector<float> sorted = values;
      std::ranges::sort(sorted);
      const auto low = static_cast<double>(sorted.front());
      const auto high = static_cast<double>(sorted.back());
      for (int bits = 1; bits <= 8; ++bits) {
        const int m = 1 << bits;
        CAPTURE(bits);
        std::vector<double> uniform;
        std::vector<double> histogram;
        for (int i = 0; i < m; ++i) {
          uniform.push_back(low + i * (high - low) / (m - 1));
          histogram.push_back(low + (2 * i + 1) * (high - low) / (2 * m));
        }
        check_levels(fit_grid(values, {.kind = GridKind::kUniformRange, .bits = bits}).codebook, uniform);
        check_levels(fit_grid(values, {.kind = GridKind::kHistogram, .bits = bits}).codebook, histogram);

        // Quartiles in the middle of the two neighbours; fences no wider than the values.
        const auto quartile = [&](double q) {
          const double at = q * static_cast<double>(sorted.size() - 1);
          const auto i = static_cast<size_t>(at);
          return at == std::floor(at) ? static_cast<double>(sorted[i])
                                      : 0.5 * (static_cast<double>(sorted[i]) + static_cast<double>(sorted[i + 1]));
        };
        const double iqr = quartile(0.75) - quartile(0.25);
        const double from = std::max(low, quartile(0.25) - 1.5 * iqr);
        const double to = std::min(high, quartile(0.75) + 1.5 * iqr);
        std::vector<double> clipped;
        for (int i = 0; i < m; ++i) {
          clipped.push_back(from + i * (to - from) / (m - 1));
        }
        const Codebook fenced = fit_grid(values, {.kind = GridKind::kUniformIqr, .bits = bits}).codebook;
        check_levels(fenced, clipped);
        CHECK(fenced.value(fenced.code(1e6F, Rounding::kNearestEven)) == fenced.value(fenced.last()));
        CHECK(fenced.value(fenced.code(-1e6F, Rounding::kStochastic)) == fenced.value(0));

        // Each inner level has the share k / (m - 1) of the fitted normal distribution below it.
        const Codebook prior = fit_grid(values, {.kind = GridKind::kPriorNormal, .bits = bits}).codebook;
        std::vector<float> levels = levels_of(prior);
        REQUIRE(static_cast<int>(levels.size()) == m);
        CHECK(std::erase(levels, sorted.front()) == 1);
        CHECK(std::erase(levels, sorted.back()) == 1);
        double sum = 0;
        double squares = 0;
        for (const float x : values) {
          sum += static_cast<double>(x);
        }
        const double mean = sum / static_cast<double>(values.size());
        for (const float x : values) {
          squares += (static_cast<double>(x) - mean) * (static_cast<double>(x) - mean);
        }
        const double deviation = std::sqrt(squares / static_cast<double>(values.size() - 1));
        for (size_t k = 1; k + 1 < static_cast<size_t>(m); ++k) {
          const double z = (static_cast<double>(levels[k - 1]) - mean) / deviation;
          CHECK(0.5 * std::erfc(-z / std::sqrt(2.0)) ==
                doctest::Approx(static_cast<double>(k) / (m - 1)).epsilon(1e-5));
        }
      }
    }
  }

  TEST_CASE("a forced zero replaces the level nearest to it and no other") {
    const std::vector<float> values = {-1, -0.3F, 0.2F, 2};
    for (const GridKind kind :
         {GridKind::kUniformRange, GridKind::kHistogram, GridKind::kPriorNormal, GridKind::kUniformIqr}) {
      const std::vector<float> without = levels_of(fit_grid(values, {.kind = kind, .bits = 3}).codebook);
      const std::vector<float> with = levels_of(fit_grid(values, {.kind = kind, .bits = 3, .zero = true}).codebook);
      REQUIRE(with.size() == without.size());
      CHECK(std::ranges::count(with, 0.0F) == 1);
      int changed = 0;
      for (size_t i = 0; i < with.size(); ++i) {
        if (with[i] != without[i]) {
          ++changed;
          CHECK(with[i] == 0);
          for (const float level : without) {
            CHECK(std::abs(without[i]) <= std::abs(level));
          }
        }
      }
      CHECK(changed <= 1);
    }
  }

  TEST_CASE("power of two: the first exponent is that of Zhou et al., and levels are powers") {
    CAPTURE(test_seed());
    Rng rng(RngKey{test_seed(), 4});
    for (int i = 0; i < 2000; ++i) {
      const auto most = static_cast<float>(std::exp(rng.uniform(-60, 60)));
      const double exact = std::log2(4.0 / 3 * static_cast<double>(most));
      if (std::abs(exact - std::round(exact)) > 1e-9) {
        CHECK(first_exponent(most) == static_cast<int>(std::floor(exact)));
      }
    }
    CHECK(first_exponent(0.75F) == 0);
    CHECK(first_exponent(std::nextafter(0.75F, 0.0F)) == -1);
    CHECK(first_exponent(1.5F) == 1);
    CHECK(first_exponent(1) == 0);
    CHECK(power_of_two_levels(1, 2) == std::vector<float>{0, 1, -1, 0.5F, -0.5F});
    CHECK(levels_of(fit_grid(std::vector<float>{0.9F, -0.1F}, {.kind = GridKind::kPowerOfTwo, .bits = 3}).codebook) ==
          std::vector<float>{-1, -0.5F, -0.25F, 0, 0.25F, 0.5F, 1});
    CHECK(fit_grid(std::vector<float>{1}, {.kind = GridKind::kPowerOfTwo, .bits = 16}).codebook.size() == 2 * 150 + 1);
  }

  TEST_CASE("k-means: the exact one finds the least error there is, Lloyd's ends where no step helps") {
    CAPTURE(test_seed());
    for (int round = 0; round < 60; ++round) {
      Rng rng(RngKey{test_seed(), 5}.child(static_cast<uint64_t>(round)));
      std::vector<float> values = normal_array(rng.between(1, 14), rng.key().child("v"));
      if (round % 3 == 0) {  // repetitions
        values.insert(values.end(), values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2));
      }
      const int64_t k = rng.between(1, 4);
      const double least = k > static_cast<int64_t>(values.size()) ? 0 : least_error(values, k);
      const std::vector<float> exact = kmeans_exact(values, k);
      const std::vector<float> lloyd = kmeans(values, k);
      CAPTURE(round);
      CHECK(squared_error(values, exact) == doctest::Approx(least).epsilon(1e-5));
      CHECK(squared_error(values, lloyd) >= least * (1 - 1e-5) - 1e-12);
      CHECK(static_cast<int64_t>(exact.size()) <= k);
      CHECK(static_cast<int64_t>(lloyd.size()) <= k);
      CHECK(std::ranges::is_sorted(lloyd));
    }
    const std::vector<float> values = normal_array(5000, {test_seed(), 6});
    for (const int64_t k : {2, 4, 16, 64}) {
      const std::vector<float> lloyd = kmeans(values, k);
      CHECK(static_cast<int64_t>(lloyd.size()) == k);
      const double error = squared_error(values, lloyd);
      CHECK(error <= 1.1 * squared_error(values, kmeans_exact(values, k)));
      // One more step by hand moves nothing.
      std::vector<double> sum(lloyd.size());
      std::vector<double> count(lloyd.size());
      for (const float x : values) {
        const auto nearest = std::ranges::min_element(lloyd, {}, [x](float level) { return std::abs(level - x); });
        sum[static_cast<size_t>(nearest - lloyd.begin())] += static_cast<double>(x);
        count[static_cast<size_t>(nearest - lloyd.begin())] += 1;
      }
      for (size_t j = 0; j < lloyd.size(); ++j) {
        CHECK(static_cast<double>(lloyd[j]) == doctest::Approx(sum[j] / count[j]).epsilon(1e-5));
      }
    }
  }

  TEST_CASE("k-means keeps every number if there is a level for each") {
    const std::vector<float> values = {0.1F, -0.7F, 0.1F, 3, 0.25F};
    for (const GridKind kind : {GridKind::kKMeans, GridKind::kKMeansExact}) {
      CHECK(quantize(values, {.grid = {.kind = kind, .bits = 2}}).values() == values);
      CHECK(quantize(values, {.grid = {.kind = kind, .bits = 8}}).values() == values);
      CHECK(quantize(values, {.grid = {.kind = kind, .bits = 8}}).stored.codebooks == 4 * 32);
    }
  }

  TEST_CASE("per channel is each row by itself") {
    CAPTURE(test_seed());
    for (int round = 0; round < 10; ++round) {
      Rng rng(RngKey{test_seed(), 7}.child(static_cast<uint64_t>(round)));
      const int64_t channels = rng.between(1, 6);
      const int64_t size = rng.between(1, 40);
      const std::vector<float> values = normal_array(channels * size, rng.key().child("v"));
      for (const GridKind kind : all_grids()) {
        const GridSpec spec{.kind = kind, .bits = 3};
        const std::vector<float> together = quantize(values, {.grid = spec, .groups = channels}).values();
        for (int64_t c = 0; c < channels; ++c) {
          const std::span<const float> row(values.data() + c * size, static_cast<size_t>(size));
          const std::vector<float> alone = quantize(row, {.grid = spec}).values();
          CHECK(std::equal(alone.begin(), alone.end(), together.begin() + c * size));
        }
      }
    }
  }

  TEST_CASE("stored bits are counted to the last one") {
    const std::vector<float> values = normal_array(64, {test_seed(), 8});
    const auto bits = [&](const GridSpec& spec, int64_t groups) {
      return quantize(values, {.grid = spec, .groups = groups}).stored.total();
    };
    CHECK(bits({.bits = 8}, 1) == 64 * 8 + 32);
    CHECK(bits({.bits = 8}, 4) == 64 * 8 + 4 * 32);
    CHECK(bits({.bits = 5, .symmetric = false}, 4) == 64 * 5 + 4 * (32 + 5));
    CHECK(bits({.kind = GridKind::kMidRise, .bits = 2}, 1) == 64 * 2 + 32);
    CHECK(bits({.kind = GridKind::kUniformRange, .bits = 4}, 1) == 64 * 4 + 64);
    CHECK(bits({.kind = GridKind::kHistogram, .bits = 4, .zero = true}, 1) == 64 * 4 + 64);
    CHECK(bits({.kind = GridKind::kUniformIqr, .bits = 4}, 1) == 64 * 4 + 64);
    CHECK(bits({.kind = GridKind::kPriorNormal, .bits = 4}, 1) == 64 * 4 + 128);
    CHECK(bits({.kind = GridKind::kPowerOfTwo, .bits = 4}, 2) == 64 * 4 + 2 * 8);
    CHECK(bits({.kind = GridKind::kKMeans, .bits = 4}, 1) == 64 * 4 + 16 * 32);
    CHECK(quantize(values, {.grid = {.bits = 8}}).bits_per_weight() == 8.5);
  }

  TEST_CASE("distortion from its definition") {
    const std::vector<float> x = {3, -4};
    CHECK(distortion(x, x).mse == 0);
    CHECK(std::isinf(distortion(x, x).sqnr_db));
    const Distortion d = distortion(x, std::vector<float>{3, -3.5F});
    CHECK(d.mse == 0.125);
    CHECK(d.sqnr_db == doctest::Approx(20));
    CHECK(d.max_error == 0.5);
  }

  TEST_CASE("a constant array comes back, and zeros are zeros") {
    for (const GridKind kind : all_grids()) {
      CAPTURE(grid_name(kind));
      const std::vector<float> zeros(10, 0.0F);
      const std::vector<float> constant(10, -0.5F);
      CHECK(quantize(zeros, {.grid = {.kind = kind, .bits = 4}}).values() == zeros);
      CHECK(distortion(constant, quantize(constant, {.grid = {.kind = kind, .bits = 4}}).values()).max_error < 1e-7);
    }
  }

  TEST_CASE("normal quantiles against 40-digit values, and as the inverse of the distribution") {
    struct Known {
      double p, x;
    };
    constexpr Known kKnown[] = {
        {1e-300, -37.047096299361199237},
        {1e-100, -21.273453560965324294},
        {1e-20, -9.2623400897984075796},
        {1e-9, -5.9978070150076868614},
        {0.0000152590218966964, -4.1695658455436013403},
        {0.001, -3.0902323061678135354},
        {0.025, -1.9599639845400542118},
        {0.1, -1.2815515655446004353},
        {0.25, -0.6744897501960817432},
        {0.4, -0.25334710313579974132},
        {0.49, -0.025068908258711058033},
        {0.499999, -2.5066282745665593779e-6},
        {0.9, 1.2815515655446005935},
        {0.999, 3.0902323061678132778},
    };
    for (const Known& known : kKnown) {
      CAPTURE(known.p);
      CHECK(std::abs(normal_quantile(known.p) - known.x) <= 1e-15 * std::max(1.0, std::abs(known.x)));
    }
    CHECK(normal_quantile(0.5) == 0);
    Rng rng(RngKey{test_seed(), 9});
    double previous = -INFINITY;
    for (int k = 1; k < 65535; ++k) {
      const double p = k / 65535.0;
      const double x = normal_quantile(p);
      CHECK(x > previous);
      previous = x;
      if (k < 100) {
        CHECK(normal_quantile(1 - p) == doctest::Approx(-x).epsilon(1e-12));
      }
    }
    CHECK(message_of([] { return normal_quantile(0); }) ==
          "[normal_quantile] a probability must lie between 0 and 1, got 0");
    CHECK(message_of([] { return normal_quantile(NAN); }) ==
          "[normal_quantile] a probability must lie between 0 and 1, got nan");
  }

  TEST_CASE("bad input gets one sentence") {
    const std::vector<float> three = {1, 2, 3};
    const auto message = [](std::span<const float> values, const QuantizeOptions& options) {
      return message_of([&] { return quantize(values, options); });
    };
    CHECK(message({}, {}) == "[quantize] the array is empty");
    CHECK(message(three, {.groups = 2}) == "[quantize] 3 elements cannot be cut into 2 equal groups");
    CHECK(message(three, {.groups = 0}) == "[quantize] 3 elements cannot be cut into 0 equal groups");
    CHECK(message(std::vector<float>{1, NAN}, {}) == "[quantize] element 1 is nan");
    CHECK(message(std::vector<float>{-INFINITY}, {}) == "[quantize] element 0 is -inf");
    CHECK(message(std::vector<float>{2e36F}, {}) == "[quantize] element 0 is 2e+36");
    CHECK(message(three, {.grid = {.bits = 0}}) == "[grid] bits must be 1 to 16, got 0");
    CHECK(message(three, {.grid = {.bits = 17}}) == "[grid] bits must be 1 to 16, got 17");
    CHECK(message(three, {.grid = {.bits = 1}}) ==
          "[grid] a symmetric affine grid of 1 bit has the level 0 alone; take mid-rise or binary weights");
    CHECK(message(three, {.grid = {.kind = GridKind::kPowerOfTwo, .bits = 1}}) ==
          "[grid] a power-of-two grid of 1 bit has the level 0 alone; take mid-rise or binary weights");
    CHECK(message(three, {.grid = {.kind = GridKind::kMidRise, .zero = true}}) ==
          "[grid] mid-rise has no level at 0 by definition");
    CHECK(message(three, {.grid = {.zero = true}}) == "[grid] affine has a level at 0 anyway");
    CHECK(message(three, {.grid = {.kind = GridKind::kKMeans, .symmetric = false}}) ==
          "[grid] only an affine grid can be asymmetric, not kmeans");
    CHECK(message_of([&] { return kmeans(three, 0); }) == "[kmeans] there must be at least one cluster, got 0");
    CHECK(message_of([] { return parse_grid("cubic"); }) ==
          "[grid] 'cubic' is none of affine, mid-rise, uniform, histogram, normal, iqr, power-of-two, kmeans, "
          "kmeans-exact");
    for (const GridKind kind : all_grids()) {
      CHECK(parse_grid(grid_name(kind)) == kind);
    }
    const std::vector<float> many = normal_array(30000, {test_seed(), 10});
    CHECK(message_of([&] {
            return kmeans_exact(many, 4);
          }).starts_with("[kmeans] the exact algorithm takes up to 20000 distinct numbers"));
    CHECK(message_of([&] { return distortion(three, many); }) == "[distortion] the arrays have 3 and 30000 elements");
  }
}

}  // namespace whittle
