// Incremental network quantization: weights become powers of two group by group, and what
// is not yet a power of two is trained on to make up for it (Zhou et al. 2017).
//
// The two steps of it that are about arrays are here; retraining between them is the
// caller's, who lets frozen weights have no gradient.
//
//   std::vector<uint8_t> frozen(w.size(), 0);
//   const std::vector<float> levels = inq_levels(largest magnitude at the beginning, 5);
//   for (const double share : {0.5, 0.75, 0.875, 1.0}) {
//     inq_freeze(w, frozen, share, levels);   // the largest of the rest become levels
//     ... train the others ...
//   }
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/real.h"

namespace whittle::inline WHITTLE_PRECISION::quant::array {

// 0 and +-2^e for e from n2 to n1, sorted, where n1 = floor(log2(4/3 s)), s = max|w|, and
// n2 = n1 + 1 - 2^(bits-1) / 2: one bit says whether a weight is 0, the others
// which power. All zeros have the level 0 alone. bits 2 to 16.
std::vector<float> inq_levels(float max_abs, int bits);

// The level of one weight: sign(w) b for neighbouring magnitudes a < b with
// (a + b)/2 <= |w| < 3b/2 (eq. 4), which is the nearest one, in the middle away from 0.
float inq_round(float w, std::span<const float> levels);

// Freezes more weights until `share` of all are: those of the largest magnitude among
// the rest, equal ones in order of index, round(share n) together. Each is replaced by its level.
// `frozen` holds 0 and 1. Returns how many were frozen now.
int64_t inq_freeze(std::span<float> weights, std::span<uint8_t> frozen, double share, std::span<const float> levels);

}  // namespace whittle::inline WHITTLE_PRECISION::quant::array
