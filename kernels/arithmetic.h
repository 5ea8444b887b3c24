// The one integer arithmetic: quantize, dequantize, requantize.
//
// Fake-quantization, export, the runtime, the tests and emitted C code all call
// these functions or are checked against them, so simulation and deployment
// cannot drift apart. Freestanding: no library, no float environment, no state.
// Compile with -ffp-contract=off; a fused multiply-add would break ties
// differently. Always inlined, so that a file compiled for some instruction set
// leaves no copy of them that the linker could give to everyone.
//
// requantize() is defined in binary32. requantize_integer() is its twin for
// machines without an FPU and gives the same result for every accumulator
// (tests/kernels/test_arithmetic.cpp compares them).
#pragma once

#include <stdint.h>

namespace whittle {

// Which real numbers the codes of a tensor stand for: real = scale (code - zero_point).
struct Grid {
  float scale;
  int32_t zero_point;
  int32_t qmin;
  int32_t qmax;
};

namespace arithmetic {

// x limited to [low, high]; NaN becomes low.
[[gnu::always_inline]] constexpr float clamp(float x, float low, float high) {
  return !(x > low) ? low : x < high ? x : high;
}

// The integer nearest to x, ties to even, for |x| <= 2^22: adding 1.5 * 2^23
// leaves no bits for a fraction, and the addition itself rounds that way.
[[gnu::always_inline]] constexpr int32_t round_half_even(float x) {
  constexpr float kMagic = 12582912.0f;
  return static_cast<int32_t>((x + kMagic) - kMagic);
}

// clamp(rne(x / scale) + zero_point, qmin, qmax). A true division; the
// zero-point is added after rounding. Clamping first is the same, because the
// limits are integers, and keeps the rounding in its range. NaN gives qmin.
[[gnu::always_inline]] constexpr int32_t quantize(float x, const Grid& grid) {
  const float low = static_cast<float>(grid.qmin - grid.zero_point);
  const float high = static_cast<float>(grid.qmax - grid.zero_point);
  return round_half_even(clamp(x / grid.scale, low, high)) + grid.zero_point;
}

[[gnu::always_inline]] constexpr float dequantize(int32_t code, const Grid& grid) {
  return grid.scale * static_cast<float>(code - grid.zero_point);
}

// The multiplier of a product of two grids on its way to a third, in this order
// of rounding: fl(fl(sx sw) / sy).
[[gnu::always_inline]] constexpr float multiplier(float sx, float sw, float sy) { return (sx * sw) / sy; }

// The multiplier of a sum of n codes of one grid on its way to their mean on another: fl(sx / fl(sy n)).
[[gnu::always_inline]] constexpr float mean_multiplier(float sx, float sy, int64_t n) {
  return sx / (sy * static_cast<float>(n));
}

// Weights below this magnitude are nothing: there is no scale on which codes of them would mean something.
inline constexpr float kNothing = 0x1p-100f;

// The scale of a channel, not below 2^-8 of the largest of its weight, so that a dead channel cannot explode.
[[gnu::always_inline]] constexpr float floored_scale(float scale, float largest) {
  const float least = largest * 0x1p-8f;
  return scale < least ? least : scale;
}

inline constexpr float kMostBias = 0x1p30f;

// The scale of a channel, raised where its bias, in steps of the products with inputs of scale sx, would exceed 2^30.
[[gnu::always_inline]] constexpr float scale_with_room(float scale, float bias, float sx) {
  const float b = bias < 0 ? -bias : bias;
  return b / (sx * scale) > kMostBias ? b / sx * (1 / kMostBias) : scale;
}

// A bias at the scale of the products it is added to: rne(fl(bias / product_scale)), within +-2^30 so that an
// accumulator has room beside it. NaN gives the lower limit.
[[gnu::always_inline]] constexpr int32_t quantize_bias(float bias, float product_scale) {
  const float r = clamp(bias / product_scale, -kMostBias, kMostBias);
  const auto whole = static_cast<int32_t>(r);  // towards zero; the rest is exact
  const float rest = r - static_cast<float>(whole);
  const bool odd = (whole & 1) != 0;
  const int32_t up = rest > 0.5f || (rest == 0.5f && odd) ? 1 : 0;
  const int32_t down = rest < -0.5f || (rest == -0.5f && odd) ? 1 : 0;
  return whole + up - down;
}

// What an addition of two grids needs, folded beforehand:
//   ra = fl(sa / sy), rb = fl(sb / sy), offset = fl(zy - fl(fl(ra za) + fl(rb zb)))
struct Addition {
  float ra, rb, offset;
};
[[gnu::always_inline]] constexpr Addition addition(const Grid& a, const Grid& b, const Grid& y) {
  const float ra = a.scale / y.scale;
  const float rb = b.scale / y.scale;
  const float fa = ra * static_cast<float>(a.zero_point);
  const float fb = rb * static_cast<float>(b.zero_point);
  return {ra, rb, static_cast<float>(y.zero_point) - (fa + fb)};
}

// rne(clamp(fl(fl(offset + fl(a ra)) + fl(b rb)), low, high))
[[gnu::always_inline]] constexpr int32_t add(int32_t a, int32_t b, const Addition& by, int32_t low, int32_t high) {
  const float first = by.offset + static_cast<float>(a) * by.ra;
  const float sum = first + static_cast<float>(b) * by.rb;
  return round_half_even(clamp(sum, static_cast<float>(low), static_cast<float>(high)));
}

// rne(clamp(fl(acc) m, qmin - zero_point, qmax - zero_point)) + zero_point.
[[gnu::always_inline]] constexpr int32_t requantize(int64_t acc, float m, int32_t zero_point, int32_t qmin,
                                                    int32_t qmax) {
  const float scaled = static_cast<float>(acc) * m;
  return round_half_even(clamp(scaled, static_cast<float>(qmin - zero_point), static_cast<float>(qmax - zero_point))) +
         zero_point;
}

namespace detail {

// value / 2^shift, rounded half to even; shift in [0, 63].
constexpr uint64_t shift_right_half_even(uint64_t value, int shift) {
  if (shift == 0) {
    return value;
  }
  const uint64_t kept = value >> shift;
  const uint64_t rest = value & ((uint64_t{1} << shift) - 1);
  const uint64_t half = uint64_t{1} << (shift - 1);
  return kept + ((rest > half || (rest == half && (kept & 1) != 0)) ? 1 : 0);
}

constexpr int bits_of(uint64_t value) {
  int bits = 0;
  for (; value != 0; value >>= 1) {
    ++bits;
  }
  return bits;
}

// value 2^exponent rounded to 24 significant bits, as binary32 would.
struct Scaled {
  uint64_t value;
  int exponent;
};
constexpr Scaled to_binary32(Scaled x) {
  const int excess = bits_of(x.value) - 24;
  return excess <= 0 ? x : Scaled{shift_right_half_even(x.value, excess), x.exponent + excess};
}

}  // namespace detail

// requantize() with integers alone. `multiplier_bits` are the bits of a normal,
// positive binary32. Results too small for a normal binary32 round to 0 either
// way, and results beyond 2^22 are clamped either way, so the exponent range of
// binary32 does not matter.
constexpr int32_t requantize_integer(int64_t acc, uint32_t multiplier_bits, int32_t zero_point, int32_t qmin,
                                     int32_t qmax) {
  const bool negative = acc < 0;
  const uint64_t magnitude = negative ? ~static_cast<uint64_t>(acc) + 1 : static_cast<uint64_t>(acc);
  const uint64_t mantissa = (multiplier_bits & 0x7fffff) | 0x800000;
  const int exponent = static_cast<int>(multiplier_bits >> 23) - 127 - 23;

  const detail::Scaled rounded = detail::to_binary32({magnitude, 0});
  const detail::Scaled product =
      detail::to_binary32({rounded.value * mantissa, rounded.exponent + exponent});  // 24 x 24 bits fit

  constexpr uint64_t kHuge = uint64_t{1} << 30;  // beyond every code
  uint64_t integer = 0;
  if (product.value == 0) {
    integer = 0;  // whatever the exponent, which may be beyond every shift
  } else if (product.exponent >= 0) {
    integer =
        product.exponent > 7 || (product.value << product.exponent) > kHuge ? kHuge : product.value << product.exponent;
  } else if (product.exponent > -48) {
    integer = detail::shift_right_half_even(product.value, -product.exponent);
  }
  const int64_t centred = negative ? -static_cast<int64_t>(integer) : static_cast<int64_t>(integer);
  const int64_t code = centred + zero_point;
  return static_cast<int32_t>(code < qmin ? qmin : code > qmax ? qmax : code);
}

}  // namespace arithmetic

}  // namespace whittle
