// The grids: how the levels of an array are chosen. docs/grids.md has each formula with
// what it is good for and figures.
//
//   const Quantized q = quantize(weights, {.grid = {.kind = GridKind::kKMeans, .bits = 4}, .groups = channels});
//   q.values();            the reconstructed weights
//   q.bits_per_weight();   with codebooks
//
// A grid of p bits has at most 2^p levels. Arrays for which a formula breaks down are
// no error: an array of one repeated number c (zero included) is given the single level
// c by all grids but the affine and power-of-two ones, whose levels follow from max|w|
// (an all-zero array has scale 1 there and comes out as zeros). An empty array and one
// with a NaN or infinity are refused.
//
// Nothing here depends on the number of threads.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "core/rng.h"
#include "quant/array/quantized.h"

namespace whittle::inline WHITTLE_PRECISION::quant::array {

// With m = 2^bits. What is stored beside the codes stands behind the formula.
enum class GridKind : uint8_t {
  kAffine,        // scale (code - zero_point), real 0 always a level           scale [, zero-point of `bits` bits]
  kMidRise,       // d (k + 1/2), d = max|w| / 2^(bits-1): no level at 0         step
  kUniformRange,  // m points from min to max                                    two ends
  kHistogram,     // the centres of m equal bins over [min, max]                 two ends
  kPriorNormal,   // normal quantiles k/(m-1), k = 1..m-2, and min and max       mean, deviation, two ends
  kUniformIqr,    // m points over Tukey's fences, as far as there are values    two ends
  kPowerOfTwo,    // 0 and +-2^e, e from floor(log2(4/3 max|w|)) downwards       the first exponent in 8 bits
  kKMeans,        // m centres of Lloyd's algorithm                              the centres
  kKMeansExact,   // m centres of the least squared error there is               the centres
};
std::span<const GridKind> all_grids();
std::string_view grid_name(GridKind kind);   // "affine", "mid-rise", "uniform", "histogram", "normal", "iqr", ...
GridKind parse_grid(std::string_view name);  // throws and names what there is

struct GridSpec {
  GridKind kind = GridKind::kAffine;
  int bits = 8;  // 1 to 16; from 2 for symmetric affine and power of two, which have a level at 0 and two sides
  bool symmetric = true;  // affine: codes [-(m/2 - 1), m/2 - 1] around zero-point 0; else all m codes over the range
  bool zero = false;      // landmark sets and k-means: the level nearest to 0 is moved there
};

// Throws in one sentence if the options do not fit together.
void check(const GridSpec& spec);

// The levels of one group and what they cost to store.
struct FittedGrid {
  Codebook codebook;
  StoredBits stored;  // without codes
};
FittedGrid fit_grid(std::span<const float> values, const GridSpec& spec);

struct QuantizeOptions {
  GridSpec grid{};
  Rounding rounding = Rounding::kNearestEven;
  RngKey key{};        // stochastic rounding: element i of the array draws from (key, i)
  int64_t groups = 1;  // equal consecutive parts with a grid each; the output channels of a weight, say
};
Quantized quantize(std::span<const float> values, const QuantizeOptions& options);

// The levels of power-of-two grids: 0 and +-2^e for `exponents` integers e downwards from
// floor(log2(4/3 max|w|)), the largest for which no value rounds to the power above
// (Zhou et al. 2017, eq. 3). Powers below the smallest float are left out.
int first_exponent(float max_abs);
std::vector<float> power_of_two_levels(float max_abs, int64_t exponents);

// Cluster centres of numbers in one dimension, sorted, at most `clusters`: fewer if there are
// fewer distinct numbers. Lloyd's algorithm from centres spread over the range and
// from centres spread over the ranks; the better end counts. The exact one minimises by
// dynamic programming (Wang and Song 2011) in O(clusters n log n); up to kMostExact distinct numbers.
inline constexpr int64_t kMostExact = 20000;
std::vector<float> kmeans(std::span<const float> values, int64_t clusters);
std::vector<float> kmeans_exact(std::span<const float> values, int64_t clusters);

}  // namespace whittle::inline WHITTLE_PRECISION::quant::array
