// Intervals and tests of runs, against closed forms and published values.

#include <doctest/doctest.h>

#include <cmath>
#include <numbers>
#include <tuple>
#include <vector>

#include "core/error.h"
#include "core/rng.h"
#include "tests/support/seed.h"
#include "train/statistics.h"

namespace whittle::statistics {

namespace {

void check_interval(const Interval& interval, double low, double high, double within) {
  CHECK(std::abs(interval.low - low) <= within);
  CHECK(std::abs(interval.high - high) <= within);
}

}  // namespace

TEST_SUITE("statistics") {
  TEST_CASE("Wilson's interval: the examples of Newcombe, Statistics in Medicine 17 (1998) 857, table I") {
    check_interval(share_interval(81, 263), 0.2553, 0.3662, 5e-5);
    check_interval(share_interval(15, 148), 0.0624, 0.1605, 5e-5);
    check_interval(share_interval(0, 20), 0, 0.1611, 5e-5);
    check_interval(share_interval(1, 29), 0.0061, 0.1718, 5e-5);
    const Interval all = share_interval(20, 20);
    CHECK(all.high == 1);
    CHECK(all.low == doctest::Approx(1 - share_interval(0, 20).high));
    CHECK_THROWS_AS((void)share_interval(3, 2), Error);
    CHECK_THROWS_AS((void)share_interval(0, 0), Error);
  }

  TEST_CASE("two shares: Newcombe, Statistics in Medicine 17 (1998) 873, table II, method 10") {
    check_interval(share_difference(56, 70, 48, 80), 0.0524, 0.3339, 5e-5);
    check_interval(share_difference(9, 10, 3, 10), 0.1705, 0.8090, 5e-5);
    check_interval(share_difference(10, 10, 0, 10), 0.6075, 1, 5e-5);
  }

  TEST_CASE("McNemar's test is the tail of a binomial distribution") {
    CHECK(paired(100, 0, 0).p == 1);
    CHECK(paired(100, 3, 3).p == 1);
    CHECK(paired(100, 0, 5).p == doctest::Approx(2.0 / 32));          // 2 (1/2)^5
    CHECK(paired(100, 1, 5).p == doctest::Approx(2 * 7.0 / 64));      // 2 (1 + 6) / 2^6
    CHECK(paired(100, 10, 2).p == doctest::Approx(2 * 79.0 / 4096));  // 2 (1 + 12 + 66) / 2^12
    CHECK(paired(100, 2, 10).p == paired(100, 10, 2).p);
    // Sixty thousand samples are no trouble, and many pairs come near to the chi-squared form.
    const double p = paired(60000, 1000, 1100).p;
    const double z = (100 - 1) / std::sqrt(2100.0);
    CHECK(p == doctest::Approx(std::erfc(z / std::numbers::sqrt2)).epsilon(0.01));
  }

  TEST_CASE("Agresti's approval ratings (Categorical Data Analysis, table 10.1): -0.04, from -0.06 to -0.02") {
    const Paired ratings = paired(1600, 150, 86);
    CHECK(ratings.difference == doctest::Approx(-0.04));
    check_interval(ratings.interval, -0.0587, -0.0213, 5e-4);
    CHECK(ratings.p == doctest::Approx(3.1e-5).epsilon(0.3));  // z^2 = 17.36 on one degree of freedom
  }

  // Every pair of counts with its probability, against shares of a grid.
  TEST_CASE("a bound of the drop is broken as often as it may be and no more: all counts of 24 samples") {
    constexpr int64_t kSamples = 24;
    const auto log_ways = [](int64_t x, int64_t y) {
      const auto f = [](int64_t k) { return std::lgamma(static_cast<double>(k) + 1); };
      return f(kSamples) - f(x) - f(y) - f(kSamples - x - y);
    };
    for (const double confidence : {80.0, 95.0, 99.0}) {
      CAPTURE(confidence);
      std::vector<std::vector<double>> bound;
      for (int64_t x = 0; x <= kSamples; ++x) {
        bound.emplace_back();
        for (int64_t y = 0; x + y <= kSamples; ++y) {
          bound.back().push_back(largest_drop(paired(kSamples, x, y), confidence));
          CHECK(bound.back().back() >= static_cast<double>(x - y) / kSamples);
          CHECK((y == 0 || bound.back()[static_cast<size_t>(y)] < bound.back()[static_cast<size_t>(y) - 1]));
          CHECK((x == 0 || bound.back().back() > bound[static_cast<size_t>(x) - 1][static_cast<size_t>(y)]));
        }
      }
      double worst = 0;
      for (double loss = 0.01; loss < 0.8; loss += 0.03) {
        for (double gain = 0.005; loss + gain < 0.99; gain += 0.02) {
          double broken = 0;
          for (int64_t x = 0; x <= kSamples; ++x) {
            for (int64_t y = 0; x + y <= kSamples; ++y) {
              if (bound[static_cast<size_t>(x)][static_cast<size_t>(y)] < loss - gain) {
                broken += std::exp(log_ways(x, y) + static_cast<double>(x) * std::log(loss) +
                                   static_cast<double>(y) * std::log(gain) +
                                   static_cast<double>(kSamples - x - y) * std::log(1 - loss - gain));
              }
            }
          }
          worst = std::max(worst, broken);
        }
      }
      CHECK(worst <= 1 - confidence / 100);
      CHECK(worst >= 0.6 * (1 - confidence / 100));  // and it does not promise too little
    }
  }

  TEST_CASE("a bound of the drop: closed forms where nothing is gained, and the usual interval where much is") {
    // No sample lost in n: (1 - D)^n = error, but for the fiftieth of the error that pays for not knowing the gains.
    CHECK(largest_drop(paired(1000, 0, 0), 95) == doctest::Approx(1 - std::pow(0.05 * 0.98, 1e-3)).epsilon(1e-4));
    const Paired many = paired(10000, 300, 290);
    CHECK(largest_drop(many, 95) == doctest::Approx(0.001 + 1.6449 * std::sqrt(592.0) / 10002).epsilon(0.02));
    CHECK(largest_drop(paired(50, 0, 50), 95) < -0.9);
    CHECK(largest_drop(paired(1, 1, 0), 95) == doctest::Approx(1));
    CHECK_THROWS_AS((void)largest_drop(many, 100), Error);
    CHECK_THROWS_AS((void)largest_drop(many, 20), Error);
  }

  TEST_CASE("simulated: of bounds of a drop of 0.5 points, at most 5 % lie below it") {
    CAPTURE(test_seed());
    Rng rng(RngKey{.seed = test_seed()});
    constexpr int kTrials = 1000;
    constexpr int64_t kSamples = 400;
    for (const double gain : {0.0, 0.01}) {
      int broken = 0;
      int of_interval = 0;  // Bonett and Price's, at one side
      for (int trial = 0; trial < kTrials; ++trial) {
        int64_t x = 0;
        int64_t y = 0;
        for (int64_t i = 0; i < kSamples; ++i) {
          const double at = rng.uniform();
          x += at < gain + 0.005 ? 1 : 0;
          y += at > 1 - gain ? 1 : 0;
        }
        broken += largest_drop(paired(kSamples, x, y), 95) < 0.005 ? 1 : 0;
        const auto d = static_cast<double>(x - y);
        const auto both = static_cast<double>(x + y + 2);
        of_interval += (d + 1.6449 * std::sqrt(both - d * d / (kSamples + 2))) / (kSamples + 2) < 0.005 ? 1 : 0;
      }
      CAPTURE(gain);
      CHECK(broken <= kTrials * 0.05 + 3 * std::sqrt(kTrials * 0.05 * 0.95));
      CHECK((gain > 0 || of_interval > 2 * kTrials * 0.05));
    }
  }

  TEST_CASE("how many samples it would take is what the bound then says") {
    for (const auto& [samples, lost, gained] : {std::tuple{200, 2, 2}, {1000, 20, 19}, {5000, 60, 50}}) {
      CAPTURE(samples);
      const Paired pair = paired(samples, lost, gained);
      const double factor = static_cast<double>(samples_for_drop(pair, 0.005, 95)) / samples;
      CHECK(factor > 1);
      const auto times = [&](double f) {
        return paired(static_cast<int64_t>(samples * f), static_cast<int64_t>(lost * f),
                      static_cast<int64_t>(gained * f));
      };
      CHECK(largest_drop(times(1.3 * factor), 95) <= 0.005);
      CHECK(largest_drop(times(0.6 * factor), 95) > 0.005);
    }
    CHECK(samples_for_drop(paired(1000, 30, 10), 0.005, 95) == 0);
  }

  TEST_CASE("answers are compared sample by sample") {
    const std::vector<bool> a = {true, true, false, true, false};
    const std::vector<bool> b = {true, false, true, true, true};
    const Paired result = paired(a, b);
    CHECK(result.samples == 5);
    CHECK(result.only_a == 1);
    CHECK(result.only_b == 2);
    CHECK(result.difference == doctest::Approx(0.2));
    CHECK_THROWS_AS((void)paired(a, {true}), Error);
  }

  TEST_CASE("Student's distribution: closed forms for 1 and 2 degrees of freedom, tables for more") {
    for (const double t : {-30.0, -2.0, -0.1, 0.0, 0.5, 1.0, 12.7, 1000.0}) {
      CAPTURE(t);
      CHECK(student(t, 1) == doctest::Approx(0.5 + std::atan(t) / std::numbers::pi).epsilon(1e-12));
      CHECK(student(t, 2) == doctest::Approx(0.5 + t / (2 * std::sqrt(2 + t * t))).epsilon(1e-12));
    }
    CHECK(student_quantile(0.975, 1) == doctest::Approx(12.7062).epsilon(1e-5));
    CHECK(student_quantile(0.975, 4) == doctest::Approx(2.77645).epsilon(1e-5));
    CHECK(student_quantile(0.975, 9) == doctest::Approx(2.26216).epsilon(1e-5));
    CHECK(student_quantile(0.95, 30) == doctest::Approx(1.6973).epsilon(1e-4));
    CHECK(student_quantile(0.975, 1e6) == doctest::Approx(1.95997).epsilon(1e-5));
    CHECK(student_quantile(0.025, 4) == doctest::Approx(-2.77645).epsilon(1e-5));
    for (const double degrees : {1.0, 2.5, 7.0, 200.0}) {
      for (const double p : {0.5, 0.6, 0.9, 0.999}) {
        CHECK(student(student_quantile(p, degrees), degrees) == doctest::Approx(p).epsilon(1e-10));
      }
    }
  }

  TEST_CASE("seeds: mean, deviation and interval, worked out by hand") {
    const Sample s = sample(std::vector<double>{1, 2, 3, 4, 5});
    CHECK(s.n == 5);
    CHECK(s.mean == doctest::Approx(3));
    CHECK(s.deviation == doctest::Approx(std::sqrt(2.5)));
    check_interval(s.interval, 3 - 2.776445 * std::sqrt(0.5), 3 + 2.776445 * std::sqrt(0.5), 1e-5);
    CHECK(std::isinf(sample(std::vector<double>{7}).interval.high));
    CHECK_THROWS_AS((void)sample({}), Error);
  }

  TEST_CASE("Welch's test: Student's sleep data, t = -1.8608 on 17.776 degrees, p = 0.0794") {
    const std::vector<double> first = {0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0};
    const std::vector<double> second = {1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4};
    const Welch w = welch(sample(first), sample(second));
    CHECK(w.difference == doctest::Approx(1.58));
    CHECK(w.p == doctest::Approx(0.07939).epsilon(1e-3));
    check_interval(w.interval, -0.2054832, 3.3654832, 1e-5);
    const Welch same = welch(sample(std::vector<double>{1, 1}), sample(std::vector<double>{1, 1}));
    CHECK(same.p == 1);
    CHECK_THROWS_AS((void)welch(sample(std::vector<double>{1}), sample(second)), Error);
  }
}

}  // namespace whittle::statistics
