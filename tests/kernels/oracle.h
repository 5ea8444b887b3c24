// docs/arithmetic.md a second time: the formulas over 64-bit integers and binary64, with
// libm's rounding, indexed as on the page. Shares no code with kernels/.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

namespace whittle::oracle {

using Codes = std::vector<int64_t>;

struct Range {
  int64_t zero_point, lo, hi;
};

inline float number(uint32_t bits) { return std::bit_cast<float>(bits); }
inline uint32_t bits(float x) { return std::bit_cast<uint32_t>(x); }

// A9. A product of two binary32 numbers is exact in binary64, so the cast rounds once.
inline int64_t requantize(int64_t acc, float m, const Range& range) {
  const auto scaled =
      static_cast<double>(static_cast<float>(static_cast<double>(static_cast<float>(acc)) * static_cast<double>(m)));
  const double lo = static_cast<double>(range.lo - range.zero_point);
  const double hi = static_cast<double>(range.hi - range.zero_point);
  return static_cast<int64_t>(std::nearbyint(std::min(std::max(scaled, lo), hi))) + range.zero_point;
}

inline int64_t extent(int64_t in, int64_t before, int64_t after, int64_t kernel, int64_t stride, int64_t dilation) {
  return (in + before + after - (dilation * (kernel - 1) + 1)) / stride + 1;
}

struct Geometry {
  int64_t n, h, w, c;              // of the input
  int64_t kh, kw, sh, sw, dh, dw;  // windows
  int64_t top, left, bottom, right;
  int64_t oh() const { return extent(h, top, bottom, kh, sh, dh); }
  int64_t ow() const { return extent(w, left, right, kw, sw, dw); }
  int64_t at(int64_t sample, int64_t y, int64_t x, int64_t channel) const {
    return ((sample * h + y) * w + x) * c + channel;
  }
  bool in_image(int64_t y, int64_t x) const { return 0 <= y && y < h && 0 <= x && x < w; }
};

// A12, A13, A14 (as 1x1 on one pixel): the accumulators, in the order of the output.
inline Codes accumulators(const Geometry& g, int64_t out, int64_t groups, const Codes& x, int64_t zero_point,
                          const Codes& weights, const Codes& bias) {
  Codes result;
  const int64_t per_group = g.c / groups;
  for (int64_t n = 0; n < g.n; ++n) {
    for (int64_t p = 0; p < g.oh(); ++p) {
      for (int64_t r = 0; r < g.ow(); ++r) {
        for (int64_t o = 0; o < out; ++o) {
          int64_t acc = bias[static_cast<size_t>(o)];
          for (int64_t i = 0; i < per_group; ++i) {
            for (int64_t v = 0; v < g.kw; ++v) {
              for (int64_t u = 0; u < g.kh; ++u) {
                const int64_t row = p * g.sh + u * g.dh - g.top;
                const int64_t column = r * g.sw + v * g.dw - g.left;
                const int64_t channel = o / (out / groups) * per_group + i;
                const int64_t code =
                    g.in_image(row, column) ? x[static_cast<size_t>(g.at(n, row, column, channel))] : zero_point;
                acc += (code - zero_point) * weights[static_cast<size_t>(((o * g.kh + u) * g.kw + v) * per_group + i)];
              }
            }
          }
          result.push_back(acc);
        }
      }
    }
  }
  return result;
}

inline Codes convolution(const Geometry& g, int64_t out, int64_t groups, const Codes& x, int64_t zero_point,
                         const Codes& weights, const Codes& bias, const std::vector<float>& multipliers,
                         const Range& range) {
  Codes y = accumulators(g, out, groups, x, zero_point, weights, bias);
  for (size_t i = 0; i < y.size(); ++i) {
    y[i] = requantize(y[i], multipliers[i % static_cast<size_t>(out)], range);
  }
  return y;
}

// A16.
inline int64_t add(int64_t a, int64_t b, float c, float ratio_a, float ratio_b, const Range& range) {
  const volatile float first = static_cast<float>(a) * ratio_a;
  const volatile float second = static_cast<float>(b) * ratio_b;
  const volatile float partly = c + first;
  const volatile float sum = partly + second;
  const double limited = std::min(std::max<double>(static_cast<double>(sum), static_cast<double>(range.lo)),
                                  static_cast<double>(range.hi));
  return static_cast<int64_t>(std::nearbyint(limited));
}

// The codes of a window's taps inside the image, for every number of a pool's result.
template <class Number>
std::vector<std::vector<Number>> windows(const Geometry& g, const std::vector<Number>& x) {
  std::vector<std::vector<Number>> result;
  for (int64_t n = 0; n < g.n; ++n) {
    for (int64_t p = 0; p < g.oh(); ++p) {
      for (int64_t r = 0; r < g.ow(); ++r) {
        for (int64_t c = 0; c < g.c; ++c) {
          std::vector<Number> taps;
          for (int64_t row = p * g.sh - g.top; row < p * g.sh - g.top + g.kh; ++row) {
            for (int64_t column = r * g.sw - g.left; column < r * g.sw - g.left + g.kw; ++column) {
              if (g.in_image(row, column)) {
                taps.push_back(x[static_cast<size_t>(g.at(n, row, column, c))]);
              }
            }
          }
          result.push_back(std::move(taps));
        }
      }
    }
  }
  return result;
}

// A17.
inline Codes max_pool(const Geometry& g, const Codes& x, const Range& range) {
  Codes y;
  for (const Codes& taps : windows(g, x)) {
    y.push_back(std::clamp(*std::max_element(taps.begin(), taps.end()), range.lo, range.hi));
  }
  return y;
}

// A18 from scales: fl(s_x / fl(s_y fl(n))).
inline float average_multiplier(float sx, float sy, int64_t n) {
  const volatile float steps = sy * static_cast<float>(n);
  return sx / steps;
}
inline Codes average_pool(const Geometry& g, const Codes& x, int64_t zero_point, float sx, float sy,
                          const Range& range) {
  Codes y;
  for (const Codes& taps : windows(g, x)) {
    int64_t acc = 0;
    for (const int64_t code : taps) {
      acc += code - zero_point;
    }
    y.push_back(requantize(acc, average_multiplier(sx, sy, static_cast<int64_t>(taps.size())), range));
  }
  return y;
}

// A22, one row.
inline uint32_t exponential(float sx, int64_t d) {
  return static_cast<uint32_t>(
      std::nearbyint(16777216.0 * std::exp(-static_cast<double>(sx) * static_cast<double>(d))));
}
inline Codes softmax(const Codes& x, const std::vector<uint32_t>& exponentials, int64_t k, const Range& range) {
  const int64_t largest = *std::max_element(x.begin(), x.end());
  __extension__ using Wide = __int128;
  Wide total = 0;
  for (const int64_t code : x) {
    total += exponentials[static_cast<size_t>(largest - code)];
  }
  Codes y;
  for (const int64_t code : x) {
    // Nearest integer to the fraction: the largest q with 2 q - 1 <= 2 part / total, ties looked at apart.
    const Wide part = Wide{exponentials[static_cast<size_t>(largest - code)]} << k;
    Wide q = (2 * part + total) / (2 * total);
    if ((2 * part + total) % (2 * total) == 0 && q % 2 != 0) {
      --q;
    }
    y.push_back(std::clamp(static_cast<int64_t>(q) + range.zero_point, range.lo, range.hi));
  }
  return y;
}

}  // namespace whittle::oracle
