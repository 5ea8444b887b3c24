// Float kernels for x86-64 with AVX2 and FMA. Compiled for them: nothing but this table's
// functions may be defined here, lest the linker keep a copy for everyone.

#include "kernels/cpu_x86.h"
#include "kernels/f32/table_impl.h"
#include "kernels/train/vec_avx2.h"

namespace whittle::kernels {

namespace {

struct Kit256 {
  using V = Avx2Vec;
  static constexpr int kPixels[] = {12, 6, 4};
  static constexpr int kBlocks = 2;
  static constexpr int kLongBlocks = 2;
  static constexpr int kDepthwisePixels = 2;
  static constexpr int64_t kTransform = 6;
  static constexpr int64_t kReadWeight = 7;
};

}  // namespace

const F32Table kF32Avx2 = FloatKernels<Kit256>::table("avx2", has_avx2_fma);

}  // namespace whittle::kernels
