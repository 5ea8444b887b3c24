#include "apps/runs/query.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <set>
#include <string_view>
#include <utility>

#include "core/error.h"
#include "core/json.h"

namespace whittle::apps {

namespace {

constexpr std::array kOperations = {"!=", ">=", "<=", "==", "=", ">", "<"};  // longer ones first

// Text from a file that anyone may have written.
Json object_from(const std::string& text) {
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  return json.is_object() ? json : Json::object();
}

std::optional<std::time_t> time_of(const std::string& text) {
  std::tm utc{};
  return ::strptime(text.c_str(), "%Y-%m-%dT%H:%M:%SZ", &utc) != nullptr ? std::optional(::timegm(&utc)) : std::nullopt;
}

std::optional<double> number_of(const std::string& text) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() ? std::optional(number) : std::nullopt;
}

std::string text_of(const Json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

template <class Value>
Json or_null(const std::optional<Value>& value) {
  return value.has_value() ? Json(*value) : Json();
}

Json text_or_null(const std::string& text) { return text.empty() ? Json() : Json(text); }

Json latency_or_null(const Run& run, double RunLatency::*part) {
  return run.latency.has_value() ? Json((*run.latency).*part) : Json();
}

Json metric_or_null(const Run& run, const char* name) {
  const RunMetric* metric = final_metric(run, name);
  return metric != nullptr ? Json(metric->value) : Json();
}

// What every run has or lacks, in the order of a table.
struct Column {
  const char* name;
  Json (*of)(const Run&);
};
const std::vector<Column>& columns() {
  static const std::vector<Column> all = {
      {"id", [](const Run& run) { return Json(run.id); }},
      {"begun", [](const Run& run) { return Json(run.begun); }},
      {"ended", [](const Run& run) { return text_or_null(run.ended); }},
      {"seconds", [](const Run& run) { return or_null(seconds_of(run)); }},
      {"verb", [](const Run& run) { return Json(run.verb); }},
      {"status", [](const Run& run) { return Json(run.status); }},
      {"model", [](const Run& run) { return text_or_null(run.model); }},
      {"data", [](const Run& run) { return text_or_null(run.data); }},
      {"seed", [](const Run& run) { return or_null(run.seed); }},
      {"parent", [](const Run& run) { return or_null(run.parent); }},
      {"hash", [](const Run& run) { return Json(run.config_hash); }},
      {"accuracy", [](const Run& run) { return metric_or_null(run, "accuracy"); }},
      {"mse", [](const Run& run) { return metric_or_null(run, "mse"); }},
      {"loss", [](const Run& run) { return metric_or_null(run, "loss"); }},
      {"samples",
       [](const Run& run) { return main_metric(run) != nullptr ? Json(main_metric(run)->samples) : Json(); }},
      {"bytes", [](const Run& run) { return main_file(run) != nullptr ? Json(main_file(run)->bytes) : Json(); }},
      {"median_us", [](const Run& run) { return latency_or_null(run, &RunLatency::median_us); }},
      {"p10_us", [](const Run& run) { return latency_or_null(run, &RunLatency::p10_us); }},
      {"p90_us", [](const Run& run) { return latency_or_null(run, &RunLatency::p90_us); }},
      {"threads", [](const Run& run) { return Json(run.threads); }},
      {"cpu", [](const Run& run) { return Json(run.cpu); }},
      {"version", [](const Run& run) { return Json(run.version); }},
      {"revision", [](const Run& run) { return text_or_null(run.revision); }},
  };
  return all;
}

// "after" what was done to it, or as it was if nothing was.
int lateness(const RunMetric& metric) { return metric.stage == "after" ? 2 : metric.stage.empty() ? 1 : 0; }

std::string csv_cell(const Json& value) {
  if (value.is_null()) {
    return "";
  }
  std::string text = text_of(value);
  if (text.find_first_of(",\"\r\n") == std::string::npos) {
    return text;
  }
  std::string quoted = "\"";
  for (const char c : text) {
    quoted += c == '"' ? "\"\"" : std::string(1, c);
  }
  return quoted + '"';
}

// The last of those called `name` that are of the best of the splits.
template <class Rank>
const RunMetric* last_of(const Run& run, const std::string& name, Rank rank_of_split) {
  const RunMetric* found = nullptr;
  const auto rank = [&](const RunMetric& m) { return std::pair(rank_of_split(m.split), lateness(m)); };
  for (const RunMetric& metric : run.metrics) {
    if (metric.name == name && rank_of_split(metric.split) > 0 && (found == nullptr || rank(metric) > rank(*found))) {
      found = &metric;
    }
  }
  return found;
}

}  // namespace

const RunMetric* final_metric(const Run& run, const std::string& name) {
  return last_of(run, name, [](const std::string& split) { return split == "test" ? 2 : split == "train" ? 0 : 1; });
}

const RunMetric* main_metric(const Run& run) {
  const RunMetric* accuracy = final_metric(run, "accuracy");
  return accuracy != nullptr ? accuracy : final_metric(run, "mse");
}

const RunFile* main_file(const Run& run) {
  const std::string_view role = run.verb == "eval" || run.verb == "bench" ? "in" : "out";
  // A verb may write more than what --out names; that is what it was run for.
  const Json config = Json::parse(run.config, nullptr, /*allow_exceptions=*/false);
  const Json out = config.is_object() && config.contains("out") ? config["out"] : Json();
  const RunFile* found = nullptr;
  for (const RunFile& file : run.files) {
    if (file.role == role && (found == nullptr || found->path != out)) {
      found = &file;
    }
  }
  return found;
}

std::optional<double> seconds_of(const Run& run) {
  const auto begun = time_of(run.begun);
  const auto ended = time_of(run.ended);
  return begun.has_value() && ended.has_value() ? std::optional(std::difftime(*ended, *begun)) : std::nullopt;
}

Json config_of(const Run& run) { return object_from(run.config); }

Json value_of(const Run& run, const std::string& name) {
  const auto column = std::ranges::find(columns(), name, &Column::name);
  if (column != columns().end()) {
    return column->of(run);
  }
  if (const size_t point = name.find('.'); point != std::string::npos) {
    const RunMetric* metric =
        last_of(run, name.substr(point + 1), [&](const std::string& split) { return split == name.substr(0, point); });
    if (metric != nullptr) {
      return metric->value;
    }
  }
  const Json config = config_of(run);
  const Json results = object_from(run.results);
  const Json& source = config.contains(name) ? config : results;
  return source.contains(name) && source[name].is_primitive() ? source[name] : Json();
}

Filter::Filter(const std::string& text) {
  size_t at = std::string::npos;
  for (const char* operation : kOperations) {
    const size_t found = text.find(operation);
    if (found < at) {  // the longer of two at one place comes first
      at = found;
      operation_ = operation;
    }
  }
  require(at != std::string::npos && at > 0, "runs", "'", text,
          "' is no filter; one looks like verb=train or accuracy>0.9");
  name_ = text.substr(0, at);
  value_ = text.substr(at + operation_.size());
}

bool Filter::fits_numbers() const { return number_of(value_).has_value(); }

bool Filter::matches(const Run& run) const {
  const Json value = value_of(run, name_);
  if (value.is_null()) {
    return false;
  }
  const std::optional<double> wanted = number_of(value_);
  int order = 0;  // of the run's value against the filter's
  if (value.is_number() && wanted.has_value()) {
    const auto number = value.get<double>();
    if (std::isnan(number)) {
      return operation_ == "!=";
    }
    order = number < *wanted ? -1 : number > *wanted ? 1 : 0;
  } else {
    order = text_of(value).compare(value_);
  }
  const bool less = order < 0 && operation_.starts_with('<');
  const bool more = order > 0 && operation_.starts_with('>');
  const bool equal = order == 0 && operation_ != "!=" && operation_.ends_with('=');
  return less || more || equal || (order != 0 && operation_ == "!=");
}

std::vector<Run> filtered(std::vector<Run> runs, const std::vector<Filter>& filters) {
  for (const Filter& filter : filters) {
    const bool known = runs.empty() || std::ranges::any_of(runs, [&](const Run& run) {
                         return !value_of(run, filter.name()).is_null();
                       });
    require(known, "runs", "no run has a value called '", filter.name(), "'");
    const bool numbers = std::ranges::all_of(runs, [&](const Run& run) {
      const Json value = value_of(run, filter.name());
      return value.is_null() || value.is_number();
    });
    require(runs.empty() || !numbers || filter.fits_numbers(), "runs", "'", filter.name(), "' is a number, and '",
            filter.value(), "' is none");
  }
  std::erase_if(runs, [&](const Run& run) {
    return !std::ranges::all_of(filters, [&](const Filter& filter) { return filter.matches(run); });
  });
  return runs;
}

std::vector<Run> ranked(std::vector<Run> runs, const std::string& name, size_t count, bool best) {
  std::string by = name;
  if (by.empty()) {
    std::set<std::string> metrics;
    for (const Run& run : runs) {
      if (main_metric(run) != nullptr) {
        metrics.insert(main_metric(run)->name);
      }
    }
    require(metrics.size() <= 1, "runs",
            "some of these runs have an accuracy and some an mse; say --by, or --filter one kind");
    by = metrics.empty() ? "accuracy" : *metrics.begin();
  }
  std::vector<std::pair<double, Run>> valued;
  for (Run& run : runs) {
    const Json value = value_of(run, by);
    if (value.is_number() && !std::isnan(value.get<double>())) {
      valued.emplace_back(value.get<double>(), std::move(run));
    }
  }
  require(!valued.empty() || runs.empty(), "runs", "none of these runs has a number called '", by, "'");
  const bool much_is_good = by.ends_with("accuracy") || by == "sparsity";
  std::ranges::stable_sort(valued, [&](const auto& a, const auto& b) {
    return best == much_is_good ? a.first > b.first : a.first < b.first;
  });
  std::vector<Run> result;
  for (size_t i = 0; i < std::min(count, valued.size()); ++i) {
    result.push_back(std::move(valued[i].second));
  }
  return result;
}

std::optional<bool> iterative(const Run& run) {
  if (run.verb != "prune") {
    return std::nullopt;
  }
  const Json config = config_of(run);
  const auto is_on = [&config](const char* flag) { return config.contains(flag) && config[flag] == Json(true); };
  const Json rounds = config.contains("rounds") ? config["rounds"] : Json(1);
  return is_on("gradual") || is_on("lottery") || (rounds.is_number() && rounds.get<double>() > 1);
}

std::vector<Run> seeds_of(const std::vector<Run>& runs, const Run& run) {
  std::vector<Run> group;
  const auto read = [](const Run& r) {
    std::vector<std::string> sums;
    for (const RunFile& file : r.files) {
      if (file.role == "in") {
        sums.push_back(file.sha256);
      }
    }
    std::ranges::sort(sums);
    return sums;
  };
  for (const Run& other : runs) {
    if (other.config_hash != run.config_hash || (other.status != "finished" && other.id != run.id)) {
      continue;
    }
    const auto same =
        std::ranges::find_if(group, [&](const Run& r) { return r.seed == other.seed && read(r) == read(other); });
    if (same == group.end()) {
      group.push_back(other);
    } else if (same->id != run.id) {
      *same = other;
    }
  }
  return group;
}

std::string to_csv(const std::vector<Run>& runs) {
  std::set<std::string> options;
  for (const Run& run : runs) {
    const Json config = config_of(run);
    for (const auto& [name, value] : config.items()) {
      options.insert(name);
    }
  }
  std::string text;
  for (const Column& column : columns()) {
    text += (text.empty() ? "" : ",") + std::string(column.name);
  }
  for (const std::string& option : options) {
    text += "," + csv_cell("option." + option);
  }
  text += "\r\n";
  for (const Run& run : runs) {
    const Json config = config_of(run);
    for (const Column& column : columns()) {
      text += (&column == &columns().front() ? "" : ",") + csv_cell(column.of(run));
    }
    for (const std::string& option : options) {
      text += "," + csv_cell(config.contains(option) ? config[option] : Json());
    }
    text += "\r\n";
  }
  return text;
}

Json to_json(const Run& run) {
  Json json = {{"id", run.id},
               {"verb", run.verb},
               {"status", run.status},
               {"error", text_or_null(run.error)},
               {"begun", run.begun},
               {"ended", text_or_null(run.ended)},
               {"seconds", or_null(seconds_of(run))},
               {"version", run.version},
               {"revision", text_or_null(run.revision)},
               {"cpu", run.cpu},
               {"threads", run.threads},
               {"model", text_or_null(run.model)},
               {"data", text_or_null(run.data)},
               {"config", config_of(run)},
               {"given", run.given},
               {"hash", run.config_hash},
               {"seed", or_null(run.seed)},
               {"parent", or_null(run.parent)},
               {"results", object_from(run.results)},
               {"metrics", Json::array()},
               {"files", Json::array()}};
  for (const RunMetric& m : run.metrics) {
    json["metrics"].push_back(
        {{"stage", m.stage}, {"split", m.split}, {"name", m.name}, {"value", m.value}, {"samples", m.samples}});
  }
  for (const RunFile& f : run.files) {
    json["files"].push_back({{"role", f.role}, {"path", f.path}, {"bytes", f.bytes}, {"sha256", f.sha256}});
  }
  if (run.latency.has_value()) {
    const RunLatency& l = *run.latency;
    json["latency"] = {{"median_us", l.median_us}, {"p10_us", l.p10_us},   {"p90_us", l.p90_us},
                       {"repeats", l.repeats},     {"threads", l.threads}, {"kernels", l.kernels}};
  }
  for (const RunPoint& p : run.points) {
    json["points"].push_back({{"part", p.part}, {"epoch", p.epoch}, {"name", p.name}, {"value", p.value}});
  }
  if (run.answers.has_value()) {
    json["answers"] = {{"split", run.answers->split},
                       {"samples", run.answers->samples},
                       {"number", run.answers->right.size()},
                       {"right", std::ranges::count(run.answers->right, true)}};
  }
  return json;
}

}  // namespace whittle::apps
