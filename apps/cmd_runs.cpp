// whittle runs: what the experiment store holds, and what it says about two runs.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apps/cli.h"
#include "apps/runs/query.h"
#include "apps/runs/store.h"
#include "apps/text.h"
#include "core/error.h"
#include "core/file.h"
#include "core/json.h"
#include "train/statistics.h"

namespace whittle::apps {

using statistics::Interval;
using statistics::paired;
using statistics::Paired;
using statistics::sample;
using statistics::Sample;
using statistics::share_difference;
using statistics::share_interval;
using statistics::welch;
using statistics::Welch;

namespace {

struct Options {
  std::string file;
  std::vector<std::string> filters;
  int64_t best = 0;  // 0: all, by number
  int64_t worst = 0;
  std::string by;
  bool single_shot = false;
  bool iterative = false;
  bool json = false;
  int64_t a = 0;  // show and compare
  int64_t b = 0;
  std::string csv;
};

RunStore open_store(const Options& options) {
  const char* from_environment = std::getenv("WHITTLE_RUNS");
  const std::string file = !options.file.empty() ? options.file : from_environment != nullptr ? from_environment : "";
  require(!file.empty(), "runs", "which store? Name it or set WHITTLE_RUNS");
  return RunStore(file, RunStore::Mode::kRead);
}

// The runs that the options ask for.
std::vector<Run> selected(const Options& options, const RunStore& store) {
  require(options.best >= 0 && options.worst >= 0, "runs", "--best and --worst are numbers of runs");
  require(options.best == 0 || options.worst == 0, "runs", "--best and --worst are two lists; ask for one");
  require(options.by.empty() || options.best > 0 || options.worst > 0, "runs", "--by goes with --best or --worst");
  require(!options.single_shot || !options.iterative, "runs", "--single-shot and --iterative are opposites");
  std::vector<Filter> filters;
  for (const std::string& text : options.filters) {
    filters.emplace_back(text);
  }
  std::vector<Run> runs = filtered(store.list(), filters);
  if (options.single_shot || options.iterative) {
    std::erase_if(runs, [&](const Run& run) { return iterative(run) != std::optional(options.iterative); });
  }
  if (options.best > 0 || options.worst > 0) {
    const bool best = options.best > 0;
    return ranked(std::move(runs), options.by, static_cast<size_t>(best ? options.best : options.worst), best);
  }
  return runs;
}

// ---- Text ---------------------------------------------------------------------------------

template <class... Values>
std::string format(const char* pattern, Values... values) {
  char text[200];
  std::snprintf(text, sizeof(text), pattern, values...);
  return text;
}

int64_t right_of(const RunMetric& metric) { return std::llround(metric.value * static_cast<double>(metric.samples)); }

// "98.10 %" or "0.341"
std::string value_text(const std::string& name, double value) {
  return name == "accuracy" ? format("%.2f %%", 100 * value) : format("%.5g", value);
}
// A difference of such values: "+0.90 points"
std::string change_text(const std::string& name, double value) {
  return name == "accuracy" ? format("%+.2f points", 100 * value) : format("%+.5g", value);
}
std::string range_text(const std::string& name, const Interval& interval, bool change) {
  const auto text = [&](double v) {
    return name == "accuracy" ? format(change ? "%+.2f" : "%.2f", 100 * v) : format(change ? "%+.5g" : "%.5g", v);
  };
  return "95 %: " + text(interval.low) + " to " + text(interval.high);
}

std::string metric_text(const RunMetric& m) {
  std::string text = m.name + " " + value_text(m.name, m.value) + " (n = " + std::to_string(m.samples);
  if (m.name == "accuracy" && m.samples > 0) {
    text += ", " + range_text(m.name, share_interval(right_of(m), m.samples), false);
  }
  return text + ")";
}

std::string latency_text(const RunLatency& l) {
  return l.median_us < 1000 ? format("%.3g us", l.median_us) : format("%.4g ms", l.median_us / 1000);
}

std::string plain(const Json& value) { return printable(value.is_string() ? value.get<std::string>() : value.dump()); }

// What came of it, in a word or two; of training data if it looked at no others.
std::string result_text(const Run& run) {
  if (run.status != "finished") {
    return run.status;
  }
  if (const RunMetric* metric = main_metric(run); metric != nullptr) {
    return metric->name + " " + value_text(metric->name, metric->value);
  }
  for (const char* name : {"accuracy", "mse"}) {
    if (const Json value = value_of(run, std::string("train.") + name); value.is_number()) {
      return std::string("train ") + name + " " + value_text(name, value.get<double>());
    }
  }
  return "";
}

// What the command line said, without what has a column of its own.
std::string options_text(const Run& run) {
  constexpr const char* kElsewhere[] = {"MODEL", "model", "data", "data-dir", "from", "out", "log", "threads"};
  constexpr size_t kWidth = 44;
  const Json config = config_of(run);
  std::string text;
  for (const std::string& name : run.given) {
    if (config.contains(name) && std::ranges::find(kElsewhere, name) == std::end(kElsewhere)) {
      text += (text.empty() ? "" : " ") + name + (config[name] == Json(true) ? "" : "=" + plain(config[name]));
    }
  }
  return text.size() <= kWidth ? text : text.substr(0, kWidth - 3) + "...";
}

// Columns as wide as what is in them.
void print_table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths(rows.front().size(), 0);
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], row[i].size());
    }
  }
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      line += (i == 0 ? "" : "  ") + row[i] + std::string(widths[i] - row[i].size(), ' ');
    }
    line.erase(line.find_last_not_of(' ') + 1);
    std::cout << line << '\n';
  }
}

// ---- The verbs ----------------------------------------------------------------------------

Json all_as_json(const std::vector<Run>& runs) {
  Json all = Json::array();
  for (const Run& run : runs) {
    all.push_back(to_json(run));
  }
  return {{"runs", std::move(all)}};
}

void list(const Options& options) {
  const RunStore store = open_store(options);
  const std::vector<Run> runs = selected(options, store);
  if (options.json) {
    std::cout << json_line(all_as_json(runs)) << '\n';
    return;
  }
  if (runs.empty()) {
    std::cout << "no runs\n";
    return;
  }
  std::vector<std::vector<std::string>> rows = {
      {"id", "begun (UTC)", "verb", "model", "data", "options", "result", "size", "latency"}};
  for (const Run& run : runs) {
    const RunFile* file = main_file(run);
    std::string begun = run.begun.substr(0, 16);  // "2026-11-22T04:08"
    std::ranges::replace(begun, 'T', ' ');
    rows.push_back({std::to_string(run.id), begun, printable(run.verb), printable(run.model), printable(run.data),
                    options_text(run), printable(result_text(run)), file != nullptr ? human_bytes(file->bytes) : "",
                    run.latency.has_value() ? latency_text(*run.latency) : ""});
  }
  print_table(rows);
}

void print_points(const Run& run) {
  std::map<std::pair<int64_t, int64_t>, std::map<std::string, double>> epochs;
  for (const RunPoint& p : run.points) {
    epochs[{p.part, p.epoch}][p.name] = p.value;
  }
  constexpr const char* kColumns[] = {"rate",           "train_loss",      "train_accuracy",
                                      "train_mse",      "validation_loss", "validation_accuracy",
                                      "validation_mse", "seconds",         "best"};
  // A column of zeros, as the accuracy of a regression, says nothing.
  std::vector<std::string> names;
  for (const char* name : kColumns) {
    if (std::ranges::any_of(run.points, [&](const RunPoint& p) { return p.name == name && p.value != 0; })) {
      names.emplace_back(name);
    }
  }
  std::vector<std::vector<std::string>> rows = {{"part", "epoch"}};
  rows[0].insert(rows[0].end(), names.begin(), names.end());
  for (const auto& [at, values] : epochs) {
    rows.push_back({std::to_string(at.first), std::to_string(at.second)});
    for (const std::string& name : names) {
      const auto found = values.find(name);
      rows.back().push_back(found == values.end() ? "" : format("%.5g", found->second));
    }
  }
  print_table(rows);
}

void show(const Options& options) {
  const RunStore store = open_store(options);
  const Run run = store.read(options.a);
  if (options.json) {
    std::cout << json_line(to_json(run)) << '\n';
    return;
  }
  const auto line = [](const std::string& name, const std::string& value) {
    if (!value.empty()) {
      std::cout << name << std::string(name.size() < 10 ? 10 - name.size() : 1, ' ') << printable(value) << '\n';
    }
  };
  line("run", std::to_string(run.id));
  line("verb", run.verb);
  line("status", run.status + (run.error.empty() ? "" : ": " + run.error));
  const std::optional<double> seconds = seconds_of(run);
  line("begun", run.begun + (seconds.has_value() ? format(", %.0f s", *seconds) : ""));
  line("whittle", run.version + (run.revision.empty() ? "" : " (" + run.revision + ")"));
  line("cpu", run.cpu + ", " + std::to_string(run.threads) + (run.threads == 1 ? " thread" : " threads"));
  line("model", run.model);
  line("data", run.data);
  line("seed", run.seed.has_value() ? std::to_string(*run.seed) : "");
  line("parent", run.parent.has_value() ? "run " + std::to_string(*run.parent) : "");
  line("hash", run.config_hash);
  for (const RunFile& file : run.files) {
    line(file.role == "in" ? "read" : "wrote",
         file.path + ", " + human_bytes(file.bytes) + ", SHA-256 " + file.sha256.substr(0, 16));
  }
  for (const RunMetric& metric : run.metrics) {
    line("result", (metric.stage.empty() ? "" : metric.stage + ", ") + metric.split + " " + metric_text(metric));
  }
  if (run.latency.has_value()) {
    const RunLatency& l = *run.latency;
    line("latency", latency_text(l) +
                        format(" (median; p10 %.4g us, p90 %.4g us), %lld runs, %d thread%s", l.p10_us, l.p90_us,
                               static_cast<long long>(l.repeats), l.threads, l.threads == 1 ? "" : "s") +
                        ", kernels " + l.kernels);
  }
  std::cout << "options (* given)\n";
  const Json config = config_of(run);
  for (const auto& [name, value] : config.items()) {
    const bool given = std::ranges::find(run.given, name) != run.given.end();
    std::cout << (given ? "* " : "  ") << printable(name) << " = " << plain(value) << '\n';
  }
  if (!run.points.empty()) {
    print_points(run);
  }
}

void export_runs(const Options& options) {
  require(!options.csv.empty() || options.json, "runs", "export to what? --csv FILE, or --json for standard output");
  check_place(options.csv, "runs", "--csv");
  const RunStore store = open_store(options);
  std::vector<Run> runs = selected(options, store);
  if (!options.csv.empty()) {
    const std::string text = to_csv(runs);
    replace_file(options.csv, std::as_bytes(std::span(text)));
  }
  if (options.json) {
    for (Run& run : runs) {
      run = store.read(run.id);  // with its epochs
    }
    std::cout << json_line(all_as_json(runs)) << '\n';
  } else {
    std::cout << runs.size() << (runs.size() == 1 ? " run" : " runs") << " written to " << options.csv << '\n';
  }
}

// ---- compare --------------------------------------------------------------------------------

std::string title(const Run& run) {
  std::string text = "run " + std::to_string(run.id) + ", " + run.verb;
  for (const std::string& part : {run.model, run.data}) {
    text += part.empty() ? "" : " " + part;
  }
  return printable(text + (run.seed.has_value() ? ", seed " + std::to_string(*run.seed) : ""));
}

const char* judgement(double p) { return p < 0.05 ? "more than chance would do" : "no more than chance might do"; }

Json interval_json(const Interval& interval) { return {interval.low, interval.high}; }

// The same samples, answered twice.
Json compare_answers(const Run& a, const Run& b, bool quiet) {
  const Paired p = paired(a.answers->right, b.answers->right);
  if (!quiet) {
    std::cout << "on the same " << p.samples << " " << printable(a.answers->split) << " samples, right in A alone "
              << p.only_a << ", in B alone " << p.only_b << ": B - A = " << change_text("accuracy", p.difference)
              << " (" << range_text("accuracy", p.interval, true) << "), McNemar's exact p = " << format("%.3g", p.p)
              << ", " << judgement(p.p) << '\n';
  }
  return {{"samples", p.samples},
          {"only_a", p.only_a},
          {"only_b", p.only_b},
          {"difference", p.difference},
          {"interval", interval_json(p.interval)},
          {"p", p.p}};
}

// All seeds of both.
Json compare_seeds(const std::vector<Run>& runs, const Run& a, const Run& b, const std::string& metric, bool quiet) {
  const auto sample_of = [&](const Run& run) {
    std::vector<double> values;
    for (const Run& one : seeds_of(runs, run)) {
      if (const RunMetric* m = final_metric(one, metric); m != nullptr && !std::isnan(m->value)) {
        values.push_back(m->value);
      }
    }
    return values.empty() ? std::optional<Sample>() : std::optional(sample(values));
  };
  const std::optional<Sample> of_a = sample_of(a);
  const std::optional<Sample> of_b = sample_of(b);
  if (!of_a.has_value() || !of_b.has_value() || (of_a->n < 2 && of_b->n < 2)) {
    return {};
  }
  Json json;
  for (const auto& [name, s] : {std::pair("a", *of_a), std::pair("b", *of_b)}) {
    json[name] = {{"runs", s.n}, {"mean", s.mean}};
    if (s.n >= 2) {
      json[name]["deviation"] = s.deviation;
      json[name]["interval"] = interval_json(s.interval);
    }
    if (!quiet) {
      std::cout << (name == std::string("a") ? "A" : "B") << " with " << s.n << (s.n == 1 ? " seed: " : " seeds: mean ")
                << metric << ' ' << value_text(metric, s.mean);
      if (s.n >= 2) {
        std::cout << ", deviation " << change_text(metric, s.deviation).substr(1) << " ("
                  << range_text(metric, s.interval, false) << ")";
      }
      std::cout << '\n';
    }
  }
  if (of_a->n >= 2 && of_b->n >= 2) {
    const Welch w = welch(*of_a, *of_b);
    json["difference"] = w.difference;
    json["interval"] = interval_json(w.interval);
    json["p"] = w.p;
    if (!quiet) {
      std::cout << "over seeds, B - A = " << change_text(metric, w.difference) << " ("
                << range_text(metric, w.interval, true) << "), Welch's p = " << format("%.3g", w.p) << ", "
                << judgement(w.p) << '\n';
    }
  }
  return json;
}

// One number each, of samples that are not known to be the same.
Json compare_numbers(const RunMetric& a, const RunMetric& b, bool quiet) {
  Json json = {{"difference", b.value - a.value}};
  const bool shares = a.name == "accuracy" && a.samples > 0 && b.samples > 0;
  const Interval interval = shares ? share_difference(right_of(b), b.samples, right_of(a), a.samples) : Interval();
  if (shares) {
    json["interval"] = interval_json(interval);
  }
  if (!quiet) {
    std::cout << "the answers to the same samples are not known: B - A = " << change_text(a.name, b.value - a.value)
              << (shares ? " (" + range_text(a.name, interval, true) + ", as if of different samples)" : "") << '\n';
  }
  return json;
}

void compare(const Options& options) {
  const RunStore store = open_store(options);
  const Run a = store.read(options.a);
  const Run b = store.read(options.b);
  require(a.id != b.id, "runs", "run ", a.id, " is compared with itself; name another");
  const RunMetric* of_a = main_metric(a);
  const RunMetric* of_b = main_metric(b);
  for (const auto& [run, metric] : {std::pair(&a, of_a), std::pair(&b, of_b)}) {
    const bool trained_on = std::ranges::any_of(run->metrics, [](const RunMetric& m) { return m.split == "train"; });
    require(metric != nullptr, "runs", "run ", run->id, " measured no accuracy and no mse",
            trained_on ? " but on training data, which say nothing of how good it is" : "");
  }
  require(of_a->name == of_b->name, "runs", "run ", a.id, " measured ", of_a->name, " and run ", b.id, " ", of_b->name,
          "; these do not compare");
  Json json = {{"a", a.id}, {"b", b.id}, {"metric", of_a->name}, {"value_a", of_a->value}, {"value_b", of_b->value}};
  if (!options.json) {
    std::cout << "A: " << title(a) << ": " << printable(of_a->split) << ' ' << metric_text(*of_a) << '\n'
              << "B: " << title(b) << ": " << printable(of_b->split) << ' ' << metric_text(*of_b) << '\n';
  }
  const bool other_data = !a.data.empty() && !b.data.empty() && a.data != b.data;
  json["same_data"] = !other_data;
  if (other_data && !options.json) {
    std::cout << "A was measured on " << printable(a.data) << " and B on " << printable(b.data)
              << ": what differs may be the data\n";
  }
  json["same_split"] = of_a->split == of_b->split;
  if (of_a->split != of_b->split && !options.json) {
    std::cout << "A was measured on the " << printable(of_a->split) << " part and B on the " << printable(of_b->split)
              << " part of the data: what differs may be the part\n";
  }
  const bool same = a.answers.has_value() && b.answers.has_value() && a.answers->samples == b.answers->samples;
  if (same) {
    json["paired"] = compare_answers(a, b, options.json);
  }
  if (a.config_hash != b.config_hash) {
    if (Json seeds = compare_seeds(store.list(), a, b, of_a->name, options.json); !seeds.is_null()) {
      json["seeds"] = std::move(seeds);
    }
  } else if (!options.json) {
    std::cout << "A and B differ in nothing but the seed\n";
  }
  if (!same) {
    json["unpaired"] = compare_numbers(*of_a, *of_b, options.json);
  }
  const auto both = [&](const char* name, const char* pattern, const auto& of) {
    const auto first = of(a);
    const auto second = of(b);
    if (first.has_value() && second.has_value()) {
      json[name] = {{"a", *first}, {"b", *second}};
      if (!options.json) {
        std::cout << name << ": " << format(pattern, *first) << " -> " << format(pattern, *second)
                  << format(" (x %.3g)\n", *second / *first);
      }
    }
  };
  both("bytes", "%.0f", [](const Run& run) {
    const RunFile* file = main_file(run);
    return file != nullptr ? std::optional(static_cast<double>(file->bytes)) : std::nullopt;
  });
  both("median_us", "%.6g",
       [](const Run& run) { return run.latency.has_value() ? std::optional(run.latency->median_us) : std::nullopt; });
  if (options.json) {
    std::cout << json_line(json) << '\n';
  }
}

}  // namespace

void add_runs(CLI::App& program) {
  CLI::App* verb = program.add_subcommand("runs", "List, show and compare the runs of an experiment store");
  const auto options = std::make_shared<Options>();
  verb->add_option("RUNS.db", options->file, "The store (default: $WHITTLE_RUNS)");
  verb->add_option("--filter", options->filters, "NAME=VALUE, also with != > >= < <=: only such runs; may be repeated")
      ->allow_extra_args(false);
  verb->add_option("--best", options->best, "Only the N best")->type_name("N");
  verb->add_option("--worst", options->worst, "Only the N worst")->type_name("N");
  verb->add_option("--by", options->by, "... by this value, as bytes or median_us (default: accuracy or mse)");
  verb->add_flag("--single-shot", options->single_shot, "Only prunings that took their share at once");
  verb->add_flag("--iterative", options->iterative, "Only prunings in rounds, gradual ones and lotteries");
  verb->add_flag("--json", options->json, "Print one line of JSON");
  verb->require_subcommand(0, 1);

  CLI::App* one = verb->add_subcommand("show", "One run: options, epochs, results, files");
  one->add_option("ID", options->a, "Number of the run")->required();
  one->add_flag("--json", options->json, "Print one line of JSON");
  one->fallthrough();
  one->callback([options] { show(*options); });
  set_example(*one, "whittle runs runs.db show 3");

  CLI::App* two = verb->add_subcommand("compare", "Is B better than A, or is it chance?");
  two->add_option("A", options->a, "Number of a run")->required();
  two->add_option("B", options->b, "Number of another")->required();
  two->add_flag("--json", options->json, "Print one line of JSON");
  two->fallthrough();
  two->callback([options] { compare(*options); });
  set_example(*two, "whittle runs runs.db compare 3 5");

  CLI::App* out = verb->add_subcommand("export", "All runs, or those that are filtered, for other programs");
  out->add_option("--csv", options->csv, "The file to write, a line per run");
  out->add_flag("--json", options->json, "Print everything, epochs too, as one line of JSON");
  out->fallthrough();
  out->callback([options] { export_runs(*options); });
  set_example(*out,
              "whittle runs runs.db export --csv runs.csv\n"
              "  whittle runs runs.db --filter verb=train export --json");

  verb->callback([verb, options] {
    if (verb->get_subcommands().empty()) {
      list(*options);
    }
  });
  set_example(*verb,
              "whittle train --model lenet5 --data glyphs --out m.safetensors --runs runs.db\n"
              "  whittle runs runs.db --filter verb=train --filter 'accuracy>0.9' --best 5\n"
              "  whittle runs runs.db compare 3 5");
}

}  // namespace whittle::apps
