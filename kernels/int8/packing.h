// What the packed forms of products share. Internal to the tables of packed kernels.
#pragma once

#include <stdint.h>

#include "kernels/int8/table.h"

namespace whittle::kernels {

namespace {  // one copy for each table that is made from this

constexpr int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// Codes enter as code + shift. The bias of output channel o, `filter` being its number of weights, makes up for that:
//   sum (x - z) w + b  =  sum (x + shift) w + [b - (shift + z) sum w]
// This is (shift + z) sum w over the first `count` weights of its row. Sums may wrap around, as those of products do;
// the result does not, because the accumulator fits (A7).
template <class Row>
int32_t sum_of_shifts(const Conv<int8_t>& op, const Row& weights, int32_t shift, int32_t count) {
  int32_t sum = 0;
  for (int32_t i = 0; i < count; ++i) {
    sum += weights[i];
  }
  return static_cast<int32_t>(static_cast<uint32_t>(shift + op.x_zero_point) * static_cast<uint32_t>(sum));
}
template <class Row>
int32_t bias_for_shifted_codes(const Conv<int8_t>& op, const Row& weights, int32_t shift, int32_t o, int32_t filter) {
  return static_cast<int32_t>(static_cast<uint32_t>(op.bias[o]) -
                              static_cast<uint32_t>(sum_of_shifts(op, weights, shift, filter)));
}

}  // namespace

}  // namespace whittle::kernels
