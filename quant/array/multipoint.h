// Multi-point quantization: a vector of weights as a sum of a few low-bit vectors,
//
//   w ~ sum over i of a_i q_i,   each entry of q_i on one low-bit grid    (Liu et al. 2021)
//
// Each group (an output channel, say) may have a number of terms of its own: those that
// the output suffers most from get more, which is what the method is for. With n terms
// everywhere it costs n codes per weight, and one code of n times the bits is better
// (docs/grids.md has the figures).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "quant/array/quantized.h"

namespace whittle::inline WHITTLE_PRECISION::quant::array {

// What remains of a group's weights, as one number: how much its output is off.
using GroupError = std::function<double(int64_t group, std::span<const float> residual)>;

struct MultiPointOptions {
  int bits = 4;   // 2 to 16; the grid has 2^bits - 1 levels
  int terms = 2;  // of every group; with error_limit the most of any
  int64_t groups = 1;

  // Adaptive: terms are added to a group until its error is at most this. One term is
  // always there. Without `error` it is the mean square of the residual, as a fraction
  // of the mean square of the whole array. It is called by several threads.
  std::optional<double> error_limit{};
  GroupError error{};

  // false: levels K {-1, ..., 0, ..., 1}. K is a part of a_i then, and the search for a_i
  // is the search for the best clipping.
  // true: the paper's levels K {-1, ..., 1} + B with B the group's mean. K is the best of
  // a few fractions of max|w|. Zero is no level.
  bool centred = false;
};

// Greedy: each term is fitted to what the terms before it left over, and is only kept if
// less is left then, so the residual falls with every term. For a given a the best q is
// the nearest level of w / a, for a given q the best a is <w, q> / <q, q>. Up to 5 bits
// every q that can be best is looked at, else a row of a's. Behind a new term the others
// are fitted once more, each to what the rest of them leaves (the paper stops before
// that), and of several first terms the one with the best end counts.
//
// Costs: `bits` per weight and term, 32 per term, and 64 for K and B where centred; where groups choose, the
// number of their terms in as many bits as the most needs.
Quantized multipoint(std::span<const float> values, const MultiPointOptions& options);

}  // namespace whittle::inline WHITTLE_PRECISION::quant::array
