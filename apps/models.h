// The arguments by which verbs shape a model of the zoo, and models out of files.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/cli.h"
#include "core/checkpoint.h"
#include "core/parameter.h"
#include "layers/zoo/zoo.h"

namespace whittle::apps {

// What the command line says, and nothing where it is silent: the zoo has defaults
// of its own and refuses what a model does not take.
struct ModelArguments {
  std::vector<int64_t> hidden;
  std::optional<double> width;
  std::optional<double> dropout;

  bool given() const { return !hidden.empty() || width.has_value() || dropout.has_value(); }
  zoo::Options options() const;
};

void add_model_arguments(CLI::App& verb, ModelArguments& arguments);

// "300,100" -> {300, 100}, in one argument, so that the next one can be something else.
CLI::Option* add_list(CLI::App& verb, const std::string& name, std::vector<int64_t>& values, const std::string& help);

// The transforms that this program can rebuild out of a checkpoint.
const TransformKinds& known_transforms();

// The name of the model that a checkpoint describes; empty if it describes none.
std::string model_name(const Checkpoint& checkpoint);

// Builds the model that a checkpoint describes and restores it.
std::shared_ptr<Module> load_model(const Checkpoint& checkpoint);

}  // namespace whittle::apps
