// Every float table against sums in binary64: packed products within A26's bound, or Winograd's
// where that may be used, whole and in parts; and the loops against the reference.

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "kernels/f32/table.h"
#include "tests/kernels/draw.h"
#include "tests/kernels/stored_codes.h"
#include "tests/support/sanitized.h"
#include "tests/support/seed.h"

namespace whittle {

namespace {

using kernels::ConvShape;
using kernels::F32Table;
using kernels::kF32Reference;
using kernels::Window;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr int64_t kProducts = kSanitized ? 5'000'000 : 200'000'000;  // of each table

// Winograd's error is that of intermediate numbers, which are larger than the result and made of the whole patch: it is
// bounded by max |x| sum |w| of a filter, not by sum |x w| of a result. Seven times the largest that was
// measured, 2.9e-7.
constexpr double kWinogradBound = 2e-6;

std::vector<const F32Table*> vector_tables() {
  std::vector<const F32Table*> result;
  const kernels::F32Tables all = kernels::f32_tables();
  for (const F32Table* table : std::span(all.tables, static_cast<size_t>(all.count))) {
    if (table->packed != nullptr && table->runs_here()) {
      result.push_back(table);
    }
  }
  return result;
}

// Exactly so many bytes at a multiple of 64, so that the address sanitizer sees a byte more. Read as floats, they are
// NaN until they are written.
struct Block {
  explicit Block(int64_t bytes)
      : data(static_cast<uint8_t*>(::operator new (static_cast<size_t>(bytes), std::align_val_t{64}))) {
    std::fill_n(data, bytes, uint8_t{0xff});
  }
  ~Block() { ::operator delete (data, std::align_val_t{64}); }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  uint8_t* data;
};

enum class Weights { kFloat, kHalf, kHybrid };

struct Problem {
  explicit Problem(Draw& draw) {
    const auto in = [&](int64_t low, int64_t high) { return static_cast<int32_t>(draw.in(low, high)); };
    const auto channels = [&] {
      constexpr std::array<int32_t, 10> kUsual{1, 3, 5, 8, 16, 24, 32, 40, 64, 112};
      return draw.once_in(2) ? in(1, 70) : kUsual[static_cast<size_t>(in(0, 9))];
    };
    Window& w = shape.window;
    const bool line = draw.once_in(6);  // what fully connected layers are
    const bool pointwise = line || draw.once_in(5);
    const bool three = !pointwise && draw.once_in(2);
    const bool dense = line || (three && !draw.once_in(3));  // perhaps by Winograd
    const int32_t step = in(1, 2);                           // of other 3x3 filters
    w.kernel_h = pointwise ? 1 : three ? 3 : in(1, 5);
    w.kernel_w = pointwise ? 1 : three ? 3 : in(1, 5);
    w.stride_h = dense ? 1 : three ? step : in(1, 3);
    w.stride_w = dense ? 1 : three ? step : in(1, 3);
    w.dilation_h = !three && draw.once_in(4) ? in(1, 3) : 1;
    w.dilation_w = !three && draw.once_in(4) ? in(1, 3) : 1;
    const auto extent = [&](int32_t kernel, int32_t stride, int32_t dilation, int32_t& size, int32_t& before,
                            int32_t& out) {
      const int32_t reach = (kernel - 1) * dilation + 1;
      before = draw.once_in(3) || line ? 0 : in(0, reach);
      const int32_t after = draw.once_in(3) || line ? 0 : in(0, reach);
      const int32_t least = std::max(1, reach - before - after);
      size = line || draw.once_in(8) ? least : in(least, 20);
      out = (size + before + after - reach) / stride + 1;
    };
    extent(w.kernel_h, w.stride_h, w.dilation_h, w.in_h, w.top, w.out_h);
    extent(w.kernel_w, w.stride_w, w.dilation_w, w.in_w, w.left, w.out_w);
    shape.batch = draw.once_in(3) ? in(2, 4) : 1;
    shape.in_channels = line && draw.once_in(2) ? in(100, draw.once_in(6) ? 6000 : 700) : channels();
    shape.out_channels = draw.once_in(8) ? 1 : line ? in(1, 300) : channels();
    shape.groups = 1;
    if (!line && draw.once_in(3)) {
      const int32_t groups = draw.once_in(3) ? in(2, 4) : channels();
      const bool depthwise = draw.once_in(2);
      shape.groups = groups;
      shape.in_channels = groups * (depthwise ? 1 : in(1, 6));
      shape.out_channels = groups * (depthwise ? 1 : in(1, 20));
    }
    kind =
        std::array{Weights::kFloat, Weights::kFloat, Weights::kHalf, Weights::kHybrid}[static_cast<size_t>(in(0, 3))];

    const auto numbers = [&](int64_t count, double size) {
      std::vector<float> result(static_cast<size_t>(count));
      for (float& number : result) {
        number = static_cast<float>(draw.real_in(-size, size));
      }
      return result;
    };
    x = numbers(int64_t{shape.batch} * w.in_h * w.in_w * shape.in_channels, 2);
    const int64_t count = depth() * shape.out_channels;
    bias = numbers(shape.out_channels, 1);
    if (kind == Weights::kFloat) {
      weights = numbers(count, 1);
    }
    for (int32_t o = 0; o < shape.out_channels && kind == Weights::kHybrid; ++o) {
      scales.push_back(draw.scale(-9, -5));
    }
    code_bits = draw_bits(draw);
    for (int64_t i = 0; i < count && kind != Weights::kFloat; ++i) {
      if (kind == Weights::kHybrid) {
        codes.push_back(static_cast<int8_t>(in(-largest_of(code_bits), largest_of(code_bits))));
        weights.push_back(codes.back());
      } else {
        const auto bits = static_cast<uint16_t>(in(0, 0x3ff) | in(1, 15) << 10 | in(0, 1) << 15);
        half.push_back({bits});
        const double size = std::ldexp((bits & 0x3ff) + 1024, ((bits >> 10) & 31) - 25);
        weights.push_back(static_cast<float>(bits >> 15 != 0 ? -size : size));
      }
    }
    codes = stored_codes(codes, static_cast<size_t>(shape.out_channels), code_bits);
    limits = std::array{kernels::Limits{-kInf, kInf}, kernels::Limits{0, kInf},
                        kernels::Limits{0, 6}}[static_cast<size_t>(in(0, 2))];
  }

  int64_t depth() const {
    return int64_t{shape.window.kernel_h} * shape.window.kernel_w * (shape.in_channels / shape.groups);
  }
  int64_t outputs() const {
    return int64_t{shape.batch} * shape.window.out_h * shape.window.out_w * shape.out_channels;
  }
  bool may_be_winograd() const {
    const Window& w = shape.window;
    return shape.groups == 1 && w.kernel_h == 3 && w.kernel_w == 3 && w.stride_h == 1 && w.stride_w == 1 &&
           w.dilation_h == 1 && w.dilation_w == 1 && shape.in_channels >= 16 && shape.out_channels >= 16;
  }

  template <class Weight>
  kernels::ConvF32<Weight> op(typename kernels::StoredWeights<Weight>::Type data, float* y) const {
    return {shape, x.data(), data, scales.empty() ? nullptr : scales.data(), bias.data(), limits, y};
  }
  void pack(const F32Table& table, uint8_t* packed) const {
    switch (kind) {
      case Weights::kFloat:
        return table.packed->pack_conv(op<float>(weights.data(), nullptr), packed);
      case Weights::kHalf:
        return table.packed->pack_conv_half(op<kernels::Half>(half.data(), nullptr), packed);
      case Weights::kHybrid:
        return table.packed->pack_conv_hybrid(op<int8_t>({codes.data(), code_bits}, nullptr), packed);
    }
  }

  ConvShape shape{};
  Weights kind{};
  std::vector<float> x, weights, bias, scales;  // weights as the sums see them: without scale
  std::vector<kernels::Half> half;
  std::vector<int8_t> codes;  // as they are stored
  uint32_t code_bits{};
  kernels::Limits limits{};
};

// For output i of the problem: the sum in binary64, without bias, and sum |x w|.
struct Sums {
  double sum, size;
};
std::vector<Sums> sums_of(const Problem& p) {
  const ConvShape& s = p.shape;
  const Window& w = s.window;
  const int64_t in = s.in_channels / s.groups;
  std::vector<Sums> result;
  result.reserve(static_cast<size_t>(p.outputs()));
  for (int64_t i = 0; i < p.outputs(); ++i) {
    const int64_t o = i % s.out_channels, column = i / s.out_channels % w.out_w;
    const int64_t row = i / s.out_channels / w.out_w % w.out_h, n = i / s.out_channels / w.out_w / w.out_h;
    Sums sums{};
    for (int64_t u = 0; u < w.kernel_h; ++u) {
      for (int64_t v = 0; v < w.kernel_w; ++v) {
        const int64_t y = row * w.stride_h + u * w.dilation_h - w.top;
        const int64_t x = column * w.stride_w + v * w.dilation_w - w.left;
        if (y < 0 || y >= w.in_h || x < 0 || x >= w.in_w) {
          continue;
        }
        const float* pixel =
            p.x.data() + ((n * w.in_h + y) * w.in_w + x) * s.in_channels + o / (s.out_channels / s.groups) * in;
        const float* weight = p.weights.data() + ((o * w.kernel_h + u) * w.kernel_w + v) * in;
        for (int64_t k = 0; k < in; ++k) {
          const double product = static_cast<double>(pixel[k]) * static_cast<double>(weight[k]);
          sums.sum += product;
          sums.size += std::abs(product);
        }
      }
    }
    const double scale = p.scales.empty() ? 1 : static_cast<double>(p.scales[static_cast<size_t>(o)]);
    result.push_back({sums.sum * scale, sums.size * scale});
  }
  return result;
}

// sum |w| of each output channel.
std::vector<double> filter_sizes(const Problem& p) {
  std::vector<double> result;
  for (size_t o = 0; o < p.bias.size(); ++o) {
    double size = 0;
    for (int64_t k = 0; k < p.depth(); ++k) {
      size += static_cast<double>(std::abs(p.weights[o * static_cast<size_t>(p.depth()) + static_cast<size_t>(k)]));
    }
    result.push_back(p.scales.empty() ? size : size * static_cast<double>(p.scales[o]));
  }
  return result;
}

std::vector<float> run_packed(const F32Table& table, const Problem& p, const uint8_t* packed, int64_t scratch_bytes,
                              int32_t parts) {
  std::vector<float> y(static_cast<size_t>(p.outputs()) + 2, kNaN);
  y.front() = y.back() = 77;
  for (int32_t part = 0; part < parts; ++part) {
    const Block scratch(scratch_bytes);
    kernels::ConvF32<float> op = p.op<float>(nullptr, y.data() + 1);
    op.scales = op.bias = nullptr;
    table.packed->conv(op, packed, scratch.data, {part, parts});
  }
  REQUIRE(y.front() == 77);
  REQUIRE(y.back() == 77);
  return {y.begin() + 1, y.end() - 1};
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace

TEST_SUITE("f32 tables") {
  TEST_CASE("packed products: within A26's bound or Winograd's of binary64, the same bits for any parts") {
    CAPTURE(test_seed());
    for (const F32Table* table : vector_tables()) {
      CAPTURE(std::string(table->name));
      Draw draw(RngKey{.seed = test_seed()}.child("packed f32"));
      double farthest = 0;           // in units of A26's bound
      double farthest_winograd = 0;  // relative to max |x| sum |w|
      int64_t outputs = 0;
      for (int64_t products = 0; products < kProducts;) {
        const Problem p(draw);
        const kernels::PackedNeeds needs = table->packed->conv_needs(p.shape);
        REQUIRE(needs.packed_bytes > 0);
        const Block packed(needs.packed_bytes);
        p.pack(*table, packed.data);
        const std::vector<float> y = run_packed(*table, p, packed.data, needs.scratch_bytes, 1);
        const auto parts = static_cast<int32_t>(draw.in(2, 7));
        REQUIRE(same_bits(y, run_packed(*table, p, packed.data, needs.scratch_bytes, parts)));

        const std::vector<Sums> sums = sums_of(p);
        const std::vector<double> filters = filter_sizes(p);
        for (size_t i = 0; i < y.size(); ++i) {
          const size_t o = i % p.bias.size();
          const double biased = sums[i].sum + static_cast<double>(p.bias[o]);
          const double expected =
              std::clamp(biased, static_cast<double>(p.limits.lo), static_cast<double>(p.limits.hi));
          // The sum with its bias is rounded once more.
          const double error = std::abs(static_cast<double>(y[i]) - expected) - 0x1p-24 * std::abs(biased);
          REQUIRE_FALSE(std::isnan(error));
          if (p.may_be_winograd()) {
            farthest_winograd = std::max(farthest_winograd, error / (2 * filters[o]));
          } else {
            const double bound = 4 * static_cast<double>(p.depth()) * 0x1p-24 * sums[i].size;
            farthest = std::max(farthest, error <= 0 ? 0 : error / bound);
          }
        }
        outputs += p.outputs();
        products += p.outputs() * p.depth();
      }
      MESSAGE(std::string(table->name) << ": " << outputs << " outputs, at most " << farthest
                                       << " of A26's bound; Winograd " << farthest_winograd);
      CHECK(farthest <= 1);
      CHECK(farthest_winograd <= kWinogradBound);
    }
  }

  TEST_CASE("a NaN stays where it comes in, and limits leave it alone") {
    for (const F32Table* table : vector_tables()) {
      CAPTURE(std::string(table->name));
      for (const int32_t channels : {5, 32}) {
        const std::vector<float> x(static_cast<size_t>(channels), kNaN);
        const std::vector<float> w(static_cast<size_t>(channels) * 3, 1.0f), bias(3, 0.0f);
        std::vector<float> y(3);
        const kernels::ConvF32<float> op{
            kernels::fully_connected_shape(1, channels, 3), x.data(), w.data(), nullptr, bias.data(), {0, 6}, y.data()};
        const Block packed(table->packed->conv_needs(op.shape).packed_bytes);
        table->packed->pack_conv(op, packed.data);
        table->packed->conv(op, packed.data, nullptr, {});
        CHECK(std::all_of(y.begin(), y.end(), [](float v) { return std::isnan(v); }));
      }
    }
  }

  TEST_CASE("padding without end is left to the plain functions") {
    ConvShape shape = kernels::fully_connected_shape(1, 64, 64);
    shape.window.top = shape.window.left = 1 << 20;
    shape.window.stride_h = shape.window.stride_w = 1 << 20;
    shape.window.out_h = shape.window.out_w = 2;
    for (const F32Table* table : vector_tables()) {
      CHECK(table->packed->conv_needs(shape).packed_bytes == 0);
    }
  }

  TEST_CASE("add, max-pool and ReLUs have the reference's bits, average pools its numbers within rounding") {
    CAPTURE(test_seed());
    for (const F32Table* table : vector_tables()) {
      CAPTURE(std::string(table->name));
      Draw draw(RngKey{.seed = test_seed()}.child("loops"));
      double farthest = 0;  // of a mean, in units of its bound
      for (int round = 0; round < (kSanitized ? 100 : 2000); ++round) {
        const oracle::Geometry g = draw.geometry(draw.in(1, 70), false, true);
        const auto i32 = [](int64_t v) { return static_cast<int32_t>(v); };
        const auto count = static_cast<size_t>(g.n * g.h * g.w * g.c);
        const auto numbers = [&] {
          std::vector<float> result(count);
          for (float& v : result) {
            v = draw.once_in(200) ? kNaN : static_cast<float>(draw.real_in(-8, 8));
          }
          return result;
        };
        const std::vector<float> a = numbers(), b = numbers();
        const kernels::Limits limits = draw.once_in(2) ? kernels::Limits{-kInf, kInf} : kernels::Limits{0, 6};
        // NaNs are equal whatever their bits.
        const auto differs = [](const std::vector<float>& x, const std::vector<float>& y) {
          for (size_t i = 0; i < x.size(); ++i) {
            if (std::isnan(x[i]) ? !std::isnan(y[i]) : x[i] != y[i]) {
              return true;
            }
          }
          return x.size() != y.size();
        };

        std::vector<float> expected(count), got = a;
        kF32Reference.add({i32(g.n * g.h * g.w * g.c), a.data(), b.data(), limits, expected.data()});
        table->add({i32(g.n * g.h * g.w * g.c), got.data(), b.data(), limits, got.data()});  // in place
        REQUIRE_FALSE(differs(expected, got));

        for (uint32_t f = 0; f < kernels::kFunctions; ++f) {
          const auto function = static_cast<kernels::Function>(f);
          kF32Reference.activation({i32(g.n * g.h * g.w * g.c), a.data(), function, 0.125f, expected.data()});
          got = a;
          table->activation({i32(g.n * g.h * g.w * g.c), got.data(), function, 0.125f, got.data()});
          REQUIRE_FALSE(differs(expected, got));
        }

        const kernels::PoolShape shape{.batch = i32(g.n),
                                       .channels = i32(g.c),
                                       .window = {.in_h = i32(g.h),
                                                  .in_w = i32(g.w),
                                                  .out_h = i32(g.oh()),
                                                  .out_w = i32(g.ow()),
                                                  .kernel_h = i32(g.kh),
                                                  .kernel_w = i32(g.kw),
                                                  .stride_h = i32(g.sh),
                                                  .stride_w = i32(g.sw),
                                                  .dilation_h = 1,
                                                  .dilation_w = 1,
                                                  .top = i32(g.top),
                                                  .left = i32(g.left)}};
        const auto pooled = static_cast<size_t>(g.n * g.oh() * g.ow() * g.c);
        expected.assign(pooled, 0);
        got.assign(pooled + 1, 77);
        kF32Reference.max_pool({shape, a.data(), limits, expected.data()});
        table->max_pool({shape, a.data(), limits, got.data()});
        REQUIRE(got.back() == 77);
        got.pop_back();
        REQUIRE_FALSE(differs(expected, got));

        std::vector<float> sizes(count), size(pooled);
        std::transform(a.begin(), a.end(), sizes.begin(), [](float v) { return std::abs(v); });
        kF32Reference.average_pool({shape, sizes.data(), {-kInf, kInf}, size.data()});
        kF32Reference.average_pool({shape, a.data(), limits, expected.data()});
        table->average_pool({shape, a.data(), limits, got.data()});
        for (size_t i = 0; i < pooled; ++i) {
          REQUIRE(std::isnan(expected[i]) == std::isnan(got[i]));
          const double bound = 4 * static_cast<double>(g.kh * g.kw) * 0x1p-24 * static_cast<double>(size[i]);
          const double error = std::abs(static_cast<double>(expected[i]) - static_cast<double>(got[i]));
          farthest = std::max(farthest, error > 0 ? error / bound : 0);
        }
      }
      CHECK(farthest <= 1);
    }
  }
}

}  // namespace whittle
