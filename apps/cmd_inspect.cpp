// whittle inspect: what a model is made of, and what else is in its file.

#include <algorithm>
#include <filesystem>
#include <iomanip>
#include <iostream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/cli.h"
#include "apps/data_options.h"
#include "apps/file_kind.h"
#include "apps/inspect_program.h"
#include "apps/metrics_text.h"
#include "apps/models.h"
#include "apps/program.h"
#include "apps/text.h"
#include "core/checkpoint.h"
#include "core/error.h"
#include "core/json.h"
#include "layers/summary.h"
#include "layers/zoo/zoo.h"
#include "prune/mask.h"
#include "train/fit.h"

namespace whittle::apps {

namespace {

struct Options {
  std::string model;  // a file, or a name of the zoo
  ModelArguments shape;
  std::vector<int64_t> input;
  std::optional<int64_t> classes;
  bool tensors = false;
  bool json = false;
  bool foreign = false;

  bool shaped() const { return shape.given() || !input.empty() || classes.has_value(); }
};

// ---- The model as a graph -------------------------------------------------------------

struct Described {
  zoo::Description description;
  Summary summary;                           // for one sample
  std::vector<prune::SparsityRow> sparsity;  // empty where nothing is pruned
};

Described described(const zoo::Description& description, Module& model) {
  std::vector<int64_t> batch{1};
  std::ranges::copy(description.options.input->dims(), std::back_inserter(batch));
  std::vector<prune::SparsityRow> sparsity = prune::sparsity(model);
  if (std::ranges::none_of(sparsity,
                           [](const auto& row) { return row.masked || (row.zeros > 0 && row.zeros < row.elements); })) {
    sparsity.clear();
  }
  return {description, summarize(model, Shape(batch)), std::move(sparsity)};
}

Json to_json(const Shape& shape) { return std::vector<int64_t>(shape.dims().begin(), shape.dims().end()); }

Json to_json(const Described& model) {
  Json json = Json::parse(zoo::to_text(model.description));
  json["input"] = to_json(model.summary.input);
  json["trainable"] = model.summary.trainable;
  json["total"] = model.summary.total;
  json["macs"] = model.summary.macs;
  json["layers"] = Json::array();
  for (const SummaryRow& row : model.summary.rows) {
    json["layers"].push_back({{"path", row.path},
                              {"kind", row.kind},
                              {"details", row.details},
                              {"output", to_json(row.output)},
                              {"trainable", row.trainable},
                              {"total", row.total},
                              {"macs", row.macs}});
  }
  if (!model.sparsity.empty()) {
    json["sparsity"] = {{"share", prune::sparsity_of(model.sparsity)}, {"parameters", Json::array()}};
    for (const prune::SparsityRow& row : model.sparsity) {
      json["sparsity"]["parameters"].push_back(
          {{"name", row.name}, {"elements", row.elements}, {"zeros", row.zeros}, {"masked", row.masked}});
    }
  }
  return json;
}

void print(const Described& model) {
  const zoo::Entry& entry = zoo::entry(model.description.name);
  std::cout << entry.name << ": " << entry.summary << " (" << entry.source << "), input " << model.summary.input
            << "\n\n"
            << to_text(model.summary) << '\n';
  if (!model.sparsity.empty()) {
    std::cout << prune::to_text(model.sparsity) << '\n';
  }
}

// ---- A file -----------------------------------------------------------------------------

struct File {
  Checkpoint checkpoint;
  bool checksums = true;
};

// A foreign file is only accepted where asked for; one of ours is checked either way.
File load(const Options& options) {
  if (!options.foreign) {
    return {load_checkpoint(options.model)};
  }
  try {
    return {load_checkpoint(options.model)};
  } catch (const Error&) {
    return {load_checkpoint(options.model, {.allow_foreign = true}), false};
  }
}

uint64_t total_bytes(const Checkpoint& checkpoint) {
  uint64_t total = 0;
  for (const auto& [name, tensor] : checkpoint.tensors) {
    total += tensor.bytes.size();
  }
  return total;
}

// What the metadata says, where it is ours; a file without a model is a bag of tensors.
struct Contents {
  std::optional<Described> model{};
  std::optional<DataArguments> data{};
  std::optional<EpochRecord> best{};
  bool resumable = false;
};

Contents contents_of(const std::string& file, const Checkpoint& checkpoint) {
  Contents contents{.resumable = checkpoint.metadata.contains(kTrainingKey)};
  if (!checkpoint.metadata.contains(zoo::kModelKey)) {
    return contents;
  }
  try {
    const std::shared_ptr<Module> model = load_model(checkpoint);
    contents.model = described(zoo::description_of(checkpoint), *model);
    if (const auto text = checkpoint.metadata.find(kDataKey); text != checkpoint.metadata.end()) {
      contents.data = DataArguments::from_text(text->second);
    }
    contents.best = best_record(checkpoint);
  } catch (const Error& error) {
    fail("inspect", file, ": ", error.what());
  }
  return contents;
}

// What is known about the data: the registry's words, or what the file says.
std::optional<data::DataInfo> known_data(const Checkpoint& checkpoint, const Contents& contents) {
  if (!contents.data.has_value()) {
    return std::nullopt;
  }
  const auto found = std::ranges::find(data::list(), contents.data->name, &data::DataInfo::name);
  if (found != data::list().end()) {
    return *found;
  }
  const auto preprocessing = checkpoint.metadata.find(kPreprocessingKey);
  return preprocessing == checkpoint.metadata.end()
             ? std::nullopt
             : std::optional(
                   data::DataInfo{.name = contents.data->name,
                                  .regression = data::preprocessing_from_json(preprocessing->second).classes.empty()});
}

// Of the validation data, or of the training data where there was no other.
const Metrics& metrics_of(const EpochRecord& record) {
  return record.validation.samples > 0 ? record.validation : record.train;
}
const char* split_of(const EpochRecord& record) { return record.validation.samples > 0 ? "validation" : "train"; }

void print_json(const Options& options, const File& file, const Contents& contents) {
  Json tensors = Json::array();
  for (const auto& [name, tensor] : file.checkpoint.tensors) {
    tensors.push_back({{"name", name},
                       {"dtype", std::string(dtype_name(tensor.dtype))},
                       {"shape", to_json(tensor.shape)},
                       {"bytes", tensor.bytes.size()}});
  }
  Json json = {{"file", options.model},
               {"checksums", file.checksums ? "ok" : "none"},
               {"bytes", total_bytes(file.checkpoint)},
               {"resumable", contents.resumable},
               {"tensors", std::move(tensors)},
               {"metadata", file.checkpoint.metadata}};
  if (contents.model.has_value()) {
    json["model"] = to_json(*contents.model);
  }
  if (contents.data.has_value()) {
    json["data"] = Json::parse(contents.data->text());
  }
  const std::optional<data::DataInfo> about = known_data(file.checkpoint, contents);
  if (contents.best.has_value() && about.has_value()) {
    json["best"] = {{"epoch", contents.best->epoch},
                    {split_of(*contents.best), apps::to_json(metrics_of(*contents.best), *about)}};
  }
  std::cout << json_line(json) << '\n';
}

void print_tensors(const Checkpoint& checkpoint) {
  size_t name_width = 0;
  size_t shape_width = 0;
  for (const auto& [name, tensor] : checkpoint.tensors) {
    name_width = std::max(name_width, printable(name).size());
    shape_width = std::max(shape_width, tensor.shape.str().size());
  }
  for (const auto& [name, tensor] : checkpoint.tensors) {
    std::cout << std::left << std::setw(static_cast<int>(name_width)) << printable(name) << "  " << std::setw(4)
              << dtype_name(tensor.dtype) << "  " << std::setw(static_cast<int>(shape_width)) << tensor.shape.str()
              << std::right << "  " << std::setw(9) << human_bytes(tensor.bytes.size()) << '\n';
  }
}

void print_training(const Checkpoint& checkpoint, const Contents& contents) {
  if (contents.data.has_value()) {
    const DataArguments& data = *contents.data;
    std::cout << "trained on " << printable(data.name) << ", protocol " << printable(data.protocol.value_or(""))
              << ", data seed " << data.seed.value_or(0);
    if (data.first.value_or(0) > 0) {
      std::cout << ", the first " << *data.first << " samples";
    }
    if (data.kept > 0) {
      std::cout << ", of the training part the first " << data.kept;
    }
    std::cout << (data.standardize_target ? ", target standardized\n" : "\n");
  }
  const std::optional<data::DataInfo> about = known_data(checkpoint, contents);
  if (contents.best.has_value() && about.has_value()) {
    std::cout << "best epoch " << contents.best->epoch << ": " << split_of(*contents.best) << ' '
              << sentence(metrics_of(*contents.best), *about) << '\n';
  }
  if (contents.resumable) {
    std::cout << "a training state: train --resume goes on from it\n";
  }
}

void print(const Options& options, const File& file, const Contents& contents) {
  const auto& [tensors, metadata] = file.checkpoint;
  if (contents.model.has_value()) {
    print(*contents.model);
  }
  if (options.tensors || !contents.model.has_value()) {
    print_tensors(file.checkpoint);
  }
  print_training(file.checkpoint, contents);
  if (!metadata.empty()) {
    std::cout << "metadata: ";
    const char* separator = "";
    for (const auto& [key, value] : metadata) {
      std::cout << separator << printable(key) << " (" << human_bytes(value.size()) << ')';
      separator = ", ";
    }
    std::cout << '\n';
  }
  std::cout << tensors.size() << (tensors.size() == 1 ? " tensor, " : " tensors, ")
            << human_bytes(total_bytes(file.checkpoint))
            << (file.checksums ? ", checksums ok\n" : ", a foreign file without checksums\n");
}

// ---- The verb -----------------------------------------------------------------------------

void inspect_file(const Options& options) {
  require(!options.shaped(), "inspect", options.model,
          ": the file says what its model is; --input, --classes, --hidden, --width and --dropout are for names of the "
          "zoo");
  if (kind_of(options.model) == FileKind::kProgram) {
    require(!options.tensors && !options.foreign, "inspect", options.model,
            " is a program; --tensors and --foreign are for checkpoints");
    inspect_program(options.model, options.json);
    return;
  }
  const File file = load(options);
  const Contents contents = contents_of(options.model, file.checkpoint);
  if (options.json) {
    print_json(options, file, contents);
  } else {
    print(options, file, contents);
  }
}

void inspect_zoo(const Options& options) {
  require(!options.foreign && !options.tensors, "inspect", "'", options.model,
          "' is a name of the zoo; --tensors and --foreign are for files");
  zoo::Options wanted = options.shape.options();
  wanted.classes = options.classes;
  if (!options.input.empty()) {
    wanted.input = Shape(options.input);
  }
  const zoo::Description description = zoo::describe(options.model, wanted);
  const Described model = described(description, *zoo::build(description));
  if (options.json) {
    std::cout << json_line({{"model", to_json(model)}}) << '\n';
  } else {
    print(model);
  }
}

void inspect(const Options& options) {
  std::error_code ignored;
  const bool exists = std::filesystem::exists(options.model, ignored);
  const bool named = std::ranges::find(zoo::list(), options.model, &zoo::Entry::name) != zoo::list().end();
  require(exists || named, "inspect", "there is no file ", options.model,
          ", and no model of that name in the zoo; `whittle train --model list` names those");
  if (exists) {
    inspect_file(options);
  } else {
    inspect_zoo(options);
  }
}

}  // namespace

void add_inspect(CLI::App& program) {
  CLI::App* verb =
      program.add_subcommand("inspect", "Show a model's layers, shapes, parameters and work, and its file");
  const auto options = std::make_shared<Options>();
  verb->add_option("MODEL", options->model,
                   "A checkpoint (.safetensors) or a program (.wtl), whose checksums are verified, or a zoo name")
      ->required();
  verb->add_flag("--tensors", options->tensors, "Also list the tensors of the file");
  verb->add_flag("--foreign", options->foreign, "Accept a safetensors file that has no checksums of ours");
  verb->add_flag("--json", options->json, "Print one line of JSON");
  verb->option_defaults()->group("For a zoo name");
  add_list(*verb, "--input", options->input, "Shape of one sample: height, width, channels, or the number of columns");
  verb->add_option("--classes", options->classes, "Outputs of the last layer");
  add_model_arguments(*verb, options->shape);
  verb->callback([options] { inspect(*options); });
  set_example(*verb,
              "whittle inspect model.safetensors\n"
              "  whittle inspect model.wtl\n"
              "  whittle inspect mobilenet-v1 --input 96,96,3 --classes 2 --width 0.25");
}

}  // namespace whittle::apps
