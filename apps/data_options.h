// The arguments by which verbs choose a data set, and how they are remembered in a
// checkpoint, so that a model is evaluated on the split it was trained with.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "apps/cli.h"
#include "core/checkpoint.h"
#include "datasets/registry.h"

namespace whittle::apps {

// What is in a file or folder of one's own.
struct OwnArguments {
  std::string target{};
  std::vector<std::string> drop{};
  std::string task{};           // classes or number; empty: what the target looks like
  std::vector<int64_t> size{};  // of pictures
  bool grey = false;

  friend bool operator==(const OwnArguments&, const OwnArguments&) = default;
};

struct DataArguments {
  std::string name;
  std::string dir;
  std::optional<std::string> protocol;  // own, if not said
  std::optional<uint64_t> seed;         // of splits and generated sets; 0
  std::optional<double> validation;     // share; the data set's default
  std::optional<int64_t> first;         // LoadOptions::first_training; 0: all
  int64_t kept = 0;                     // of the training part that a saved model remembers, the first ones; 0: all
  bool standardize_target = false;      // regression
  OwnArguments own{};
  std::string sum{};   // of one's own: data::fingerprint() of what a saved model was trained on
  bool whole = false;  // a file of one's own is one set; not remembered

  data::DataInfo info() const { return data::info(name, load_options()); }
  data::LoadOptions load_options() const;
  // Whether anything is said about which data, not only where they are.
  bool said() const { return !name.empty() || protocol || seed || validation || first; }
  std::string text() const;  // JSON, without the folder: that belongs to a machine
  static DataArguments from_text(const std::string& text);
};

void add_data_arguments(CLI::App& verb, DataArguments& arguments);
// How training prepares data. Other verbs prepare it as the checkpoint says.
void add_preparation_arguments(CLI::App& verb, DataArguments& arguments);
// Of a file or folder of one's own. Other verbs know it from the checkpoint.
void add_own_arguments(CLI::App& verb, DataArguments& arguments);

// Metadata keys of checkpoints.
inline constexpr const char* kDataKey = "whittle.data";
inline constexpr const char* kPreprocessingKey = "whittle.preprocessing";
inline constexpr const char* kQatKey = "whittle.qat";                  // the plan of quantization-aware training
inline constexpr const char* kTeacherKey = "whittle.teacher";          // SHA-256 of the file it was distilled from
inline constexpr const char* kOriginKey = "whittle.origin";            // SHA-256 of the file that training began with
inline constexpr const char* kKeepKey = "whittle.keep";                // "last": not the best epoch by validation
inline constexpr const char* kConvolutionKey = "whittle.convolution";  // not "auto"
inline constexpr const char* kInqKey = "whittle.inq";                  // of incremental quantization
inline constexpr const char* kFixedPointKey = "whittle.fixed_point";

// What was said when a saved model was trained, unless `given` names a data set. Its training part may be shortened by
// `given.first`; how its parts were made may not be changed.
DataArguments data_arguments_of(const char* verb, const std::string& file, const Checkpoint& checkpoint,
                                const DataArguments& given);

std::vector<std::string> data_names();  // of all there are

// How the data of a saved model were prepared.
data::Preprocessing preprocessing_of(const char* verb, const std::string& file, const Checkpoint& checkpoint);

// The data of a saved model: the same split as in training, unless `given` names another
// set, and inputs scaled as the model saw them then.
struct SavedData {
  DataArguments arguments;
  data::Splits splits;
};
SavedData data_of(const char* verb, const std::string& file, const Checkpoint& checkpoint, const DataArguments& given);
// Data for a new model.
SavedData new_data(const DataArguments& given);
// The same where it is clear which data: `arguments` are those of data_arguments_of(). A file of one's own that has
// changed since is refused: what was trained on could be among what is held back now.
SavedData data_by(const char* verb, const std::string& file, const Checkpoint& checkpoint,
                  const DataArguments& arguments);

// "train", "validation" or "test" of them; refused if it has no samples.
const data::Dataset& split_named(const char* verb, const SavedData& saved, const std::string& name);

// A batch of one: {32, 32, 3} -> {1, 32, 32, 3}.
Shape one_sample(const Shape& sample);

}  // namespace whittle::apps
