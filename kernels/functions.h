// exp, ln and the activation functions in binary64, from +, -, *, / alone.
//
// Two users: the tables of 8-bit activations (docs/arithmetic.md, A21 and A22), which must
// come out the same on every host, whatever its libm; and the float kernels of a runtime
// that links no libm. Relative error below 1e-12 where the result is a normal number
// (tests/kernels/test_functions.cpp); infinities and NaN as in libm. Slow: series and
// continued fractions in place of fitted polynomials. Compile with -ffp-contract=off.
#pragma once

#include <stdint.h>

namespace whittle::functions {

namespace detail {

// 2^k for a normal result.
constexpr double power_of_two(int k) { return __builtin_bit_cast(double, static_cast<uint64_t>(k + 1023) << 52); }

constexpr double kInfinity = __builtin_huge_val();

}  // namespace detail

constexpr double exp(double x) {
  if (!(x < 709.9)) {
    return x != x ? x : detail::kInfinity;
  }
  if (x < -746) {
    return 0;
  }
  constexpr double kLn2High = 6.93147180369123816490e-01;  // its last 32 bits are 0, so k times it is exact
  constexpr double kLn2Low = 1.90821492927058770002e-10;
  const double scaled = x * 1.44269504088896340736;
  const int k = static_cast<int>(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
  const double r = (x - k * kLn2High) - k * kLn2Low;  // within ln 2 / 2
  double sum = 1;
  for (int i = 14; i >= 1; --i) {
    sum = 1 + sum * r / i;
  }
  const int half = k / 2;  // in two steps, so that neither leaves the range
  return sum * detail::power_of_two(half) * detail::power_of_two(k - half);
}

constexpr double log(double x) {
  if (!(x > 0)) {
    return x == 0 ? -detail::kInfinity : __builtin_nan("");
  }
  if (x == detail::kInfinity || x != x) {
    return x;
  }
  int exponent = 0;
  if (x < detail::power_of_two(-1022)) {
    x *= detail::power_of_two(54);
    exponent = -54;
  }
  const auto bits = __builtin_bit_cast(uint64_t, x);
  exponent += static_cast<int>(bits >> 52) - 1023;
  double m = __builtin_bit_cast(double, (bits & 0xfffffffffffff) | uint64_t{1023} << 52);  // in [1, 2)
  if (m > 1.41421356237309504880) {
    m /= 2;
    ++exponent;
  }
  const double s = (m - 1) / (m + 1);
  double sum = 0;
  for (int i = 25; i >= 1; i -= 2) {  // atanh
    sum = sum * s * s + 1.0 / i;
  }
  return exponent * 6.93147180369123816490e-01 + (exponent * 1.90821492927058770002e-10 + 2 * s * sum);
}

constexpr double relu(double x) { return x > 0 ? x : 0; }
constexpr double relu6(double x) { return x > 6 ? 6 : relu(x); }
constexpr double leaky_relu(double x, double slope) { return x > 0 ? x : slope * x; }

constexpr double sigmoid(double x) {
  const double e = exp(x < 0 ? x : -x);
  return x < 0 ? e / (1 + e) : 1 / (1 + e);
}

constexpr double tanh(double x) {
  const double size = x < 0 ? -x : x;
  if (size < 0.5) {  // where 1 - e^-2x would lose digits: Lambert's continued fraction
    double fraction = 0;
    for (int i = 19; i >= 1; i -= 2) {
      fraction = x * x / (i + fraction);
    }
    return x == 0 ? x : fraction / x;
  }
  const double e = exp(-2 * size);
  const double y = (1 - e) / (1 + e);
  return x < 0 ? -y : y;
}

constexpr double hard_swish(double x) {
  const double factor = relu6(x + 3) / 6;
  return factor == 0 ? 0 : x * factor;  // 0, not NaN, at -inf
}

// The normal distribution: (1 + erf(x / sqrt 2)) / 2, also far below 0 to full relative precision.
constexpr double normal_below(double x) {
  const double size = x < 0 ? -x : x;
  double tail = 0;  // beyond size
  if (!(size < 3)) {
    double fraction = 0;  // Laplace's continued fraction
    for (int i = 100; i >= 1; --i) {
      fraction = i / (size + fraction);
    }
    tail = 0.39894228040143267794 * exp(-0.5 * size * size) / (size + fraction);
  } else {
    double term = size;
    double sum = size;
    for (int i = 3; i < 120; i += 2) {
      term *= size * size / i;
      sum += term;
    }
    tail = 0.5 - 0.39894228040143267794 * exp(-0.5 * size * size) * sum;
  }
  return x != x ? x : x < 0 ? tail : 1 - tail;
}

constexpr double gelu(double x) {
  const double factor = normal_below(x);
  return factor == 0 ? 0 : x * factor;
}

}  // namespace whittle::functions
