#include "train/fit.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <memory>
#include <optional>
#include <sstream>

#include "core/checkpoint.h"
#include "core/error.h"
#include "core/file.h"
#include "core/json.h"
#include "layers/model_checkpoint.h"
#include "layers/trace.h"
#include "optim/adam.h"
#include "optim/clip.h"
#include "optim/ema.h"
#include "optim/schedule.h"
#include "optim/sgd.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

Json to_json(const EpochRecord& r) {
  return {{"epoch", r.epoch},     {"rate", r.rate}, {"train", to_json(r.train)}, {"validation", to_json(r.validation)},
          {"seconds", r.seconds}, {"best", r.best}};
}

EpochRecord record_from(const Json& j) {
  return {.epoch = j.at("epoch").get<int64_t>(),
          .rate = j.at("rate").get<double>(),
          .train = metrics_from(j.at("train")),
          .validation = metrics_from(j.at("validation")),
          .seconds = j.value("seconds", 0.0),
          .best = j.at("best").get<bool>()};
}

std::unique_ptr<optim::Optimizer> make_optimizer(const FitOptions& o, std::vector<NamedParameter> parameters) {
  if (o.optimizer == "sgd") {
    return std::make_unique<optim::Sgd>(std::move(parameters), optim::SgdOptions{.rate = o.rate,
                                                                                 .momentum = o.momentum,
                                                                                 .nesterov = o.nesterov,
                                                                                 .weight_decay = o.weight_decay,
                                                                                 .decay_vectors = o.decay_vectors});
  }
  if (o.optimizer == "adam") {
    return std::make_unique<optim::Adam>(
        std::move(parameters),
        optim::AdamOptions{.rate = o.rate, .weight_decay = o.weight_decay, .decay_vectors = o.decay_vectors});
  }
  require(o.optimizer == "adamw", "fit", "there is no optimizer '", o.optimizer, "'; there are sgd, adam and adamw");
  return std::make_unique<optim::AdamW>(
      std::move(parameters),
      optim::AdamWOptions{.rate = o.rate, .weight_decay = o.weight_decay, .decay_vectors = o.decay_vectors});
}

constexpr const char* kWhatHelps =
    "; try a smaller rate or clip norm, or a regression with a standardized target. What was saved before stays";

// Is `a` better than `b`? By what the user is after: accuracy, or squared error.
bool better(const Metrics& a, const Metrics& b, bool classification) {
  return classification ? a.accuracy > b.accuracy : a.mse < b.mse;
}

std::vector<optim::NamedTensor> states_of(Module& model) {
  std::vector<optim::NamedTensor> tensors;
  for (const NamedState& named : model.states()) {
    tensors.push_back({named.name, named.state});
  }
  return tensors;
}

// One call of fit(): the pieces, and where training stands.
class Fit {
 public:
  Fit(Module& model, const data::Splits& splits, const FitOptions& options, FitObserver& observer)
      : model_(model),
        splits_(splits),
        options_(options),
        observer_(observer),
        loader_(splits.train, {.batch = options.batch,
                               .drop_last = false,
                               .seed = options.seed,
                               .workers = options.workers,
                               .augment = options.augment}),
        schedule_(optim::Schedule::parse(options.schedule, {.rate = options.rate,
                                                            .epochs = static_cast<double>(options.epochs),
                                                            .steps_per_epoch = loader_.batches()})) {
    take_parameters();
  }

  FitResult run() {
    if (options_.resume) {
      resume();
    }
    model_.train();
    run_start_ = Clock::now();
    while (epoch_ < options_.epochs && !result_.stopped_early) {
      if (!run_epoch()) {
        result_.interrupted = true;
        save_last();
        break;
      }
      end_epoch();
    }
    result_.steps = optimizer_->steps();
    if (ema_.has_value() && !result_.interrupted) {
      keep_average();
    }
    return std::move(result_);
  }

 private:
  // What there is to train; again whenever transforms, which may own some of it, were made anew.
  void take_parameters() {
    optimizer_ = make_optimizer(options_, model_.all_parameters());
    if (options_.ema > 0) {
      ema_.emplace(model_.all_parameters(), optim::EmaOptions{.decay = options_.ema}, states_of(model_));
    }
  }

  // False if it was stopped in the middle.
  bool run_epoch() {
    epoch_start_ = Clock::now();
    while (const std::optional<data::Batch> batch = loader_.next()) {
      train_on(*batch);
      ++steps_here_;
      samples_here_ += batch->inputs.dim(0);
      report_step();
      if (options_.stop != nullptr && options_.stop->load(std::memory_order_relaxed)) {
        return false;
      }
    }
    return true;
  }

  void train_on(const data::Batch& batch) {
    const Variable output = model_(batch.inputs);
    const Variable loss = total_loss(output, batch);
    const double value = static_cast<double>(loss.value().item());
    if (!std::isfinite(value)) {
      not_finite("the loss is not finite", first_non_finite_layer(model_, batch.inputs));
    }
    optimizer_->zero_grad();
    backward(loss);
    const std::span<const NamedParameter> parameters = optimizer_->parameters();
    const double norm = options_.clip_norm > 0 ? optim::clip_gradient_norm(parameters, options_.clip_norm)
                                               : optim::gradient_norm(parameters);
    if (!std::isfinite(norm)) {  // exactly if some gradient is not
      not_finite("a gradient is not finite", optim::first_non_finite_gradient(parameters).value_or(""));
    }
    if (options_.hooks.after_backward) {
      options_.hooks.after_backward(point());
    }
    optimizer_->rate = schedule_.rate_at(optimizer_->steps());
    optimizer_->step();
    if (options_.hooks.after_step) {
      options_.hooks.after_step(point());
    }
    if (ema_.has_value()) {
      ema_->update();
    }
    sums_.add(value, output.value(), batch, splits_.train.preprocessing());
  }

  Variable total_loss(const Variable& output, const data::Batch& batch) const {
    Variable own = loss_of(output, batch, options_.label_smoothing);
    const Distillation& from = options_.distillation;
    if (from.teacher == nullptr) {
      return own;
    }
    const Variable of_teacher =
        distillation_loss(output, taught(from, batch.inputs), static_cast<real>(from.temperature));
    return static_cast<real>(1 - from.share) * own + static_cast<real>(from.share) * of_teacher;
  }

  FitHooks::Point point() const {
    return {.step = optimizer_->steps(), .steps = options_.epochs * loader_.batches(), .rate = optimizer_->rate};
  }

  [[noreturn]] void not_finite(const char* what, const std::string& where) const {
    fail("fit", "epoch ", epoch_ + 1, ", step ", optimizer_->steps() + 1, ": ", what,
         where.empty() ? std::string() : " (first at '" + where + "')", kWhatHelps);
  }

  void end_epoch() {
    EpochRecord record{.epoch = ++epoch_,
                       .rate = optimizer_->rate,
                       .train = sums_.metrics(),
                       .validation = {},
                       .seconds = seconds_since(epoch_start_)};
    sums_ = {};
    const bool classification = splits_.train.is_classification();
    {
      std::optional<optim::EmaScope> averaged;
      if (ema_.has_value()) {
        averaged.emplace(*ema_);
      }
      if (!splits_.validation.empty()) {
        record.validation = evaluate(model_, splits_.validation);
        require(std::isfinite(record.validation.loss), "fit", "epoch ", epoch_, ": the validation loss is not finite",
                kWhatHelps);
      }
      const Metrics& now = record.validation.samples > 0 ? record.validation : record.train;
      const bool may_keep = !options_.hooks.may_keep || options_.hooks.may_keep(point());
      record.best = may_keep && (!best_.has_value() || better(now, *best_, classification));
      if (record.best) {
        best_ = now;
        result_.best_epoch = epoch_;
        save_best(record);
      }
    }
    result_.history.push_back(record);
    result_.stopped_early =
        options_.patience > 0 && best_.has_value() && epoch_ - result_.best_epoch >= options_.patience;
    save_last();
    write_log();
    observer_.epoch(record);
  }

  void save_best(const EpochRecord& record) {
    if (options_.out.empty()) {
      return;
    }
    Checkpoint checkpoint{.tensors = {}, .metadata = options_.metadata};
    store_model(checkpoint, model_);
    Json metrics = to_json(record);
    metrics.erase("seconds");  // the same training gives the same bytes
    checkpoint.metadata[kMetricsKey] = metrics.dump();
    save_checkpoint(options_.out, checkpoint);
  }

  // Everything a resumed run needs to end with the same bits.
  void save_last() {
    if (options_.out.empty()) {
      return;
    }
    Checkpoint checkpoint{.tensors = {}, .metadata = options_.metadata};
    store_model(checkpoint, model_);
    optimizer_->store(checkpoint);
    if (ema_.has_value()) {
      ema_->store(checkpoint);
    }
    if (options_.hooks.store) {
      options_.hooks.store(checkpoint);
    }
    const data::LoaderPosition position = loader_.position();
    Json state = {{"settings", settings_of(options_, splits_)},
                  {"epoch", epoch_},
                  {"loader", {position.epoch, position.batch}},
                  {"sums", {sums_.loss, sums_.right, sums_.squared_error, sums_.samples}},
                  {"best_epoch", result_.best_epoch},
                  {"stopped_early", result_.stopped_early},
                  {"history", Json::array()},
                  {"told", Json::array()}};  // what the caller said about model and data, by its keys
    for (const auto& [key, value] : options_.metadata) {
      state["told"].push_back(key);
    }
    if (best_.has_value()) {
      state["best"] = to_json(*best_);
    }
    for (const EpochRecord& record : result_.history) {
      state["history"].push_back(to_json(record));
    }
    checkpoint.metadata[kTrainingKey] = state.dump();
    const std::filesystem::path last = last_state_path(options_.out);
    std::error_code ignored;  // the first save has nothing to keep
    std::filesystem::rename(last, last.string() + ".1", ignored);
    save_checkpoint(last, checkpoint);
  }

  void resume() {
    const std::filesystem::path last = last_state_path(options_.out);
    std::string refused;
    for (const std::filesystem::path& path : {last, std::filesystem::path(last.string() + ".1")}) {
      if (!std::filesystem::exists(path)) {
        continue;
      }
      std::optional<Checkpoint> checkpoint;
      try {
        checkpoint = load_checkpoint(path);
      } catch (const Error& error) {  // damaged: the one before it may be whole
        refused = error.what();
        observer_.note(refused + "; trying the state before it");
        continue;
      }
      restore(*checkpoint, path);
      return;
    }
    require(refused.empty(), "fit", "no saved state of ", options_.out.string(), " can be read: ", refused);
    observer_.note("there is no saved state of " + options_.out.string() + " to resume; starting from the beginning");
  }

  void restore(const Checkpoint& checkpoint, const std::filesystem::path& path) {
    const auto text = checkpoint.metadata.find(kTrainingKey);
    require(text != checkpoint.metadata.end(), "fit", path.string(), " is not the state of a training run");
    try {
      const Json state = Json::parse(text->second);
      const Json mine = settings_of(options_, splits_);
      for (const auto& [key, value] : state.at("settings").items()) {
        require(mine.contains(key) && mine[key] == value, "fit", path.string(), " was trained with ", key, " ",
                value.dump(), ", this run asks for ", mine.contains(key) ? mine[key].dump() : "nothing of the kind",
                "; resume with the same settings",
                key == "epochs" ? ", or train the finished model further (--from)" : "");
      }
      check_metadata(checkpoint, path);
      for (const Json& key : state.value("told", Json::array())) {
        require(options_.metadata.contains(key.get<std::string>()), "fit", path.string(), " was trained with a ",
                key.get<std::string>(), ", of which this run says nothing; resume with the same settings");
      }
      static const TransformKinds none;
      const std::vector<EpochRecord> history = [&] {
        std::vector<EpochRecord> records;
        for (const Json& record : state.at("history")) {
          records.push_back(record_from(record));
        }
        return records;
      }();
      const data::LoaderPosition position{.epoch = state.at("loader").at(0).get<int64_t>(),
                                          .batch = state.at("loader").at(1).get<int64_t>()};
      const MetricSums sums{.loss = state.at("sums").at(0).get<double>(),
                            .right = state.at("sums").at(1).get<double>(),
                            .squared_error = state.at("sums").at(2).get<double>(),
                            .samples = state.at("sums").at(3).get<int64_t>()};
      restore_model(checkpoint, model_, options_.kinds != nullptr ? *options_.kinds : none);
      take_parameters();
      optimizer_->restore(checkpoint);
      if (ema_.has_value()) {
        ema_->restore(checkpoint);
      }
      if (options_.hooks.restore) {
        options_.hooks.restore(checkpoint);
      }
      loader_.seek(position);
      sums_ = sums;
      epoch_ = state.at("epoch").get<int64_t>();
      result_.best_epoch = state.at("best_epoch").get<int64_t>();
      result_.stopped_early = state.at("stopped_early").get<bool>();
      result_.history = history;
      if (state.contains("best")) {
        best_ = metrics_from(state.at("best"));
      }
    } catch (const Json::exception& error) {
      fail("fit", path.string(), ": the training state is damaged: ", error.what());
    }
    std::ostringstream sentence;
    sentence << "resumed " << path.string() << " at epoch " << epoch_ + 1 << ", step " << optimizer_->steps() + 1;
    observer_.note(sentence.str());
  }

  // What the caller says about model and data holds for the rest of the training too.
  void check_metadata(const Checkpoint& checkpoint, const std::filesystem::path& path) const {
    constexpr size_t kShown = 300;  // names of a hundred classes help nobody
    for (const auto& [key, mine] : options_.metadata) {
      const auto found = checkpoint.metadata.find(key);
      const bool there = found != checkpoint.metadata.end();
      if (there && found->second == mine) {
        continue;
      }
      const bool brief = there && found->second.size() <= kShown && mine.size() <= kShown;
      fail("fit", path.string(), " was trained with another ", key,
           brief ? ", " + found->second + ", this run asks for " + mine : "", "; resume with the same settings");
    }
  }

  // The averages become the model's weights, for whoever goes on with it.
  void keep_average() {
    Checkpoint averaged;
    {
      const optim::EmaScope scope(*ema_);
      store_model(averaged, model_);
    }
    static const TransformKinds none;
    restore_model(averaged, model_, options_.kinds != nullptr ? *options_.kinds : none);
  }

  static std::string cell(double value) {
    char text[32];
    std::snprintf(text, sizeof(text), ",%.9g", value);
    return text;
  }
  // What was not measured is empty.
  std::string cells(const Metrics& m) const {
    if (m.samples == 0) {
      return ",,,";
    }
    return cell(m.loss) + (splits_.train.is_classification() ? cell(m.accuracy) + "," : "," + cell(m.mse));
  }

  void write_log() const {
    if (options_.log.empty()) {
      return;
    }
    std::string text =
        "epoch,rate,train_loss,train_accuracy,train_mse,validation_loss,validation_accuracy,validation_mse,seconds,"
        "best\n";
    for (const EpochRecord& r : result_.history) {
      text += std::to_string(r.epoch) + cell(r.rate) + cells(r.train) + cells(r.validation);
      char end[64];
      std::snprintf(end, sizeof(end), ",%.3f,%d\n", r.seconds, r.best ? 1 : 0);
      text += end;
    }
    replace_file(options_.log, std::as_bytes(std::span(text)));
  }

  void report_step() {
    const double elapsed = std::max(seconds_since(run_start_), 1e-9);
    const data::LoaderPosition position = loader_.position();
    const int64_t done = epoch_ * loader_.batches() + position.batch;
    const int64_t total = options_.epochs * loader_.batches();
    observer_.step({.epoch = epoch_ + 1,
                    .epochs = options_.epochs,
                    .step = position.batch,
                    .steps = loader_.batches(),
                    .loss = sums_.metrics().loss,
                    .samples_per_second = static_cast<double>(samples_here_) / elapsed,
                    .seconds_left = elapsed / static_cast<double>(steps_here_) * static_cast<double>(total - done)});
  }

  Module& model_;
  const data::Splits& splits_;
  const FitOptions& options_;
  FitObserver& observer_;
  std::unique_ptr<optim::Optimizer> optimizer_;
  data::DataLoader loader_;
  optim::Schedule schedule_;
  std::optional<optim::Ema> ema_;

  FitResult result_;
  int64_t epoch_ = 0;  // finished epochs
  MetricSums sums_;    // of the epoch under way
  std::optional<Metrics> best_;

  Clock::time_point run_start_;
  Clock::time_point epoch_start_;
  int64_t steps_here_ = 0;  // in this run
  int64_t samples_here_ = 0;
};

// Of one sample. Samples of another shape are found out by some layer, which knows neither whose it is nor of what
// data.
template <class Forward>
Shape answer_of(const char* who, const data::Dataset& data, const Forward& forward) {
  try {
    return forward().shape();
  } catch (const Error& error) {
    fail("fit", "the ", who, " cannot read the samples of '", data.name(), "': ", error.what());
  }
}

// One batch through the model says in one sentence what does not fit, before
// anything is trained or written.
void check_fit(Module& model, const data::Splits& splits, const FitOptions& options) {
  check_options(options);
  require(!splits.train.empty(), "fit", "the training set '", splits.train.name(), "' has no samples");
  require(options.patience == 0 || !splits.validation.empty(), "fit", "patience needs a validation set");
  require(options.label_smoothing == 0 || splits.train.is_classification(), "fit", "label_smoothing is for classes, '",
          splits.train.name(), "' has none");

  const bool taught_by_other = options.distillation.teacher != nullptr;
  require(!taught_by_other || splits.train.is_classification(), "fit", "distillation is for classes, '",
          splits.train.name(), "' has none");

  const int64_t first[] = {0};
  const data::Batch batch = splits.train.batch(first);
  const int64_t outputs = splits.train.is_classification() ? splits.train.classes() : 1;
  if (taught_by_other) {
    const Shape answer = answer_of("teacher", splits.train, [&] { return taught(options.distillation, batch.inputs); });
    require(answer == Shape{1, outputs}, "fit", "the teacher gives ", answer, " for one sample of '",
            splits.train.name(), "', which has ", outputs, " classes");
  }
  const NoGrad no_grad;
  const EvaluationMode evaluating(model);
  const Shape result = answer_of("model", splits.train, [&] { return model(batch.inputs).value(); });
  require(result == Shape{1, outputs}, "fit", "the model gives ", result, " for one sample of '", splits.train.name(),
          "', which has ", outputs, splits.train.is_classification() ? " classes" : " target");
}

}  // namespace

void check_options(const FitOptions& options) {
  require(options.epochs >= 1, "fit", "epochs ", options.epochs, " is not at least 1");
  require(options.batch >= 1, "fit", "batch ", options.batch, " is not at least 1");
  require(options.workers >= 0 && options.workers <= data::kMaxWorkers, "fit", "workers ", options.workers,
          " is not between 0 and ", data::kMaxWorkers);
  require(options.patience >= 0, "fit", "patience ", options.patience, " is negative");
  require(std::isfinite(options.clip_norm) && options.clip_norm >= 0, "fit", "a clip norm of ", options.clip_norm,
          " is not a finite number >= 0");
  require(options.label_smoothing >= 0 && options.label_smoothing < 1, "fit", "a label smoothing of ",
          options.label_smoothing, " is outside [0, 1)");
  require(options.ema >= 0 && options.ema < 1, "fit", "ema ", options.ema, " is outside [0, 1)");
  require(!options.nesterov || options.optimizer == "sgd", "fit", "nesterov is for sgd, not for ", options.optimizer);
  require(options.augment.mixup == 0 || options.label_smoothing == 0, "fit",
          "mixup and label smoothing both spread the labels; choose one");
  require(!options.resume || !options.out.empty(), "fit", "resume needs `out`, the path the run was saved under");
  check_place(options.out, "fit", "out");
  check_place(options.log, "fit", "log");
  data::check_augmentation(options.augment);
  check_distillation(options.distillation);
  // The others know their ranges themselves: an optimizer of one number, a schedule over one step an epoch.
  Parameter number(Tensor::zeros({1}));
  make_optimizer(options, {{"number", &number}});
  optim::Schedule::parse(options.schedule, {.rate = options.rate, .epochs = static_cast<double>(options.epochs)});
}

Json settings_of(const FitOptions& options, const data::Splits& splits) {
  const data::AugmentOptions& a = options.augment;
  return {{"batch", options.batch},
          {"seed", options.seed},
          {"epochs", options.epochs},
          {"data", splits.train.name()},
          {"samples", splits.train.size()},
          {"optimizer", options.optimizer},
          {"rate", options.rate},
          {"momentum", options.momentum},
          {"nesterov", options.nesterov},
          {"weight_decay", options.weight_decay},
          {"decay_vectors", options.decay_vectors},
          {"schedule", options.schedule},
          {"clip_norm", options.clip_norm},
          {"label_smoothing", options.label_smoothing},
          {"ema", options.ema},
          {"distillation", options.distillation.teacher == nullptr
                               ? Json()
                               : Json{options.distillation.share, options.distillation.temperature}},
          {"augment", {a.crop, a.flip, a.rotation, a.cutout, a.mixup}}};
}

std::optional<EpochRecord> best_record(const Checkpoint& checkpoint) {
  const auto text = checkpoint.metadata.find(kMetricsKey);
  if (text == checkpoint.metadata.end()) {
    return std::nullopt;
  }
  try {
    return record_from(Json::parse(text->second));
  } catch (const Json::exception& error) {
    fail("fit", "the metrics of the checkpoint are damaged: ", error.what());
  }
}

std::filesystem::path last_state_path(const std::filesystem::path& out) { return out.string() + ".last"; }

std::string first_non_finite_layer(Module& model, const Tensor& inputs) {
  if (!inputs.all_finite()) {
    return "input";
  }
  try {
    const Trace traced = trace(model, inputs.shape());  // records, so outside NoGrad
    const NoGrad no_grad;
    std::vector<Variable> values(traced.values.size());
    values[0] = inputs;
    for (const TracedCall& call : traced.calls) {
      std::vector<Variable> arguments;
      for (const int input : call.inputs) {
        arguments.push_back(values[static_cast<size_t>(input)]);
      }
      const Variable result = call.module->call(arguments);
      if (!result.value().all_finite()) {
        return call.path;
      }
      values[static_cast<size_t>(call.output)] = result;
    }
  } catch (const Error&) {
    // A model that cannot be traced can still be trained; it only goes unnamed here.
  }
  return {};
}

namespace {

// Both, one after the other; the other alone where one is empty.
template <class Argument>
std::function<void(Argument)> in_turn(const std::function<void(Argument)>& a, const std::function<void(Argument)>& b) {
  if (!a || !b) {
    return a ? a : b;
  }
  return [a, b](Argument argument) {
    a(argument);
    b(argument);
  };
}

}  // namespace

FitHooks both(const FitHooks& first, const FitHooks& second) {
  FitHooks hooks{.after_backward = in_turn(first.after_backward, second.after_backward),
                 .after_step = in_turn(first.after_step, second.after_step),
                 .may_keep = first.may_keep ? first.may_keep : second.may_keep,
                 .store = in_turn(first.store, second.store),
                 .restore = in_turn(first.restore, second.restore)};
  if (first.may_keep && second.may_keep) {
    hooks.may_keep = [a = first.may_keep, b = second.may_keep](const FitHooks::Point& at) { return a(at) && b(at); };
  }
  return hooks;
}

FitHooks keep_last() {
  return {.may_keep = [](const FitHooks::Point& at) { return at.step == at.steps; }};
}

FitResult fit(Module& model, const data::Splits& splits, const FitOptions& options, FitObserver* observer) {
  check_fit(model, splits, options);
  FitObserver silent;
  FitObserver& told = observer != nullptr ? *observer : silent;
  told.begin();
  return Fit(model, splits, options, told).run();
}

}  // namespace whittle::inline WHITTLE_PRECISION
