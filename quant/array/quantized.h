// What every quantizer of a bare array returns: codes, codebooks, and what they cost.
//
// An array is cut into groups of equal size, each with a codebook of its own: one group
// for a whole tensor, one per output channel (axis 0, whose rows are consecutive), or
// any finer cut. A group has one term, or several if it is a sum of low-bit vectors
// (multipoint.h): value = sum over terms of factor * codebook.value(code).
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "quant/array/codebook.h"

namespace whittle::inline WHITTLE_PRECISION::quant::array {

// Bits of the whole array. Nothing that a decoder needs is left out: a list that can be
// computed from a few numbers counts as these numbers (grids.h says which), a learned
// one as 32 bits per level.
struct StoredBits {
  int64_t codes = 0;
  int64_t scales = 0;  // scales, steps, ends of ranges, factors
  int64_t zero_points = 0;
  int64_t codebooks = 0;

  int64_t total() const { return codes + scales + zero_points + codebooks; }
  StoredBits& operator+=(const StoredBits& other);
};

struct Term {
  float factor = 1;
  std::vector<int32_t> codes;  // one per element of the group
};

struct Group {
  Codebook codebook;
  std::vector<Term> terms;
};

struct Quantized {
  int bits = 0;  // of one code
  std::vector<Group> groups{};
  StoredBits stored{};

  int64_t elements() const;
  std::vector<float> values() const;   // the reconstructed array
  std::vector<int32_t> codes() const;  // in the array's order; groups have one term each
  int64_t distinct_codes() const;      // the most that one term of one group uses; at most 2^bits
  double bits_per_weight() const;      // everything stored, per element
};

struct Distortion {
  double mse = 0;        // mean squared error
  double sqnr_db = 0;    // 10 log10(sum x^2 / sum error^2); infinite without an error
  double max_error = 0;  // largest absolute error
};
Distortion distortion(std::span<const float> original, std::span<const float> restored);

// The checks that all quantizers of arrays share: values there, finite, none so large that
// a level beside it is infinite, and `groups` equal groups of them. Returns the size of a group.
inline constexpr float kLargestValue = 0x1p120F;
int64_t check_array(std::string_view op, std::span<const float> values, int64_t groups);
void check_bits(std::string_view op, int bits, int least = 1);  // to 16

}  // namespace whittle::inline WHITTLE_PRECISION::quant::array
