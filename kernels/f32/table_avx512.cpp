// Float kernels for x86-64 with AVX-512 F, BW, DQ and VL. Compiled for them: nothing but this
// table's functions may be defined here, lest the linker keep a copy for everyone.

#include "kernels/cpu_x86.h"
#include "kernels/f32/table_impl.h"
#include "kernels/train/vec_avx512.h"

namespace whittle::kernels {

namespace {

struct Kit512 {
  using V = Avx512Vec;
  static constexpr int kPixels[] = {12, 12, 8, 6};
  static constexpr int kBlocks = 4;
  static constexpr int kLongBlocks = 2;
  static constexpr int kDepthwisePixels = 5;
  // In multiplications: the additions of a Winograd transform per point and channel, and reading a weight.
  static constexpr int64_t kTransform = 6;
  static constexpr int64_t kReadWeight = 14;
};

}  // namespace

const F32Table kF32Avx512 = FloatKernels<Kit512>::table("avx512", has_avx512);

}  // namespace whittle::kernels
