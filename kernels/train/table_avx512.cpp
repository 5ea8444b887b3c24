// The table for x86 with AVX-512 F, BW, DQ and VL. Compiled for them: nothing but this
// table's functions may be defined here, lest the linker keep a copy for everyone.

#include "kernels/train/table_impl.h"
#include "kernels/train/tables.h"
#include "kernels/train/vec_avx512.h"

namespace whittle::kernels {

namespace {

bool runs_here() {
  return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
         __builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("avx512vl") != 0 &&
         __builtin_cpu_supports("fma") != 0;
}

}  // namespace

const TrainTable<float> kTrainAvx512 = make_train_table<Avx512Vec>("avx512", runs_here);

}  // namespace whittle::kernels
