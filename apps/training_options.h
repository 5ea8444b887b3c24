// The arguments by which verbs that train are told how.
#pragma once

#include <optional>

#include "apps/cli.h"
#include "quant/training.h"
#include "train/fit.h"

namespace whittle::apps {

// `momentum` is empty where the command line is silent: it is for sgd alone.
void add_training_arguments(CLI::App& verb, FitOptions& fit, std::optional<double>& momentum);
void add_augmentation_arguments(CLI::App& verb, data::AugmentOptions& augment);

// Of a training that quantizes: phases change when their step is done; kept is what is on fixed grids. All three live
// as long as the hooks.
FitHooks hooks_of(const quant::TrainingPlan& plan, Module& model, const Shape& input);

}  // namespace whittle::apps
