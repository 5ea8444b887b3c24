// What quantization needs of data, and what quantization-aware training adds to fit().
#pragma once

#include <cstdint>
#include <vector>

#include "datasets/dataset.h"
#include "quant/improve.h"
#include "quant/training.h"
#include "train/fit.h"

namespace whittle::inline WHITTLE_PRECISION::compress {

// Batches that calibrate: of samples spread over the set, which must outlive them.
quant::Batches calibration_batches(const data::Dataset& data, int64_t samples);

// Phases of the plan change when their step is done, and what is kept is on fixed grids. Before the freeze the norms'
// statistics are measured on some of the training data as `training` sees them: without its augmentation, or in batches
// of another size, they are others, and up to half a point of accuracy is lost. (A channel that one sample of a batch
// wakes is at most the root of the batch's size, once normed.) `plan` and `model` must outlive the training; `input` is
// the shape of a batch of one.
FitHooks quantizing_hooks(const quant::TrainingPlan& plan, Module& model, const Shape& input,
                          const data::Dataset& train, const FitOptions& training);

}  // namespace whittle::inline WHITTLE_PRECISION::compress
