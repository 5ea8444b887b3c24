// The arguments by which verbs that train are told how.
#pragma once

#include <optional>

#include "apps/cli.h"
#include "datasets/registry.h"
#include "train/fit.h"

namespace whittle::apps {

// `momentum` is empty where the command line is silent: it is for sgd alone.
void add_training_arguments(CLI::App& verb, FitOptions& fit, std::optional<double>& momentum);
// Those that say what a step is, for verbs that decide how many there are.
void add_step_arguments(CLI::App& verb, FitOptions& fit, std::optional<double>& momentum);
void add_distillation_arguments(CLI::App& verb, Distillation& distillation);
void add_augmentation_arguments(CLI::App& verb, data::AugmentOptions& augment);

void check_momentum(const char* verb, const FitOptions& fit, const std::optional<double>& momentum);
void check_augmentation_for(const data::DataInfo& about, const char* verb, const data::AugmentOptions& augment);

}  // namespace whittle::apps
