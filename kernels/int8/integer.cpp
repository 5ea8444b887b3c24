// The normative integer kernels with integers alone. Where the compiler can promise it,
// this file is compiled without any floating-point register, and a test looks at the
// instructions.

#include "kernels/int8/reference_impl.h"

namespace whittle::kernels {

constinit const Int8Table kInt8Integer = make_int8_table<Integers>("integer");

}  // namespace whittle::kernels
