#include "compress/lottery.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cinttypes>
#include <cstdio>
#include <optional>
#include <sstream>
#include <utility>

#include "core/checkpoint.h"
#include "core/error.h"
#include "core/file.h"
#include "core/json.h"
#include "layers/model_checkpoint.h"
#include "prune/schedule.h"

namespace whittle::inline WHITTLE_PRECISION::compress {

namespace {

constexpr const char* kLotteryKey = "whittle.lottery";        // metadata of a finished net: settings and row
constexpr const char* kStopKey = "whittle.lottery.stopping";  // ... and of a training state

constexpr std::array<std::string_view, 3> kNames{"ticket", "reinitialized", "random-mask"};

LotteryRow row_from(const Json& j) {
  return {.round = j.at("round").get<int64_t>(),
          .net = lottery_net_named(j.at("net").get<std::string>()),
          .weights = j.at("weights").get<int64_t>(),
          .kept = j.at("kept").get<int64_t>(),
          .steps = j.at("steps").get<int64_t>(),
          .stop_step = j.at("stop").at("step").get<int64_t>(),
          .stop_validation = metrics_from(j.at("stop").at("validation")),
          .stop_test = metrics_from(j.at("stop").at("test")),
          .test = metrics_from(j.at("test"))};
}

// Where the validation loss was lowest so far, and the last step that was seen.
struct Stopping {
  int64_t seen = 0;
  int64_t step = 0;
  Metrics validation{};
  Metrics test{};

  std::string text() const {
    return Json{{"seen", seen}, {"step", step}, {"validation", to_json(validation)}, {"test", to_json(test)}}.dump();
  }
  static Stopping from(const std::string& text) {
    const Json j = Json::parse(text);
    return {.seen = j.at("seen").get<int64_t>(),
            .step = j.at("step").get<int64_t>(),
            .validation = metrics_from(j.at("validation")),
            .test = metrics_from(j.at("test"))};
  }
};

class Lottery {
 public:
  Lottery(Module& model, const Shape& input, const data::Splits& splits, const LotteryOptions& options,
          const std::function<void(const LotteryRow&)>& report, FitObserver* observer)
      : model_(model), input_(input), splits_(splits), options_(options), report_(report), observer_(observer) {
    check();
    prune::add_mask_kind(kinds_);
    targets_ = prune::targets(
        model, input, {.include = options.include, .skip = options.skip, .spare_last = options.last_factor == 0});
    for (const std::string& path : prune::last_layers(trace(model, input))) {
      last_.push_back(path);
    }
  }

  LotteryResult run() {
    begin();
    for (int64_t round = 0; round <= options_.rounds && !result_.interrupted; ++round) {
      if (round > 0) {
        prune_further(round);
      }
      const prune::MaskSet masks = prune::masks(model_);
      play(round, LotteryNet::kTicket, masks);
      if (round == 0) {
        continue;
      }
      Checkpoint ticket;
      store_model(ticket, model_);
      for (const LotteryNet control : options_.controls) {
        if (!result_.interrupted) {
          play(round, control, masks);
        }
      }
      prune::replace_masks(model_, masks);
      prune::rewind(model_, ticket);
    }
    return std::move(result_);
  }

 private:
  void check() const {
    const LotteryOptions& o = options_;
    require(!o.folder.empty(), "lottery", "the folder is missing in which its nets are kept");
    require(o.share > 0 && o.share < 1, "lottery", "the share ", o.share, " of each round is not in (0, 1)");
    require(o.rounds >= 1, "lottery", "rounds ", o.rounds, " is not at least 1");
    require(o.last_factor >= 0 && o.last_factor <= 1, "lottery", "the last layer's factor ", o.last_factor,
            " is outside [0, 1]");
    require(o.scope == prune::Scope::kLocal || o.last_factor == 0 || o.last_factor == 1, "lottery",
            "in global scope the last layer is spared or treated like the others");
    require(o.look_every >= 1, "lottery", "looking at the validation set every ", o.look_every,
            " steps is not possible");
    require(o.fit.out.empty() && o.fit.log.empty(), "lottery", "where files go is the folder's business");
    require(o.fit.patience == 0 && o.fit.ema == 0, "lottery",
            "every net trains to the end, on its own weights; patience and ema have no place");
    require(!splits_.validation.empty() && !splits_.test.empty(), "lottery", "the data set '", splits_.train.name(),
            "' needs validation and test samples");
    const int64_t steps = o.fit.epochs * ((splits_.train.size() + o.fit.batch - 1) / std::max<int64_t>(1, o.fit.batch));
    require(o.rewind_step >= 0 && (o.rewind_step == 0 || o.rewind_step < steps), "lottery", "step ", o.rewind_step,
            " to go back to is not within the ", steps, " steps of a training");
    for (size_t i = 0; i < o.controls.size(); ++i) {
      require(o.controls[i] != LotteryNet::kTicket && std::ranges::count(o.controls, o.controls[i]) == 1, "lottery",
              "'", name_of(o.controls[i]), "' is no control, or is named twice");
    }
    for (const NamedParameter& named : model_.parameters()) {
      require(named.parameter->chain.empty(), "lottery", "'", named.name,
              "' has transforms; a lottery begins with a plain net");
    }
    FitOptions alone = o.fit;
    alone.resume = false;  // from where is the folder's business
    check_options(alone);
  }

  // What must be the same in every run that adds to a folder. Rounds and controls may be more.
  Json settings() const {
    Json settings = settings_of(options_.fit, splits_);
    settings.update({{"share", options_.share},
                     {"last_factor", options_.last_factor},
                     {"scope", options_.scope == prune::Scope::kLocal ? "local" : "global"},
                     {"include", options_.include},
                     {"skip", options_.skip},
                     {"rewind_step", options_.rewind_step},
                     {"look_every", options_.look_every}});
    return settings;
  }

  std::filesystem::path start_file() const { return options_.folder / "start.safetensors"; }
  std::filesystem::path step_file() const { return options_.folder / "step.safetensors"; }
  std::filesystem::path file(int64_t round, LotteryNet net, const char* end = "") const {
    char number[32];
    std::snprintf(number, sizeof(number), "round-%02" PRId64, round);
    return options_.folder /
           (number + (net == LotteryNet::kTicket ? "" : "-" + std::string(name_of(net))) + end + ".safetensors");
  }

  void begin() {
    std::error_code error;
    std::filesystem::create_directory(options_.folder, error);
    require(std::filesystem::is_directory(options_.folder, error), "lottery", "the folder ", options_.folder.string(),
            " cannot be made");
    start_.metadata = options_.fit.metadata;
    start_.metadata[kLotteryKey] = Json{{"settings", settings()}}.dump();
    store_model(start_, model_);
    if (std::filesystem::exists(start_file(), error)) {
      require(options_.fit.resume, "lottery", options_.folder.string(), " holds a lottery; resume to go on with it");
      const Checkpoint there = load_checkpoint(start_file());
      require(there == start_, "lottery", options_.folder.string(),
              " holds a lottery of other settings or initial weights; resume with the same");
    } else {
      save_checkpoint(start_file(), start_);
    }
  }

  // Chooses among the survivors of the net that was trained last, whose weights the model holds.
  void prune_further(int64_t round) {
    prune::SelectOptions selection{.scope = options_.scope, .amount = prune::compounded_amount(options_.share, round)};
    if (options_.scope == prune::Scope::kLocal) {
      for (const prune::Target& target : targets_) {
        if (std::ranges::count(last_, target.path) > 0) {
          selection.amounts[target.name] = prune::compounded_amount(options_.share * options_.last_factor, round);
        }
      }
    }
    prune::attach(model_, prune::select(targets_, prune::magnitude(targets_), selection));
  }

  // As many weights of each layer, elsewhere.
  prune::MaskSet shuffled(const prune::MaskSet& masks, RngKey key) {
    prune::replace_masks(model_, {});
    prune::MaskSet set;
    for (const prune::Target& target : targets_) {
      const std::span<const prune::Target> one(&target, 1);
      set.merge(prune::select(one, prune::random(one, key), {.count = masks.at(target.name).pruned()}));
    }
    return set;
  }

  // Trains one net unless that is done. The model holds it afterwards.
  void play(int64_t round, LotteryNet net, const prune::MaskSet& masks) {
    std::error_code ignored;
    if (std::filesystem::exists(file(round, net), ignored)) {
      const Checkpoint done = load_checkpoint(file(round, net));
      restore_model(done, model_, kinds_);
      tell(row_of(done, file(round, net)));
      return;
    }
    prepare(round, net, masks);
    const std::optional<Stopping> stopping = train(round, net);
    if (!stopping.has_value()) {
      result_.interrupted = true;
      return;
    }
    const LotteryRow row = finished(round, net, *stopping);
    Checkpoint result{.tensors = {}, .metadata = options_.fit.metadata};
    result.metadata[kLotteryKey] = Json{{"settings", settings()}, {"row", to_json(row)}}.dump();
    store_model(result, model_);
    save_checkpoint(file(round, net), result);
    const std::filesystem::path training = file(round, net, "-training");
    for (const char* end : {"", ".last", ".last.1"}) {
      std::filesystem::remove(training.string() + end, ignored);
    }
    tell(row);
  }

  void prepare(int64_t round, LotteryNet net, const prune::MaskSet& masks) {
    const RngKey key = RngKey{.seed = options_.fit.seed}.child("lottery").child(static_cast<uint64_t>(round));
    prune::replace_masks(model_, net == LotteryNet::kRandomMask ? shuffled(masks, key.child("mask")) : masks);
    prune::rewind(model_, start_);
    if (net == LotteryNet::kReinitialized) {
      initialize(model_, key.child("weights"));
      return;
    }
    const std::filesystem::path last = last_state_path(file(round, net, "-training"));
    std::error_code ignored;
    if (round == 0 || options_.rewind_step == 0 || std::filesystem::exists(last, ignored)) {
      return;
    }
    // The training state of step k, of a net that has masks.
    Checkpoint state = load_checkpoint(step_file());
    prune::rewind(model_, state);
    store_model(state, model_);
    state.metadata.erase(kStopKey);
    save_checkpoint(last, state);
  }

  // Nothing if it was interrupted.
  std::optional<Stopping> train(int64_t round, LotteryNet net) {
    Stopping stopping;
    std::atomic<bool> stop{false};
    bool at_step = false;
    std::error_code ignored;
    const bool keep_step = round == 0 && options_.rewind_step > 0 && !std::filesystem::exists(step_file(), ignored);
    FitOptions fit_options = options_.fit;
    fit_options.out = file(round, net, "-training");
    fit_options.kinds = &kinds_;
    fit_options.stop = &stop;
    const FitHooks mine{
        .after_step =
            [&](const FitHooks::Point& at) {
              stopping.seen = at.step;
              if (at.step % options_.look_every == 0 || at.step == at.steps) {
                look(stopping);
              }
              at_step = keep_step && at.step == options_.rewind_step;
              stop = at_step || (options_.fit.stop != nullptr && options_.fit.stop->load(std::memory_order_relaxed));
            },
        .store = [&](Checkpoint& checkpoint) { checkpoint.metadata[kStopKey] = stopping.text(); },
        .restore =
            [&](const Checkpoint& checkpoint) {
              const auto text = checkpoint.metadata.find(kStopKey);
              stopping = text == checkpoint.metadata.end() ? Stopping{} : Stopping::from(text->second);
              require(!keep_step || stopping.seen <= options_.rewind_step, "lottery", options_.folder.string(),
                      " has lost step.safetensors; start again in another folder");
              if (keep_step && stopping.seen == options_.rewind_step) {
                save_checkpoint(step_file(), checkpoint);
              }
            }};
    fit_options.hooks = both(options_.fit.hooks, mine);
    // Stopped at step k it goes on from its own state, which is how that is kept whole.
    for (;;) {
      fit_options.resume = std::filesystem::exists(last_state_path(fit_options.out), ignored);
      const FitResult result = fit(model_, splits_, fit_options, observer_);
      if (!result.interrupted) {
        return stopping;
      }
      if (!std::exchange(at_step, false)) {
        return std::nullopt;
      }
      stop = false;
    }
  }

  void look(Stopping& stopping) {
    const Metrics validation = evaluate(model_, splits_.validation);
    if (stopping.step == 0 || validation.loss < stopping.validation.loss) {
      stopping.step = stopping.seen;
      stopping.validation = validation;
      stopping.test = evaluate(model_, splits_.test);
    }
  }

  LotteryRow finished(int64_t round, LotteryNet net, const Stopping& stopping) {
    LotteryRow row{.round = round,
                   .net = net,
                   .steps = stopping.seen,
                   .stop_step = stopping.step,
                   .stop_validation = stopping.validation,
                   .stop_test = stopping.test,
                   .test = evaluate(model_, splits_.test)};
    for (const prune::SparsityRow& r : prune::sparsity(model_)) {
      row.weights += r.elements;
      row.kept += r.elements - (r.masked ? r.zeros : 0);
    }
    return row;
  }

  LotteryRow row_of(const Checkpoint& done, const std::filesystem::path& path) const {
    const auto text = done.metadata.find(kLotteryKey);
    require(text != done.metadata.end(), "lottery", path.string(), " is no net of a lottery");
    try {
      const Json json = Json::parse(text->second);
      require(json.at("settings") == settings(), "lottery", path.string(),
              " was trained with other settings; resume with the same");
      return row_from(json.at("row"));
    } catch (const Json::exception& error) {
      fail("lottery", path.string(), ": what it says about its round is damaged: ", error.what());
    }
  }

  void tell(const LotteryRow& row) {
    result_.rows.push_back(row);
    std::ostringstream csv;
    csv.precision(9);
    csv << "round,net,weights,kept,steps,stop_step,stop_validation_loss,stop_validation_accuracy,stop_test_accuracy,"
           "stop_test_mse,test_loss,test_accuracy,test_mse\n";
    for (const LotteryRow& r : result_.rows) {
      csv << r.round << ',' << name_of(r.net) << ',' << r.weights << ',' << r.kept << ',' << r.steps << ','
          << r.stop_step << ',' << r.stop_validation.loss << ',' << r.stop_validation.accuracy << ','
          << r.stop_test.accuracy << ',' << r.stop_test.mse << ',' << r.test.loss << ',' << r.test.accuracy << ','
          << r.test.mse << '\n';
    }
    const std::string text = csv.str();
    replace_file(options_.folder / "rounds.csv", std::as_bytes(std::span(text)));
    if (report_) {
      report_(row);
    }
  }

  Module& model_;
  Shape input_;
  const data::Splits& splits_;
  const LotteryOptions& options_;
  const std::function<void(const LotteryRow&)>& report_;
  FitObserver* observer_;
  TransformKinds kinds_;
  std::vector<prune::Target> targets_;
  std::vector<std::string> last_;  // paths of the last layers
  Checkpoint start_;
  LotteryResult result_;
};

}  // namespace

std::string_view name_of(LotteryNet net) { return kNames[static_cast<size_t>(net)]; }

LotteryNet lottery_net_named(std::string_view name) {
  const auto found = std::ranges::find(kNames, name);
  require(found != kNames.end(), "lottery", "there is no net '", name,
          "'; there are ticket and, as controls, reinitialized and random-mask");
  return static_cast<LotteryNet>(found - kNames.begin());
}

Json to_json(const LotteryRow& row) {
  return {{"round", row.round},
          {"net", name_of(row.net)},
          {"weights", row.weights},
          {"kept", row.kept},
          {"steps", row.steps},
          {"stop",
           {{"step", row.stop_step}, {"validation", to_json(row.stop_validation)}, {"test", to_json(row.stop_test)}}},
          {"test", to_json(row.test)}};
}

LotteryResult lottery(Module& model, const Shape& input, const data::Splits& splits, const LotteryOptions& options,
                      const std::function<void(const LotteryRow&)>& report, FitObserver* observer) {
  return Lottery(model, input, splits, options, report, observer).run();
}

}  // namespace whittle::inline WHITTLE_PRECISION::compress
