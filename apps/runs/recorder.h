// What a verb tells the experiment store about its run.
//
//   const auto run = std::make_shared<Recorder>(*verb);      // adds --runs to the verb
//   verb->callback([options, run] { run->record([&] { eval(*options, *run); }); });
//
//   run.begin({.model = "lenet5", .data = "glyphs", .from = file});   // in eval(), when it is clear what will be done
//   const Metrics metrics = run.measure(model, test, about);
//   run.result(json);
//
// Without --runs and $WHITTLE_RUNS nothing is recorded and every call just does its work. A store that
// cannot be written costs one line on stderr, when the run begins if that can be known then; it
// never makes a verb fail.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "apps/cli.h"
#include "apps/program.h"
#include "apps/runs/store.h"
#include "core/json_fwd.h"
#include "datasets/registry.h"
#include "train/evaluate.h"
#include "train/fit.h"

namespace whittle::apps {

class Recorder {
 public:
  explicit Recorder(CLI::App& verb);
  ~Recorder();
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;

  // Runs `work` and writes down how it ended. What ends before begin() is not recorded: it was a
  // mistake in the command, not a run.
  void record(const std::function<void()>& work);

  struct Beginning {
    std::string model;             // its name in the zoo; empty: not known
    std::string data{};            // empty: none
    std::filesystem::path from{};  // the file that holds the model; empty: it is new
  };
  void begin(const Beginning& beginning);

  // evaluate(), whose numbers and single answers are recorded. `stage` is "before" and "after" where a
  // verb measures twice; the answers of the last time are kept.
  Metrics measure(Module& model, const data::Dataset& data, const data::DataInfo& about, const std::string& stage = "",
                  const std::string& split = "test");
  Metrics measure(const ProgramFile& program, const data::Dataset& data, const data::DataInfo& about,
                  const std::string& split = "test", RunBytes* bytes = nullptr);

  // Numbers that something else measured.
  void measured(const Metrics& metrics, const data::DataInfo& about, const std::string& stage = "",
                const std::string& split = "test");

  // For fit(): records each epoch and passes everything on to `next`, which may be null. The second
  // training that it watches is the second part of the run.
  FitObserver* watch(FitObserver* next);
  void trained(const FitResult& result);  // of the part: also the epochs of a run that this one resumed

  void wrote(const std::filesystem::path& file);
  void latency(const RunLatency& latency);
  void result(const Json& json);  // what --json prints

 private:
  class Watch;

  bool on() const { return store_ != nullptr; }
  void add_epoch(const EpochRecord& record);
  void add_answers(std::vector<bool> right, const data::Dataset& data, const std::string& split);
  void guarded(const char* lost, const std::function<void()>& write);
  void finish(const std::string& status, const std::string& error);

  CLI::App& verb_;
  std::string file_;  // as --runs says
  std::unique_ptr<RunStore> store_;
  std::unique_ptr<Watch> watch_;
  Run run_;
  int64_t part_ = 0;
};

}  // namespace whittle::apps
