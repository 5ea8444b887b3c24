// whittle report: one page about a model, a compression or many runs.

#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "apps/cli.h"
#include "apps/data_options.h"
#include "apps/file_kind.h"
#include "apps/ignored.h"
#include "apps/models.h"
#include "apps/program.h"
#include "apps/report/measure.h"
#include "apps/report/page.h"
#include "apps/report/runs.h"
#include "apps/runs/query.h"
#include "apps/runs/store.h"
#include "apps/text.h"
#include "compress/json_file.h"
#include "core/checkpoint.h"
#include "core/error.h"
#include "core/file.h"
#include "core/json.h"
#include "core/parallel.h"
#include "train/fit.h"

namespace whittle::apps {

namespace {

struct Options {
  std::string input;
  report::MeasureOptions measure;
  DataArguments data;
  std::vector<std::string> filters;
  std::string out;
  std::string svg;
  std::string png;
  int threads = 0;
  bool quiet = false;
  bool json = false;
};

// The epochs of the training that made a model, where its last state still lies beside it.
Json training_of(const std::string& model) {
  const std::filesystem::path last = last_state_path(model);
  std::error_code ignored;
  if (!std::filesystem::exists(last, ignored)) {
    return {};
  }
  Json points = Json::array();
  try {
    const Checkpoint state = load_checkpoint(last);
    const Json progress = Json::parse(state.metadata.at(kTrainingKey));
    for (const Json& record : progress.at("history")) {
      Json point = {{"epoch", record.at("epoch")}};
      for (const char* split : {"train", "validation"}) {
        if (const Metrics metrics = metrics_from(record.at(split)); metrics.samples > 0) {
          point[split + std::string("_loss")] = metrics.loss;
          point[split + std::string("_accuracy")] = metrics.accuracy;
        }
      }
      points.push_back(std::move(point));
    }
  } catch (const std::exception&) {  // of another version, or damaged: the page says nothing of it
    return {};
  }
  Json training = Json::array();
  training.push_back({{"name", std::filesystem::path(model).filename().string()}, {"points", std::move(points)}});
  return training;
}

Json document_of_model(const Options& options) {
  require(options.filters.empty(), "report", "--filter is for runs, ", options.input, " is a model");
  const Checkpoint checkpoint = load_checkpoint(options.input);
  const SavedData saved = data_of("report", options.input, checkpoint, options.data);
  Json document = report::measure(options.input, checkpoint, saved, options.measure);
  if (Json training = training_of(options.input); !training.is_null()) {
    document["training"] = std::move(training);
  }
  return document;
}

Json document_of_runs(const Options& options) {
  std::vector<Filter> filters(options.filters.begin(), options.filters.end());
  const RunStore store(options.input, RunStore::Mode::kRead);
  std::vector<Run> runs = filtered(store.list(), filters);
  require(!runs.empty(), "report", "there are no such runs in ", options.input);
  for (Run& run : runs) {
    run = store.read(run.id);  // with its epochs
  }
  return report::sections_of(runs);
}

Json document_of(const Options& options, const CLI::App& verb) {
  const FileKind kind = kind_of(options.input);
  const bool of_compression = kind == FileKind::kDocument;
  const bool of_runs = kind == FileKind::kStore;
  refuse_ignored(verb, {{!(of_compression || of_runs),
                         "is for a checkpoint, which alone is measured",
                         {"--samples", "--calibration", "--training", "--repeats", "--seed"}}});
  require(options.measure.program.empty() || !(of_compression || of_runs), "report",
          "--program goes with the model it was made of");
  require(!options.data.said() || !(of_compression || of_runs), "report",
          "--data and what belongs to it are for a checkpoint, which ", options.input, " is not");
  if (of_compression) {
    require(options.filters.empty(), "report", "--filter is for runs, ", options.input, " is a document");
    Json document = read_json("report", options.input);
    require(document.is_object(), "report", options.input, " is no JSON object");
    return document;
  }
  require(kind != FileKind::kProgram, "report", options.input,
          " is a program; name the checkpoint it was made of, and the program with --program");
  std::error_code ignored;
  require(!std::filesystem::is_empty(options.input, ignored) || ignored, "report", options.input,
          " is empty: neither a checkpoint nor a store of runs");
  Json document = report::heading(command_line(verb), options.measure.seed);
  document.update(of_runs ? document_of_runs(options) : document_of_model(options));
  return document;
}

void write_report(Options& options, const CLI::App& verb) {
  require(!options.out.empty(), "report", "--out is missing");
  check_place(options.out, "report", "--out");
  report::check_available();
  set_num_threads(options.threads);
  if (!options.quiet) {
    options.measure.progress = [](const std::string& what) { std::cerr << "measuring " << what << '\n'; };
  }
  const Json document = document_of(options, verb);
  report::write_html(document, options.out);
  Json json = {{"out", options.out}, {"bytes", std::filesystem::file_size(options.out)}, {"sections", Json::array()}};
  for (const auto& [name, section] : document.items()) {
    if (section.is_structured() && !section.empty()) {
      json["sections"].push_back(name);
    }
  }
  std::string text = options.out + ": " + human_bytes(json["bytes"].get<uint64_t>());
  for (const auto& [folder, png] : {std::pair(&options.svg, false), std::pair(&options.png, true)}) {
    if (!folder->empty()) {
      const int charts = report::write_charts(document, *folder, png);
      json[png ? "png" : "svg"] = charts;
      text += ", " + std::to_string(charts) + " charts in " + *folder;
    }
  }
  if (!options.quiet) {
    std::cout << text << '\n';
  }
  if (options.json) {
    std::cout << json_line(json) << '\n';
  }
}

}  // namespace

void add_report(CLI::App& program) {
  CLI::App* verb = program.add_subcommand("report", "Write one page about a model, a compression or many runs");
  const auto options = std::make_shared<Options>();
  verb->add_option("INPUT", options->input,
                   "A checkpoint, which is measured; a document of `whittle compress`; or a store of runs")
      ->required();
  verb->add_option("--out", options->out, "The page: one HTML file that needs no network");
  verb->add_option("--svg", options->svg, "Also write each chart as an SVG file into this folder; needs chromium");
  verb->add_option("--png", options->png, "The same as PNG and SVG files");
  verb->option_defaults()->group("Of a checkpoint");
  verb->add_option("--program", options->measure.program,
                   "A program (.wtl) made of it, whose size and speed are shown (default: one is made in memory)");
  add_data_arguments(*verb, options->data);
  verb->add_option("--samples", options->measure.samples, "Validation samples that each accuracy is measured on")
      ->capture_default_str();
  verb->add_option("--calibration", options->measure.calibration, "Training samples that ranges are found on")
      ->capture_default_str();
  verb->add_option("--training", options->measure.training,
                   "Training samples for one epoch of quantization-aware training; 0: leave that out")
      ->capture_default_str();
  verb->add_option("--repeats", options->measure.repeats, "How often each time is measured")->capture_default_str();
  verb->add_option("--seed", options->measure.seed, "Of that training")->capture_default_str();
  verb->option_defaults()->group("Of a store of runs");
  verb->add_option("--filter", options->filters, "NAME=VALUE, also with != > >= < <=: only such runs; may be repeated")
      ->allow_extra_args(false);
  verb->option_defaults()->group("Threads, output");
  verb->add_option("--threads", options->threads, "Threads that compute; 0: all there are")->capture_default_str();
  verb->add_flag("--quiet", options->quiet, "Only the JSON line");
  verb->add_flag("--json", options->json, "The last line is a JSON object with the results");
  verb->callback([verb, options] { write_report(*options, *verb); });
  set_example(*verb,
              "whittle report m.safetensors --out m.html\n"
              "  whittle report q.safetensors --program q.wtl --out q.html --png charts\n"
              "  whittle report runs.db --filter 'accuracy>0.9' --out runs.html");
}

}  // namespace whittle::apps
