// whittle bench: how long one sample takes.

#include <algorithm>
#include <cstdint>
#include <iomanip>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "apps/cli.h"
#include "apps/data_options.h"
#include "apps/file_kind.h"
#include "apps/latency.h"
#include "apps/machine.h"
#include "apps/models.h"
#include "apps/program.h"
#include "apps/runs/recorder.h"
#include "apps/text.h"
#include "core/checkpoint.h"
#include "core/error.h"
#include "core/json.h"
#include "core/parallel.h"
#include "core/train_kernels.h"
#include "kernels/f32/table.h"

namespace whittle::apps {

namespace {

struct Options {
  std::string model;
  int64_t repeats = 200;
  int threads = 1;
  int at_once = 1;
  bool json = false;
};

void bench(const Options& options, Recorder& run) {
  require(options.repeats >= 1 && options.repeats <= 10'000'000, "bench", "--repeats ", options.repeats,
          " is not between 1 and 10000000");
  for (const int count : {options.threads, options.at_once}) {
    require(count >= 1 && count <= 256, "bench", "--threads and --at-once are from 1 to 256, not ", count);
  }
  require(options.threads == 1 || options.at_once == 1, "bench",
          "--threads shares one sample among threads, --at-once gives each a sample of its own; take one of them");
  set_num_threads(std::max(options.threads, options.at_once));
  std::vector<int64_t> times;
  std::string kernels;
  int64_t batch = 1;
  const bool program = kind_of(options.model) == FileKind::kProgram;
  require(program || options.at_once == 1, "bench", "--at-once is for programs");
  if (program) {
    const ProgramFile file(options.model, threads_for_engine(options.threads));
    batch = file.batch();
    const bool integer_only = (file.engine().program().features() & ~runtime::kIntegerFeatures) == 0;
    const runtime::Kernels& tables = file.engine().kernels();
    run.begin({.model = model_name(file.about()), .from = options.model});
    kernels = integer_only ? tables.int8->name : std::string(tables.int8->name) + ", " + tables.f32->name;
    times = times_of(file, options.repeats, options.at_once);
  } else {
    const Checkpoint checkpoint = load_checkpoint(options.model);
    const std::shared_ptr<Module> model = load_model(checkpoint);
    run.begin({.model = model_name(checkpoint), .from = options.model});
    kernels = train_kernels().name;
    times = times_of(*model, one_sample(*zoo::description_of(checkpoint).options.input), options.repeats);
  }
  const auto microseconds = [&](size_t percent) {
    return microseconds_at(times, percent) / static_cast<double>(batch);
  };
  std::cout << std::fixed << std::setprecision(2) << options.model << ": one sample in " << microseconds(50)
            << " us (median; p10 " << microseconds(10) << ", p90 " << microseconds(90) << "), " << times.size()
            << " runs, " << options.threads << (options.threads == 1 ? " thread" : " threads")
            << (options.at_once > 1 ? " each, " + std::to_string(options.at_once) + " at once" : "")
            << (batch > 1 ? ", " + std::to_string(batch) + " samples a run" : "") << ", kernels " << kernels << ", "
            << printable(cpu_model()) << '\n';
  run.latency({.median_us = microseconds(50),
               .p10_us = microseconds(10),
               .p90_us = microseconds(90),
               .repeats = static_cast<int64_t>(times.size()),
               .threads = options.threads,
               .kernels = kernels});
  const Json json = {{"model", options.model},
                     {"program", program},
                     {"median_us", microseconds(50)},
                     {"p10_us", microseconds(10)},
                     {"p90_us", microseconds(90)},
                     {"runs", times.size()},
                     {"threads", options.threads},
                     {"at_once", options.at_once},
                     {"kernels", kernels},
                     {"batch", batch},
                     {"cpu", cpu_model()}};
  run.result(json);
  if (options.json) {
    std::cout << json_line(json) << '\n';
  }
}

}  // namespace

void add_bench(CLI::App& program) {
  CLI::App* verb = program.add_subcommand("bench", "Measure how long one sample takes");
  const auto options = std::make_shared<Options>();
  verb->add_option("MODEL", options->model, "A program (.wtl), or a checkpoint, of which evaluation is measured")
      ->required();
  verb->add_option("--repeats", options->repeats, "How often; with --at-once each")->capture_default_str();
  verb->add_option("--threads", options->threads, "Threads that share the work on one sample")->capture_default_str();
  verb->add_option("--at-once", options->at_once, "Of a program: samples that run at once, each on one thread")
      ->capture_default_str();
  verb->add_flag("--json", options->json, "The last line is a JSON object with the results");
  const auto run = std::make_shared<Recorder>(*verb);
  verb->callback([options, run] { run->record([&] { bench(*options, *run); }); });
  set_example(*verb, "whittle bench q.wtl --repeats 1000");
}

}  // namespace whittle::apps
