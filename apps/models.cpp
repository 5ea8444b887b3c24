#include "apps/models.h"

#include <algorithm>

#include "core/error.h"
#include "layers/fold.h"
#include "quant/fake_quant.h"
#include "quant/half.h"

namespace whittle::apps {

namespace {

// "mlp, edge-simple": the models that take this option.
std::string takers(const std::string& option) {
  std::string names;
  for (const zoo::Entry& entry : zoo::list()) {
    if (std::ranges::count(zoo::option_names(entry.defaults), option) > 0) {
      names += (names.empty() ? "" : ", ") + entry.name;
    }
  }
  return names;
}

}  // namespace

zoo::Options ModelArguments::options() const {
  zoo::Options options{.width = width, .dropout = dropout};
  if (!hidden.empty()) {
    options.hidden = hidden;
  }
  return options;
}

CLI::Option* add_list(CLI::App& verb, const std::string& name, std::vector<int64_t>& values, const std::string& help) {
  return verb.add_option(name, values, help)->delimiter(',')->allow_extra_args(false)->type_name("N,N");
}

void add_model_arguments(CLI::App& verb, ModelArguments& arguments) {
  add_list(verb, "--hidden", arguments.hidden, "Widths of the hidden layers, for " + takers("hidden"));
  verb.add_option("--width", arguments.width, "Multiplier of all channels, for " + takers("width"));
  verb.add_option("--dropout", arguments.dropout, "Dropout probability, for " + takers("dropout"));
}

const TransformKinds& known_transforms() {
  static const TransformKinds kinds = [] {
    TransformKinds known;
    add_fold_kind(known);
    quant::add_fake_quant_kind(known);
    quant::add_half_kind(known);
    return known;
  }();
  return kinds;
}

std::shared_ptr<Module> load_model(const Checkpoint& checkpoint) { return zoo::load(checkpoint, known_transforms()); }

namespace {

const std::string& metadata(const Checkpoint& checkpoint, const std::string& file, const char* key) {
  const auto found = checkpoint.metadata.find(key);
  require(found != checkpoint.metadata.end(), "data", file, " does not say what data it was trained on");
  return found->second;
}

}  // namespace

DataArguments data_of(const Checkpoint& checkpoint, const std::string& file, const DataArguments& given) {
  if (!given.name.empty()) {
    return given;
  }
  DataArguments arguments = DataArguments::from_text(metadata(checkpoint, file, kDataKey));
  arguments.dir = given.dir;
  return arguments;
}

data::Dataset as_trained(const Checkpoint& checkpoint, const std::string& file, const data::Dataset& data) {
  return data.with(data::preprocessing_from_json(metadata(checkpoint, file, kPreprocessingKey)));
}

}  // namespace whittle::apps
