// whittle compress: the smallest or fastest program that keeps a promise about its accuracy.

#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <initializer_list>
#include <iostream>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "apps/cli.h"
#include "apps/data_options.h"
#include "apps/ignored.h"
#include "apps/latency.h"
#include "apps/machine.h"
#include "apps/metrics_text.h"
#include "apps/models.h"
#include "apps/program.h"
#include "apps/report/measure.h"
#include "apps/report/page.h"
#include "apps/runs/recorder.h"
#include "apps/stopping.h"
#include "apps/text.h"
#include "apps/training_options.h"
#include "compress/candidate.h"
#include "compress/json_file.h"
#include "compress/search.h"
#include "core/checkpoint.h"
#include "core/error.h"
#include "core/file.h"
#include "core/json.h"
#include "core/parallel.h"
#include "datasets/sha256.h"
#include "deploy/lower.h"
#include "layers/model_checkpoint.h"
#include "layers/summary.h"
#include "quant/prepare.h"
#include "train/progress.h"

namespace whittle::apps {

namespace {

constexpr int64_t kLatencyRuns = 500;
constexpr double kMostMinutes = 100'000;

struct Options {
  std::string model;
  std::string target = "size";
  compress::SearchOptions search{.fit = {.batch = 128, .rate = 0.02, .weight_decay = 1e-4}};
  double minutes = 0;
  std::string latency_table;
  std::string out;
  std::string report;
  std::string command;  // as it was given
  DataArguments data;
  std::optional<double> momentum;
  uint64_t seed = 0;
  int threads = 0;
  bool quiet = false;
  bool json = false;
};

// "1.50 times faster", "1.20 times slower".
std::string times(double ratio, const char* more, const char* less) {
  char text[60];
  std::snprintf(text, sizeof(text), "%.2f times %s", ratio >= 1 ? ratio : 1 / ratio, ratio >= 1 ? more : less);
  return text;
}

// What the user gave that a setting of the search comes from.
std::string option_behind(const std::string& setting) {
  struct Name {
    const char* setting;
    const char* option;
  };
  constexpr std::array kNames = {
      Name{"calibration_samples", "--samples"},
      Name{"fit/augment", "augmentation (--crop, --flip, ...)"},
      Name{"fit/distillation", "--distill or --temperature"},
      Name{"fit/epochs", "number of epochs a rung (by --budget, --minutes, --rungs, --batch and --first)"},
      Name{"fit/samples", "number of training samples (--first)"},
      Name{"latencies", "table of latencies (--latency-table)"},
      Name{"validation_samples", "number of validation samples"},
      Name{kDataKey, "choice of data (--data, --first and what belongs to them)"},
      Name{kOriginKey, "MODEL"},
      Name{kPreprocessingKey, "preparation of the data"},
  };
  for (const Name& name : kNames) {
    if (setting.starts_with(name.setting)) {
      return name.option;
    }
  }
  std::string option = setting.substr(setting.find_last_of('/') + 1);  // "fit/weight_decay"
  std::ranges::replace(option, '_', '-');
  return "--" + option;
}

// The verb, from what it was told to what it tells.
class Compress {
 public:
  Compress(Options& options, Recorder& run) : options_(options), run_(run) {}

  void operator()() {
    prepare();
    run_.begin({.model = description_.name, .data = saved_->arguments.name, .from = options_.model});
    latencies();
    budget();
    const bool terminal = isatty(STDOUT_FILENO) != 0;
    Progress progress(std::cout, {.terminal = terminal, .classification = true});
    if (!options_.quiet) {
      std::cout << description_.name << " (" << with_thousands(trainable_count(*model_)) << " parameters) on "
                << saved_->arguments.name << " (" << saved_->splits.train.size() << " training, "
                << saved_->splits.validation.size() << " validation samples): at most "
                << options_.search.promise.max_drop << " points lost, at " << options_.search.promise.confidence
                << " % confidence\n";
    }
    compress::SearchResult result = [&] {
      const StopOnSignal stopping;
      return compress::search(
          *model_, description_, saved_->splits, options_.search, [this](const auto& c) { print(c); },
          run_.watch(!options_.quiet && terminal ? &progress : nullptr));
    }();
    if (result.interrupted) {
      throw Interrupted(StopOnSignal::signal(), "[compress] interrupted after " +
                                                    std::to_string(result.candidates.size()) +
                                                    " candidates; the same command with --resume goes on");
    }
    measure_side_by_side(result);
    tell(result);
  }

 private:
  std::filesystem::path beside(const char* what) const { return options_.out + what; }

  void prepare() {
    compress::SearchOptions& search = options_.search;
    require(!options_.out.empty(), "compress", "--out is missing");
    check_place(options_.out, "compress", "--out");
    check_place(options_.report, "compress", "--report");
    if (!options_.report.empty()) {
      report::check_available();
    }
    search.target = compress::target_named(options_.target);
    check_momentum("compress", search.fit, options_.momentum);
    search.fit.momentum = options_.momentum.value_or(search.fit.momentum);
    search.fit.seed = options_.seed;
    set_num_threads(options_.threads);
    const Checkpoint checkpoint = load_net("compress", options_.model);
    model_ = load_model(checkpoint);
    require(!quant::is_quantized(*model_), "compress", options_.model,
            " is quantized already; compress begins with a float model");
    description_ = zoo::description_of(checkpoint);
    saved_ = data_of("compress", options_.model, checkpoint, options_.data);
    check_augmentation_for(saved_->arguments.info(), "compress", search.fit.augment);
    search.folder = beside(".work");
    search.fit.stop = StopOnSignal::asked();
    search.fit.metadata = {{kDataKey, saved_->arguments.text()},
                           {kPreprocessingKey, data::to_json(saved_->splits.train.preprocessing())},
                           {kOriginKey, sha256_of_file(options_.model)}};
    search.program_metadata = program_metadata_of;
    search.setting_name = option_behind;
    search.run = [this](const std::filesystem::path& file) {
      const ProgramFile program(file);
      compress::Answers answers{.latency_us = microseconds_at(times_of(program, kLatencyRuns), 50)};
      evaluate(program, saved_->splits.validation, nullptr, &answers.right);
      return answers;
    };
    compress::check(search, saved_->splits);
  }

  // Measured once, and then read from where it was saved: a search can be repeated exactly.
  void latencies() {
    if (options_.search.target == compress::Target::kSize) {
      return;
    }
    if (const std::string& file = options_.latency_table; !file.empty()) {
      const Json json = read_json("compress", file);
      require(json.is_object() && json.contains("ops"), "compress", file, " is not a table of latencies");
      options_.search.latencies = compress::LatencyTable::from(json["ops"]);
      return;
    }
    const std::optional<compress::LatencyTable> begun =
        options_.search.fit.resume ? compress::latencies_begun_with(options_.search.folder) : std::nullopt;
    options_.search.latencies = begun.has_value()
                                    ? *begun
                                    : compress::measure_latencies(*model_, description_, saved_->splits.train,
                                                                  options_.search.calibration_samples);
    const std::filesystem::path saved = beside(".latency.json");
    if (!begun.has_value() || !std::filesystem::exists(saved)) {
      write_json(saved, {{"cpu", cpu_model()}, {"threads", 1}, {"ops", options_.search.latencies.json()}});
    }
  }

  // Minutes become steps once; whoever goes on reads how many.
  void budget() {
    if (options_.minutes == 0) {
      return;
    }
    make_folder(options_.search.folder, "compress");
    const std::filesystem::path file = options_.search.folder / "budget.json";
    if (!options_.search.fit.resume || !std::filesystem::exists(file)) {
      const double seconds = seconds_of_a_step();
      write_json(file, {{"minutes", options_.minutes},
                        {"seconds_per_step", seconds},
                        {"steps", static_cast<int64_t>(60 * options_.minutes / seconds)}});
    }
    const Json json = read_json("compress", file);
    require(json.value("minutes", 0.0) == options_.minutes && json.contains("steps"), "compress", file.string(),
            " was made for another --minutes");
    options_.search.steps = json["steps"].get<int64_t>();
  }

  // Of as many steps as it takes to fill half a second, so that beginning a training does not count.
  double seconds_of_a_step() const {
    constexpr int64_t kSteps = 5;
    const std::shared_ptr<Module> pupil = load_model(load_checkpoint(options_.model));
    FitOptions fit_options = options_.search.fit;
    fit_options.resume = false;
    fit_options.distillation.teacher = model_.get();
    std::vector<int64_t> some(static_cast<size_t>(std::min(kSteps * fit_options.batch, saved_->splits.train.size())));
    std::iota(some.begin(), some.end(), 0);
    const data::Splits few{.train = saved_->splits.train.subset(some), .validation = {}, .test = {}};
    for (fit_options.epochs = 1;; fit_options.epochs *= 4) {
      const auto start = std::chrono::steady_clock::now();
      const FitResult result = fit(*pupil, few, fit_options);
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      if (seconds >= 0.5) {
        return seconds / static_cast<double>(result.steps);
      }
    }
  }

  void print(const compress::Candidate& c) const {
    if (options_.quiet) {
      return;
    }
    char line[200];
    std::snprintf(
        line, sizeof(line),
        "%-8s %-4s %4.1f bits %10s %9.2f us  %6.3f of int8  accuracy %.2f %%  drop %5.2f, at most %5.2f: %s\n",
        c.name.c_str(), c.method.c_str(), c.weight_bits, human_bytes(c.bytes).c_str(), c.latency_us, c.cost,
        100 * c.accuracy, c.drop(), c.bound, c.supports(options_.search.promise) ? "supported" : "not supported");
    std::cout << line << std::flush;
  }

  // Times of different minutes cannot be compared: all candidates and the float model run by turns.
  void measure_side_by_side(compress::SearchResult& result) {
    constexpr int64_t kTurns = 10;
    std::vector<std::unique_ptr<ProgramFile>> programs;
    for (size_t i = 0; i < result.candidates.size(); ++i) {
      programs.push_back(std::make_unique<ProgramFile>(compress::candidate_program(options_.search.folder, i)));
    }
    programs.push_back(std::make_unique<ProgramFile>(deploy::program_of(*model_, saved_->splits.train.sample_shape()),
                                                     options_.model));
    float_.bytes = programs.back()->bytes().size();
    std::vector<std::vector<int64_t>> times(programs.size());
    for (int64_t turn = 0; turn < kTurns; ++turn) {
      for (size_t i = 0; i < programs.size(); ++i) {
        const std::vector<int64_t> more = times_of(*programs[i], kLatencyRuns / kTurns);
        times[i].insert(times[i].end(), more.begin(), more.end());
      }
    }
    for (size_t i = 0; i < programs.size(); ++i) {
      const double median = microseconds_at(times[i], 50);
      (i < result.candidates.size() ? result.candidates[i].latency_us : float_.latency_us) = median;
    }
  }

  void tell(const compress::SearchResult& result) {
    const compress::Choice choice = compress::choose(result.candidates, options_.search.promise);
    const std::filesystem::path& folder = options_.search.folder;
    copy(compress::candidate_program(folder, choice.chosen), options_.out);
    copy(compress::candidate_checkpoint(folder, choice.chosen), beside(".safetensors"));
    Json told = document(result, choice);
    write_json(beside(".compress.json"), told);
    if (!options_.report.empty()) {
      measure(told);
      write_json(beside(".compress.json"), told);
      report::write_html(told, options_.report);
      run_.wrote(options_.report);
    }
    const compress::Candidate& kept = result.candidates[choice.chosen];
    const compress::Candidate& plain = result.candidates.front();
    if (!options_.quiet) {
      std::cout << "the ladder ends: " << result.ended << '\n' << "front:";
      for (const size_t i : choice.front) {
        std::cout << ' ' << result.candidates[i].name << (i == choice.front.back() ? "\n" : ",");
      }
      std::cout << (choice.supported ? "kept " : "kept plain int8: ") << choice.why << '\n';
      if (choice.chosen != 0) {
        std::cout << times(static_cast<double>(plain.bytes) / static_cast<double>(kept.bytes), "smaller", "larger")
                  << " and " << times(plain.latency_us / kept.latency_us, "faster", "slower") << " than plain int8\n";
      }
    }
    Json json = {{"model", options_.model},
                 {"out", options_.out},
                 {"data", saved_->arguments.name},
                 {"chosen", kept.name},
                 {"supported", choice.supported},
                 {"validation", {{"float", result.float_accuracy}, {"accuracy", kept.accuracy}, {"bound", kept.bound}}},
                 {"bytes", {{"int8", plain.bytes}, {"kept", kept.bytes}}},
                 {"latency_us", {{"int8", plain.latency_us}, {"kept", kept.latency_us}}},
                 {"steps", result.steps}};
    test(json);
    run_.result(json);
    if (options_.json) {
      std::cout << json_line(json) << '\n';
    }
  }

  // For the user to see: nothing was decided by it.
  void test(Json& json) {
    const data::Dataset& data = saved_->splits.test;
    if (data.empty()) {
      return;
    }
    const data::DataInfo about = saved_->arguments.info();
    const Metrics before = run_.measure(*model_, data, about, "before");
    const Metrics after = run_.measure(ProgramFile(options_.out), data, about);
    json["test"] = {{"float", to_json(before, about)}, {"kept", to_json(after, about)}};
    if (!options_.quiet) {
      std::cout << "on test data, which nothing was decided by: float " << sentence(before, about) << ", program "
                << sentence(after, about) << "\nsaved as " << options_.out << ", its net as "
                << beside(".safetensors").string() << '\n';
    }
  }

  void copy(const std::filesystem::path& from, const std::filesystem::path& to) {
    replace_file(to, read_file(from));
    run_.wrote(to);
  }

  // docs/report.md
  Json document(const compress::SearchResult& result, const compress::Choice& choice) const {
    const compress::Promise& promise = options_.search.promise;
    const Shape input = one_sample(saved_->splits.train.sample_shape());
    const Summary summary = summarize(*model_, input);
    Json json = report::heading(options_.command, options_.seed);
    json.update(
        {{"model",
          {{"name", description_.name},
           {"data", saved_->arguments.name},
           {"parameters", summary.trainable},
           {"macs", summary.macs}}},
         {"promise",
          {{"max_drop", promise.max_drop},
           {"confidence", promise.confidence},
           {"target", options_.target},
           {"supported", choice.supported},
           {"validation_samples", saved_->splits.validation.size()},
           {"why", choice.why}}},
         {"budget", {{"epochs_per_rung", result.epochs}, {"steps", result.steps}, {"minutes", options_.minutes}}},
         {"ended", result.ended},
         {"chosen", result.candidates[choice.chosen].name},
         {"float", {{"accuracy", result.float_accuracy}, {"bytes", float_.bytes}, {"latency_us", float_.latency_us}}},
         {"candidates", Json::array()},
         {"front", Json::array()},
         {"training", Json::array()}});
    for (const size_t i : choice.front) {
      json["front"].push_back(result.candidates[i].name);
    }
    for (size_t i = 0; i < result.candidates.size(); ++i) {
      const compress::Candidate& c = result.candidates[i];
      json["candidates"].push_back({{"name", c.name},
                                    {"accuracy", c.accuracy},
                                    {"drop", c.drop()},
                                    {"confidence", c.confidence},
                                    {"bound", c.bound},
                                    {"bytes", c.bytes},
                                    {"latency_us", c.latency_us},
                                    {"macs", c.macs},
                                    {"parameters", c.parameters},
                                    {"cost", c.cost},
                                    {"weight_bits", c.weight_bits},
                                    {"layer_bits", c.bits},
                                    {"activation_bits", 8},
                                    {"method", c.method},
                                    {"verdict", choice.verdicts[i].word},
                                    {"why", choice.verdicts[i].why}});
      Json points = Json::array();
      for (size_t e = 0; e < c.training_loss.size(); ++e) {
        points.push_back({{"epoch", e + 1}, {"train_loss", c.training_loss[e]}});
      }
      if (!points.empty()) {
        json["training"].push_back({{"name", c.name}, {"points", std::move(points)}});
      }
    }
    return json;
  }

  // What a page shows besides what was tried: how far the float model can go, and the kept program layer by layer.
  void measure(Json& document) const {
    const auto take = [&](const std::string& file, report::MeasureOptions how,
                          std::initializer_list<const char*> sections) {
      if (!options_.quiet) {
        how.progress = [&](const std::string& what) { std::cerr << "measuring " << what << " of " << file << '\n'; };
      }
      const Json measured = report::measure(file, load_checkpoint(file), *saved_, how);
      for (const char* section : sections) {
        if (measured.contains(section)) {
          document[section] = measured[section];
        }
      }
    };
    take(options_.model, {.seed = options_.seed}, {"model", "techniques", "sweeps"});
    take(beside(".safetensors"), {.program = options_.out}, {"layers", "histograms", "sizes", "sizes_of"});
  }

  Options& options_;
  Recorder& run_;
  std::shared_ptr<Module> model_;
  struct FloatProgram {
    uint64_t bytes = 0;
    double latency_us = 0;
  } float_;
  zoo::Description description_;
  std::optional<SavedData> saved_;
};

}  // namespace

void add_compress(CLI::App& program) {
  CLI::App* verb = program.add_subcommand("compress", "Make a model as small or fast as a promise about it allows");
  const auto options = std::make_shared<Options>();
  compress::SearchOptions& search = options->search;
  verb->add_option("MODEL", options->model, "A float checkpoint of a classifier, as train writes it")->required();
  verb->add_option("--max-drop", search.promise.max_drop, "Points of accuracy that may be lost")->capture_default_str();
  verb->add_option("--confidence", search.promise.confidence, "How sure that shall be, in percent")
      ->capture_default_str();
  offer(verb->add_option("--target", options->target, "What shall be small: size, latency, or both"),
        {"size", "latency", "both"})
      ->capture_default_str();
  verb->option_defaults()->group("Search");
  CLI::Option* const budget = verb->add_option(
      "--budget", search.steps, "Training steps in all (default: 8 epochs a rung, and 5000 steps a rung at least)");
  CLI::Option* const minutes =
      verb->add_option("--minutes", options->minutes, "The budget as time: turned into steps once, at the beginning")
          ->excludes(budget);
  verb->add_option("--rungs", search.rungs, "Thinner nets to try at most, one after the other")->capture_default_str();
  verb->add_option("--factor", search.factor, "Cost of each as a share of the one before")->capture_default_str();
  verb->add_option("--samples", search.calibration_samples, "Samples that calibrate")->capture_default_str();
  verb->add_option("--latency-table", options->latency_table,
                   "Times of ops measured before (OUT.latency.json), so that a search can be repeated exactly");
  verb->option_defaults()->group("Data");
  add_data_arguments(*verb, options->data);
  verb->option_defaults()->group("Training");
  add_step_arguments(*verb, search.fit, options->momentum);
  add_distillation_arguments(*verb, search.fit.distillation);
  verb->add_option("--seed", options->seed, "Seed of order and augmentation")->capture_default_str();
  verb->option_defaults()->group("Augmentation");
  add_augmentation_arguments(*verb, search.fit.augment);
  verb->option_defaults()->group("Files, threads, output");
  verb->add_option("--out", options->out, "The program to write; what belongs to it goes beside it");
  verb->add_option("--report", options->report, "A page about all of it: one HTML file (docs/report.md)");
  verb->add_flag("--resume", search.fit.resume, "Go on from what is in OUT.work");
  verb->add_option("--threads", options->threads, "Threads that compute; 0: all there are")->capture_default_str();
  verb->add_flag("--quiet", options->quiet, "Only the JSON line");
  verb->add_flag("--json", options->json, "The last line is a JSON object with the results");
  verb->parse_complete_callback([verb, options, budget, minutes] {
    require(budget->empty() || options->search.steps > 0, "compress", "--budget ", options->search.steps,
            " is no number of steps to train");
    require(minutes->empty() || (options->minutes > 0 && options->minutes <= kMostMinutes), "compress", "--minutes ",
            options->minutes, " is not above 0 and at most ", kMostMinutes);
    options->command = command_line(*verb);
    refuse_ignored(*verb, {{options->target != "size", "is for --target latency and both", {"--latency-table"}}});
  });
  const auto run = std::make_shared<Recorder>(*verb);
  verb->callback([options, run] { run->record([&] { Compress(*options, *run)(); }); });
  set_example(*verb,
              "whittle compress m.safetensors --max-drop 0.5 --out m.wtl\n"
              "  whittle compress m.safetensors --max-drop 1 --target latency --minutes 20 --crop 4 --flip --out m.wtl "
              "--report m.html");
}

}  // namespace whittle::apps
