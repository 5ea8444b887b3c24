// whittle export: a model as a file for whoever runs it.

#include <algorithm>
#include <cmath>
#include <iostream>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "apps/cli.h"
#include "apps/data_options.h"
#include "apps/ignored.h"
#include "apps/models.h"
#include "apps/program.h"
#include "apps/runs/recorder.h"
#include "apps/text.h"
#include "core/checkpoint.h"
#include "core/error.h"
#include "core/file.h"
#include "core/json.h"
#include "core/parallel.h"
#include "deploy/lower.h"

namespace whittle::apps {

namespace {

struct Options {
  std::string model;
  std::string to = "wtl";
  std::string out;
  int64_t batch = 1;
  int64_t verify = 0;
  bool plan = false;
  int threads = 0;
  bool json = false;
  DataArguments data;
};

// How far a program is from its model on some test samples.
struct Difference {
  int64_t samples = 0;  // on which any number of the result differs
  double largest = 0;   // between two numbers; infinite if one of them is none
};

Difference difference(Module& model, const ProgramFile& program, const data::Dataset& data, int64_t samples) {
  const EvaluationMode evaluation(model);
  const NoGrad no_grad;
  Difference all;
  constexpr int64_t kBatch = 64;
  for (int64_t begin = 0; begin < samples; begin += kBatch) {
    std::vector<int64_t> indices(static_cast<size_t>(std::min(kBatch, samples - begin)));
    std::iota(indices.begin(), indices.end(), begin);
    const Tensor inputs = data.batch(indices).inputs;
    const Tensor expected = model(inputs).value();
    const auto count = static_cast<int64_t>(indices.size());
    const auto length = static_cast<size_t>(inputs.elements() / count);
    const auto outputs = static_cast<size_t>(expected.elements() / count);
    std::vector<double> furthest(indices.size(), 0);
    parallel_for(count, [&](int64_t i) {
      const auto at = static_cast<size_t>(i);
      const Tensor y =
          program.run(Tensor::from({1, static_cast<int64_t>(length)}, inputs.values().subspan(at * length, length)));
      for (size_t k = 0; k < outputs; ++k) {
        const double gap = std::abs(static_cast<double>(y.values()[k]) - expected.values()[at * outputs + k]);
        furthest[at] = std::max(furthest[at], std::isnan(gap) ? INFINITY : gap);
      }
    });
    for (const double one : furthest) {
      all.samples += one > 0 ? 1 : 0;
      all.largest = std::max(all.largest, one);
    }
  }
  return all;
}

void export_model(const Options& options, Recorder& run) {
  require(options.to == "wtl", "export", "there is no format '", options.to, "'; there is wtl");
  require(!options.out.empty(), "export", "--out is missing");
  require(options.batch >= 1 && options.batch <= 65536, "export", "--batch ", options.batch,
          " is not between 1 and 65536");
  require(options.verify >= 0, "export", "--verify ", options.verify, " is negative");
  require(options.verify == 0 || options.batch == 1, "export", "--verify runs one sample at a time, not --batch ",
          options.batch);
  set_num_threads(options.threads);
  check_place(options.out, "export", "--out");
  const Checkpoint checkpoint = load_net("export", options.model);
  const std::shared_ptr<Module> model = load_model(checkpoint);
  const Shape sample = *zoo::description_of(checkpoint).options.input;
  const deploy::Lowered lowered =
      deploy::lower(*model, sample, {.metadata = program_metadata_of(checkpoint), .batch = options.batch});
  const std::vector<uint8_t> bytes = deploy::bytes_of(lowered);
  std::optional<SavedData> saved;  // before anything is written
  if (options.verify > 0) {
    saved = data_of("export", options.model, checkpoint, options.data);
    require(!saved->splits.test.empty(), "export", "there are no test samples to verify with");
  }
  run.begin({.model = model_name(checkpoint), .from = options.model});
  replace_file(options.out, std::as_bytes(std::span(bytes)));
  run.wrote(options.out);

  const ProgramFile program(options.out);
  const runtime::Program& loaded = program.engine().program();
  const bool integer_only = (loaded.features() & ~runtime::kIntegerFeatures) == 0;
  Json json = {{"model", options.model},
               {"out", options.out},
               {"bytes", bytes.size()},
               {"arena_bytes", loaded.arena_bytes()},
               {"arena_lower_bound", lowered.plan.lower_bound},
               {"ops", loaded.op_count()},
               {"integer_only", integer_only}};
  std::cout << options.out << ": " << human_bytes(bytes.size()) << ", " << loaded.op_count() << " ops, "
            << (integer_only ? "integers only" : "with float parts") << ", arena " << human_bytes(loaded.arena_bytes())
            << " (at least " << human_bytes(static_cast<uint64_t>(lowered.plan.lower_bound)) << ")\n";
  if (options.plan) {
    std::cout << deploy::draw_plan(lowered.blocks, lowered.plan);
  }
  if (saved.has_value()) {
    const int64_t samples = std::min(options.verify, saved->splits.test.size());
    const Difference found = difference(*model, program, saved->splits.test, samples);
    json["verified"] = {{"samples", samples}, {"differing", found.samples}, {"largest", found.largest}};
    std::cout << "compared with the model on " << samples << " test samples: ";
    if (integer_only || found.samples == 0) {
      std::cout << found.samples << " differ\n";
    } else {  // sums of floats depend on their order
      std::cout << "their results are at most " << found.largest << " apart\n";
    }
    require(std::isfinite(found.largest), "export", "results of the model or the program are no numbers");
    require(found.samples == 0 || !integer_only, "export", "the program and the model differ on ", found.samples,
            " of ", samples, " samples; this is a defect of whittle");
  }
  run.result(json);
  if (options.json) {
    std::cout << json_line(json) << '\n';
  }
}

}  // namespace

void add_export(CLI::App& program) {
  CLI::App* verb = program.add_subcommand("export", "Write a model as a program for the runtime");
  const auto options = std::make_shared<Options>();
  verb->add_option("MODEL", options->model, "A checkpoint: quantized for integer arithmetic, or as trained")
      ->required();
  offer(verb->add_option("--to", options->to, "wtl: a program (docs/format.md)"), {"wtl"})->capture_default_str();
  verb->add_option("--out", options->out, "The file to write");
  verb->add_option("--batch", options->batch, "Samples that one run of the program computes")->capture_default_str();
  verb->add_option("--verify", options->verify, "Compare program and model on so many test samples")
      ->capture_default_str();
  verb->add_flag("--plan", options->plan, "Draw the plan of memory");
  verb->add_option("--data", options->data.name, "Data to verify with, in place of those of the training");
  verb->add_option("--data-dir", options->data.dir, "Folder of the data files (default: $WHITTLE_DATA)");
  verb->add_option("--threads", options->threads, "Threads that compute; 0: all there are")->capture_default_str();
  verb->add_flag("--json", options->json, "The last line is a JSON object with the results");
  verb->parse_complete_callback([verb, options] {
    refuse_ignored(*verb, {{options->verify > 0, "is for --verify", {"--data", "--data-dir"}}});
  });
  const auto run = std::make_shared<Recorder>(*verb);
  verb->callback([options, run] { run->record([&] { export_model(*options, *run); }); });
  set_example(*verb,
              "whittle quantize m.safetensors --out q.safetensors\n"
              "  whittle export q.safetensors --out q.wtl --verify 10000\n"
              "  whittle eval q.wtl");
}

}  // namespace whittle::apps
