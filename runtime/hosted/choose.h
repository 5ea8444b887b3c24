// The kernels that a host runs programs with. Hosted.
#pragma once

#include <string>

#include "runtime/program.h"

namespace whittle::runtime {

// The tables called `name` (runtime/best.h); if it is empty those that WHITTLE_KERNELS asks for, and otherwise the
// best. Throws std::invalid_argument if no table of that name runs here.
Kernels choose_kernels(const std::string& name = {});

}  // namespace whittle::runtime
