// The arguments by which verbs that train are told how.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "apps/cli.h"
#include "datasets/registry.h"
#include "train/fit.h"

namespace whittle::apps {

// `momentum` is empty where the command line is silent: it is for sgd alone.
void add_training_arguments(CLI::App& verb, FitOptions& fit, std::optional<double>& momentum);
// Those that say what a step is, for verbs that decide how many there are.
void add_step_arguments(CLI::App& verb, FitOptions& fit, std::optional<double>& momentum);
void add_distillation_arguments(CLI::App& verb, Distillation& distillation);
// The same, and which file the teacher is in.
void add_teacher_arguments(CLI::App& verb, std::string& teacher, Distillation& distillation);
void add_augmentation_arguments(CLI::App& verb, data::AugmentOptions& augment);

// The model in `file`, which teaches in `fit` as long as the result lives; null if no file is named.
std::shared_ptr<Module> load_teacher(const std::string& file, FitOptions& fit);

void check_teacher_for(const data::DataInfo& about, const char* verb, const std::string& teacher);
void check_momentum(const char* verb, const FitOptions& fit, const std::optional<double>& momentum);
void check_augmentation_for(const data::DataInfo& about, const char* verb, const data::AugmentOptions& augment);

}  // namespace whittle::apps
