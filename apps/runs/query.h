// Questions to a list of runs: what is its accuracy, which are the best, which are alike.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "apps/runs/store.h"
#include "core/json_fwd.h"

namespace whittle::apps {

// The metric of the model as it is when the run ends: on test data if there is one, else on any but training data,
// which say nothing of how good it is. Null if there is none called `name`.
const RunMetric* final_metric(const Run& run, const std::string& name);
// The one that says how good the model is: "accuracy" or "mse".
const RunMetric* main_metric(const Run& run);

// The file that a run made, of eval and bench the one they read; null if there is none.
const RunFile* main_file(const Run& run);

std::optional<double> seconds_of(const Run& run);  // from begin to end
Json config_of(const Run& run);                    // always an object, whatever the file holds

// What a run has under a name; null if it has nothing of that name:
//   id verb status begun ended seconds model data seed threads cpu version revision parent hash
//   accuracy mse loss samples, SPLIT.accuracy and so on ("train.accuracy"); bytes; median_us p10_us p90_us
//   and the options of its verb, and the single numbers and words that its --json prints
Json value_of(const Run& run, const std::string& name);

// "verb=train", "accuracy>0.9", "data!=moons", "begun>=2026-11-01". Numbers compare as numbers,
// anything else as text. A run without the value does not match.
class Filter {
 public:
  explicit Filter(const std::string& text);  // throws Error
  bool matches(const Run& run) const;
  const std::string& name() const { return name_; }
  const std::string& value() const { return value_; }
  bool fits_numbers() const;  // whether numbers can be held against it

 private:
  std::string name_;
  std::string operation_;
  std::string value_;
};

// Runs that match all. Refuses a name that no run has: it is misspelt.
std::vector<Run> filtered(std::vector<Run> runs, const std::vector<Filter>& filters);

// At most so many runs, best or worst first, by `name`; by the main metric if that is empty. Runs
// without a value are left out. Of accuracy and sparsity much is good, of all else little.
std::vector<Run> ranked(std::vector<Run> runs, const std::string& name, size_t count, bool best);

// Whether a pruning took its share round by round or little by little (true) or at once (false);
// nothing of other verbs.
std::optional<bool> iterative(const Run& run);

// The finished runs that differ from `run` in nothing but their seed, itself among them, by number.
// Of runs with one seed that read the same files, which have one result, the last counts.
std::vector<Run> seeds_of(const std::vector<Run>& runs, const Run& run);

// A line per run, after a line of names (RFC 4180). Options are columns "option.NAME".
std::string to_csv(const std::vector<Run>& runs);

// Everything a run has; of its answers the number.
Json to_json(const Run& run);

}  // namespace whittle::apps
