// The experiment store: what was run, how, and what came out, in one SQLite file.
//
//   RunStore store("runs.db", RunStore::Mode::kWrite);      // made if it is not there
//   run.id = store.begin(run);                              // status "running"
//   store.add_points(run.id, points);                       // as training goes on
//   store.end(run);                                         // everything else, in one transaction
//
// Any number of processes of one machine may write to a file at once: each waits for its turn
// (up to kPatience), and what was written is there or not, never half. A file that is no
// store, or one of a later version, is refused. docs/runs.md describes the tables.
//
// SQLite is wrapped by store_sqlite.cpp alone; a build without it has store_none.cpp, where
// opening fails with a sentence. Everything throws whittle::Error.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace whittle::apps {

// One number of the result. `stage` tells "before" from "after" where a verb measures both.
struct RunMetric {
  std::string stage;  // "" or "before": of the model as it was read; "after": of what the run made
  std::string split;  // "train", "validation", "test"
  std::string name;   // "accuracy", "mse", "loss"
  double value = 0;
  int64_t samples = 0;
  friend bool operator==(const RunMetric&, const RunMetric&) = default;
};

// One number of an epoch. A run that trains several times, round by round, has several parts.
struct RunPoint {
  int64_t part = 1;
  int64_t epoch = 1;
  std::string name;  // as the columns of train --log: "rate", "train_loss", "validation_accuracy", ...
  double value = 0;
  friend bool operator==(const RunPoint&, const RunPoint&) = default;
};

struct RunFile {
  std::string role;  // "in" or "out"
  std::string path;
  uint64_t bytes = 0;
  std::string sha256;
  friend bool operator==(const RunFile&, const RunFile&) = default;
};

struct RunLatency {  // of one sample
  double median_us = 0;
  double p10_us = 0;
  double p90_us = 0;
  int64_t repeats = 0;
  int threads = 1;
  std::string kernels;
  friend bool operator==(const RunLatency&, const RunLatency&) = default;
};

// Which samples were answered rightly, in the order of the set. Two runs can be compared sample
// by sample if they agree in `samples`, a name for exactly these samples and their labels.
struct RunAnswers {
  std::string split;
  std::string samples;
  std::vector<bool> right;
  friend bool operator==(const RunAnswers&, const RunAnswers&) = default;
};

struct Run {
  int64_t id = 0;
  std::string verb;
  std::string status = "running";  // or "finished", "interrupted", "failed"; a run that was killed stays "running"
  std::string error{};             // of a failed or interrupted run
  std::string begun{};             // UTC: "2026-11-22T04:08:57Z"
  std::string ended{};
  std::string version{};   // of whittle
  std::string revision{};  // of its source; empty: not known
  std::string cpu{};
  int threads = 1;
  std::string model{};  // its name in the zoo
  std::string data{};
  std::string config = "{}";         // JSON: every option of the verb
  std::vector<std::string> given{};  // names of those that the command line said
  std::string config_hash{};         // of what makes the result; runs with one hash differ in seed alone
  std::optional<uint64_t> seed{};
  std::optional<int64_t> parent{};  // the run that made the model this one began with
  std::string results = "{}";       // JSON: what --json prints

  std::vector<RunMetric> metrics{};
  std::vector<RunFile> files{};
  std::optional<RunLatency> latency{};
  std::vector<RunPoint> points{};       // list() leaves these out
  std::optional<RunAnswers> answers{};  // and these
};

class RunStore {
 public:
  enum class Mode : uint8_t { kRead, kWrite };
  static constexpr int kVersion = 1;
  static constexpr std::chrono::seconds kPatience{20};  // for others that write

  static bool available();  // was this built with SQLite?

  RunStore(const std::filesystem::path& file, Mode mode);
  ~RunStore();
  RunStore(const RunStore&) = delete;
  RunStore& operator=(const RunStore&) = delete;

  // Writes what is known at the beginning and returns the run's number.
  int64_t begin(const Run& run);
  // A point that is there already is replaced.
  void add_points(int64_t run, const std::vector<RunPoint>& points);
  // Status, end, results, metrics, files, latency, points and answers of run.id. All or nothing.
  void end(const Run& run);

  std::vector<Run> list() const;                                     // by number
  Run read(int64_t id) const;                                        // everything of one
  std::optional<int64_t> maker_of(const std::string& sha256) const;  // the latest run that wrote this file

 private:
  class Database;
  std::unique_ptr<Database> database_;
};

}  // namespace whittle::apps
