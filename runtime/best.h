// The kernels of this build that run here: the first of each list of tables whose
// instructions this CPU has.
#pragma once

#include "runtime/program.h"

namespace whittle::runtime {

Kernels best_kernels();

// The tables called `name`, or for kinds of table that have none of that name, the best.
// Null tables if no table of any kind has it.
Kernels kernels_named(const char* name);

}  // namespace whittle::runtime
