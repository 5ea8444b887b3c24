// The model zoo: networks of the literature by name.
//
//   auto model = zoo::make("resnet8");                 // initialized with seed 0
//   auto small = zoo::make("mobilenet-v1", {.classes = 2, .input = Shape{96, 96, 3}, .width = 0.25});
//
// A model takes some of the options below; its entry in list() holds those it
// takes with their defaults, and asking for another is refused. The description of
// a model is its name with all its options, and the widths of layers that have lost
// channels since (prune/compact.h). As text it goes into a checkpoint, so that a file
// alone rebuilds its model.
//
// Initial values are He's for every weight and 0 for every bias, whatever the
// papers used; initialize(*model, key) draws them for a seed.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/checkpoint.h"
#include "core/parameter.h"
#include "layers/module.h"

namespace whittle::inline WHITTLE_PRECISION::zoo {

struct Options {
  std::optional<int64_t> classes{};              // outputs of the last layer
  std::optional<Shape> input{};                  // of one sample: {32, 32, 3}, or {10} for a table row
  std::optional<std::vector<int64_t>> hidden{};  // widths of the hidden layers of a dense net
  std::optional<double> width{};                 // multiplies all channels
  std::optional<double> dropout{};               // probability behind hidden layers
  std::optional<bool> norm{};                    // batch norm behind every convolution
  std::optional<bool> norm_bias{};               // biases in front of batch norms, redundant but published

  friend bool operator==(const Options&, const Options&) = default;
};

struct Description {
  std::string name;
  Options options;                              // all the model takes
  std::map<std::string, LayerWidths> widths{};  // by the layer's path: what differs from the model as published

  friend bool operator==(const Description&, const Description&) = default;
};

struct Entry {
  std::string name;
  std::string summary;  // one line
  std::string source;   // who published it
  Options defaults;     // what the model takes
  int64_t trainable;    // parameters at the defaults
  int64_t total;        // with running statistics
  std::shared_ptr<Module> (*build)(const Options&);
};

// All models, in the order of families.
const std::vector<Entry>& list();
const Entry& entry(std::string_view name);  // throws and names what there is

// The names of the options that are set: {"classes", "input", "hidden"}.
std::vector<std::string> option_names(const Options& options);

// Fills in the defaults. Throws if the model is not known, does not take an option,
// or an option's value makes no sense.
Description describe(std::string_view name, const Options& options = {});

std::shared_ptr<Module> make(const Description& description);
std::shared_ptr<Module> make(std::string_view name, const Options& options = {});
// The same with weights of zero, for those who initialize or restore next: drawing
// VGG-16's takes seconds.
std::shared_ptr<Module> build(const Description& description);

// {"name":"resnet8","options":{"classes":10,"input":[32,32,3],...}} and back; with
// "widths":{"conv1":[3,12],...}, read and made, if there are any.
std::string to_text(const Description& description);
Description from_text(std::string_view text);

inline constexpr const char* kModelKey = "whittle.model";  // the description in a checkpoint's metadata

// A model with its description.
void store(Checkpoint& checkpoint, const Description& description, Module& model);
// The description of a checkpoint's model; throws if it has none.
Description description_of(const Checkpoint& checkpoint);
// Builds the model a checkpoint describes and restores it.
std::shared_ptr<Module> load(const Checkpoint& checkpoint, const TransformKinds& kinds);

}  // namespace whittle::inline WHITTLE_PRECISION::zoo
