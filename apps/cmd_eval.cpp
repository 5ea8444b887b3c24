// whittle eval: how good a saved model is.

#include <iostream>
#include <memory>
#include <optional>
#include <string>

#include "apps/cli.h"
#include "apps/data_options.h"
#include "apps/metrics_text.h"
#include "apps/models.h"
#include "apps/program.h"
#include "apps/text.h"
#include "core/checkpoint.h"
#include "core/error.h"
#include "core/parallel.h"
#include "layers/summary.h"

namespace whittle::apps {

namespace {

struct Options {
  std::string model;
  DataArguments data;
  std::string split = "test";
  int threads = 0;
  bool json = false;
};

void eval(const Options& options) {
  set_num_threads(options.threads);
  std::optional<ProgramFile> program;
  Checkpoint checkpoint;
  std::shared_ptr<Module> model;
  if (is_program(options.model)) {
    program.emplace(options.model);
    checkpoint = program->about();
  } else {
    checkpoint = load_checkpoint(options.model);
    model = load_model(checkpoint);
  }
  const auto [arguments, splits] = data_of("eval", options.model, checkpoint, options.data);
  const data::DataInfo& about = data::info(arguments.name);
  require(options.split == "test" || options.split == "validation" || options.split == "train", "eval",
          "there is no split '", options.split, "'; there are train, validation and test");
  const data::Dataset& chosen = options.split == "test"         ? splits.test
                                : options.split == "validation" ? splits.validation
                                                                : splits.train;
  require(!chosen.empty(), "eval", "the data set '", arguments.name, "' has no ", options.split, " samples");

  const Metrics metrics = program.has_value() ? evaluate(*program, chosen) : evaluate(*model, chosen);
  std::cout << arguments.name << ' ' << options.split << ": " << sentence(metrics, about) << '\n';
  if (options.json) {
    Json json = {{"model", options.model}, {"data", arguments.name}, {options.split, to_json(metrics, about)}};
    if (model != nullptr) {
      json["parameters"] = trainable_count(*model);
    } else {
      json["bytes"] = program->bytes().size();
    }
    std::cout << json_line(json) << '\n';
  }
}

}  // namespace

void add_eval(CLI::App& program) {
  CLI::App* verb = program.add_subcommand("eval", "Measure a saved model on a data set");
  const auto options = std::make_shared<Options>();
  verb->add_option("MODEL", options->model, "A checkpoint, or a program (.wtl)")->required();
  add_data_arguments(*verb, options->data);
  verb->add_option("--split", options->split, "train, validation or test")->capture_default_str();
  verb->add_option("--threads", options->threads, "Threads that compute; 0: all there are")->capture_default_str();
  verb->add_flag("--json", options->json, "The last line is a JSON object with the results");
  verb->callback([options] { eval(*options); });
  set_example(*verb, "whittle eval m.safetensors --json");
}

}  // namespace whittle::apps
