// Integer kernels for x86-64 with AVX-512 and its VNNI instructions. Compiled for them: nothing but this table's
// functions may be defined here, lest the linker keep a copy for everyone.

#include "kernels/cpu_x86.h"
#include "kernels/int8/vec_avx512vnni.h"
#include "kernels/int8/vector_table_impl.h"

namespace whittle::kernels {

constinit const Int8Table kInt8Avx512Vnni = VectorTable<Avx512VnniVec>::make("avx512vnni", has_avx512vnni);

}  // namespace whittle::kernels
