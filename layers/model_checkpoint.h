// A whole model into a checkpoint and back.
//
//   conv1.weight                        a parameter's raw value
//   conv1.weight/fake_quant.scale       a tensor of its chain of transforms
//   conv1/output.fake_quant.scale       a tensor of a module's output chain
//   conv1.running_mean, drop.position   states, and integers (stored as I64)
//
// The metadata "whittle.transforms" says which transforms to rebuild
// (core/parameter.h). What the model is, zoo::Description says.
#pragma once

#include <string>
#include <vector>

#include "core/checkpoint.h"
#include "core/parameter.h"
#include "layers/module.h"

namespace whittle::inline WHITTLE_PRECISION {

void store_model(Checkpoint& checkpoint, Module& model);

struct RestoreOptions {
  // Tensors whose names begin so are others' and left alone.
  std::vector<std::string> not_ours{"optimizer/", "ema/", "train/"};
};

// All or nothing: every name, shape and spec is checked before the model changes.
// Tensors of the model that the checkpoint lacks, and tensors of the checkpoint
// that the model has no place for, are refused by name. The model's mode stays.
void restore_model(const Checkpoint& checkpoint, Module& model, const TransformKinds& kinds,
                   const RestoreOptions& options = {});

}  // namespace whittle::inline WHITTLE_PRECISION
