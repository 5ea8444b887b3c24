// The functions of an integer table for one kind of code.
#pragma once

#include "kernels/int8/table.h"

namespace whittle {

template <class Code>
const kernels::IntegerKernels<Code>& kernels_of(const kernels::Int8Table& table) {
  if constexpr (sizeof(Code) == 1) {
    return table.s8;
  } else {
    return table.s16;
  }
}

}  // namespace whittle
