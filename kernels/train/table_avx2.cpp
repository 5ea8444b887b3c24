// The table for x86 with AVX2 and FMA. Compiled for them: nothing but this table's
// functions may be defined here, lest the linker keep a copy for everyone.

#include "kernels/cpu_x86.h"
#include "kernels/train/table_impl.h"
#include "kernels/train/tables.h"
#include "kernels/train/vec_avx2.h"

namespace whittle::kernels {

const TrainTable<float> kTrainAvx2 = make_train_table<Avx2Vec>("avx2", has_avx2_fma);

}  // namespace whittle::kernels
