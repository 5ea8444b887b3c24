// The list of integer tables.

#include "kernels/int8/table.h"

namespace whittle::kernels {

namespace {

const Int8Table* const kTables[] = {
#if defined(WHITTLE_X86_TABLES)
    &kInt8Avx512Vnni,
    &kInt8Avx2,
#endif
#if !defined(WHITTLE_NO_FPU)
    &kInt8Reference,
#endif
    &kInt8Integer,
};

}  // namespace

Int8Tables int8_tables() { return {kTables, static_cast<int>(sizeof(kTables) / sizeof(kTables[0]))}; }

}  // namespace whittle::kernels
