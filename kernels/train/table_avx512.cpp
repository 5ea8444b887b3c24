// The table for x86 with AVX-512 F, BW, DQ and VL. Compiled for them: nothing but this
// table's functions may be defined here, lest the linker keep a copy for everyone.

#include "kernels/cpu_x86.h"
#include "kernels/train/table_impl.h"
#include "kernels/train/tables.h"
#include "kernels/train/vec_avx512.h"

namespace whittle::kernels {

const TrainTable<float> kTrainAvx512 = make_train_table<Avx512Vec>("avx512", has_avx512);

}  // namespace whittle::kernels
