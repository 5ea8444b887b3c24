// The float kernels against sums in binary64, and their roundings where A23 to A26 fix them.

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <limits>

#include "kernels/f32/table.h"
#include "tests/kernels/draw.h"
#include "tests/kernels/oracle.h"
#include "tests/kernels/stored_codes.h"
#include "tests/support/sanitized.h"
#include "tests/support/seed.h"

namespace whittle {

namespace {

using kernels::kF32Reference;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr int kProblems = kSanitized ? 60 : 3000;

struct Problem {
  oracle::Geometry g;
  int64_t out, groups;
  std::vector<float> x, weights, bias, scales;
  kernels::Limits limits;

  kernels::ConvShape shape() const {
    const auto i = [](int64_t v) { return static_cast<int32_t>(v); };
    return {.batch = i(g.n),
            .in_channels = i(g.c),
            .out_channels = i(out),
            .groups = i(groups),
            .window = {.in_h = i(g.h),
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
                       .left = i(g.left)}};
  }
};

std::vector<float> numbers(Draw& draw, int64_t count, double size) {
  std::vector<float> result(static_cast<size_t>(count));
  for (float& x : result) {
    x = static_cast<float>(draw.real_in(-size, size));
  }
  return result;
}

Problem draw_problem(Draw& draw, bool fully_connected) {
  Problem p;
  p.groups = fully_connected || draw.once_in(2) ? 1 : draw.in(1, 4);
  const int64_t in = p.groups * draw.in(1, fully_connected ? 60 : 5);
  p.out = p.groups * draw.in(1, 5);
  p.g = draw.geometry(in, true, false);
  if (fully_connected) {
    p.g = {draw.in(1, 3), 1, 1, in, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0};
  }
  p.x = numbers(draw, p.g.n * p.g.h * p.g.w * in, 2);
  p.weights = numbers(draw, p.out * p.g.kh * p.g.kw * in / p.groups, 1);
  p.bias = numbers(draw, p.out, 1);
  for (int64_t o = 0; o < p.out; ++o) {
    p.scales.push_back(draw.scale(-9, -5));
  }
  p.limits = std::array{kernels::Limits{-kInf, kInf}, kernels::Limits{0, kInf},
                        kernels::Limits{0, 6}}[static_cast<size_t>(draw.in(0, 2))];
  return p;
}

// Products in the order u, v, i, summed by `step` from 0.
template <class Step>
std::vector<double> sums(const Problem& p, const std::vector<double>& x, const std::vector<double>& w, Step step) {
  std::vector<double> result;
  const int64_t per_group = p.g.c / p.groups;
  for (int64_t n = 0; n < p.g.n; ++n) {
    for (int64_t a = 0; a < p.g.oh(); ++a) {
      for (int64_t b = 0; b < p.g.ow(); ++b) {
        for (int64_t o = 0; o < p.out; ++o) {
          double sum = 0;
          for (int64_t k = 0; k < p.g.kh * p.g.kw * per_group; ++k) {
            const int64_t u = k / (p.g.kw * per_group), v = k / per_group % p.g.kw, i = k % per_group;
            const int64_t row = a * p.g.sh + u * p.g.dh - p.g.top, column = b * p.g.sw + v * p.g.dw - p.g.left;
            if (p.g.in_image(row, column)) {
              sum = step(sum, x[static_cast<size_t>(p.g.at(n, row, column, o / (p.out / p.groups) * per_group + i))],
                         w[static_cast<size_t>(o * p.g.kh * p.g.kw * per_group + k)]);
            }
          }
          result.push_back(sum);
        }
      }
    }
  }
  return result;
}

// Each step rounded to binary32. (Products of binary32 are exact in binary64, and so is
// the rounding of a sum of two of them: binary64 has more than 2 * 24 + 2 bits.)
double rounded_step(double sum, double x, double w) {
  return static_cast<double>(static_cast<float>(sum + static_cast<double>(static_cast<float>(x * w))));
}

float limited(float x, const kernels::Limits& limits) { return std::min(std::max(x, limits.lo), limits.hi); }

}  // namespace

TEST_SUITE("f32") {
  TEST_CASE("convolution and fully connected: float, binary16 and 8-bit weights (A25, A26), to the bit") {
    CAPTURE(test_seed());
    Draw draw(RngKey{.seed = test_seed()}.child("f32"));
    int64_t outputs = 0;
    int64_t differing = 0;
    double farthest = 0;  // from the sum in binary64, in units of A26's bound
    for (int round = 0; round < kProblems; ++round) {
      const bool fully_connected = round % 3 == 0;
      const Problem p = draw_problem(draw, fully_connected);
      const kernels::ConvShape s = p.shape();
      const auto x = converted<double>(p.x);

      std::vector<kernels::Half> half;
      std::vector<double> half_values;
      std::vector<int8_t> codes;
      const uint32_t bits_of_codes = draw_bits(draw);
      for (size_t i = 0; i < p.weights.size(); ++i) {
        const auto bits = static_cast<uint16_t>(draw.once_in(20) ? draw.in(0, 0x3ff) : draw.in(0x2000, 0x3c00));
        half.push_back({bits});
        const int exponent = bits >> 10;
        const double mantissa = bits & 0x3ff;
        half_values.push_back(exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(mantissa + 1024, exponent - 25));
        codes.push_back(static_cast<int8_t>(draw.in(-largest_of(bits_of_codes), largest_of(bits_of_codes))));
      }
      const auto stored = stored_codes(codes, static_cast<size_t>(p.out), bits_of_codes);
      const kernels::WeightCodes rows(stored.data(), bits_of_codes);
      for (int kind = 0; kind < 3; ++kind) {
        const auto w = kind == 0 ? converted<double>(p.weights) : kind == 1 ? half_values : converted<double>(codes);
        const auto expected = sums(p, x, w, rounded_step);
        std::vector<float> y(expected.size());
        const float* scales = p.scales.data();
        if (fully_connected) {
          const auto [batch, in, out] = std::array{s.batch, s.in_channels, s.out_channels};
          if (kind == 0) {
            kF32Reference.fully_connected(
                {batch, in, out, p.x.data(), p.weights.data(), nullptr, p.bias.data(), p.limits, y.data()});
          } else if (kind == 1) {
            kF32Reference.fully_connected_half(
                {batch, in, out, p.x.data(), half.data(), nullptr, p.bias.data(), p.limits, y.data()});
          } else {
            kF32Reference.fully_connected_hybrid(
                {batch, in, out, p.x.data(), rows, scales, p.bias.data(), p.limits, y.data()});
          }
        } else if (kind == 0) {
          kF32Reference.conv({s, p.x.data(), p.weights.data(), nullptr, p.bias.data(), p.limits, y.data()});
        } else if (kind == 1) {
          kF32Reference.conv_half({s, p.x.data(), half.data(), nullptr, p.bias.data(), p.limits, y.data()});
        } else {
          kF32Reference.conv_hybrid({s, p.x.data(), rows, scales, p.bias.data(), p.limits, y.data()});
        }
        const auto exact = sums(p, x, w, [](double sum, double a, double b) { return sum + a * b; });
        const auto sizes = sums(p, x, w, [](double sum, double a, double b) { return sum + std::abs(a * b); });
        const double products = static_cast<double>(p.g.kh * p.g.kw * p.g.c / p.groups);
        for (size_t i = 0; i < y.size(); ++i) {
          const size_t o = i % static_cast<size_t>(p.out);
          volatile float sum = static_cast<float>(expected[i]);
          if (kind == 2) {
            sum = p.scales[o] * sum;
          }
          const volatile float biased = sum + p.bias[o];
          differing += limited(biased, p.limits) != y[i] ? 1 : 0;
          if (sizes[i] > 0) {
            farthest = std::max(farthest, std::abs(expected[i] - exact[i]) / (4 * products * 0x1p-24 * sizes[i]));
          }
        }
        outputs += static_cast<int64_t>(y.size());
      }
    }
    MESSAGE(outputs << " outputs");
    CHECK(differing == 0);
    CHECK(farthest <= 1);
  }

  TEST_CASE("dynamic: the grid of each sample, the products, the float at the end (A24)") {
    CAPTURE(test_seed());
    Draw draw(RngKey{.seed = test_seed()}.child("dynamic"));
    int64_t differing = 0;
    for (int round = 0; round < kProblems; ++round) {
      const bool fully_connected = round % 3 == 0;
      Problem p = draw_problem(draw, fully_connected);
      const uint32_t bits = draw_bits(draw);
      const auto codes = draw.codes(static_cast<int64_t>(p.weights.size()), -largest_of(bits), largest_of(bits));
      const size_t sample = p.x.size() / static_cast<size_t>(p.g.n);
      if (draw.once_in(8)) {
        std::fill_n(p.x.begin(), sample, draw.once_in(2) ? 0.0f : -0.0f);
      } else if (draw.once_in(8)) {
        p.x[0] = draw.once_in(2) ? NAN : draw.once_in(2) ? kInf : -kInf;
      } else if (draw.once_in(4)) {
        for (float& v : p.x) {
          v = std::abs(v);
        }
      }
      oracle::Codes q;
      std::vector<float> grid_scale;
      std::vector<int64_t> zero_points;
      for (int64_t n = 0; n < p.g.n; ++n) {
        float lo = 0, hi = 0;
        for (size_t i = 0; i < sample; ++i) {
          const float v = p.x[static_cast<size_t>(n) * sample + i];
          if (!std::isnan(v)) {
            lo = std::min(lo, std::max(v, -0x1p126f));
            hi = std::max(hi, std::min(v, 0x1p126f));
          }
        }
        const volatile float span = hi - lo;
        float s = span / 255;
        int64_t z = -128;
        if (std::isnormal(s)) {
          const volatile float steps = lo / s;
          z = static_cast<int64_t>(std::nearbyint(std::min(std::max(-128.0f - steps, -128.0f), 127.0f)));
        } else {
          s = 1;
        }
        for (size_t i = 0; i < sample; ++i) {
          const float v = p.x[static_cast<size_t>(n) * sample + i];
          const double r = std::isnan(v) ? -1000.0 : std::nearbyint(std::min(std::max(v / s, -300.0f), 300.0f));
          q.push_back(std::clamp(static_cast<int64_t>(r) + z, int64_t{-128}, int64_t{127}));
        }
        grid_scale.push_back(s);
        zero_points.push_back(z);
      }
      const auto kw = stored_codes(codes, static_cast<size_t>(p.out), bits);
      const kernels::WeightCodes rows(kw.data(), bits);
      std::vector<float> y(static_cast<size_t>(p.g.n * p.g.oh() * p.g.ow() * p.out));
      std::vector<int8_t> scratch(sample);
      const kernels::ConvShape s = p.shape();
      if (fully_connected) {
        kF32Reference.fully_connected_dynamic({{s.batch, s.in_channels, s.out_channels, p.x.data(), rows,
                                                p.scales.data(), p.bias.data(), p.limits, y.data()},
                                               scratch.data()});
      } else {
        kF32Reference.conv_dynamic(
            {{s, p.x.data(), rows, p.scales.data(), p.bias.data(), p.limits, y.data()}, scratch.data()});
      }
      oracle::Geometry one = p.g;
      one.n = 1;
      const oracle::Codes no_bias(static_cast<size_t>(p.out), 0);
      const size_t per_sample = y.size() / static_cast<size_t>(p.g.n);
      for (size_t n = 0; n < static_cast<size_t>(p.g.n); ++n) {
        const oracle::Codes part(q.begin() + static_cast<std::ptrdiff_t>(n * sample),
                                 q.begin() + static_cast<std::ptrdiff_t>((n + 1) * sample));
        const auto acc = oracle::accumulators(one, p.out, p.groups, part, zero_points[n], codes, no_bias);
        for (size_t i = 0; i < per_sample; ++i) {
          const size_t o = i % static_cast<size_t>(p.out);
          const volatile float scale = grid_scale[n] * p.scales[o];
          const volatile float scaled = static_cast<float>(acc[i]) * scale;
          const volatile float biased = scaled + p.bias[o];
          differing += limited(biased, p.limits) != y[n * per_sample + i] ? 1 : 0;
        }
      }
    }
    CHECK(differing == 0);
  }

  TEST_CASE("add, pools, activations, softmax (A26), quantize and dequantize (A23)") {
    CAPTURE(test_seed());
    Draw draw(RngKey{.seed = test_seed()}.child("f32 rest"));
    int64_t differing = 0;
    double worst_activation = 0;
    double worst_softmax = 0;
    for (int round = 0; round < kProblems; ++round) {
      const oracle::Geometry g = draw.geometry(draw.in(1, 8), false, true);
      const auto x = numbers(draw, g.n * g.h * g.w * g.c, 8);
      const auto b = numbers(draw, static_cast<int64_t>(x.size()), 8);
      const auto count = static_cast<int32_t>(x.size());
      std::vector<float> y(x.size());

      kF32Reference.add({count, x.data(), b.data(), {0, 6}, y.data()});
      for (size_t i = 0; i < x.size(); ++i) {
        differing += y[i] != limited(x[i] + b[i], {0, 6}) ? 1 : 0;
      }

      Problem window;
      window.g = g;
      const kernels::PoolShape shape{static_cast<int32_t>(g.n), static_cast<int32_t>(g.c), window.shape().window};
      const auto taps = oracle::windows(g, x);
      std::vector<float> largest(taps.size()), mean(taps.size());
      kF32Reference.max_pool({shape, x.data(), {-kInf, kInf}, largest.data()});
      kF32Reference.average_pool({shape, x.data(), {-kInf, kInf}, mean.data()});
      for (size_t i = 0; i < taps.size(); ++i) {
        volatile float sum = 0;
        for (const float v : taps[i]) {
          sum = sum + v;
        }
        differing += largest[i] != *std::max_element(taps[i].begin(), taps[i].end()) ? 1 : 0;
        differing += mean[i] != sum / static_cast<float>(taps[i].size()) ? 1 : 0;
      }

      for (uint32_t f = 0; f < kernels::kFunctions; ++f) {
        kF32Reference.activation({count, x.data(), static_cast<kernels::Function>(f), 0.125f, y.data()});
        for (size_t i = 0; i < x.size(); ++i) {
          const auto v = static_cast<double>(x[i]);
          const std::array exact{std::max(v, 0.0),
                                 std::clamp(v, 0.0, 6.0),
                                 v > 0 ? v : v / 8,
                                 1 / (1 + std::exp(-v)),
                                 std::tanh(v),
                                 v * std::clamp(v + 3, 0.0, 6.0) / 6,
                                 v * std::erfc(-v / std::sqrt(2.0)) / 2};
          const double error = std::abs(static_cast<double>(y[i]) - exact[f]);
          worst_activation = std::max(worst_activation, error / std::max(std::abs(exact[f]), 1e-30));
        }
      }

      const int32_t rows = static_cast<int32_t>(g.n * g.h * g.w);
      const int32_t columns = static_cast<int32_t>(g.c);
      std::vector<float> logs(x.size());
      kF32Reference.softmax({rows, columns, x.data(), y.data()});
      kF32Reference.log_softmax({rows, columns, x.data(), logs.data()});
      for (size_t row = 0; row < static_cast<size_t>(rows); ++row) {
        double total = 0;
        for (size_t i = 0; i < static_cast<size_t>(columns); ++i) {
          total += std::exp(static_cast<double>(x[row * static_cast<size_t>(columns) + i]));
        }
        for (size_t i = 0; i < static_cast<size_t>(columns); ++i) {
          const size_t at = row * static_cast<size_t>(columns) + i;
          const double p = std::exp(static_cast<double>(x[at])) / total;
          worst_softmax = std::max(worst_softmax, std::abs(static_cast<double>(y[at]) - p) / p);
          worst_softmax = std::max(worst_softmax, std::abs(static_cast<double>(logs[at]) - std::log(p)) / 16);
        }
      }

      const Grid grid{draw.scale(-8, -3), static_cast<int32_t>(draw.in(-128, 127)), -128, 127};
      std::vector<int8_t> q(x.size());
      std::vector<int16_t> q16(x.size());
      kF32Reference.quantize8({count, x.data(), grid, q.data()});
      kF32Reference.quantize16({count, x.data(), {grid.scale, grid.zero_point, -32768, 32767}, q16.data()});
      kF32Reference.dequantize8({count, q.data(), grid, y.data()});
      for (size_t i = 0; i < x.size(); ++i) {
        const double code = std::nearbyint(static_cast<double>(x[i] / grid.scale)) + grid.zero_point;
        differing += q[i] != std::clamp(code, -128.0, 127.0) ? 1 : 0;
        differing += q16[i] != code ? 1 : 0;
        differing += y[i] != grid.scale * static_cast<float>(q[i] - grid.zero_point) ? 1 : 0;
      }
      kF32Reference.dequantize16({count, q16.data(), grid, y.data()});
      for (size_t i = 0; i < x.size(); ++i) {
        differing += y[i] != grid.scale * static_cast<float>(q16[i] - grid.zero_point) ? 1 : 0;
      }
    }
    CHECK(differing == 0);
    CHECK(worst_activation < 0x1p-23);
    CHECK(worst_softmax < 1e-6);
  }
}

}  // namespace whittle
