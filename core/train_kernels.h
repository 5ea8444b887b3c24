// Which kernel table the ops run on (kernels/train/table.h): the best this CPU can, or
// the one that WHITTLE_KERNELS names, if it names one for training (kernels/names.h). The
// double twin has the reference alone.
#pragma once

#include <string_view>
#include <vector>

#include "core/real.h"
#include "kernels/train/table.h"

namespace whittle::inline WHITTLE_PRECISION {

using TrainKernels = kernels::TrainTable<real>;

// The tables that run on this CPU, best first.
const std::vector<const TrainKernels*>& available_train_kernels();
const TrainKernels& train_kernels();            // the one in use
void set_train_kernels(std::string_view name);  // throws on a name that is not available; not during a computation

}  // namespace whittle::inline WHITTLE_PRECISION
