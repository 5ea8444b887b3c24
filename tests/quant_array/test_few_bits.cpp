// Binary and ternary weights against all choices there are, and INQ against its paper's rules.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "quant/array/few_bits.h"
#include "quant/array/grids.h"
#include "quant/array/inq.h"
#include "tests/quant_array/samples.h"
#include "tests/support/message.h"
#include "tests/support/seed.h"

namespace whittle {

namespace {

using namespace quant::array;  // NOLINT(google-build-using-namespace)

double squared_error(const std::vector<float>& w, const std::vector<float>& q) {
  return distortion(w, q).mse * static_cast<double>(w.size());
}

// The least error of a * t over all t in `digits`^n and the best a >= 0 for each.
double least_error(const std::vector<float>& w, const std::vector<int>& digits) {
  double power = 0;
  for (const float x : w) {
    power += static_cast<double>(x) * static_cast<double>(x);
  }
  double least = power;
  size_t choices = 1;
  for (size_t i = 0; i < w.size(); ++i) {
    choices *= digits.size();
  }
  for (size_t choice = 0; choice < choices; ++choice) {
    double wt = 0;
    double tt = 0;
    size_t rest = choice;
    for (const float x : w) {
      const int t = digits[rest % digits.size()];
      rest /= digits.size();
      wt += t * static_cast<double>(x);
      tt += t * t;
    }
    if (tt > 0 && wt > 0) {
      least = std::min(least, power - wt * wt / tt);
    }
  }
  return least;
}

}  // namespace

TEST_SUITE("few_bits") {
  TEST_CASE("binary weights are the best two levels +-alpha, exact ternary the best three") {
    CAPTURE(test_seed());
    for (int round = 0; round < 40; ++round) {
      Rng rng(RngKey{test_seed(), 1}.child(static_cast<uint64_t>(round)));
      const std::vector<float> w = normal_array(rng.between(1, 8), rng.key().child("w"), 0.1);
      const Quantized one = binary(w);
      CHECK(squared_error(w, one.values()) == doctest::Approx(least_error(w, {-1, 1})).epsilon(1e-5));
      const double exact = squared_error(w, ternary(w, 1, TernaryThreshold::kExact).values());
      CHECK(exact == doctest::Approx(least_error(w, {-1, 0, 1})).epsilon(1e-5));
      CHECK(exact <= squared_error(w, ternary(w).values()) * (1 + 1e-6));
    }
  }

  TEST_CASE("both from their formulas, per group") {
    CAPTURE(test_seed());
    const std::vector<float> w = normal_array(90, {test_seed(), 2}, 0.05);
    const Quantized one = binary(w, 3);
    const Quantized two = ternary(w, 3);
    const std::vector<float> b = one.values();
    const std::vector<float> t = two.values();
    for (size_t g = 0; g < 3; ++g) {
      double sum = 0;
      for (size_t i = 30 * g; i < 30 * g + 30; ++i) {
        sum += std::abs(static_cast<double>(w[i]));
      }
      const double alpha = sum / 30;
      const double delta = 0.7 * sum / 30;
      double kept = 0;
      int count = 0;
      for (size_t i = 30 * g; i < 30 * g + 30; ++i) {
        if (std::abs(static_cast<double>(w[i])) > delta) {
          kept += std::abs(static_cast<double>(w[i]));
          ++count;
        }
      }
      for (size_t i = 30 * g; i < 30 * g + 30; ++i) {
        const double sign = w[i] < 0 ? -1 : 1;
        CHECK(static_cast<double>(b[i]) == doctest::Approx(sign * alpha));
        CHECK(static_cast<double>(t[i]) ==
              doctest::Approx(std::abs(static_cast<double>(w[i])) > delta ? sign * kept / count : 0));
      }
    }
    CHECK(one.stored.total() == 90 + 3 * 32);
    CHECK(two.stored.total() == 2 * 90 + 3 * 32);
    CHECK(one.distinct_codes() == 2);
    CHECK(two.distinct_codes() == 3);
  }

  TEST_CASE("every sample: finite, few codes, zeros stay zeros") {
    for (const Sample& sample : samples({test_seed(), 3})) {
      CAPTURE(sample.name);
      for (const Quantized& q :
           {binary(sample.values), ternary(sample.values), ternary(sample.values, 1, TernaryThreshold::kExact)}) {
        CHECK(q.distinct_codes() <= (q.bits == 1 ? 2 : 3));
        const std::vector<float> values = q.values();
        CHECK(std::ranges::all_of(values, [](float v) { return std::isfinite(v); }));
        for (size_t i = 0; i < values.size(); ++i) {
          CHECK((q.bits == 1 || sample.values[i] != 0 || values[i] == 0));
          CHECK((sample.values[i] == 0 || values[i] == 0 || std::signbit(values[i]) == std::signbit(sample.values[i])));
        }
      }
    }
    CHECK(binary(std::vector<float>{0, 0}).values() == std::vector<float>{0, 0});
    CHECK(binary(std::vector<float>{0, -2}).values() == std::vector<float>{1, -1});
    CHECK(message_of([] { return binary({}); }) == "[binary] the array is empty");
    CHECK(message_of([] { return ternary(std::vector<float>{NAN}); }) == "[ternary] element 0 is nan");
    CHECK(message_of([] {
            return ternary(std::vector<float>{1, 2, 3}, 2);
          }) == "[ternary] 3 elements cannot be cut into 2 equal groups");
  }
}

TEST_SUITE("inq") {
  TEST_CASE("levels: the paper's example and its counts") {
    CHECK(inq_levels(0.5F, 3) == std::vector<float>{-0.5F, -0.25F, 0, 0.25F, 0.5F});  // n1 = -1, n2 = -2
    for (int bits = 2; bits <= 8; ++bits) {
      const std::vector<float> levels = inq_levels(1, bits);
      CAPTURE(bits);
      CHECK(static_cast<int>(levels.size()) == (1 << (bits - 1)) + 1);
      CHECK(levels.back() == 1);
      const int n2 = 0 + 1 - (1 << (bits - 1)) / 2;
      CHECK(*std::ranges::upper_bound(levels, 0.0F) == std::ldexp(1.0F, n2));
      CHECK(std::ranges::is_sorted(levels));
    }
    CHECK(inq_levels(0, 4) == std::vector<float>{0});
    CHECK(message_of([] { return inq_levels(1, 1); }) == "[inq] bits must be 2 to 16, got 1");
    CHECK(message_of([] { return inq_levels(NAN, 4); }) == "[inq] the largest magnitude is nan");
  }

  TEST_CASE("rounding: equation 4 looked up between all neighbours") {
    CAPTURE(test_seed());
    for (const int bits : {2, 3, 5}) {
      const std::vector<float> w = normal_array(500, {test_seed(), 4});
      float most = 0;
      for (const float x : w) {
        most = std::max(most, std::abs(x));
      }
      const std::vector<float> levels = inq_levels(most, bits);
      std::vector<double> positive;
      std::ranges::copy_if(levels, std::back_inserter(positive), [](float level) { return level >= 0; });
      for (const float x : w) {
        const double size = std::abs(static_cast<double>(x));
        double expected = 0;
        for (size_t i = 0; i + 1 < positive.size(); ++i) {
          if ((positive[i] + positive[i + 1]) / 2 <= size && size < 3 * positive[i + 1] / 2) {
            expected = positive[i + 1];
          }
        }
        CHECK(std::abs(static_cast<double>(inq_round(x, levels))) == expected);
        CHECK((expected == 0 || std::signbit(inq_round(x, levels)) == std::signbit(x)));
      }
    }
    const std::vector<float> levels = inq_levels(1, 3);
    CHECK(inq_round(0.75F, levels) == 1);
    CHECK(inq_round(-0.75F, levels) == -1);
    CHECK(inq_round(0.25F, levels) == 0.5F);
    CHECK_FALSE(std::signbit(inq_round(-0.1F, levels)));
  }

  TEST_CASE("freezing: the largest first, exactly as many as asked, frozen ones never change again") {
    CAPTURE(test_seed());
    std::vector<float> w = normal_array(101, {test_seed(), 5});
    w[7] = w[3];  // a tie
    float most = 0;
    for (const float x : w) {
      most = std::max(most, std::abs(x));
    }
    const std::vector<float> levels = inq_levels(most, 5);
    std::vector<uint8_t> frozen(w.size(), 0);
    int64_t total = 0;
    for (const double share : {0.5, 0.75, 0.875, 0.875, 1.0}) {
      const std::vector<float> before = w;
      const std::vector<uint8_t> before_frozen = frozen;
      total += inq_freeze(w, frozen, share, levels);
      CHECK(total == std::llround(share * 101));
      CHECK(std::ranges::count(frozen, 1) == total);
      float least_new = INFINITY;
      float most_free = 0;
      for (size_t i = 0; i < w.size(); ++i) {
        if (before_frozen[i] == 1 || frozen[i] == 0) {
          CHECK(w[i] == before[i]);
        }
        if (frozen[i] == 1) {
          CHECK(std::ranges::count(levels, w[i]) == 1);
        }
        if (frozen[i] == 1 && before_frozen[i] == 0) {
          CHECK(w[i] == inq_round(before[i], levels));
          least_new = std::min(least_new, std::abs(before[i]));
        }
        most_free = frozen[i] == 0 ? std::max(most_free, std::abs(w[i])) : most_free;
      }
      CHECK(least_new >= most_free);
      for (size_t i = 0; i < w.size(); ++i) {  // what training does
        w[i] += frozen[i] == 0 ? 0.01F : 0;
      }
    }
    std::vector<float> equal = {1, -1, 1, 1};
    std::vector<uint8_t> flags(4, 0);
    inq_freeze(equal, flags, 0.5, levels);
    CHECK(flags == std::vector<uint8_t>{1, 1, 0, 0});
    CHECK(message_of([&] { return inq_freeze(equal, flags, 0.25, levels); }) ==
          "[inq] a share of 0.25 is less than what is frozen already");
    CHECK(message_of([&] { return inq_freeze(equal, flags, 1.5, levels); }) ==
          "[inq] a share must lie between 0 and 1, got 1.5");
    CHECK(message_of([&] { return inq_freeze(equal, std::span(flags).first(3), 1, levels); }) ==
          "[inq] there are 4 weights and 3 flags");
    CHECK(message_of([&] {
            return inq_freeze(equal, flags, 1, std::vector<float>{1, 2});
          }) == "[inq] levels must be sorted and hold 0");
    flags[2] = 3;
    CHECK(message_of([&] { return inq_freeze(equal, flags, 1, levels); }) == "[inq] flag 2 is 3, not 0 or 1");
  }
}

}  // namespace whittle
