// whittle data: what data sets there are, whether their files are here, and how to
// get them.

#include <algorithm>
#include <cstdlib>
#include <iomanip>
#include <iostream>
#include <memory>
#include <string>

#include "apps/cli.h"
#include "apps/data_options.h"
#include "apps/text.h"
#include "core/error.h"
#include "core/json.h"
#include "datasets/registry.h"

namespace whittle::apps {

namespace {

struct Options {
  DataArguments data;
  bool json = false;
};

std::string folder_of(const Options& options) {
  const char* from_environment = std::getenv("WHITTLE_DATA");
  std::string folder = !options.data.dir.empty()     ? options.data.dir
                       : from_environment != nullptr ? from_environment
                                                     : "";
  require(!folder.empty(), "data", "where are the files? Give --data-dir or set WHITTLE_DATA");
  return folder;
}

void list(const Options& options) {
  Json sets = Json::array();
  for (const data::DataInfo& info : data::list()) {
    sets.push_back({{"name", info.name}, {"description", info.description}, {"samples", info.samples}});
    if (!options.json) {
      std::cout << std::left << std::setw(16) << info.name << std::right << "  " << info.description << '\n';
    }
  }
  if (options.json) {
    std::cout << json_line(sets) << '\n';
  }
}

// What is in a file or folder of one's own, and how it would be cut.
void own_info(const Options& options) {
  const data::Splits splits = data::load(options.data.name, options.data.load_options());
  const data::Preprocessing& read = splits.train.preprocessing();
  const int64_t parts[] = {splits.train.size(), splits.validation.size(), splits.test.size()};
  const int64_t samples = parts[0] + parts[1] + parts[2];
  Json json = {{"name", options.data.name}, {"samples", samples},       {"train", parts[0]},
               {"validation", parts[1]},    {"test", parts[2]},         {"input", read.sample.dims()},
               {"columns", Json::array()},  {"classes", Json::object()}};
  std::string columns;
  for (const data::InputColumn& column : read.columns) {
    const std::string name = column.name + (column.category.empty() ? "" : "=" + column.category);
    json["columns"].push_back(name);
    columns += (columns.empty() ? "" : ", ") + name;
  }
  std::string classes;
  for (size_t c = 0; c < read.classes.size(); ++c) {
    int64_t count = 0;
    for (const data::Dataset* part : {&splits.train, &splits.validation, &splits.test}) {
      count += part->empty() ? 0 : part->class_counts()[c];
    }
    json["classes"][read.classes[c]] = count;
    classes += (classes.empty() ? "" : ", ") + in_list(read.classes[c]) + " (" + std::to_string(count) + ")";
  }
  if (options.json) {
    std::cout << json_line(json) << '\n';
    return;
  }
  std::cout << printable(options.data.name) << ": " << samples
            << (splits.train.is_images() ? " pictures of " : " rows of ") << read.sample << ", cut by seed into "
            << parts[0] << " training, " << parts[1] << " validation and " << parts[2] << " test samples\n";
  if (!columns.empty()) {
    std::cout << "inputs: " << printable(columns) << '\n';
  }
  std::cout << (classes.empty() ? "target: a number" : std::to_string(read.classes.size()) + " classes: " + classes)
            << '\n';
}

void info(const Options& options) {
  if (data::is_own(options.data.name)) {
    own_info(options);
    return;
  }
  const data::DataInfo found = options.data.info();
  Json json = {{"name", found.name},
               {"description", found.description},
               {"samples", found.samples},
               {"licence", found.licence},
               {"files", Json::array()}};
  if (!options.json) {
    std::cout << found.name << ": " << found.description << '\n'
              << "samples: " << found.samples << '\n'
              << "licence: " << found.licence << '\n';
  }
  if (!found.files.empty()) {
    for (const data::FileState& state : data::check_files(found.name, folder_of(options))) {
      const char* condition = !state.present ? "missing" : state.intact ? "intact" : "differs from the known sum";
      json["files"].push_back({{"path", state.file.path}, {"sha256", state.file.sha256}, {"state", condition}});
      if (!options.json) {
        std::cout << "  " << std::left << std::setw(44) << state.file.path << std::right << condition << '\n';
      }
    }
  }
  if (options.json) {
    std::cout << json_line(json) << '\n';
  }
}

void fetch(const Options& options) {
  uint64_t told = 0;
  data::fetch_files(options.data.name, folder_of(options), {.progress = [&told](uint64_t have, uint64_t total) {
                      if (have - std::min(have, told) >= (uint64_t{1} << 22)) {  // every 4 MiB
                        told = have;
                        std::cerr << human_bytes(have) << (total > 0 ? " of " + human_bytes(total) : "") << '\n';
                      }
                    }});
  std::cout << options.data.name << ": all files are here\n";
  if (options.json) {
    std::cout << json_line({{"name", options.data.name}, {"files", data::info(options.data.name).files.size()}})
              << '\n';
  }
}

}  // namespace

void add_data(CLI::App& program) {
  CLI::App* verb = program.add_subcommand("data", "List, describe and download data sets");
  verb->require_subcommand(1);
  const auto options = std::make_shared<Options>();

  CLI::App* all = verb->add_subcommand("list", "Name the data sets");
  all->add_flag("--json", options->json, "Print one line of JSON");
  all->callback([options] { list(*options); });
  set_example(*all, "whittle data list");

  CLI::App* one = verb->add_subcommand("info", "Describe a data set and check its files");
  offer(one->add_option("NAME", options->data.name, "Data set, or a CSV file or folder of pictures of your own")
            ->required(),
        data_names());
  one->add_option("--data-dir", options->data.dir, "Folder of the data files (default: $WHITTLE_DATA)");
  add_own_arguments(*one, options->data);
  one->add_flag("--json", options->json, "Print one line of JSON");
  one->callback([options] { info(*options); });
  set_example(*one,
              "whittle data info mnist --data-dir data\n"
              "  whittle data info flowers.csv --target species");

  CLI::App* get = verb->add_subcommand("fetch", "Download what is missing, verified by SHA-256");
  offer(get->add_option("NAME", options->data.name, "Data set")->required(), data_names());
  get->add_option("--data-dir", options->data.dir, "Folder of the data files (default: $WHITTLE_DATA)");
  get->add_flag("--json", options->json, "The last line is a JSON object");
  get->callback([options] { fetch(*options); });
  set_example(*get, "whittle data fetch mnist --data-dir data");
  set_example(*verb, "whittle data list");
}

}  // namespace whittle::apps
