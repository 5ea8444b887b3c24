// Weights of a float product, row by row and as floats. Internal to the tables of float kernels.
#pragma once

#include "kernels/f32/table.h"

namespace whittle::kernels {

namespace {  // one copy for each table

[[maybe_unused]] inline float widen(float weight) { return weight; }
[[maybe_unused]] inline float widen(int8_t weight) { return weight; }
[[maybe_unused]] inline float widen(Half weight) {
  const uint32_t sign = uint32_t{weight.bits & 0x8000u} << 16;
  const uint32_t exponent = (weight.bits >> 10) & 0x1f;
  const uint32_t mantissa = weight.bits & 0x3ff;
  if (exponent == 0) {  // 0 or subnormal: mantissa 2^-24, exactly
    const float size = static_cast<float>(mantissa) * 0x1p-24f;
    return sign != 0 ? -size : size;
  }
  return __builtin_bit_cast(float, sign | (exponent == 31 ? 255u : exponent + 112) << 23 | mantissa << 13);
}

// As with_rows() of codes (kernels/weights.h).
template <class Weight>
struct NumberRows {
  const Weight* operator[](ptrdiff_t o) const { return numbers + o * count; }

  const Weight* numbers;
  ptrdiff_t count;
};
template <class Weight, class Body>
void with_rows(const Weight* weights, int64_t count, Body body) {
  body(NumberRows<Weight>{weights, static_cast<ptrdiff_t>(count)});
}

}  // namespace

}  // namespace whittle::kernels
