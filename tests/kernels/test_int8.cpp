// Every table of integer kernels against the oracle, 0 differences allowed.
//
// A part of the numbers, and all where WHITTLE_TEST_FULL is set.

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

#include "kernels/int8/rounding.h"
#include "kernels/int8/table.h"
#include "tests/kernels/draw.h"
#include "tests/kernels/kernels_of.h"
#include "tests/kernels/oracle.h"
#include "tests/kernels/stored_codes.h"
#include "tests/support/full.h"
#include "tests/support/sanitized.h"
#include "tests/support/seed.h"

namespace whittle {

namespace {

using kernels::CodeRange;
using kernels::Int8Table;
using oracle::Codes;

// Per op, kind of code and table.
int64_t wanted_outputs() { return kSanitized ? 20'000 : full_test() ? 1'000'000 : 250'000; }

// Those that run here.
std::vector<const Int8Table*> tables() {
  const kernels::Int8Tables all = kernels::int8_tables();
  std::vector<const Int8Table*> result;
  std::copy_if(all.tables, all.tables + all.count, std::back_inserter(result),
               [](const Int8Table* table) { return table->runs_here(); });
  return result;
}

template <class Code>
constexpr int64_t kLowest = std::numeric_limits<Code>::min();
template <class Code>
constexpr int64_t kHighest = std::numeric_limits<Code>::max();

CodeRange code_range(const oracle::Range& r) {
  return {static_cast<int32_t>(r.zero_point), static_cast<int32_t>(r.lo), static_cast<int32_t>(r.hi)};
}

kernels::Window window(const oracle::Geometry& g) {
  const auto i = [](int64_t x) { return static_cast<int32_t>(x); };
  return {.in_h = i(g.h),
          .in_w = i(g.w),
          .out_h = i(g.oh()),
          .out_w = i(g.ow()),
          .kernel_h = i(g.kh),
          .kernel_w = i(g.kw),
          .stride_h = i(g.sh),
          .stride_w = i(g.sw),
          .dilation_h = i(g.dh),
          .dilation_w = i(g.dw),
          .top = i(g.top),
          .left = i(g.left)};
}

std::vector<uint32_t> bits_of(const std::vector<float>& numbers) {
  std::vector<uint32_t> bits;
  for (const float x : numbers) {
    bits.push_back(oracle::bits(x));
  }
  return bits;
}

// Multipliers that bring sums of `products` products to the size of codes, or far off.
std::vector<float> draw_multipliers(Draw& draw, int64_t count, int64_t products) {
  std::vector<float> result;
  const int centre = -7 - static_cast<int>(std::log2(static_cast<double>(products)) / 2);
  for (int64_t i = 0; i < count; ++i) {
    result.push_back(draw.once_in(5)   ? draw.scale(-40, 4)
                     : draw.once_in(5) ? std::exp2(static_cast<float>(draw.in(centre - 6, centre)))  // ties
                                       : draw.scale(centre - 8, centre + 1));
  }
  return result;
}

// Calls problem(draw, table) until it has made enough numbers; it returns how many of
// them there are and writes them and the expected ones.
template <class Code, class Problem>
void compare(const char* name, Problem problem) {
  for (const Int8Table* table : tables()) {
    Draw draw(RngKey{.seed = test_seed()}.child(name));
    int64_t outputs = 0;
    int64_t differing = 0;
    while (outputs < wanted_outputs()) {
      Codes expected;
      std::vector<Code> got;
      problem(draw, *table, expected, got);
      REQUIRE(expected.size() + 1 == got.size());  // one past the end, which nobody may touch
      REQUIRE(got.back() == 77);
      for (size_t i = 0; i < expected.size(); ++i) {
        differing += expected[i] != got[i] ? 1 : 0;
      }
      outputs += static_cast<int64_t>(expected.size());
    }
    CAPTURE(test_seed());
    CAPTURE(std::string(name));
    CAPTURE(std::string(table->name));
    CHECK(differing == 0);
  }
}

template <class Code>
std::vector<Code> room(size_t count) {
  std::vector<Code> result(count + 1, 0);
  result.back() = 77;
  return result;
}

template <class Code>
void compare_conv(const char* name, bool depthwise) {
  compare<Code>(name, [depthwise](Draw& draw, const Int8Table& table, Codes& expected, std::vector<Code>& got) {
    const int64_t groups = depthwise ? draw.in(1, 9) : draw.once_in(3) ? draw.in(2, 3) : 1;
    const int64_t in = depthwise ? groups : groups * draw.in(1, 7);
    const int64_t out = groups * draw.in(1, depthwise ? 2 : 6);
    const oracle::Geometry g = draw.geometry(in, true, false);
    const int64_t products = g.kh * g.kw * in / groups;
    const Codes x = draw.codes(g.n * g.h * g.w * in, kLowest<Code>, kHighest<Code>);
    const uint32_t bits = draw_bits(draw);
    const Codes weights = draw.codes(out * products, -largest_of(bits), largest_of(bits));
    const Codes bias = draw.codes(out, -(int64_t{1} << 30), int64_t{1} << 30);
    const bool small_bias = !draw.once_in(6);
    Codes used_bias = bias;
    for (int64_t& b : used_bias) {
      b = small_bias ? b % 20000 : b;
    }
    const auto multipliers = draw_multipliers(draw, out, products);
    const oracle::Range range = draw.range(kLowest<Code>, kHighest<Code>);
    const int64_t zero_point = draw.in(kLowest<Code>, kHighest<Code>);
    expected = oracle::convolution(g, out, groups, x, zero_point, weights, used_bias, multipliers, range);

    const auto kx = converted<Code>(x);
    const auto kw = stored_codes(weights, static_cast<size_t>(out), bits);
    const auto kb = converted<int32_t>(used_bias);
    const auto km = bits_of(multipliers);
    got = room<Code>(expected.size());
    const kernels::Conv<Code> op{.shape = {.batch = static_cast<int32_t>(g.n),
                                           .in_channels = static_cast<int32_t>(in),
                                           .out_channels = static_cast<int32_t>(out),
                                           .groups = static_cast<int32_t>(groups),
                                           .window = window(g)},
                                 .x = kx.data(),
                                 .x_zero_point = static_cast<int32_t>(zero_point),
                                 .weights = {kw.data(), bits},
                                 .bias = kb.data(),
                                 .multipliers = km.data(),
                                 .range = code_range(range),
                                 .y = got.data()};
    (depthwise ? kernels_of<Code>(table).depthwise : kernels_of<Code>(table).conv)(op);
  });
}

template <class Code>
void compare_fully_connected(const char* name) {
  compare<Code>(name, [](Draw& draw, const Int8Table& table, Codes& expected, std::vector<Code>& got) {
    const int64_t batch = draw.in(1, 4);
    const int64_t in = draw.once_in(4) ? draw.in(1, 600) : draw.in(1, 70);
    const int64_t out = draw.in(1, 60);
    const Codes x = draw.codes(batch * in, kLowest<Code>, kHighest<Code>);
    const uint32_t bits = draw_bits(draw);
    const Codes weights = draw.codes(out * in, -largest_of(bits), largest_of(bits));
    const Codes bias = draw.codes(out, -30000, 30000);
    const auto multipliers = draw_multipliers(draw, out, in);
    const oracle::Range range = draw.range(kLowest<Code>, kHighest<Code>);
    const int64_t zero_point = draw.in(kLowest<Code>, kHighest<Code>);
    const oracle::Geometry pixel{batch, 1, 1, in, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0};
    expected = oracle::convolution(pixel, out, 1, x, zero_point, weights, bias, multipliers, range);

    const auto kx = converted<Code>(x);
    const auto kw = stored_codes(weights, static_cast<size_t>(out), bits);
    const auto kb = converted<int32_t>(bias);
    const auto km = bits_of(multipliers);
    got = room<Code>(expected.size());
    kernels_of<Code>(table).fully_connected({.batch = static_cast<int32_t>(batch),
                                             .in = static_cast<int32_t>(in),
                                             .out = static_cast<int32_t>(out),
                                             .x = kx.data(),
                                             .x_zero_point = static_cast<int32_t>(zero_point),
                                             .weights = {kw.data(), bits},
                                             .bias = kb.data(),
                                             .multipliers = km.data(),
                                             .range = code_range(range),
                                             .y = got.data()});
  });
}

template <class Code>
void compare_add(const char* name) {
  compare<Code>(name, [](Draw& draw, const Int8Table& table, Codes& expected, std::vector<Code>& got) {
    const int64_t count = draw.in(1, 2000);
    const Codes a = draw.codes(count, kLowest<Code>, kHighest<Code>);
    const Codes b = draw.codes(count, kLowest<Code>, kHighest<Code>);
    const oracle::Range range = draw.range(kLowest<Code>, kHighest<Code>);
    const auto ratio = [&] {
      return draw.once_in(4)   ? std::exp2(static_cast<float>(draw.in(-6, 2)))  // ties
             : draw.once_in(4) ? draw.scale(-40, 40)
                               : draw.scale(-5, 2);
    };
    const float ratio_a = ratio();
    const float ratio_b = ratio();
    const auto za = static_cast<float>(draw.in(kLowest<Code>, kHighest<Code>));
    const auto zb = static_cast<float>(draw.in(kLowest<Code>, kHighest<Code>));
    const volatile float first = ratio_a * za;
    const volatile float second = ratio_b * zb;
    const volatile float both = first + second;
    const float c = static_cast<float>(range.zero_point) - both;
    for (size_t i = 0; i < a.size(); ++i) {
      expected.push_back(oracle::add(a[i], b[i], c, ratio_a, ratio_b, range));
    }

    const auto ka = converted<Code>(a);
    const auto kb = converted<Code>(b);
    got = room<Code>(expected.size());
    const bool in_place = draw.once_in(2);
    std::copy(ka.begin(), ka.end(), got.begin());
    kernels_of<Code>(table).add(
        {.count = static_cast<int32_t>(count),
         .a = in_place ? got.data() : ka.data(),
         .b = kb.data(),
         .constants = {.offset = oracle::bits(c), .ratio_a = oracle::bits(ratio_a), .ratio_b = oracle::bits(ratio_b)},
         .range = code_range(range),
         .y = got.data()});
  });
}

kernels::PoolShape pool_shape(const oracle::Geometry& g) {
  return {.batch = static_cast<int32_t>(g.n), .channels = static_cast<int32_t>(g.c), .window = window(g)};
}

template <class Code>
void compare_max_pool(const char* name) {
  compare<Code>(name, [](Draw& draw, const Int8Table& table, Codes& expected, std::vector<Code>& got) {
    const oracle::Geometry g = draw.geometry(draw.in(1, 20), false, true);
    const Codes x = draw.codes(g.n * g.h * g.w * g.c, kLowest<Code>, kHighest<Code>);
    const oracle::Range range = draw.range(kLowest<Code>, kHighest<Code>);
    expected = oracle::max_pool(g, x, range);
    const auto kx = converted<Code>(x);
    got = room<Code>(expected.size());
    kernels_of<Code>(table).max_pool(
        {.shape = pool_shape(g), .x = kx.data(), .range = code_range(range), .y = got.data()});
  });
}

template <class Code>
void compare_average_pool(const char* name) {
  compare<Code>(name, [](Draw& draw, const Int8Table& table, Codes& expected, std::vector<Code>& got) {
    oracle::Geometry g = draw.geometry(draw.in(1, 20), false, true);
    if (draw.once_in(4)) {  // global
      g.kh = g.h;
      g.kw = g.w;
      g.top = g.left = g.bottom = g.right = 0;
    }
    const bool padded = g.top + g.left + g.bottom + g.right > 0;
    const Codes x = draw.codes(g.n * g.h * g.w * g.c, kLowest<Code>, kHighest<Code>);
    const oracle::Range range = draw.range(kLowest<Code>, kHighest<Code>);
    const int64_t zero_point = draw.in(kLowest<Code>, kHighest<Code>);
    const float sx = draw.once_in(3) ? 1.0f : draw.scale(-8, 0);
    const float sy = draw.once_in(3) ? 0.5f : draw.scale(-8, 0);
    expected = oracle::average_pool(g, x, zero_point, sx, sy, range);
    std::vector<uint32_t> multipliers;
    for (int64_t n = padded ? 1 : g.kh * g.kw; n <= g.kh * g.kw; ++n) {
      multipliers.push_back(oracle::bits(oracle::average_multiplier(sx, sy, n)));
    }
    const auto kx = converted<Code>(x);
    got = room<Code>(expected.size());
    kernels_of<Code>(table).average_pool({.shape = pool_shape(g),
                                          .x = kx.data(),
                                          .x_zero_point = static_cast<int32_t>(zero_point),
                                          .multipliers = multipliers.data(),
                                          .padded = padded,
                                          .range = code_range(range),
                                          .y = got.data()});
  });
}

template <class Code>
void compare_rescale(const char* name) {
  compare<Code>(name, [](Draw& draw, const Int8Table& table, Codes& expected, std::vector<Code>& got) {
    const Codes x = draw.codes(draw.in(1, 2000), kLowest<Code>, kHighest<Code>);
    const oracle::Range range = draw.range(kLowest<Code>, kHighest<Code>);
    const int64_t zero_point = draw.in(kLowest<Code>, kHighest<Code>);
    const float m = draw.once_in(2) ? std::exp2(static_cast<float>(draw.in(-8, 3))) : draw.scale(-10, 6);
    for (const int64_t code : x) {
      expected.push_back(oracle::requantize(code - zero_point, m, range));
    }
    got = room<Code>(x.size());
    std::copy(x.begin(), x.end(), got.begin());  // in place
    kernels_of<Code>(table).rescale({.count = static_cast<int32_t>(x.size()),
                                     .x = got.data(),
                                     .x_zero_point = static_cast<int32_t>(zero_point),
                                     .multiplier = oracle::bits(m),
                                     .range = code_range(range),
                                     .y = got.data()});
  });
}

}  // namespace

TEST_SUITE("int8") {
  TEST_CASE("tables have names and every function") {
    REQUIRE(tables().size() >= 1);
    for (const Int8Table* table : tables()) {
      MESSAGE("integer table " << std::string(table->name));
      for (const auto* f : {reinterpret_cast<const void*>(table->lookup), reinterpret_cast<const void*>(table->softmax),
                            reinterpret_cast<const void*>(table->s16.rescale)}) {
        CHECK(f != nullptr);
      }
    }
  }

  TEST_CASE("convolution (A12)") { compare_conv<int8_t>("conv8", false); }
  TEST_CASE("convolution, 16-bit activations (A12)") { compare_conv<int16_t>("conv16", false); }
  TEST_CASE("depthwise (A13)") { compare_conv<int8_t>("depthwise8", true); }
  TEST_CASE("depthwise, 16-bit activations (A13)") { compare_conv<int16_t>("depthwise16", true); }
  TEST_CASE("fully connected (A14)") { compare_fully_connected<int8_t>("fc8"); }
  TEST_CASE("fully connected, 16-bit activations (A14)") { compare_fully_connected<int16_t>("fc16"); }
  TEST_CASE("addition (A16)") { compare_add<int8_t>("add8"); }
  TEST_CASE("addition of 16-bit codes (A16)") { compare_add<int16_t>("add16"); }
  TEST_CASE("max pool (A17)") { compare_max_pool<int8_t>("max8"); }
  TEST_CASE("max pool of 16-bit codes (A17)") { compare_max_pool<int16_t>("max16"); }
  TEST_CASE("average pool (A18)") { compare_average_pool<int8_t>("average8"); }
  TEST_CASE("average pool of 16-bit codes (A18)") { compare_average_pool<int16_t>("average16"); }
  TEST_CASE("rescale (A20)") { compare_rescale<int8_t>("rescale8"); }
  TEST_CASE("rescale of 16-bit codes (A20)") { compare_rescale<int16_t>("rescale16"); }

  TEST_CASE("addition: all 65,536 pairs, with ties, in both roundings") {
    for (const auto& numbers : {std::array{0.5f, 0.5f, 0.0f}, std::array{0.5f, 0.25f, -3.0f},
                                std::array{0.1f, 0.7f, 0.05f}, std::array{1.0f, 0x1p-40f, 0.5f},
                                std::array{0x1p40f, 0x1p-40f, -0x1p40f}, std::array{0.75f, 0.375f, 0.125f}}) {
      const float ratio_a = numbers[0], ratio_b = numbers[1], c = numbers[2];
      const kernels::AddConstants constants{oracle::bits(c), oracle::bits(ratio_a), oracle::bits(ratio_b)};
      int differing = 0;
      for (int32_t a = -128; a < 128; ++a) {
        for (int32_t b = -128; b < 128; ++b) {
          const int64_t expected = oracle::add(a, b, c, ratio_a, ratio_b, {0, -128, 127});
          differing += kernels::Binary32::add(a, b, constants, {0, -128, 127}) != expected ? 1 : 0;
          differing += kernels::Integers::add(a, b, constants, {0, -128, 127}) != expected ? 1 : 0;
        }
      }
      CAPTURE(ratio_a);
      CHECK(differing == 0);
    }
  }

  TEST_CASE("table (A21)") {
    compare<int8_t>("lookup", [](Draw& draw, const Int8Table& table, Codes& expected, std::vector<int8_t>& got) {
      const Codes x = draw.codes(draw.in(1, 3000), -128, 127);
      const Codes entries = draw.codes(256, -128, 127);
      for (const int64_t code : x) {
        expected.push_back(entries[static_cast<size_t>(code + 128)]);
      }
      const auto kx = converted<int8_t>(x);
      const auto kt = converted<int8_t>(entries);
      got = room<int8_t>(x.size());
      table.lookup({.count = static_cast<int32_t>(x.size()), .x = kx.data(), .table = kt.data(), .y = got.data()});
    });
  }

  TEST_CASE("softmax (A22)") {
    compare<int8_t>("softmax", [](Draw& draw, const Int8Table& table, Codes& expected, std::vector<int8_t>& got) {
      const int64_t rows = draw.in(1, 5);
      const int64_t count = draw.once_in(3) ? draw.in(1, 1000) : draw.in(1, 20);
      const Codes x = draw.codes(rows * count, -128, 127);
      const float sx = draw.once_in(10) ? 1e-6f : draw.scale(-9, 0);
      std::vector<uint32_t> exponentials;
      for (int64_t d = 0; d < 256; ++d) {
        exponentials.push_back(oracle::exponential(sx, d));
      }
      const int64_t k = draw.once_in(2) ? 8 : draw.in(0, 16);
      const oracle::Range range = draw.once_in(2) ? oracle::Range{-128, -128, 127} : draw.range(-128, 127);
      for (int64_t row = 0; row < rows; ++row) {
        const Codes y =
            oracle::softmax({x.begin() + row * count, x.begin() + (row + 1) * count}, exponentials, k, range);
        expected.insert(expected.end(), y.begin(), y.end());
        if (row == 0 && k == 8 && range.lo == -128 && range.hi == 127 && range.zero_point == -128) {
          double total = 0;  // the documented error
          for (int64_t i = 0; i < count; ++i) {
            total += std::exp(static_cast<double>(sx) * static_cast<double>(x[static_cast<size_t>(i)] - x[0]));
          }
          const double p = 1 / total;
          CHECK(std::abs(std::min(p, 255.0 / 256) - static_cast<double>(y[0] + 128) / 256) <=
                0.5 / 256 + static_cast<double>(count + 1) * 0x1p-25);
        }
      }
      const auto kx = converted<int8_t>(x);
      got = room<int8_t>(x.size());
      table.softmax({.rows = static_cast<int32_t>(rows),
                     .count = static_cast<int32_t>(count),
                     .x = kx.data(),
                     .exponentials = exponentials.data(),
                     .log2_steps = static_cast<int32_t>(k),
                     .range = code_range(range),
                     .y = got.data()});
    });
  }
}

}  // namespace whittle
