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
#include "apps/runs/recorder.h"
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
  std::string save_codes;
  int threads = 0;
  bool json = false;
};

void eval(const Options& options, Recorder& run) {
  set_num_threads(options.threads);
  const SavedModel loaded(options.model);
  const std::optional<ProgramFile>& program = loaded.program;
  const Checkpoint& checkpoint = loaded.checkpoint;
  DataArguments given = options.data;
  given.whole = options.split == "all";
  const SavedData saved = data_of("eval", options.model, checkpoint, given);
  const std::string& name = saved.arguments.name;
  const data::DataInfo about = saved.arguments.info();
  const data::Dataset& chosen = split_named("eval", saved, options.split);

  require(options.save_codes.empty() || program.has_value(), "eval", "--save-codes is for programs, ", options.model,
          " is a checkpoint");
  run.begin({.model = model_name(checkpoint), .data = name, .from = options.model});
  RunBytes codes;
  const Metrics metrics = program.has_value() ? run.measure(*program, chosen, about, options.split,
                                                            options.save_codes.empty() ? nullptr : &codes)
                                              : run.measure(*loaded.model, chosen, about, "", options.split);
  if (!options.save_codes.empty()) {
    codes.save(options.save_codes);
  }
  std::cout << name << ' ' << options.split << ": " << sentence(metrics, about) << '\n';
  Json json = {{"model", options.model}, {"data", name}, {options.split, to_json(metrics, about)}};
  if (loaded.model != nullptr) {
    json["parameters"] = trainable_count(*loaded.model);
  } else {
    json["bytes"] = program->bytes().size();
  }
  run.result(json);
  if (options.json) {
    std::cout << json_line(json) << '\n';
  }
}

}  // namespace

void add_eval(CLI::App& program) {
  CLI::App* verb = program.add_subcommand("eval", "Measure a saved model on a data set");
  const auto options = std::make_shared<Options>();
  verb->add_option("MODEL", options->model, "A checkpoint, or a program (.wtl)")->required();
  add_data_arguments(*verb, options->data);
  offer(verb->add_option("--split", options->split, "train, validation, test; all of a file of your own"),
        {"train", "validation", "test", "all"})
      ->capture_default_str();
  verb->add_option("--save-codes", options->save_codes,
                   "Of a program: write each sample's input bytes to NAME.in and its output bytes to NAME.out");
  verb->add_option("--threads", options->threads, "Threads that compute; 0: all there are")->capture_default_str();
  verb->add_flag("--json", options->json, "The last line is a JSON object with the results");
  const auto run = std::make_shared<Recorder>(*verb);
  verb->callback([options, run] { run->record([&] { eval(*options, *run); }); });
  set_example(*verb, "whittle eval m.safetensors --json");
}

}  // namespace whittle::apps
