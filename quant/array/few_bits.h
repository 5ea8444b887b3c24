// Weights of one and two bits with a scale, in closed form.
//
// These are grids too, but their rounding belongs to them: the sign, or a threshold that
// is not halfway between the levels.
#pragma once

#include <cstdint>
#include <span>

#include "quant/array/quantized.h"

namespace whittle::inline WHITTLE_PRECISION::quant::array {

// alpha sign(w) with alpha = mean |w|, the least squared error of all two levels +-alpha.
// A weight of 0 becomes +alpha. 1 bit per weight and 32 per group.
// (Rastegari et al. 2016, BWN, eq. 6)
Quantized binary(std::span<const float> values, int64_t groups = 1);

// alpha sign(w) where |w| > threshold, else 0; alpha = mean of these |w|. 2 bits per weight
// (log2 3 = 1.585 with an entropy coder, which is not counted) and 32 per group.
enum class TernaryThreshold : uint8_t {
  kRule,   // 0.7 mean |w|, near the best for normal and uniform weights (Li et al. 2016, TWN, eq. 6)
  kExact,  // the one of the least squared error: max over k of (sum of the k largest |w|)^2 / k (eq. 5)
};
Quantized ternary(std::span<const float> values, int64_t groups = 1,
                  TernaryThreshold threshold = TernaryThreshold::kRule);

}  // namespace whittle::inline WHITTLE_PRECISION::quant::array
