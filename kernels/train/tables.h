// The tables of this build, each in a file of its own. Internal to kernels/.
#pragma once

#include "kernels/train/table.h"

namespace whittle::kernels {

extern const TrainTable<float> kTrainAvx512;
extern const TrainTable<float> kTrainAvx2;

}  // namespace whittle::kernels
