// What a leaf computes in evaluation when everything around it lies on grids: the
// integer arithmetic of docs/arithmetic.md, to the last bit what an exported program
// computes. Equation numbers below are that page's.
//
// Products run as float operations on whole numbers. Below 2^24 (2^53 in the twin) every
// partial sum is exact, whatever the order; where a bound says that this could be exceeded
// the operands are split in two and the parts joined in 64-bit integers.
//
// Internal to layers/.
#pragma once

#include <functional>

#include "core/ops.h"

namespace whittle::inline WHITTLE_PRECISION {

// Whether integer arithmetic applies: x on one grid or on one per sample, weights [O, ...]
// on one grid or on one per output channel.
bool is_exact_product(const Variable& x, const Variable& weight);
// ... and for an op on activations alone: every operand and the result on one grid each.
bool is_exact(std::span<const Variable> inputs, const GridsPtr& result);

// The layer's bare sum over inputs and weights, [..., O], computed without rearranging products.
using PlainSum = std::function<Variable(const Variable& x, const Variable& weight, const Variable& bias)>;

// act(sum + bias) of a convolution or linear layer. With `to`, its codes as values on that one grid;
// without (null), float numbers: the integer sum times scales, plus the bias.
Tensor exact_weighted(const Variable& x, const Variable& weight, const Variable& bias, const GridsPtr& to, Act act,
                      const PlainSum& sum);
Tensor exact_add(const Variable& a, const Variable& b, const Grid& to, Act act);
// Mean over the part of each window inside the image; a kernel as large as the image: global.
Tensor exact_avg_pool(const Variable& x, const PoolGeometry& geometry, const Shape& result, const Grid& to);
// On another grid: by a table's formula from 8 bits (A21), by a multiplier from 16 (A20).
Tensor exact_rescale(const Variable& x, const Grid& to);
// A function of one number: its binary64 value at every code, rounded to binary32 and then to the grid.
Tensor exact_function(const Variable& x, const std::function<double(double)>& f, const Grid& to);

// y with its value replaced by the exact one; the gradient is y's.
Variable with_value(const Variable& y, Tensor value);

}  // namespace whittle::inline WHITTLE_PRECISION
