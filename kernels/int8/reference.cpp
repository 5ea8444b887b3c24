// The normative integer kernels, rounding in binary32.

#include "kernels/int8/reference_impl.h"

namespace whittle::kernels {

constinit const Int8Table kInt8Reference = make_int8_table<Binary32>("reference");

}  // namespace whittle::kernels
