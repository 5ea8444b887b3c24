// Glyphs: 28 x 28 grey pictures of ten signs, drawn by code and badly treated.
//
// The data set for when there is none: it needs no file and no network, and it is hard
// enough that compression shows. Every sign is bent, turned, sheared, shifted, drawn with a
// pen of its own, crossed by stray lines, partly erased, faded and sprinkled with noise.
#pragma once

#include <cstdint>

#include "datasets/dataset.h"

namespace whittle::inline WHITTLE_PRECISION::data {

struct GlyphOptions {
  int64_t samples = 10'000;
  int64_t first = 0;  // number of the first picture
  uint64_t seed = 0;
  double distortion = 1;  // scales all of the above; 0: clean signs in the middle
};

// Picture i is a function of (seed, i, distortion) alone and shows sign i % 10: ring,
// square, triangle, plus, cross, star, zigzag, hourglass, arrow or spiral.
Dataset glyphs(const GlyphOptions& options = {});

}  // namespace whittle::inline WHITTLE_PRECISION::data
