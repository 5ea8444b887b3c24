// The list of float tables.

#include "kernels/f32/table.h"

namespace whittle::kernels {

namespace {

const F32Table* const kTables[] = {
#if defined(WHITTLE_X86_TABLES)
    &kF32Avx512,
    &kF32Avx2,
#endif
    &kF32Reference,
};

}  // namespace

F32Tables f32_tables() { return {kTables, static_cast<int>(sizeof(kTables) / sizeof(kTables[0]))}; }

}  // namespace whittle::kernels
