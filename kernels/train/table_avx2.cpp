// The table for x86 with AVX2 and FMA. Compiled for them: nothing but this table's
// functions may be defined here, lest the linker keep a copy for everyone.

#include "kernels/train/table_impl.h"
#include "kernels/train/tables.h"
#include "kernels/train/vec_avx2.h"

namespace whittle::kernels {

namespace {

bool runs_here() { return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0; }

}  // namespace

const TrainTable<float> kTrainAvx2 = make_train_table<Avx2Vec>("avx2", runs_here);

}  // namespace whittle::kernels
