// The two places of the integer arithmetic that round, requantization (A9) and addition
// (A16): in binary32, and with integers alone (A10). Both give the same codes.
#pragma once

#include "kernels/arithmetic.h"
#include "kernels/int8/table.h"

namespace whittle::kernels {

struct Binary32 {
  [[gnu::always_inline]] static float number(uint32_t bits) { return __builtin_bit_cast(float, bits); }

  [[gnu::always_inline]] static int32_t requantize(int64_t acc, uint32_t multiplier, const CodeRange& range) {
    return arithmetic::requantize(acc, number(multiplier), range.zero_point, range.lo, range.hi);
  }

  [[gnu::always_inline]] static int32_t add(int32_t a, int32_t b, const AddConstants& constants,
                                            const CodeRange& range) {
    const float first = number(constants.offset) + static_cast<float>(a) * number(constants.ratio_a);
    const float sum = first + static_cast<float>(b) * number(constants.ratio_b);
    return arithmetic::round_half_even(
        arithmetic::clamp(sum, static_cast<float>(range.lo), static_cast<float>(range.hi)));
  }
};

struct Integers {
  static int32_t requantize(int64_t acc, uint32_t multiplier, const CodeRange& range) {
    return arithmetic::requantize_integer(acc, multiplier, range.zero_point, range.lo, range.hi);
  }

  static int32_t add(int32_t a, int32_t b, const AddConstants& constants, const CodeRange& range) {
    const Number first = sum(decode(constants.offset), product(a, decode(constants.ratio_a)));
    const Number both = sum(first, product(b, decode(constants.ratio_b)));
    const int64_t code = nearest(both);
    return static_cast<int32_t>(code < range.lo ? range.lo : code > range.hi ? range.hi : code);
  }

 private:
  // (-1)^negative value 2^exponent with value < 2^24: a binary32 number without its limits
  // on the exponent. The offset is 0 or normal and ratios are within [2^-40, 2^40], so no
  // sum is subnormal, and what would overflow lies beyond every code.
  struct Number {
    bool negative;
    uint64_t value;
    int exponent;
  };

  static Number decode(uint32_t bits) {
    const int biased = static_cast<int>((bits >> 23) & 0xff);
    const uint64_t value = biased == 0 ? 0 : (bits & 0x7fffff) | 0x800000;
    return {(bits >> 31) != 0, value, biased - 127 - 23};
  }

  static Number rounded(bool negative, uint64_t value, int exponent) {
    const arithmetic::detail::Scaled result = arithmetic::detail::to_binary32({value, exponent});
    const int carry = static_cast<int>(result.value >> 24);  // rounded up to 2^24
    return {negative, result.value >> carry, result.exponent + carry};
  }

  static Number product(int32_t code, const Number& ratio) {  // |code| < 2^17, so 41 bits
    const bool negative = code < 0;
    const auto magnitude = static_cast<uint64_t>(negative ? -int64_t{code} : int64_t{code});
    return rounded(negative != ratio.negative, magnitude * ratio.value, ratio.exponent);
  }

  static Number normalized(Number x) {  // 24 significant bits
    const int missing = 24 - arithmetic::detail::bits_of(x.value);
    return {x.negative, x.value << missing, x.exponent - missing};
  }

  static Number sum(Number x, Number y) {
    if (x.value == 0) {
      return y;
    }
    if (y.value == 0) {
      return x;
    }
    x = normalized(x);
    y = normalized(y);
    if (x.exponent < y.exponent) {
      const Number t = x;
      x = y;
      y = t;
    }
    const int apart = x.exponent - y.exponent;
    if (apart >= 39) {  // y is less than a quarter of a step of x
      return x;
    }
    const uint64_t large = x.value << apart;
    if (x.negative == y.negative) {
      return rounded(x.negative, large + y.value, y.exponent);
    }
    const bool flips = large < y.value;
    return rounded(x.negative != flips, flips ? y.value - large : large - y.value, y.exponent);
  }

  static int64_t nearest(const Number& x) {
    constexpr uint64_t kHuge = uint64_t{1} << 30;  // beyond every code
    uint64_t integer = 0;
    if (x.exponent >= 0) {  // a value of 24 bits may be shifted by 39
      const uint64_t shifted = x.value << (x.exponent < 39 ? x.exponent : 39);
      integer = shifted < kHuge ? shifted : kHuge;
    } else if (x.exponent > -48) {
      integer = arithmetic::detail::shift_right_half_even(x.value, -x.exponent);
    }
    return x.negative ? -static_cast<int64_t>(integer) : static_cast<int64_t>(integer);
  }
};

}  // namespace whittle::kernels
