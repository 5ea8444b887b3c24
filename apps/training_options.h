// The arguments by which verbs that train are told how.
#pragma once

#include <optional>

#include "apps/cli.h"
#include "train/fit.h"

namespace whittle::apps {

// `momentum` is empty where the command line is silent: it is for sgd alone.
void add_training_arguments(CLI::App& verb, FitOptions& fit, std::optional<double>& momentum);
void add_augmentation_arguments(CLI::App& verb, data::AugmentOptions& augment);

}  // namespace whittle::apps
