// Products with packed weights, as the kernel tables offer them (table.h).
//
// A program stores weights in the order of their formula. A table that is faster with
// another order packs them once, into memory of the caller's, before the first run:
//
//   const PackedNeeds needs = packed.conv_needs(op);
//   if (needs.packed_bytes == 0) { table.s8.conv(op); }          // nothing faster for this shape
//   packed.pack_conv(op, memory);                                // once
//   packed.conv(op, memory, scratch, {part, parts});             // per inference
//
// The bytes of the result are those of the plain function. Packed weights depend on the
// shape, the zero-point, the limits and the constants of an op, not on its x and y. Memory
// begins at a multiple of 64. Parts 0 to parts - 1 together are the whole op; they write
// different results and may run at once, each with scratch of its own.
//
// Freestanding: includes nothing hosted.
#pragma once

#include <stdint.h>

namespace whittle::kernels {

template <class Code>
struct Conv;

struct PackedNeeds {
  int64_t packed_bytes = 0;   // 0: use the plain function
  int64_t scratch_bytes = 0;  // of each part
  int32_t parts = 1;          // the most that are worth while
};

// So many of `parts` that each has at least `least` of the multiply-adds: waking a thread costs as much as some of
// them.
constexpr int32_t parts_worth(int64_t parts, int64_t multiply_adds, int64_t least) {
  const int64_t worth = multiply_adds / least;
  const int64_t most = parts < worth ? parts : worth;
  return most < 1 ? 1 : most > 1024 ? 1024 : static_cast<int32_t>(most);
}

// Whether an image with its padding is no larger than any sane one: a program may ask for padding without end, and gets
// the plain function.
constexpr bool frame_fits(int64_t height, int64_t width, int64_t channels) {
  constexpr int64_t kMost = int64_t{1} << 26;
  return height <= kMost / width && height * width <= kMost / channels;
}

struct Part {
  int32_t index = 0;
  int32_t count = 1;
};

struct PackedKernels {
  PackedNeeds (*conv_needs)(const Conv<int8_t>& op);
  void (*pack_conv)(const Conv<int8_t>& op, uint8_t* packed);
  void (*conv)(const Conv<int8_t>& op, const uint8_t* packed, uint8_t* scratch, Part part);
};

}  // namespace whittle::kernels
