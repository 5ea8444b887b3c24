// Products with packed weights in float, as the kernel tables offer them (table.h): the same
// manners as in int8/packed.h, but results agree with those of the plain functions within
// the bounds of A26, not to the bit. They have the same bits for any number of parts.
//
// 8-bit and binary16 weights are widened when they are packed, an 8-bit weight times its
// scale: from there on there is one kind of product. Needs depend on the shape alone.
// Padding is multiplied, and pixels may share a transform: one infinity or NaN in x or in the
// weights can make NaNs of results that do not see it.
//
// Freestanding: includes nothing hosted.
#pragma once

#include <stdint.h>

#include "kernels/int8/packed.h"
#include "kernels/shapes.h"

namespace whittle::kernels {

struct Half;
template <class Weight>
struct ConvF32;

struct PackedF32Kernels {
  PackedNeeds (*conv_needs)(const ConvShape& shape);
  void (*pack_conv)(const ConvF32<float>& op, uint8_t* packed);
  void (*pack_conv_half)(const ConvF32<Half>& op, uint8_t* packed);
  void (*pack_conv_hybrid)(const ConvF32<int8_t>& op, uint8_t* packed);
  // Reads shape, x, limits and y of the op, and no weights, scales or bias.
  void (*conv)(const ConvF32<float>& op, const uint8_t* packed, uint8_t* scratch, Part part);
};

}  // namespace whittle::kernels
