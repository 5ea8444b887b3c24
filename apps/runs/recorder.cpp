#include "apps/runs/recorder.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <ctime>
#include <iostream>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "apps/machine.h"
#include "apps/text.h"
#include "core/error.h"
#include "core/json.h"
#include "core/parallel.h"
#include "datasets/sha256.h"

namespace whittle::apps {

namespace {

// How the command talks, not what it does.
constexpr std::array kNotOptions = {"help", "runs", "json", "quiet"};

// Options that the result does not depend on: where files are, and how many threads compute the same
// bits. The seed is left out so that runs which differ in nothing else are found together.
constexpr std::array kNotOfTheResult = {"seed",    "out",      "log",        "resume", "threads", "report",
                                        "workers", "data-dir", "save-codes", "MODEL",  "from"};

// Options that name a file which the result depends on: what is in it counts, not where it is.
constexpr std::array kFilesOfTheResult = {"teacher", "rewind", "latency-table"};

// 0.50 and 0.5 are one number, so that they give one hash.
Json scalar(const std::string& text) {
  const auto parsed = [&text]<class Number>(Number number) -> std::optional<Json> {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    return error == std::errc() && end == text.data() + text.size() ? std::optional<Json>(number) : std::nullopt;
  };
  if (const auto integer = parsed(int64_t{}); integer.has_value()) {
    return *integer;
  }
  if (const auto natural = parsed(uint64_t{}); natural.has_value()) {
    return *natural;
  }
  if (const auto real = parsed(double{}); real.has_value() && std::isfinite(real->get<double>())) {
    return *real;
  }
  return text;
}

// Every option of a verb with its value, given or by default. An option without either is absent.
void read_options(const CLI::App& verb, Json& config, std::vector<std::string>& given) {
  for (const CLI::Option* option : verb.get_options()) {
    const std::string& name = option->get_single_name();
    if (is_one_of(name, kNotOptions)) {
      continue;
    }
    if (option->count() > 0) {
      given.push_back(name);
    }
    if (option->get_items_expected_max() == 0) {  // a flag
      config[name] = option->count() > 0;
    } else if (option->count() == 0) {
      if (!option->get_default_str().empty()) {
        config[name] = scalar(option->get_default_str());
      }
    } else if (option->results().size() == 1) {
      config[name] = scalar(option->results().front());
    } else {
      for (const std::string& value : option->results()) {
        config[name].push_back(scalar(value));
      }
    }
  }
}

std::string short_hash(const Json& json) {
  const std::string text = json.dump(-1, ' ', false, Json::error_handler_t::replace);  // keys are sorted
  return sha256(std::as_bytes(std::span(text))).substr(0, 16);
}

// A file that a run reads. For the hash it is how it was made, where the store knows that, so that what was made
// alike with other seeds is alike; else its bytes.
struct Source {
  RunFile file;
  std::optional<Run> maker;
  const std::string& identity() const { return maker.has_value() ? maker->config_hash : file.sha256; }
};

Source source_of(const RunStore& store, const std::filesystem::path& path) {
  Source source{.file = {.role = "in",
                         .path = path.string(),
                         .bytes = std::filesystem::file_size(path),
                         .sha256 = sha256_of_file(path)},
                .maker = {}};
  if (const std::optional<int64_t> id = store.maker_of(source.file.sha256); id.has_value()) {
    source.maker = store.read(*id);
  }
  return source;
}

// A name for exactly these samples, as they lie in the data set, and their labels.
std::string samples_of(const data::Dataset& data) {
  Sha256 sum;
  for (int64_t i = 0; i < data.size(); ++i) {
    sum.update(data.is_images() ? std::as_bytes(data.pixels(i)) : std::as_bytes(data.values(i)));
    const int32_t label = data.label(i);
    sum.update(std::as_bytes(std::span(&label, 1)));
  }
  return data.name() + " " + std::to_string(data.size()) + " " + sum.hex().substr(0, 16);
}

void warn(const std::string& error, const char* lost) { std::cerr << "whittle: " << error << "; " << lost << '\n'; }

}  // namespace

class Recorder::Watch : public FitObserver {
 public:
  Watch(Recorder& recorder, FitObserver* next) : recorder_(recorder), next_(next) {}
  void begin() override {
    ++recorder_.part_;
    if (next_ != nullptr) {
      next_->begin();
    }
  }
  void note(const std::string& sentence) override {
    if (next_ != nullptr) {
      next_->note(sentence);
    }
  }
  void step(const StepReport& report) override {
    if (next_ != nullptr) {
      next_->step(report);
    }
  }
  void epoch(const EpochRecord& record) override {
    recorder_.add_epoch(record);
    if (next_ != nullptr) {
      next_->epoch(record);
    }
  }

 private:
  Recorder& recorder_;
  FitObserver* next_;
};

Recorder::Recorder(CLI::App& verb) : verb_(verb) {
  verb.add_option("--runs", file_, "Record this run in an experiment store (default: $WHITTLE_RUNS, if set)")
      ->check([](const std::string& file) {  // as if it said how often
        const bool number = !file.empty() && file.find_first_not_of("0123456789") == std::string::npos;
        return number ? "names a file, not a number (of bench: --repeats)" : std::string();
      });
}
Recorder::~Recorder() = default;

void Recorder::record(const std::function<void()>& work) {
  try {
    work();
  } catch (const Interrupted& stopped) {
    finish("interrupted", stopped.what());
    throw;
  } catch (const std::exception& error) {
    finish("failed", error.what());
    throw;
  }
  finish("finished", "");
}

void Recorder::begin(const Beginning& beginning) {
  const char* from_environment = std::getenv("WHITTLE_RUNS");
  const std::string file = file_.empty() && from_environment != nullptr ? from_environment : file_;
  if (file.empty()) {
    return;
  }
  guarded("this run is not recorded", [&] {
    auto store = std::make_unique<RunStore>(file, RunStore::Mode::kWrite);
    run_.verb = verb_.get_name();
    run_.begun = now();
    run_.version = WHITTLE_VERSION;
    run_.revision = revision();
    run_.cpu = cpu_model();
    run_.threads = num_threads();
    run_.model = beginning.model;
    run_.data = beginning.data;
    Json config = Json::object();
    read_options(verb_, config, run_.given);
    run_.config = config.dump(-1, ' ', false, Json::error_handler_t::replace);

    const bool seed_given = std::ranges::count(run_.given, "seed") > 0;
    if (config.contains("seed")) {
      run_.seed = config["seed"].get<uint64_t>();
    }
    Json basis = {{"verb", run_.verb}};
    if (!beginning.from.empty()) {
      const Source from = source_of(*store, beginning.from);
      run_.files.push_back(from.file);
      basis["from"] = from.identity();
      if (from.maker.has_value()) {
        run_.parent = from.maker->id;
        run_.model = run_.model.empty() ? from.maker->model : run_.model;
        run_.seed = seed_given ? run_.seed : from.maker->seed;
      }
    }
    for (const auto& [name, value] : config.items()) {
      // What bench measures does depend on the threads.
      if (!is_one_of(name, kNotOfTheResult) || (name == "threads" && run_.verb == "bench")) {
        basis[name] = value;
      }
    }
    for (const char* option : kFilesOfTheResult) {
      if (!config.contains(option)) {
        continue;
      }
      const std::filesystem::path path = verb_.get_option(std::string("--") + option)->as<std::string>();
      std::error_code ignored;
      if (std::filesystem::is_regular_file(path, ignored)) {  // else the verb will say so
        const Source source = source_of(*store, path);
        basis[option] = source.identity();
        if (std::ranges::find(run_.files, source.file.path, &RunFile::path) == run_.files.end()) {
          run_.files.push_back(source.file);
        }
      }
    }
    run_.config_hash = short_hash(basis);
    run_.id = store->begin(run_);
    store_ = std::move(store);
  });
}

Metrics Recorder::measure(Module& model, const data::Dataset& data, const data::DataInfo& about,
                          const std::string& stage, const std::string& split) {
  std::vector<bool> right;
  const Metrics metrics = evaluate(model, data, {.right = on() ? &right : nullptr});
  measured(metrics, about, stage, split);
  add_answers(std::move(right), data, split);
  return metrics;
}

Metrics Recorder::measure(const ProgramFile& program, const data::Dataset& data, const data::DataInfo& about,
                          const std::string& split, RunBytes* bytes) {
  std::vector<bool> right;
  const Metrics metrics = evaluate(program, data, bytes, on() ? &right : nullptr);
  measured(metrics, about, "", split);
  add_answers(std::move(right), data, split);
  return metrics;
}

FitObserver* Recorder::watch(FitObserver* next) {
  if (!on()) {
    return next;
  }
  watch_ = std::make_unique<Watch>(*this, next);
  return watch_.get();
}

void Recorder::trained(const FitResult& result) {
  if (on()) {
    for (const EpochRecord& record : result.history) {
      const bool known = std::ranges::any_of(
          run_.points, [&](const RunPoint& p) { return p.part == part_ && p.epoch == record.epoch; });
      if (!known) {
        add_epoch(record);
      }
    }
  }
}

void Recorder::wrote(const std::filesystem::path& file) {
  if (on()) {
    guarded("its sum is not recorded", [&] {
      run_.files.push_back({.role = "out",
                            .path = file.string(),
                            .bytes = std::filesystem::file_size(file),
                            .sha256 = sha256_of_file(file)});
    });
  }
}

void Recorder::latency(const RunLatency& latency) { run_.latency = latency; }

void Recorder::result(const Json& json) {
  if (on()) {
    run_.results = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  }
}

void Recorder::add_epoch(const EpochRecord& r) {
  std::vector<RunPoint> points;
  const auto add = [&](const char* name, double value) {
    points.push_back({.part = part_, .epoch = r.epoch, .name = name, .value = value});
  };
  add("rate", r.rate);
  add("train_loss", r.train.loss);
  add("train_accuracy", r.train.accuracy);
  add("train_mse", r.train.mse);
  if (r.validation.samples > 0) {
    add("validation_loss", r.validation.loss);
    add("validation_accuracy", r.validation.accuracy);
    add("validation_mse", r.validation.mse);
  }
  add("seconds", r.seconds);
  add("best", r.best ? 1 : 0);
  run_.points.insert(run_.points.end(), points.begin(), points.end());
  try {
    store_->add_points(run_.id, points);
  } catch (const Error&) {
    // They are written again with everything else at the end, which complains if it must.
  }
}

void Recorder::measured(const Metrics& metrics, const data::DataInfo& about, const std::string& stage,
                        const std::string& split) {
  const auto add = [&](const char* name, double value) {
    run_.metrics.push_back({.stage = stage, .split = split, .name = name, .value = value, .samples = metrics.samples});
  };
  add("loss", metrics.loss);
  if (about.regression) {
    add("mse", metrics.mse);
  } else {
    add("accuracy", metrics.accuracy);
  }
}

void Recorder::add_answers(std::vector<bool> right, const data::Dataset& data, const std::string& split) {
  if (!right.empty()) {
    run_.answers = RunAnswers{.split = split, .samples = samples_of(data), .right = std::move(right)};
  }
}

void Recorder::guarded(const char* lost, const std::function<void()>& write) {
  try {
    write();
  } catch (const std::exception& error) {
    warn(error.what(), lost);
  }
}

void Recorder::finish(const std::string& status, const std::string& error) {
  if (!on()) {
    return;
  }
  run_.status = status;
  run_.error = error;
  run_.ended = now();
  guarded("the end of this run is not recorded", [this] { store_->end(run_); });
}

}  // namespace whittle::apps
