// The integer arithmetic against definitions written independently of it.

#include <doctest/doctest.h>

#include <bit>
#include <cfenv>
#include <cmath>
#include <cstdint>
#include <vector>

#include "core/parallel.h"
#include "core/rng.h"
#include "kernels/arithmetic.h"
#include "tests/support/seed.h"

namespace whittle {

namespace {

// The definition with libm's rounding (round half to even is the default mode).
int32_t requantize_with_libm(int64_t acc, float m, int32_t zero_point, int32_t qmin, int32_t qmax) {
  const float scaled = static_cast<float>(acc) * m;
  const float low = static_cast<float>(qmin - zero_point);
  const float high = static_cast<float>(qmax - zero_point);
  return static_cast<int32_t>(std::nearbyint(std::fmin(std::fmax(scaled, low), high))) + zero_point;
}

// In a constant expression a compiler refuses undefined behaviour: a shift by more than 63 here, once.
static_assert(arithmetic::requantize_integer(0, 0x7f7fffff, 3, -128, 127) == 3);
static_assert(arithmetic::requantize_integer(INT64_MIN, 0x7f7fffff, 3, -128, 127) == -128);
static_assert(arithmetic::requantize_integer(INT64_MAX, 0x00800000, 3, -128, 127) == 3);

struct Mismatches {
  int64_t libm = 0;
  int64_t integer = 0;
};

void compare(Mismatches& found, int64_t acc, float m, int32_t z, int32_t qmin, int32_t qmax) {
  const int32_t code = arithmetic::requantize(acc, m, z, qmin, qmax);
  found.libm += code != requantize_with_libm(acc, m, z, qmin, qmax) ? 1 : 0;
  found.integer += code != arithmetic::requantize_integer(acc, std::bit_cast<uint32_t>(m), z, qmin, qmax) ? 1 : 0;
}

}  // namespace

TEST_SUITE("arithmetic") {
  TEST_CASE("requantize equals its libm form and its integer twin on 1e8 random cases") {
    REQUIRE(std::fegetround() == FE_TONEAREST);
    constexpr int64_t kTiles = 200;
    constexpr int64_t kPerTile = 500'000;
    const RngKey key = RngKey{.seed = test_seed()}.child("requantize");
    CAPTURE(test_seed());
    std::vector<Mismatches> found(kTiles);
    parallel_for(kTiles, [&](int64_t tile) {
      Mismatches here;
      for (int64_t i = 0; i < kPerTile; ++i) {
        const uint64_t bits = random_bits(key, static_cast<uint64_t>(tile * kPerTile + i));
        // Accumulators of every magnitude up to 2^31 (2^40 in each eighth), multipliers 2^-30 .. 2^2.
        const int width = static_cast<int>(bits % ((bits & 0x700) == 0 ? 41 : 32));
        const auto magnitude = static_cast<int64_t>((bits >> 20) & ((uint64_t{1} << width) - 1));
        const int64_t acc = (bits & 0x80000) != 0 ? -magnitude : magnitude;
        const auto m = std::bit_cast<float>(static_cast<uint32_t>(97 + (bits >> 12) % 32) << 23 |
                                            static_cast<uint32_t>(bits >> 41));
        compare(here, acc, m, static_cast<int32_t>(bits >> 56) - 128, -128, 127);
      }
      found[static_cast<size_t>(tile)] = here;
    });
    Mismatches total;
    for (const Mismatches& m : found) {
      total.libm += m.libm;
      total.integer += m.integer;
    }
    CHECK(total.libm == 0);
    CHECK(total.integer == 0);
  }

  TEST_CASE("all ties: dyadic multipliers, every accumulator near the range") {
    Mismatches found;
    for (int shift = 0; shift <= 20; ++shift) {
      const float m = std::ldexp(1.0f, -shift);
      for (int64_t acc = -(int64_t{300} << shift); acc <= (int64_t{300} << shift);
           acc += shift < 8 ? 1 : int64_t{1} << (shift - 8)) {
        compare(found, acc, m, -3, -128, 127);
      }
    }
    CHECK(found.libm == 0);
    CHECK(found.integer == 0);
  }

  TEST_CASE("16-bit codes, extreme accumulators and multipliers") {
    Mismatches found;
    for (const int64_t acc : {INT64_MIN, INT64_MIN + 1, INT64_MAX, int64_t{INT32_MIN}, int64_t{INT32_MAX}, int64_t{0},
                              int64_t{1}, int64_t{-1}, (int64_t{1} << 24) + 1, (int64_t{1} << 25) + 2}) {
      for (uint32_t exponent = 1; exponent <= 254; ++exponent) {
        for (const uint32_t mantissa : {0u, 1u, 0x400000u, 0x7fffffu}) {
          const auto m = std::bit_cast<float>(exponent << 23 | mantissa);
          compare(found, acc, m, 0, -32768, 32767);
          compare(found, acc, m, 128, 0, 255);
        }
      }
    }
    CHECK(found.libm == 0);
    CHECK(found.integer == 0);
  }

  TEST_CASE("quantize: zero is exact, ties go to even, ends saturate, codes round-trip") {
    for (const Grid grid : {Grid{0.1f, 5, -128, 127}, Grid{1.0f / 255, -128, -128, 127}, Grid{3.0f, 0, -127, 127},
                            Grid{0.5f, 0, -8, 7}, Grid{1e-6f, 1000, -32768, 32767}}) {
      CHECK(arithmetic::quantize(0.0f, grid) == grid.zero_point);
      CHECK(arithmetic::quantize(INFINITY, grid) == grid.qmax);
      CHECK(arithmetic::quantize(-INFINITY, grid) == grid.qmin);
      CHECK(arithmetic::quantize(NAN, grid) == grid.qmin);
      int wrong = 0;
      for (int32_t code = grid.qmin; code <= grid.qmax; ++code) {
        wrong += arithmetic::quantize(arithmetic::dequantize(code, grid), grid) != code ? 1 : 0;
      }
      CHECK(wrong == 0);
    }
    const Grid unit{1.0f, 1, -128, 127};  // rounded before the odd zero-point is added
    CHECK(arithmetic::quantize(0.5f, unit) == 1);
    CHECK(arithmetic::quantize(1.5f, unit) == 3);
    CHECK(arithmetic::quantize(-0.5f, unit) == 1);
    CHECK(arithmetic::quantize(-1.5f, unit) == -1);
  }

  TEST_CASE("quantize equals its definition with libm on random values") {
    const RngKey key = RngKey{.seed = test_seed()}.child("quantize");
    int wrong = 0;
    for (uint64_t i = 0; i < 1'000'000; ++i) {
      const auto scale = static_cast<float>(std::exp(10 * uniform(key, 3 * i) - 8));
      const Grid grid{scale, static_cast<int32_t>(below(key, 3 * i + 1, 256)) - 128, -128, 127};
      const float x = scale * static_cast<float>(600 * uniform(key, 3 * i + 2) - 300);
      const auto expected = static_cast<int32_t>(
          std::fmin(std::fmax(std::nearbyint(x / scale) + static_cast<float>(grid.zero_point), -128.0f), 127.0f));
      wrong += arithmetic::quantize(x, grid) != expected ? 1 : 0;
    }
    CHECK(wrong == 0);
  }
}

}  // namespace whittle
