// Ranges and grids: weight_grids, affine_grid, sample_grids, observers, binary16. Float twin.

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/rng.h"
#include "quant/fake_quant.h"
#include "quant/half.h"
#include "quant/observer.h"
#include "tests/support/message.h"
#include "tests/support/seed.h"

namespace whittle {

namespace {

using quant::Codes;
using quant::Granularity;
using quant::Observer;
using quant::Range;
using quant::RangeRule;
using quant::TensorSpec;
using quant::weight_grids;

double error_of(std::span<const real> x, const Grid& g) {
  double sum = 0;
  for (const real v : x) {
    const double q = std::clamp(std::nearbyint(static_cast<double>(v) / static_cast<double>(g.scale)),
                                static_cast<double>(g.qmin - g.zero_point), static_cast<double>(g.qmax - g.zero_point));
    const double d = static_cast<double>(v) - q * static_cast<double>(g.scale);
    sum += d * d;
  }
  return sum;
}

std::vector<float> scales(const GridsPtr& grids) {
  std::vector<float> all;
  std::ranges::transform(*grids, std::back_inserter(all), [](const Grid& g) { return g.scale; });
  return all;
}

}  // namespace

TEST_SUITE("grids") {
  TEST_CASE("A4: scales of weights, with a floor for dead channels") {
    // Channels: usual, dead, nearly dead, far below everything (weight decay), small.
    const Tensor w = Tensor::of({5, 2}, {2, -1, 0, 0, real(1e-4), 0, real(1e-35), real(-1e-36), real(0.5), real(0.25)});
    for (int bits = 2; bits <= 8; ++bits) {
      const auto k = static_cast<float>((1 << (bits - 1)) - 1);
      const float floor = 0x1p-8F * 2 / k;
      CHECK(scales(weight_grids(w, {.bits = bits, .per = Granularity::kChannel})) ==
            std::vector<float>{2 / k, floor, floor, floor, 0.5F / k});
      CHECK(scales(weight_grids(w, {.bits = bits})) == std::vector<float>{2 / k});
      const GridsPtr grids = weight_grids(w, {.bits = bits, .per = Granularity::kChannel});
      for (const Grid& g : *grids) {
        CHECK(g.qmin == -static_cast<int>(k));
        CHECK(g.qmax == static_cast<int>(k));
        CHECK(g.zero_point == 0);
      }
    }
    for (const auto per : {Granularity::kTensor, Granularity::kChannel}) {
      for (const real v : {real(0), real(1e-35)}) {
        for (const int bits : {2, 8}) {
          for (const float s : scales(weight_grids(Tensor::full({3, 4}, v), {.bits = bits, .per = per}))) {
            CHECK(s == 1);
          }
        }
      }
    }
    // One bit: the mean of |w|.
    CHECK(scales(weight_grids(Tensor::of({2, 2}, {1, -3, 0, 0}), {.bits = 1, .per = Granularity::kChannel})) ==
          std::vector<float>{2, 0x1p-7F});
  }

  TEST_CASE("weights by least error: never worse than min-max, and the best of the hundredths") {
    CAPTURE(test_seed());
    for (int i = 0; i < 40; ++i) {
      CAPTURE(i);
      const RngKey key = RngKey{.seed = test_seed()}.child(static_cast<uint64_t>(i));
      Rng rng(key);
      Tensor w = Tensor::normal({1, rng.between(3, 300)}, key);
      w.mutable_data()[0] *= static_cast<real>(rng.uniform(1, 20));
      TensorSpec spec{.bits = static_cast<int>(rng.between(2, 8)), .symmetric = rng.below(2) == 0};
      const double plain = error_of(w.values(), (*weight_grids(w, spec))[0]);
      const Codes codes = quant::weight_codes(spec);
      const auto [low, high] = quant::range_of("test", w.values());
      double best = std::numeric_limits<double>::infinity();
      for (int percent = 10; percent <= 100; ++percent) {
        const float share = static_cast<float>(percent) / 100;
        best = std::min(best,
                        error_of(w.values(), quant::affine_grid({low * share, high * share}, spec.symmetric, codes)));
      }
      spec.range = RangeRule::kMse;
      const double found = error_of(w.values(), (*weight_grids(w, spec))[0]);
      CHECK(found <= plain * (1 + 1e-6));
      CHECK(found == doctest::Approx(best).epsilon(1e-5));
    }
  }

  TEST_CASE("weights by percentile: the number of that rank") {
    CAPTURE(test_seed());
    for (int i = 0; i < 40; ++i) {
      const RngKey key = RngKey{.seed = test_seed()}.child("percentile").child(static_cast<uint64_t>(i));
      Rng rng(key);
      const Tensor w = Tensor::normal({1, rng.between(1, 500)}, key);
      const double percentile = rng.uniform(50.1, 100);
      std::vector<float> sizes;
      std::ranges::transform(w.values(), std::back_inserter(sizes), [](real v) { return std::abs(v); });
      std::ranges::sort(sizes);
      // The smallest t that at least this share does not exceed.
      size_t rank = 0;
      while (100.0 * static_cast<double>(rank + 1) / static_cast<double>(sizes.size()) < percentile - 1e-9) {
        ++rank;
      }
      const auto [low, high] = quant::range_of("test", w.values());
      const float t =
          std::max(std::min(sizes[rank], std::max(high, -sizes[rank])), -std::max(std::min(low, 0.0F), -sizes[rank]));
      const Grid g = (*weight_grids(w, {.range = RangeRule::kPercentile, .percentile = percentile}))[0];
      CHECK(g.scale == doctest::Approx(t / 127).epsilon(1e-6));
    }
  }

  TEST_CASE("weights in groups: a grid for each run of inputs") {
    const Tensor w = Tensor::of({2, 4}, {1, 2, 3, 4, 5, 6, 7, 8});
    CHECK(scales(weight_grids(w, {.per = Granularity::kGroup, .group = 2})) ==
          std::vector<float>{2.0F / 127, 4.0F / 127, 6.0F / 127, 8.0F / 127});
    CHECK(message_of([&] { return weight_grids(w, {.per = Granularity::kGroup, .group = 3}); }) ==
          "[quantize] groups of 3 do not divide the 4 weights of an output channel of [2,4]");
  }

  TEST_CASE("affine grids: 0 is a code, and errors inside the range are at most half a step") {
    CAPTURE(test_seed());
    Rng rng(test_seed());
    for (int i = 0; i < 2000; ++i) {
      const auto bits = static_cast<int>(rng.between(1, 16));
      const Codes codes = quant::activation_codes({.bits = bits});
      const bool symmetric = bits > 1 && rng.below(3) == 0;
      const double size = std::exp(rng.uniform(-60, 60));
      Range range{static_cast<float>(size * rng.uniform(-1, 0.5)), 0};
      range.high = range.low + static_cast<float>(size * rng.uniform());
      const Grid g = quant::affine_grid(range, symmetric, codes);
      CAPTURE(bits);
      CAPTURE(range.low);
      CAPTURE(range.high);
      CHECK(std::isnormal(g.scale));
      CHECK(g.qmin <= g.zero_point);
      CHECK(g.zero_point <= g.qmax);
      CHECK(arithmetic::quantize(0, g) == g.zero_point);
      CHECK(arithmetic::dequantize(g.zero_point, g) == 0);
      for (int k = 0; k < 20; ++k) {
        const double at = rng.uniform();
        const auto x = static_cast<float>(static_cast<double>(std::min(range.low, 0.0F)) * at +
                                          static_cast<double>(std::max(range.high, 0.0F)) * (1 - at));
        const double off = std::abs(static_cast<double>(x) -
                                    static_cast<double>(arithmetic::dequantize(arithmetic::quantize(x, g), g)));
        CHECK(off <= static_cast<double>(g.scale) * (0.5 + 0.01));  // 2^16 codes of 24-bit numbers: 2^-8 steps
      }
    }
    const Grid nothing = quant::affine_grid({0, 0}, false, {-128, 127});
    CHECK(nothing.scale == 1);
    const float most = std::numeric_limits<float>::max();
    CHECK(std::isnormal(quant::affine_grid({-most, most}, false, {-128, 127}).scale));
    CHECK(std::isnormal(quant::affine_grid({-most, most}, true, {-128, 127}).scale));
  }
}

TEST_SUITE("observers") {
  TEST_CASE("min-max is that of all, the moving average its closed form") {
    CAPTURE(test_seed());
    const RngKey key = RngKey{.seed = test_seed()}.child("average");
    Observer all({.symmetric = false});
    Observer average({.symmetric = false, .range = RangeRule::kMovingAverage});
    std::vector<double> lows;
    std::vector<double> highs;
    for (uint64_t n = 0; n < 20; ++n) {
      const Tensor x = Tensor::normal({3, 7}, key.child(n));
      all.observe(x);
      average.observe(x);
      lows.push_back(static_cast<double>(*std::ranges::min_element(x.values())));
      highs.push_back(static_cast<double>(*std::ranges::max_element(x.values())));
    }
    CHECK(all.samples() == 60);
    CHECK(static_cast<double>(all.range().low) == *std::ranges::min_element(lows));
    CHECK(static_cast<double>(all.range().high) == *std::ranges::max_element(highs));
    const auto closed = [](const std::vector<double>& x) {
      double sum = std::pow(0.9, 19.0) * x[0];
      for (size_t n = 1; n < 20; ++n) {
        sum += 0.1 * std::pow(0.9, 19.0 - static_cast<double>(n)) * x[n];
      }
      return sum;
    };
    CHECK(static_cast<double>(average.range().low) == doctest::Approx(closed(lows)).epsilon(1e-5));
    CHECK(static_cast<double>(average.range().high) == doctest::Approx(closed(highs)).epsilon(1e-5));
  }

  TEST_CASE("a histogram that grows keeps every number that is not 0") {
    CAPTURE(test_seed());
    const RngKey key = RngKey{.seed = test_seed()}.child("growth");
    Observer grown({.range = RangeRule::kMse});
    std::vector<double> values;
    grown.observe(Tensor::zeros({2, 3}));  // says nothing about the width of bins
    CHECK(grown.state().bins.empty());
    for (uint64_t n = 0; n < 12; ++n) {
      const Tensor x =
          Tensor::normal({4, 25}, key.child(n), 0, static_cast<real>(std::pow(3.0, static_cast<double>(n)) / 1e3));
      grown.observe(x);
      values.insert(values.end(), x.values().begin(), x.values().end());
    }
    const Observer::State state = grown.state();
    CHECK(std::accumulate(state.bins.begin(), state.bins.end(), 0.0) == 1200);
    // Bin by bin what counting at the last width gives.
    std::vector<double> expected(Observer::kBins, 0);
    for (const double v : values) {
      const auto at = static_cast<int>(std::floor(v * (Observer::kBins / 2) / state.limit)) + Observer::kBins / 2;
      expected[static_cast<size_t>(std::clamp(at, 0, Observer::kBins - 1))] += 1;
    }
    CHECK(state.bins == expected);
  }

  TEST_CASE("percentile, least error and entropy against brute force on the numbers themselves") {
    CAPTURE(test_seed());
    for (int i = 0; i < 12; ++i) {
      CAPTURE(i);
      const RngKey key = RngKey{.seed = test_seed()}.child("brute").child(static_cast<uint64_t>(i));
      Rng rng(key);
      Tensor x = Tensor::normal({8, 500}, key);
      for (int64_t k = 0; k < x.elements(); ++k) {
        real& v = x.mutable_data()[k];
        v = i % 2 == 0 ? std::max<real>(v, 0) : v * v * v;  // behind a ReLU, or with long tails
      }
      const auto bits = static_cast<int>(rng.between(2, 8));
      TensorSpec spec{.bits = bits, .symmetric = rng.below(2) == 0, .range = RangeRule::kPercentile};
      spec.percentile = rng.uniform(90, 99.9);
      const auto observed = [&](RangeRule rule) {
        spec.range = rule;
        Observer observer(spec);
        observer.observe(x);
        return observer;
      };

      std::vector<float> sizes;
      for (const real v : x.values()) {
        if (v != 0) {
          sizes.push_back(std::abs(v));
        }
      }
      std::ranges::sort(sizes);
      const double bin = static_cast<double>(sizes.back()) / (Observer::kBins / 2);
      const auto rank = static_cast<size_t>(std::ceil(spec.percentile / 100 * static_cast<double>(sizes.size()))) - 1;
      const Range by_rank = observed(RangeRule::kPercentile).range();
      const auto reach = static_cast<double>(std::max(by_rank.high, -by_rank.low));
      CHECK(reach >= static_cast<double>(sizes[rank]) * (1 - 1e-6));  // cuts off no more than asked
      CHECK(reach <= static_cast<double>(sizes[rank]) + bin * 1.001);

      // The error of the range found from bins is close to the least of all hundredths.
      const auto [low, high] = quant::range_of("test", x.values());
      const Codes codes = quant::activation_codes(spec);
      double least = std::numeric_limits<double>::infinity();
      for (int percent = 10; percent <= 100; ++percent) {
        const float share = static_cast<float>(percent) / 100;
        least = std::min(least,
                         error_of(x.values(), quant::affine_grid({low * share, high * share}, spec.symmetric, codes)));
      }
      CHECK(error_of(x.values(), observed(RangeRule::kMse).grid()) <= least * 1.02);

      // The entropy rule: the divergence written out once more, over the bins of the state.
      const Observer entropy = observed(RangeRule::kEntropy);
      const Observer::State state = entropy.state();
      const auto centre = [&](int b) {
        return (static_cast<double>(b) + 0.5 - Observer::kBins / 2) * state.limit / (Observer::kBins / 2);
      };
      const auto divergence = [&](float share) {
        const Range tried{state.all.low * share, state.all.high * share};
        const Grid g = quant::affine_grid(tried, spec.symmetric, codes);
        std::vector<int> within;
        for (int b = 0; b < Observer::kBins; ++b) {
          if (centre(b) >= static_cast<double>(tried.low) && centre(b) <= static_cast<double>(tried.high)) {
            within.push_back(b);
          }
        }
        if (within.empty()) {
          return std::numeric_limits<double>::infinity();
        }
        std::vector<double> p(Observer::kBins, 0);
        double total = 0;
        for (int b = 0; b < Observer::kBins; ++b) {
          p[static_cast<size_t>(std::clamp(b, within.front(), within.back()))] += state.bins[static_cast<size_t>(b)];
          total += state.bins[static_cast<size_t>(b)];
        }
        double kl = 0;
        for (const int b : within) {
          if (p[static_cast<size_t>(b)] == 0) {
            continue;
          }
          double mass = 0;
          double holders = 0;
          for (const int other : within) {
            const double held = state.bins[static_cast<size_t>(other)];
            if (held > 0 && arithmetic::quantize(static_cast<float>(centre(other)), g) ==
                                arithmetic::quantize(static_cast<float>(centre(b)), g)) {
              mass += held;
              holders += 1;
            }
          }
          const double q = state.bins[static_cast<size_t>(b)] > 0 ? mass / holders : 0;
          kl += p[static_cast<size_t>(b)] / total * std::log(p[static_cast<size_t>(b)] / std::max(q, 1e-9 * total));
        }
        return kl;
      };
      if (i < 2) {  // slow
        double best = std::numeric_limits<double>::infinity();
        float best_share = 1;
        for (int percent = 100; percent >= 10; percent -= 1) {
          const double now = divergence(static_cast<float>(percent) / 100);
          if (now < best - 1e-12) {
            best = now;
            best_share = static_cast<float>(percent) / 100;
          }
        }
        CHECK(entropy.range().high == state.all.high * best_share);
        CHECK(entropy.range().low == state.all.low * best_share);
      }
    }
  }

  TEST_CASE("constant data, data of one sign and no data at all") {
    for (const auto rule : {RangeRule::kMinMax, RangeRule::kMovingAverage, RangeRule::kPercentile, RangeRule::kMse,
                            RangeRule::kEntropy}) {
      for (const real v : {real(0), real(3), real(-2), real(1e-38)}) {
        CAPTURE(v);
        Observer observer({.symmetric = false, .range = rule});
        CHECK(message_of([&] { return observer.range(); }) == "[observe] no data has passed, so there is no range");
        observer.observe(Tensor::full({2, 5}, v));
        const Grid g = observer.grid();
        CHECK(std::isnormal(g.scale));
        if (std::abs(v) > 1) {  // a constant keeps its value to half a step
          const float y = arithmetic::dequantize(arithmetic::quantize(v, g), g);
          CHECK(std::abs(y - v) <= g.scale * 0.51F);
        }
      }
    }
    Observer observer({});
    CHECK(message_of([&] {
            observer.observe(Tensor::of({2}, {1, std::nanf("")}));
          }) == "[observe] the numbers hold NaN or infinity");
    CHECK(message_of([&] { observer.observe(Tensor::of({1}, {-INFINITY})); }) ==
          "[observe] the numbers hold NaN or infinity");
  }

  TEST_CASE("one sample that alone sets the range is noticed") {
    Observer observer({});
    observer.observe(Tensor::of({3, 2}, {1, 2, -3, 0, 1, 1}));
    CHECK(observer.outlier_ratio() == 1.5);
    observer.observe(Tensor::of({1, 2}, {0, -30}));
    CHECK(observer.outlier_ratio() == 10);
  }
}

TEST_SUITE("half") {
  // What IEEE 754 says, on bits: sign, 5 bits of exponent, 10 of fraction.
  static float half_value(uint32_t bits) {
    const double sign = (bits >> 15) != 0 ? -1 : 1;
    const auto exponent = static_cast<int>(bits >> 10 & 31);
    const double fraction = bits & 1023;
    if (exponent == 31) {
      return fraction != 0 ? std::nanf("") : static_cast<float>(sign * INFINITY);
    }
    return static_cast<float>(sign *
                              (exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25)));
  }
  // Round half to even by integers alone.
  static float rounded(float x) {
    const auto bits = std::bit_cast<uint32_t>(x);
    const uint32_t sign = bits & 0x80000000U;
    const uint32_t magnitude = bits ^ sign;
    if (magnitude > 0x7f800000U) {
      return x;
    }
    const int exponent = static_cast<int>(magnitude >> 23);
    const uint64_t mantissa = exponent == 0 ? (magnitude & 0x7fffffU) : ((magnitude & 0x7fffffU) | 0x800000U);
    // In units of the 2^-24 that is the smallest half: value = mantissa 2^(max(exponent, 1) - 150).
    const int drop = exponent >= 113 ? 13 : 113 - std::max(exponent, 1) + 13;  // bits to lose
    uint64_t kept = 0;
    if (drop < 40) {
      kept = mantissa >> drop;
      const uint64_t rest = mantissa & ((uint64_t{1} << drop) - 1);
      const uint64_t half = uint64_t{1} << (drop - 1);
      kept += rest > half || (rest == half && (kept & 1) != 0) ? 1 : 0;
    }
    const double value = std::ldexp(static_cast<double>(kept), exponent >= 113 ? exponent - 150 + 13 : -24);
    const auto result = value >= 65536 ? INFINITY : static_cast<float>(value);
    return std::bit_cast<float>(std::bit_cast<uint32_t>(result) | sign);
  }
  static bool same(float a, float b) {
    return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b) || (std::isnan(a) && std::isnan(b));
  }

  TEST_CASE("all 65,536 halves stay, and ties and neighbours between them go where they should") {
    int64_t wrong = 0;
    for (uint32_t bits = 0; bits < 65536; ++bits) {
      const float h = half_value(bits);
      wrong += !same(quant::to_half(h), h);
      if (!std::isfinite(h)) {
        continue;
      }
      const float next = half_value(bits + 1);  // away from 0
      const double top = std::isinf(next) ? std::copysign(65536.0, static_cast<double>(h)) : static_cast<double>(next);
      if ((bits & 0x7fff) == 0x7c00 || std::isnan(next)) {
        continue;
      }
      const auto middle = static_cast<float>((static_cast<double>(h) + top) / 2);
      wrong += !same(quant::to_half(middle), (bits & 1) == 0 ? h : next);
      wrong += !same(quant::to_half(std::nextafter(middle, 0.0F)), h);
      wrong += !same(quant::to_half(std::nextafter(middle, middle * 2)), next);
    }
    CHECK(wrong == 0);
  }

  TEST_CASE("random floats of all sizes, bit by bit") {
    CAPTURE(test_seed());
    Rng rng(test_seed());
    int64_t wrong = 0;
    for (int i = 0; i < 400000; ++i) {
      auto bits = static_cast<uint32_t>(rng.bits());
      if (i % 2 == 0) {  // about the range of halves
        bits = (bits & 0x807fffffU) | (static_cast<uint32_t>(rng.between(95, 145)) << 23);
      }
      const auto x = std::bit_cast<float>(bits);
      wrong += !same(quant::to_half(x), rounded(x));
    }
    CHECK(wrong == 0);
    CHECK(std::isinf(quant::to_half(65520)));
    CHECK(quant::to_half(std::nextafter(65520.0F, 0.0F)) == 65504);
    CHECK(message_of([] { return quant::Half().apply(Tensor::of({1}, {70000})); }) ==
          "[half] the weight 70000 is beyond binary16");
  }
}

}  // namespace whittle
