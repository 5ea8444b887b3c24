#include "apps/report/runs.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "apps/runs/query.h"
#include "core/json.h"
#include "train/statistics.h"

namespace whittle::apps::report {

namespace {

// What tells where a run's files were and how it was watched, and nothing about its result.
const std::set<std::string> kNoAxes = {"MODEL",    "out",   "log",        "from", "resume", "threads", "workers",
                                       "data-dir", "quiet", "save-codes", "json", "model",  "data",    "seed"};
constexpr size_t kMostOptions = 7;  // beside the results; more lines cannot be told apart

std::string name_of(const Run& run) {
  std::string name = std::to_string(run.id) + " " + run.verb;
  return run.model.empty() ? name : name + " " + run.model;
}

// What differs between the runs: options and names first, what came out behind them.
Json axes_of(const std::vector<Run>& runs) {
  const auto axis = [&runs](const std::string& name) {
    std::set<Json> values;
    bool numbers = true;
    for (const Run& run : runs) {
      if (const Json value = value_of(run, name); !value.is_null()) {
        values.insert(value);
        numbers = numbers && value.is_number();
      }
    }
    return values.size() < 2 ? Json() : Json{{"name", name}, {"kind", numbers ? "number" : "word"}};
  };
  std::map<std::string, size_t> given;  // option: by how many runs
  for (const Run& run : runs) {
    for (const std::string& name : run.given) {
      given[name] += kNoAxes.contains(name) ? 0 : 1;
    }
  }
  std::erase_if(given, [](const auto& option) { return option.second == 0; });
  std::vector<std::pair<std::string, size_t>> options(given.begin(), given.end());
  std::ranges::stable_sort(options, std::ranges::greater{}, &std::pair<std::string, size_t>::second);
  std::vector<Json> found;
  for (const auto& [name, count] : options) {
    if (Json one = axis(name); !one.is_null() && found.size() < kMostOptions) {
      found.push_back(std::move(one));
    }
  }
  Json axes = Json::array();
  for (const char* name : {"verb", "model", "data", "seed"}) {
    if (Json one = axis(name); !one.is_null()) {
      axes.push_back(std::move(one));
    }
  }
  std::ranges::copy(found, std::back_inserter(axes));
  for (const char* name : {"sparsity", "seconds", "bytes", "median_us", "mse", "accuracy"}) {
    if (Json one = axis(name); !one.is_null() && std::count(axes.begin(), axes.end(), one) == 0) {
      axes.push_back(std::move(one));
    }
  }
  return axes;
}

Json row_of(const Run& run, const Json& axes) {
  Json values = Json::object();
  for (const Json& axis : axes) {
    const auto name = axis["name"].get<std::string>();
    if (Json value = value_of(run, name); !value.is_null()) {
      values[name] = axis["kind"] == "word" && !value.is_string() ? Json(value.dump()) : std::move(value);
    }
  }
  return {{"id", run.id}, {"name", name_of(run)}, {"status", run.status}, {"values", std::move(values)}};
}

Json curve_of(const Run& run) {
  std::map<std::pair<int64_t, int64_t>, Json> epochs;
  for (const RunPoint& p : run.points) {
    epochs[{p.part, p.epoch}][p.name] = p.value;
  }
  // Without a validation part the store holds zeros.
  const bool validated =
      std::ranges::any_of(run.points, [](const RunPoint& p) { return p.name == "validation_loss" && p.value != 0; });
  Json points = Json::array();
  for (auto& [at, values] : epochs) {
    Json point = {{"epoch", points.size() + 1}};
    for (const char* name : {"train_loss", "train_accuracy", "validation_loss", "validation_accuracy"}) {
      if (values.contains(name) && (validated || !std::string(name).starts_with("validation"))) {
        point[name] = values[name];
      }
    }
    points.push_back(std::move(point));
  }
  return {{"name", name_of(run)}, {"run", run.id}, {"points", std::move(points)}};
}

// A file is a candidate: one run says how good it is, another perhaps how fast.
Json candidates_of(const std::vector<Run>& runs) {
  std::map<std::string, Json> by_file;
  std::set<std::string> tested;  // files that test data have judged; no other part takes their place
  for (const Run& run : runs) {
    const RunFile* const file = main_file(run);
    if (file == nullptr || run.status != "finished") {
      continue;
    }
    Json& one = by_file[file->sha256];
    one["bytes"] = file->bytes;
    if (run.latency.has_value()) {
      one["latency_us"] = run.latency->median_us;
    }
    const RunMetric* const metric = final_metric(run, "accuracy");
    const bool of_test = metric != nullptr && metric->split == "test";
    if (metric != nullptr && metric->samples > 0 && (of_test || !tested.contains(file->sha256))) {
      if (of_test) {
        tested.insert(file->sha256);
      }
      const statistics::Interval interval = statistics::share_interval(
          std::llround(metric->value * static_cast<double>(metric->samples)), metric->samples);
      one.update({{"name", name_of(run)},
                  {"run", run.id},
                  {"group", run.data + (of_test ? "" : ", " + metric->split)},
                  {"accuracy", metric->value},
                  {"low", interval.low},
                  {"high", interval.high}});
    }
  }
  std::vector<Json> all;
  for (auto& [sha256, one] : by_file) {
    if (one.contains("accuracy")) {
      all.push_back(std::move(one));
    }
  }
  std::ranges::sort(all, {}, [](const Json& one) { return one["run"].get<int64_t>(); });
  return all;
}

// Is `a` at least as good as `b` in everything that is known of `b`, and better in something?
bool beats(const Json& a, const Json& b) {
  bool better = false;
  for (const auto& [name, sign] :
       {std::pair("bytes", -1.0), std::pair("latency_us", -1.0), std::pair("accuracy", 1.0)}) {
    if (b.contains(name)) {
      const double gain = a.contains(name) ? sign * (a[name].get<double>() - b[name].get<double>()) : -1;
      if (gain < 0) {
        return false;
      }
      better = better || gain > 0;
    }
  }
  return better;
}

}  // namespace

Json sections_of(const std::vector<Run>& runs) {
  Json sections = {{"axes", axes_of(runs)},
                   {"runs", Json::array()},
                   {"training", Json::array()},
                   {"candidates", candidates_of(runs)},
                   {"front", Json::array()}};
  for (const Run& run : runs) {
    sections["runs"].push_back(row_of(run, sections["axes"]));
    if (!run.points.empty()) {
      sections["training"].push_back(curve_of(run));
    }
  }
  const Json& all = sections["candidates"];
  for (const Json& one : all) {
    // Accuracies on different data do not compare.
    if (std::none_of(all.begin(), all.end(),
                     [&](const Json& other) { return other["group"] == one["group"] && beats(other, one); })) {
      sections["front"].push_back(one["name"]);
    }
  }
  return sections;
}

}  // namespace whittle::apps::report
