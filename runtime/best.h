// The kernels of this build that run here: the first of each list of tables whose
// instructions this CPU has.
#pragma once

#include "runtime/program.h"

namespace whittle::runtime {

Kernels best_kernels();

// The tables called `name`, or for kinds of table that have none of that name, the best.
// Null tables if none of any kind that runs here has it, training included (kernels/names.h).
Kernels kernels_named(const char* name);

}  // namespace whittle::runtime
