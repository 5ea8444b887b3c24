// whittle prune: a saved model with weights, blocks or channels less.

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/cli.h"
#include "apps/data_options.h"
#include "apps/ignored.h"
#include "apps/latency.h"
#include "apps/lottery.h"
#include "apps/metrics_text.h"
#include "apps/models.h"
#include "apps/program.h"
#include "apps/pruning.h"
#include "apps/runs/recorder.h"
#include "apps/stopping.h"
#include "apps/text.h"
#include "apps/training_options.h"
#include "compress/admm.h"
#include "compress/lottery.h"
#include "core/checkpoint.h"
#include "core/error.h"
#include "core/file.h"
#include "core/json.h"
#include "core/parallel.h"
#include "datasets/sha256.h"
#include "layers/summary.h"
#include "layers/zoo/zoo.h"
#include "prune/compact.h"
#include "prune/edge.h"
#include "prune/sensitivity.h"
#include "quant/array/edge_model.h"
#include "train/fit.h"
#include "train/progress.h"

namespace whittle::apps {

namespace {

// Epochs of ADMM before the retraining, and where it pulls which layer to.
struct AdmmArguments {
  int64_t epochs = 0;  // 0: none
  std::string levels;
  std::vector<std::string> sets;  // "fc1=0.98+kmeans:4"
  double rho = 1e-2;
  double growth = 2;
  double most_rho = 1;
  int64_t every = 0;
};

struct Options {
  std::string model;
  std::string out;
  LotteryArguments lottery;
  AdmmArguments admm;
  PruneSpec spec;
  std::vector<std::string> layer_amounts;  // "conv1=0.3"
  DataArguments data;
  ScoreData score;
  FitOptions fit{.epochs = 0, .rate = 0.01};
  std::string teacher;
  std::optional<double> momentum;
  int64_t rounds = 1;
  bool gradual = false;
  std::string rewind;
  bool structured = false;  // channels, and compact
  bool compact = false;
  bool permanent = false;
  bool edge_compatible = false;  // the method edge
  bool edge_keep_statistics = false;
  std::string edge_quantize;  // "rr:uniform:8"
  bool sensitivity = false;
  std::vector<std::string> sweep;
  std::string split = "validation";
  int threads = 0;
  bool quiet = false;
  bool json = false;

  bool scans() const { return sensitivity || !sweep.empty(); }
  bool trains() const { return fit.epochs > 0; }
};

double share_from(const std::string& text, const std::string& what) {
  size_t end = 0;
  double value = 0;
  try {
    value = std::stod(text, &end);
  } catch (const std::exception&) {
    end = 0;
  }
  require(end == text.size() && end > 0 && value >= 0 && value < 1, "prune", what, " '", text,
          "' is not a number in [0, 1)");
  return value;
}

std::map<std::string, double> layer_amounts(const std::vector<std::string>& texts) {
  std::map<std::string, double> amounts;
  for (const std::string& text : texts) {
    const size_t equals = text.find('=');
    require(equals != std::string::npos && equals > 0, "prune", "'", text, "' is not LAYER=AMOUNT");
    amounts[text.substr(0, equals)] = share_from(text.substr(equals + 1), "the amount");
  }
  return amounts;
}

// "edge" and "edge-dense" are the Edge project's percentages.
std::vector<double> sweep_amounts(const std::vector<std::string>& texts) {
  std::vector<double> amounts;
  const auto percentages = [&amounts](const auto& list) {
    for (const int percent : list) {
      amounts.push_back(percent / 100.0);
    }
  };
  for (const std::string& text : texts) {
    if (text == "edge" || text == "edge-dense") {
      percentages(prune::kEdgePercentages);
      if (text == "edge-dense") {
        percentages(prune::kEdgeMorePercentages);
      }
    } else {
      amounts.push_back(share_from(text, "the amount"));
    }
  }
  std::sort(amounts.begin(), amounts.end());
  amounts.erase(std::unique(amounts.begin(), amounts.end()), amounts.end());
  return amounts;
}

// "rr:uniform:8" -> what quantizes before Edge's pruning; nothing of "".
std::function<void(Module&)> edge_quantizer(const std::string& text, uint64_t seed) {
  if (text.empty()) {
    return {};
  }
  const size_t colon = text.rfind(':');
  const std::string bits = colon == std::string::npos ? "" : text.substr(colon + 1);
  require(!bits.empty() && bits.size() <= 2 && bits.find_first_not_of("0123456789") == std::string::npos, "prune",
          "--edge-quantize is METHOD:BITS, like rr:uniform:8, not '", text, "'");
  const quant::edge::EdgeOptions options{
      .method = quant::edge::parse_edge_method(text.substr(0, colon)), .bits = std::stoi(bits), .seed = seed};
  return [options](Module& model) { quant::edge::edge_quantize(model, options); };
}

// A lottery has rounds of its own, and of what else this verb can do it takes nothing.
void check_lottery(const Options& o) {
  require(!o.out.empty(), "prune", "--out is missing: the folder of the lottery");
  require(o.fit.epochs > 0, "prune", "--lottery needs --epochs: of each net");
  require(o.spec.method == "magnitude" && o.spec.granularity == "element" && !o.spec.amount.has_value() &&
              !o.spec.sigma.has_value() && !o.spec.lambda.has_value() && o.layer_amounts.empty() && !o.gradual &&
              o.rewind.empty() && !o.compact && !o.permanent && !o.scans() && o.admm.epochs == 0 &&
              o.admm.levels.empty() && o.admm.sets.empty() && !o.edge_keep_statistics && o.edge_quantize.empty(),
          "prune", "--lottery prunes single weights by magnitude, --share of them in each of --rounds; of the others ",
          "it takes --scope, --include, --skip, --last and what is about data and training");
  require(o.spec.scope == "local" || o.spec.scope == "global", "prune", "there is no scope '", o.spec.scope,
          "'; there are local and global");
  require(o.spec.last == "spare" || o.spec.last == "half" || o.spec.last == "same", "prune",
          "the last layer cannot be treated as '", o.spec.last, "'; there are spare, half and same");
  require(o.teacher.empty(), "prune", "--lottery has no teacher: its nets learn from the labels; leave out --teacher");
  check_momentum("prune", o.fit, o.momentum);
  for (const std::string& control : o.lottery.controls) {
    compress::lottery_net_named(control);
  }
}

void check_admm(Options& o) {
  require(o.admm.epochs >= 0, "prune", "--admm ", o.admm.epochs, " is no number of epochs");
  if (o.admm.epochs == 0) {
    require(o.admm.levels.empty() && o.admm.sets.empty(), "prune", "--levels and --set are for --admm");
    return;
  }
  require(o.fit.epochs > 0, "prune", "--admm needs --epochs: of the retraining behind it");
  require(o.spec.method == "magnitude" && o.spec.scope == "local" && o.spec.last != "half" && o.rounds == 1 &&
              !o.gradual && o.rewind.empty() && !o.spec.sigma.has_value() && o.layer_amounts.empty() && !o.scans(),
          "prune", "--admm is a schedule of its own, by magnitude and layer by layer; amounts by layer are --set");
  if (!o.admm.levels.empty()) {
    (void)compress::AdmmLevels::parse(o.admm.levels);
  }
  if (!o.spec.amount.has_value() && !o.spec.granularity.starts_with("nm:") &&
      !(o.admm.levels.empty() && o.admm.sets.empty())) {
    o.spec.amount = 0;  // levels alone, or --set says it
  }
}

// Whatever is wrong with the command itself is said before a file is read.
void check(Options& o) {
  if (o.edge_compatible) {
    require(o.spec.method == "magnitude" || o.spec.method == "edge", "prune",
            "--edge-compatible is a method of its own; leave out --method");
    o.spec.method = "edge";
  }
  if (o.structured) {
    require(o.spec.granularity == "element" || o.spec.granularity == "channel", "prune",
            "--structured takes out channels; leave out --granularity");
    o.spec.granularity = "channel";
    o.compact = true;
  }
  if (o.lottery.on) {
    check_lottery(o);
    o.fit.momentum = o.momentum.value_or(o.fit.momentum);
    return;
  }
  require(o.lottery.controls.empty() && o.lottery.rewind_step == 0, "prune",
          "--controls and --rewind-step are for --lottery");
  check_admm(o);
  require(!o.scans() || !o.spec.granularity.starts_with("nm:"), "prune",
          "--sensitivity and --sweep try amounts, and the pattern ", o.spec.granularity, " has none");
  if (o.scans() && !o.spec.sigma.has_value()) {
    require(!o.spec.amount.has_value(), "prune",
            "--sensitivity and --sweep try amounts of their own; leave out --amount");
    o.spec.amount = 0;  // every amount of the list takes its place
  }
  const bool edge = o.spec.method == "edge";
  require(!(o.sensitivity && !o.sweep.empty()), "prune", "--sensitivity and --sweep are two things; choose one");
  require(!o.scans() || (o.out.empty() && !o.trains() && !o.gradual && o.rounds == 1 && !o.compact && !o.permanent),
          "prune",
          "--sensitivity and --sweep measure and save nothing; leave out --out, --epochs, --rounds, --gradual, ",
          "--compact and --permanent");
  require(!o.scans() || (!o.spec.sigma.has_value() && o.layer_amounts.empty()), "prune",
          "--sensitivity and --sweep try amounts of their own; leave out --sigma and --layer-amount");
  require(!(o.sensitivity && edge), "prune", "the method edge prunes all tensors; --sensitivity needs another");
  o.spec.check(o.gradual);
  require(o.scans() || !o.out.empty(), "prune", "--out is missing: where the pruned model goes");
  require(o.rounds >= 1, "prune", "--rounds ", o.rounds, " is not at least 1");
  require(o.rounds == 1 || o.trains(), "prune", "--rounds needs --epochs: a round is pruning and retraining");
  require(!o.gradual || (o.trains() && o.rounds == 1), "prune", "--gradual needs --epochs and is a single round");
  require(o.rewind.empty() || (o.trains() && !o.gradual), "prune",
          "--rewind goes back before retraining; it needs --epochs and not --gradual");
  require(!o.fit.resume || o.trains(), "prune", "--resume needs --epochs: only training can be gone on with");
  require(!edge || (!o.trains() && o.spec.granularity == "element" && o.spec.scope == "local" && !o.compact &&
                    !o.permanent && o.spec.include.empty() && o.spec.skip.empty()),
          "prune", "the method edge prunes every tensor once, by element; it takes no other option than --amount, ",
          "--keep-statistics, --edge-quantize and --sweep");
  require(edge || (!o.edge_keep_statistics && o.edge_quantize.empty()), "prune",
          "--keep-statistics and --edge-quantize are for the method edge");
  (void)edge_quantizer(o.edge_quantize, 0);
  require(o.score.samples >= 1 && o.score.batch >= 1, "prune", "--score-samples ", o.score.samples,
          " and --score-batch ", o.score.batch, " must be at least 1");
  require(o.split == "test" || o.split == "validation" || o.split == "train", "prune", "there is no split '", o.split,
          "'; there are train, validation and test");
  if (o.trains()) {
    o.fit.momentum = o.momentum.value_or(o.fit.momentum);
    o.fit.out = o.out;
    check_options(o.fit);
    check_momentum("prune", o.fit, o.momentum);
  } else {
    check_place(o.out, "prune", "--out");
  }
}

// ---- One pruning ------------------------------------------------------------------------

constexpr int64_t kLatencyRuns = 100;

class Pruning {
 public:
  Pruning(const Options& options, Recorder& run)
      : options_(options),
        fit_(options.fit),
        run_(run),
        checkpoint_(load_net("prune", options.model)),
        description_(zoo::description_of(checkpoint_)),
        model_(load_model(checkpoint_)),
        origin_(sha256_of_file(options.model)) {
    std::vector<int64_t> batch{1};
    const std::span<const int64_t> sample = description_.options.input->dims();
    batch.insert(batch.end(), sample.begin(), sample.end());
    input_ = Shape(batch);
    if (options.scans() || options.trains() || data_needed(options.spec) || options.data.said()) {
      data_ = data_of("prune", options.model, checkpoint_, options.data);
      about_ = data_->arguments.info();
    }
    if (options.trains()) {
      check_teacher_for(about_, "prune", options.teacher);
      teacher_ = load_teacher(options.teacher, fit_);
    }
    if (options.spec.method != "edge") {
      targets_ = prune::targets(*model_, input_, options.spec.targets());
    }
    for (const auto& [layer, amount] : layer_amounts(options.layer_amounts)) {
      const auto found = std::ranges::find(targets_, layer, &prune::Target::path);
      require(found != targets_.end(), "prune", "--layer-amount: '", layer, "' is no layer that is pruned");
      amounts_[found->name] = amount;
    }
  }

  void run() {
    run_.begin(
        {.model = description_.name, .data = data_.has_value() ? data_->arguments.name : "", .from = options_.model});
    if (options_.scans()) {
      scan();
      return;
    }
    const Summary before = summarize(*model_, input_);
    const std::optional<Metrics> metrics_before = measured("before");
    if (options_.compact) {
      latency_before_ = latency();
    }
    if (options_.admm.epochs > 0) {
      run_admm();
    } else if (options_.gradual) {
      train_gradually();
    } else {
      for (int64_t round = first_round(); round <= options_.rounds; ++round) {
        run_round(round);
      }
    }
    if (options_.permanent) {
      prune::make_permanent(*model_);
    }
    if (options_.compact) {
      compact();
    }
    save();
    report(before, metrics_before);
  }

 private:
  std::optional<Metrics> measured(const char* stage) const {
    if (!data_.has_value() || data_->splits.test.empty()) {
      return std::nullopt;
    }
    return run_.measure(*model_, data_->splits.test, about_, stage);
  }

  prune::Scores scores() const {
    ScoreData from = options_.score;
    from.data = data_.has_value() ? &data_->splits.train : nullptr;
    return scores_of(options_.spec, *model_, targets_, from);
  }

  // What is gone after this round. The last layer may take half of each round's share.
  prune::SelectOptions selection(int64_t round) const {
    prune::SelectOptions selection = options_.spec.selection();
    selection.amount = prune::iterative_amount(selection.amount, round, options_.rounds);
    for (const auto& [name, amount] : amounts_) {
      selection.amounts[name] = prune::iterative_amount(amount, round, options_.rounds);
    }
    if (options_.spec.last == "half") {
      for (const std::string& path : prune::last_layers(trace(*model_, input_))) {
        const auto found = std::ranges::find(targets_, path, &prune::Target::path);
        if (found != targets_.end()) {
          selection.amounts[found->name] =
              prune::iterative_amount(options_.spec.amount.value_or(0), round, options_.rounds, 0.5);
        }
      }
    }
    return selection;
  }

  prune::EdgePruneOptions edge_options(double amount) const {
    return {.fraction = amount,
            .running_statistics = !options_.edge_keep_statistics,
            .quantize = edge_quantizer(options_.edge_quantize, options_.spec.seed)};
  }

  // Microseconds of one sample, evaluated in float.
  double latency() const { return microseconds_at(times_of(*model_, input_, kLatencyRuns), 50); }

  void prune_once(int64_t round) {
    if (options_.spec.method == "edge") {
      prune::edge_prune(*model_, edge_options(*options_.spec.amount));
    } else if (options_.spec.sigma.has_value()) {
      std::map<std::string, double> thresholds = prune::deviations(targets_);
      for (auto& [name, threshold] : thresholds) {
        threshold *= *options_.spec.sigma;
      }
      prune::attach(*model_, prune::select_below(targets_, prune::magnitude(targets_), thresholds));
    } else {
      prune::attach(*model_, prune::select(*model_, input_, targets_, scores(), selection(round)));
    }
  }

  // ---- Training ---------------------------------------------------------------------

  Json remembered(int64_t round) const {
    Json json = options_.spec.json();
    if (!amounts_.empty()) {
      json["amounts"] = amounts_;
    }
    if (!options_.edge_quantize.empty()) {
      json["quantized"] = options_.edge_quantize;
    }
    if (options_.admm.epochs > 0) {
      const AdmmArguments& a = options_.admm;
      json["admm"] = {{"epochs", a.epochs}, {"rho", a.rho},     {"growth", a.growth},
                      {"most", a.most_rho}, {"every", a.every}, {"sets", Json::object()}};
      for (const auto& [path, set] : sets()) {
        json["admm"]["sets"][path] = set.text();
      }
    }
    if (options_.gradual) {
      json["gradual"] = {options_.spec.begin, options_.spec.end, options_.spec.every};
    } else if (options_.trains()) {
      json["rounds"] = options_.rounds;
      json["round"] = round;
    }
    return json;
  }

  // Where a training that was stopped stands: the round in its last state.
  int64_t first_round() {
    const std::filesystem::path last = last_state_path(options_.out);
    std::error_code ignored;
    if (!options_.fit.resume || !std::filesystem::exists(last, ignored)) {
      return 1;
    }
    const Checkpoint state = load_checkpoint(last);
    const auto text = state.metadata.find(kPruneKey);
    require(text != state.metadata.end(), "prune", last.string(), " is not the state of a pruning");
    const Json json = Json::parse(text->second, nullptr, /*allow_exceptions=*/false);
    const int64_t round = json.is_object() ? json.value("round", int64_t{0}) : 0;
    require(round >= 1 && json == remembered(round), "prune", last.string(), " was pruned with ", text->second,
            "; resume with the same settings");
    // What fit() restores is the model of that round, which has its masks already.
    resumed_ = true;
    return round;
  }

  void run_round(int64_t round) {
    if (!std::exchange(resumed_, false)) {
      prune_once(round);
      if (!options_.rewind.empty()) {
        prune::rewind(*model_, load_checkpoint(options_.rewind));
      }
    }
    if (options_.trains()) {
      train(round, {});
    }
  }

  void train_gradually() {
    PruneWhileTraining pruning(*model_, input_, options_.spec);
    train(1, pruning.hooks());
  }

  // ---- ADMM

  compress::AdmmSets sets() const {
    compress::AdmmSet otherwise{.granularity = prune::Granularity::parse(options_.spec.granularity),
                                .amount = options_.spec.amount.value_or(0)};
    if (!options_.admm.levels.empty()) {
      otherwise.levels = compress::AdmmLevels::parse(options_.admm.levels);
    }
    compress::AdmmSets sets;
    for (const prune::Target& target : targets_) {
      sets.emplace(target.path, otherwise);
    }
    for (const std::string& text : options_.admm.sets) {
      const size_t equals = text.find('=');
      require(equals != std::string::npos && equals > 0, "prune", "'", text, "' is not LAYER=SET");
      const auto found = sets.find(text.substr(0, equals));
      require(found != sets.end(), "prune", "--set: '", text.substr(0, equals), "' is no layer that is pruned");
      found->second = compress::AdmmSet::parse(text.substr(equals + 1), otherwise);
    }
    std::erase_if(sets, [](const auto& entry) {
      const compress::AdmmSet& set = entry.second;
      return set.granularity.kind != prune::Granularity::Kind::kPattern && set.amount == 0 && !set.levels.has_value();
    });
    return sets;
  }

  // Weights are pulled to their sets, cut, and trained on behind the mask. With levels they
  // are pulled to these in the second training too, and rounded at its end.
  void run_admm() {
    const AdmmArguments& a = options_.admm;
    compress::AdmmOptions plan{
        .sets = sets(), .rho = a.rho, .growth = a.growth, .most_rho = a.most_rho, .every = a.every};
    compress::Admm admm(*model_, input_, targets_, plan);
    FitOptions pulling = fit_options(1);
    pulling.epochs = a.epochs;
    pulling.out = options_.out + ".admm";
    std::error_code ignored;
    pulling.resume = options_.fit.resume && std::filesystem::exists(last_state_path(pulling.out), ignored);
    FitHooks none;
    none.may_keep = [](const FitHooks::Point&) { return false; };  // the last weights are what goes on
    pulling.hooks = both(admm.hooks(), none);
    fit_or_stop(pulling, "while ADMM pulled");
    distance_ = admm.distance();
    admm.finish();
    if (!options_.quiet) {
      char text[64];
      std::snprintf(text, sizeof(text), "%.3g", *distance_);
      std::cout << "ADMM ended " << text << " of the weights' norm away from its sets; cut, " << pruned_sentence()
                << '\n';
    }
    const bool levels =
        std::ranges::any_of(plan.sets, [](const auto& entry) { return entry.second.levels.has_value(); });
    plan.rho = admm.rho();
    std::optional<compress::Admm> to_levels;
    if (levels) {
      to_levels.emplace(*model_, input_, targets_, plan);
    }
    train(1, levels ? to_levels->hooks() : FitHooks{});
    if (levels) {
      levels_ = compress::Admm(*model_, input_, targets_, plan).finish().levels;
    }
  }

  // ---- fit()

  FitOptions fit_options(int64_t round) const {
    FitOptions result = fit_;
    result.kinds = &known_transforms();
    result.stop = StopOnSignal::asked();
    result.metadata[zoo::kModelKey] = zoo::to_text(description_);
    result.metadata[kDataKey] = data_->arguments.text();
    result.metadata[kPreprocessingKey] = data::to_json(data_->splits.train.preprocessing());
    result.metadata[kPruneKey] = remembered(round).dump();
    result.metadata[kOriginKey] = origin_;
    return result;
  }

  void fit_or_stop(const FitOptions& how, const std::string& where) {
    Progress progress(std::cout, {.terminal = isatty(STDOUT_FILENO) != 0, .classification = !about_.regression});
    const FitResult result = [&] {
      const StopOnSignal stopping;
      return fit(*model_, data_->splits, how, run_.watch(options_.quiet ? nullptr : &progress));
    }();
    run_.trained(result);
    if (result.interrupted) {
      throw Interrupted(StopOnSignal::signal(),
                        "[prune] interrupted " + where + "; the same command with --resume goes on");
    }
  }

  // The best epoch is what goes on.
  void train(int64_t round, FitHooks hooks) {
    FitOptions how = fit_options(round);
    how.resume = options_.fit.resume && (options_.gradual || round == first_trained_.value_or(round));
    first_trained_ = first_trained_.value_or(round);
    how.hooks = std::move(hooks);
    std::error_code ignored;  // what goes on has its masks in the file
    const bool goes_on = how.resume && std::filesystem::exists(last_state_path(how.out), ignored);
    if (!options_.quiet && !options_.gradual && options_.admm.epochs == 0 && !goes_on) {
      std::cout << "round " << round << " of " << options_.rounds << ": " << pruned_sentence() << '\n';
    }
    fit_or_stop(how, "in round " + std::to_string(round));
    checkpoint_ = load_checkpoint(options_.out);
    // A run that was killed between two writes: the best of the next round is there already, its state is not.
    require(checkpoint_.metadata[kPruneKey] == remembered(round).dump(), "prune", options_.out,
            " is of another round than the training state beside it; start again without --resume");
    description_ = zoo::description_of(checkpoint_);
    model_ = load_model(checkpoint_);
    if (options_.spec.method != "edge") {
      targets_ = prune::targets(*model_, input_, options_.spec.targets());
    }
  }

  // ---- The result -----------------------------------------------------------------------

  void compact() {
    prune::Compaction gone = prune::compact(*model_, input_);
    channels_ = gone.channels;
    for (const auto& [path, widths] : gone.widths) {
      description_.widths[path] = widths;
    }
  }

  void save() {
    Checkpoint result{.tensors = {}, .metadata = checkpoint_.metadata};
    result.metadata.erase(kTrainingKey);
    if (!options_.trains()) {
      result.metadata.erase(kMetricsKey);  // they were the dense model's
    }
    result.metadata[kPruneKey] = remembered(options_.rounds).dump();
    zoo::store(result, description_, *model_);
    save_checkpoint(options_.out, result);
    run_.wrote(options_.out);
  }

  std::string pruned_sentence() const {
    const std::vector<prune::SparsityRow> rows = prune::sparsity(*model_);
    int64_t zeros = 0;
    int64_t elements = 0;
    for (const prune::SparsityRow& row : rows) {
      zeros += row.zeros;
      elements += row.elements;
    }
    char share[32];
    std::snprintf(share, sizeof(share), "%.2f %%", 100 * prune::sparsity_of(rows));
    return with_thousands(zeros) + " of " + with_thousands(elements) + " are zeros (" + share + ")";
  }

  void report(const Summary& before, const std::optional<Metrics>& metrics_before) const {
    const Summary after = summarize(*model_, input_);
    const std::vector<prune::SparsityRow> rows = prune::sparsity(*model_);
    const std::optional<Metrics> metrics_after = measured("after");
    const double latency_after = options_.compact ? latency() : 0;
    const uint64_t bytes_before = std::filesystem::file_size(options_.model);
    const uint64_t bytes_after = std::filesystem::file_size(options_.out);
    if (!options_.quiet) {
      std::cout << prune::to_text(rows);
      if (options_.compact) {
        std::cout << with_thousands(channels_) << " channels taken out: parameters " << with_thousands(before.trainable)
                  << " -> " << with_thousands(after.trainable) << ", MACs " << with_thousands(before.macs) << " -> "
                  << with_thousands(after.macs) << '\n';
        char times[120];
        std::snprintf(times, sizeof(times),
                      "one sample in float: %.1f -> %.1f us (%.2fx; median of %lld, %d thread%s)\n", latency_before_,
                      latency_after, latency_before_ / latency_after, static_cast<long long>(kLatencyRuns),
                      num_threads(), num_threads() == 1 ? "" : "s");
        std::cout << times;
      }
      for (const auto& [name, levels] : levels_) {
        std::cout << name << " takes " << levels.size() << " values\n";
      }
      std::cout << "file " << human_bytes(bytes_before) << " -> " << human_bytes(bytes_after) << '\n';
      if (metrics_before.has_value()) {
        std::cout << "before: test " << sentence(*metrics_before, about_) << "\nafter:  test "
                  << sentence(*metrics_after, about_) << '\n';
      } else if (!data_.has_value()) {
        std::cout << "not measured: no data were needed; `whittle eval " << printable(options_.out) << "` does\n";
      }
      std::cout << "saved as " << options_.out << '\n';
    }
    Json json = {{"model", options_.model},
                 {"out", options_.out},
                 {"prune", remembered(options_.rounds)},
                 {"sparsity", prune::sparsity_of(rows)},
                 {"layers", to_json(rows)},
                 {"channels_removed", channels_},
                 {"parameters", {{"before", before.trainable}, {"after", after.trainable}}},
                 {"macs", {{"before", before.macs}, {"after", after.macs}}},
                 {"bytes", {{"before", bytes_before}, {"after", bytes_after}}}};
    if (options_.compact) {
      json["latency_us"] = {
          {"before", latency_before_}, {"after", latency_after}, {"runs", kLatencyRuns}, {"threads", num_threads()}};
    }
    if (distance_.has_value()) {
      json["distance"] = *distance_;
    }
    if (!levels_.empty()) {
      json["levels"] = levels_;
    }
    if (metrics_before.has_value()) {
      json["data"] = data_->arguments.name;
      json["test"] = {{"before", apps::to_json(*metrics_before, about_)},
                      {"after", apps::to_json(*metrics_after, about_)}};
    }
    tell(json);
  }

  void tell(const Json& json) const {
    run_.result(json);
    if (options_.json) {
      std::cout << json_line(json) << '\n';
    }
  }

  static Json to_json(const std::vector<prune::SparsityRow>& rows) {
    Json json = Json::array();
    for (const prune::SparsityRow& row : rows) {
      json.push_back({{"name", row.name}, {"elements", row.elements}, {"zeros", row.zeros}, {"masked", row.masked}});
    }
    return json;
  }

  // ---- Scans -------------------------------------------------------------------------------

  const data::Dataset& scan_data() const {
    const data::Splits& splits = data_->splits;
    const data::Dataset& chosen = options_.split == "test"    ? splits.test
                                  : options_.split == "train" ? splits.train
                                                              : splits.validation;
    require(!chosen.empty(), "prune", "the data set '", data_->arguments.name, "' has no ", options_.split,
            " samples; choose another --split");
    return chosen;
  }

  void scan() {
    const data::Dataset& on = scan_data();
    const std::vector<double> amounts =
        options_.sweep.empty() ? std::vector<double>{0.25, 0.5, 0.75, 0.9, 0.95} : sweep_amounts(options_.sweep);
    const auto metric = [&] {
      const Metrics m = evaluate(*model_, on);
      return about_.regression ? m.mse : m.accuracy;
    };
    const double whole = metric();
    std::vector<prune::Sensitivity> rows;
    if (options_.sensitivity) {
      rows = prune::sensitivity(*model_, input_, targets_, scores(), options_.spec.selection(), amounts, metric);
    } else {
      rows = sweep(amounts, metric);
    }
    const char* unit = about_.regression ? "mse" : "accuracy";
    if (!options_.quiet) {
      print(rows, whole, unit, on);
    }
    Json json = {{"model", options_.model}, {"data", data_->arguments.name}, {"split", options_.split},
                 {"samples", on.size()},    {"prune", options_.spec.json()}, {"metric", unit},
                 {"whole", whole},          {"rows", Json::array()}};
    json["prune"].erase("amount");
    for (const prune::Sensitivity& row : rows) {
      json["rows"].push_back({{"layers", row.layers},
                              {"amount", row.amount},
                              {"elements", row.elements},
                              {"pruned", row.pruned},
                              {unit, row.value}});
    }
    tell(json);
  }

  // The whole model at each amount, in one shot from the whole model.
  std::vector<prune::Sensitivity> sweep(const std::vector<double>& amounts, const std::function<double()>& metric) {
    std::vector<prune::Sensitivity> rows;
    const prune::Scores unpruned = options_.spec.method == "edge" ? prune::Scores() : scores();
    for (const double amount : amounts) {
      const std::shared_ptr<Module> fresh = load_model(checkpoint_);
      const std::shared_ptr<Module> whole = std::exchange(model_, fresh);
      if (options_.spec.method == "edge") {
        prune::edge_prune(*fresh, edge_options(amount));
      } else {
        prune::SelectOptions selection = options_.spec.selection();
        selection.amount = amount;
        const std::vector<prune::Target> layers = prune::targets(*fresh, input_, options_.spec.targets());
        prune::attach(*fresh, prune::select(*fresh, input_, layers, unpruned, selection));
      }
      prune::Sensitivity row{.layers = "all", .amount = amount, .value = metric()};
      for (const prune::SparsityRow& r : prune::sparsity(*fresh)) {
        row.elements += r.elements;
        row.pruned += r.zeros;
      }
      rows.push_back(row);
      model_ = whole;
    }
    return rows;
  }

  void print(const std::vector<prune::Sensitivity>& rows, double whole, const char* unit,
             const data::Dataset& on) const {
    size_t width = 5;
    for (const prune::Sensitivity& row : rows) {
      width = std::max(width, row.layers.size());
    }
    const auto line = [width](const std::string& layers, const std::string& amount, const std::string& gone,
                              const std::string& value) {
      char buffer[160];
      std::snprintf(buffer, sizeof(buffer), "  %8s  %12s  %12s\n", amount.c_str(), gone.c_str(), value.c_str());
      std::cout << layers << std::string(width - std::min(width, layers.size()), ' ') << buffer;
    };
    const auto text = [](const char* format, double number) {
      char buffer[64];
      std::snprintf(buffer, sizeof(buffer), format, number);
      return std::string(buffer);
    };
    std::cout << data_->arguments.name << ' ' << options_.split << ", n = " << on.size() << ", method "
              << options_.spec.method << ", " << options_.spec.granularity << '\n';
    line("layer", "amount", "zeros", unit);
    line("-", "0", "0", text("%.6g", whole));
    for (const prune::Sensitivity& row : rows) {
      line(row.layers, text("%g", row.amount), with_thousands(row.pruned), text("%.6g", row.value));
    }
  }

  const Options& options_;
  FitOptions fit_;
  Recorder& run_;
  Checkpoint checkpoint_;
  zoo::Description description_;
  std::shared_ptr<Module> model_;
  std::string origin_;  // SHA-256 of the model's file
  std::shared_ptr<Module> teacher_;
  Shape input_;
  std::optional<SavedData> data_;
  data::DataInfo about_;
  std::vector<prune::Target> targets_;
  std::map<std::string, double> amounts_;  // by the parameter's name
  bool resumed_ = false;
  std::optional<int64_t> first_trained_;
  int64_t channels_ = 0;
  double latency_before_ = 0;                         // measured if channels are taken out
  std::optional<double> distance_;                    // of the weights from ADMM's sets, before they were cut
  std::map<std::string, std::vector<float>> levels_;  // by the parameter's name
};

void add_method_arguments(CLI::App& verb, Options& o) {
  PruneSpec& spec = o.spec;
  offer(verb.add_option(
            "--method", spec.method,
            "magnitude, random, taylor, fisher, bn-gamma, activation, edge; while training also movement and l1"),
        {"magnitude", "random", "taylor", "fisher", "bn-gamma", "activation", "edge", "movement", "l1"})
      ->capture_default_str();
  verb.add_option("--amount", spec.amount, "Share of weights, blocks or channels that are gone at the end");
  verb.add_option("--sigma", spec.sigma, "In place of --amount: weights up to so many deviations of their layer go");
  verb.add_option("--lambda", spec.lambda, "Strength of l1");
  verb.add_option("--layer-amount", o.layer_amounts, "LAYER=AMOUNT,...: other amounts for some layers")
      ->delimiter(',')
      ->allow_extra_args(false);
  verb.add_option("--granularity", spec.granularity, "element, block:1x4, nm:2:4, nm:2:4x16 or channel")
      ->capture_default_str();
  offer(verb.add_option("--scope", spec.scope, "local: the amount of each layer; global: of all together"),
        {"local", "global"})
      ->capture_default_str();
  verb.add_option("--power", spec.power, "Of the mean over a block or channel: 1, 2, ... or inf; for movement only 1")
      ->capture_default_str();
  verb.add_option("--include", spec.include, "Only these layers")->delimiter(',')->allow_extra_args(false);
  verb.add_option("--skip", spec.skip, "Not these layers; layer1 stands for all below it")
      ->delimiter(',')
      ->allow_extra_args(false);
  offer(verb.add_option("--last", spec.last, "The last layer: spare, half (of each round's share) or same"),
        {"spare", "half", "same"})
      ->capture_default_str();
  verb.add_option("--prune-seed", spec.seed, "Of random scores")->capture_default_str();
  verb.add_option("--score-samples", o.score.samples, "Training samples that taylor, fisher and activation look at")
      ->capture_default_str();
  verb.add_option("--score-batch", o.score.batch, "Samples per gradient of taylor and fisher")->capture_default_str();
  verb.add_flag("--edge-compatible", o.edge_compatible, "The same as --method edge: as the Edge project pruned");
  verb.add_option("--edge-quantize", o.edge_quantize, "edge: METHOD:BITS first, such as rr:uniform:8");
  verb.add_flag("--keep-statistics", o.edge_keep_statistics, "edge: leave running statistics whole, as its GPU did");
}

std::vector<Heeded> rules_of(const CLI::App& verb, const Options& o) {
  Heeded training{o.trains() || o.lottery.on, "is for retraining, which needs --epochs", {"--workers"}};
  for (const CLI::Option* option : verb.get_options()) {
    if (option->get_group() == "Retraining" || option->get_group() == "Augmentation") {
      training.options.push_back(option->get_name());
    }
  }
  return {training,
          {o.gradual, "is for --gradual", {"--begin", "--end", "--every"}},
          {o.admm.epochs > 0, "is for --admm", {"--rho", "--rho-growth", "--rho-most", "--admm-every"}},
          {o.lottery.on, "is for --lottery", {"--share", "--look-every"}},
          {o.scans(), "is for --sensitivity and --sweep", {"--split"}},
          {data_needed(o.spec),
           "is for the methods that look at data: taylor, fisher and activation",
           {"--score-samples", "--score-batch"}},
          {o.spec.method == "random" || !o.edge_quantize.empty(), "is for --method random", {"--prune-seed"}}};
}

}  // namespace

void add_prune(CLI::App& program) {
  CLI::App* verb = program.add_subcommand("prune", "Take weights, blocks or channels out of a saved model");
  const auto options = std::make_shared<Options>();
  verb->add_option("MODEL", options->model, "A checkpoint written by train")->required();
  verb->option_defaults()->group("What goes");
  add_method_arguments(*verb, *options);
  verb->option_defaults()->group("When");
  verb->add_option("--rounds", options->rounds, "Rounds of pruning and --epochs of retraining")->capture_default_str();
  verb->add_flag("--gradual", options->gradual, "Prune step by step within the --epochs, on a cubic curve");
  verb->add_option("--begin", options->spec.begin, "Where gradual pruning begins, as a share of the training")
      ->capture_default_str();
  verb->add_option("--end", options->spec.end, "... and ends")->capture_default_str();
  verb->add_option("--every", options->spec.every, "Steps between two prunings")->capture_default_str();
  verb->add_option("--rewind", options->rewind, "Checkpoint whose weights each round goes back to before retraining");
  verb->option_defaults()->group("Lottery tickets");
  add_lottery_arguments(*verb, options->lottery);
  verb->option_defaults()->group("ADMM");
  AdmmArguments& admm = options->admm;
  verb->add_option("--admm", admm.epochs,
                   "Epochs that pull the weights to what is wanted of them, before they are cut and retrained")
      ->capture_default_str();
  verb->add_option("--levels", admm.levels, "Values, too, are few: kmeans:4, affine:8 or power-of-two:3");
  verb->add_option("--set", admm.sets, "LAYER=AMOUNT+GRANULARITY+LEVELS,...: what is wanted of some layers")
      ->delimiter(',')
      ->allow_extra_args(false);
  verb->add_option("--rho", admm.rho, "How hard it pulls at first")->capture_default_str();
  verb->add_option("--rho-growth", admm.growth, "... by how much harder after each update")->capture_default_str();
  verb->add_option("--rho-most", admm.most_rho, "... and at most")->capture_default_str();
  verb->add_option("--admm-every", admm.every, "Steps between two updates; 0: ten updates")->capture_default_str();
  verb->option_defaults()->group("Then");
  verb->add_flag("--structured", options->structured, "The same as --granularity channel --compact");
  verb->add_flag("--compact", options->compact, "Take dead and unread channels out of every tensor");
  verb->add_flag("--permanent", options->permanent, "Write zeros into the weights and keep no masks");
  verb->option_defaults()->group("Scans, which save nothing");
  verb->add_flag("--sensitivity", options->sensitivity, "Prune one layer at a time and measure");
  verb->add_option(
          "--sweep", options->sweep,
          "AMOUNT,...: prune the whole model by each and measure; edge and edge-dense are that project's lists")
      ->delimiter(',')
      ->allow_extra_args(false);
  offer(verb->add_option("--split", options->split, "Measure on train, validation or test"),
        {"train", "validation", "test"})
      ->capture_default_str();
  verb->option_defaults()->group("Data");
  add_data_arguments(*verb, options->data);
  verb->option_defaults()->group("Retraining");
  add_training_arguments(*verb, options->fit, options->momentum);
  verb->add_option("--seed", options->fit.seed, "Seed of order and augmentation")->capture_default_str();
  add_teacher_arguments(*verb, options->teacher, options->fit.distillation);
  verb->option_defaults()->group("Augmentation");
  add_augmentation_arguments(*verb, options->fit.augment);
  verb->parse_complete_callback([verb, options] { refuse_ignored(*verb, rules_of(*verb, *options)); });
  verb->option_defaults()->group("Files, threads, output");
  verb->add_option("--out", options->out, "Where to save the pruned model");
  verb->add_flag("--resume", options->fit.resume, "Go on from the training state saved beside --out");
  verb->add_option("--workers", options->fit.workers, "Threads that prepare batches")->capture_default_str();
  verb->add_option("--threads", options->threads, "Threads that compute; 0: all there are")->capture_default_str();
  verb->add_flag("--quiet", options->quiet, "No progress and no tables");
  verb->add_flag("--json", options->json, "The last line is a JSON object with the results");
  const auto run = std::make_shared<Recorder>(*verb);
  const auto prune = [options, run] {
    check(*options);
    set_num_threads(options->threads);
    if (options->lottery.on) {
      play_lottery(options->lottery, options->model, options->out, options->spec, options->rounds, options->data,
                   options->fit, options->quiet, options->json, *run);
      return;
    }
    Pruning(*options, *run).run();
  };
  verb->callback([run, prune] { run->record(prune); });
  set_example(*verb,
              "whittle prune m.safetensors --amount 0.5 --out p.safetensors\n"
              "  whittle prune m.safetensors --method taylor --granularity channel --amount 0.3 --epochs 5 --compact "
              "--out p.safetensors\n"
              "  whittle prune m.safetensors --admm 5 --amount 0.95 --epochs 5 --out p.safetensors\n"
              "  whittle prune m.safetensors --lottery --rounds 10 --epochs 5 --controls reinitialized --out tickets\n"
              "  whittle prune m.safetensors --sensitivity");
}

}  // namespace whittle::apps
