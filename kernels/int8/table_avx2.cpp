// Integer kernels for x86-64 with AVX2. Compiled for it: nothing but this table's functions may be defined here, lest
// the linker keep a copy for everyone.

#include "kernels/cpu_x86.h"
#include "kernels/int8/vec_avx2.h"
#include "kernels/int8/vector_table_impl.h"

namespace whittle::kernels {

constinit const Int8Table kInt8Avx2 = VectorTable<Avx2Int8Vec>::make("avx2", has_avx2);

}  // namespace whittle::kernels
