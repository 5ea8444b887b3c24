#include "compress/search.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <map>
#include <optional>
#include <utility>

#include "compress/json_file.h"
#include "compress/quantizing.h"
#include "compress/thin.h"
#include "core/checkpoint.h"
#include "core/error.h"
#include "core/file.h"
#include "core/json.h"
#include "datasets/augment.h"
#include "datasets/split.h"
#include "deploy/lower.h"
#include "layers/fold.h"
#include "layers/summary.h"
#include "prune/mask.h"
#include "quant/fake_quant.h"
#include "quant/post_training.h"
#include "train/evaluate.h"

namespace whittle::inline WHITTLE_PRECISION::compress {

namespace {

constexpr double kQuantizedShare = 0.2;  // of a rung's epochs are quantization-aware
constexpr double kQuantizedRate = 0.2;   // ... at this part of the rate
constexpr int64_t kComparedSamples = 2048;

// A net with the description that rebuilds it.
struct Net {
  std::shared_ptr<Module> model;
  zoo::Description description;
};

// What stands in a rung's chains.
const TransformKinds& kinds() {
  static const TransformKinds all = [] {
    TransformKinds known;
    prune::add_mask_kind(known);
    add_fold_kind(known);
    quant::add_fake_quant_kind(known);
    return known;
  }();
  return all;
}

Net copy_of(Module& model, const zoo::Description& description) {
  Checkpoint checkpoint;
  zoo::store(checkpoint, description, model);
  return {zoo::load(checkpoint, kinds()), description};
}

Shape one_of(const data::Dataset& data) {
  const int64_t first[] = {0};
  return data.batch(first).inputs.shape();
}

std::vector<quant::LayerBits> layer_bits(const WeightBits& bits, quant::RangeRule range) {
  std::vector<quant::LayerBits> all;
  for (const auto& [layer, few] : bits) {
    all.push_back({.layer = layer, .weights = few, .range = range});
  }
  return all;
}

quant::TrainingPlan quantized_training(const WeightBits& bits) {
  quant::TrainingPlan plan = quant::parse_training("w8a8");
  plan.spec.bits = layer_bits(bits, quant::RangeRule::kLearnedStep);
  return plan;
}

void quantize_after_training(Module& model, const Shape& input, const data::Dataset& train, int64_t samples,
                             const WeightBits& bits = {}) {
  quant::QuantSpec spec = quant::usual_spec(8, 8);
  spec.bits = layer_bits(bits, quant::usual_spec(kFewBits, 8).weights.range);
  quant::quantize(model, input, {.spec = spec}, calibration_batches(train, samples));
}

double mean_weight_bits(const runtime::Program& program) {
  double bits = 0;
  double weights = 0;
  for (uint32_t i = 0; i < program.op_count(); ++i) {
    if (const uint32_t number = program.op(i).weights; number != runtime::kNone) {
      const runtime::ValueRecord record = program.value(number);
      const auto count = static_cast<double>(runtime::elements(record));
      weights += count;
      bits += count * runtime::width_of(record.type);
    }
  }
  return bits / weights;
}

std::filesystem::path state_of(const std::filesystem::path& folder) { return folder / "state.json"; }

std::filesystem::path file_of(const std::filesystem::path& folder, size_t number, const char* what) {
  std::array<char, 32> name{};
  std::snprintf(name.data(), name.size(), "rung-%02zu", number);
  return folder / (std::string(name.data()) + what);
}

void write(const std::filesystem::path& path, std::span<const uint8_t> bytes) {
  replace_file(path, std::as_bytes(bytes));
}

class Search {
 public:
  Search(Module& model, const zoo::Description& description, const data::Splits& splits, const SearchOptions& options,
         const std::function<void(const Candidate&)>& report, FitObserver* observer)
      : teacher_(model),
        description_(description),
        splits_(splits),
        options_(options),
        report_(report),
        observer_(observer),
        input_(one_of(splits.train)),
        epochs_(epochs_per_rung()) {}

  SearchResult run() {
    SearchResult result{.epochs = epochs_};
    begin();
    const Metrics of_float = evaluate(teacher_, splits_.validation, {.right = &by_float_});
    result.float_accuracy = of_float.accuracy;
    result.ended = climb(result);
    result.candidates = candidates_;
    for (const Candidate& candidate : candidates_) {
      result.steps +=
          static_cast<int64_t>(candidate.training_loss.size()) * steps_per_epoch(splits_, options_.fit.batch);
    }
    return result;
  }

 private:
  int64_t epochs_per_rung() const {
    const int64_t steps = options_.steps > 0 ? options_.steps : usual_steps(splits_, options_);
    const int64_t an_epoch = steps_per_epoch(splits_, options_.fit.batch);
    const int64_t epochs = steps / (options_.rungs * an_epoch);
    require(epochs >= 2, "compress", "a budget of ", steps, " steps is too small for ", options_.rungs,
            " rungs: each takes two epochs of ", an_epoch, " steps at least, one in float and one quantized");
    return epochs;
  }
  // That are quantized, where there were others in float.
  int64_t few_epochs() const {
    return std::max<int64_t>(1, std::llround(kQuantizedShare * static_cast<double>(epochs_)));
  }

  // ---- What is on disk ---------------------------------------------------------------------------

  std::filesystem::path state_file() const { return state_of(options_.folder); }

  // What decides the bytes, so that a search that goes on can be compared with the one that began.
  Json settings() const {
    FitOptions fit = options_.fit;
    fit.epochs = epochs_;
    fit.distillation.teacher = &teacher_;
    Json all = options_.fit.metadata;  // by names of their own, so that what differs can be said
    all.update({{"fit", settings_of(fit, splits_)},
                {"max_drop", options_.promise.max_drop},
                {"confidence", options_.promise.confidence},
                {"target", static_cast<int>(options_.target)},
                {"factor", options_.factor},
                {"calibration_samples", options_.calibration_samples},
                {"latencies", options_.latencies.json()},
                {"validation_samples", splits_.validation.size()}});
    return all;
  }

  void begin() {
    make_folder(options_.folder, "compress");
    if (!std::filesystem::exists(state_file())) {
      save();
      return;
    }
    const Json state = read_json("compress", state_file());
    try {
      const Json mine = settings().flatten();  // names as "fit/batch"
      const Json begun = state.at("settings").flatten();
      for (const auto& [key, value] : mine.items()) {
        require(begun.contains(key) && begun[key] == value, "compress", state_file().string(),
                " was begun with another ", called(key.substr(1)),
                "; resume with the same model and settings, or delete ", options_.folder.string(), " to begin anew");
      }
      require(begun.size() == mine.size(), "compress", state_file().string(),
              " was begun with more settings than there are now");
      for (const Json& candidate : state.at("candidates")) {
        candidates_.push_back(candidate_from(candidate));
      }
    } catch (const Json::exception& error) {
      fail("compress", state_file().string(), " is damaged: ", error.what());
    }
    check_files();
    for (const Candidate& candidate : candidates_) {
      tell(candidate);
    }
  }

  std::string called(const std::string& setting) const {
    return options_.setting_name ? options_.setting_name(setting) : setting;
  }

  // What was finished is read again before anything is built on it or handed out.
  void check_files() const {
    try {
      for (size_t number = 0; number < candidates_.size(); ++number) {
        (void)load_checkpoint(candidate_checkpoint(options_.folder, number));
        (void)engine_of(number);
      }
      if (candidates_.size() > 1) {
        (void)load_checkpoint(float_checkpoint(candidates_.size() - 1));
      }
    } catch (const Error& error) {
      throw Error(std::string(error.what()) + "; delete " + options_.folder.string() + " to begin anew");
    }
  }

  void save() const {
    Json state = {{"settings", settings()}, {"candidates", Json::array()}};
    for (const Candidate& candidate : candidates_) {
      state["candidates"].push_back(to_json(candidate));
    }
    write_json(state_file(), state);
  }

  void tell(const Candidate& candidate) const {
    if (report_) {
      report_(candidate);
    }
  }

  // ---- The ladder --------------------------------------------------------------------------------

  // Until something says why it ends.
  std::string climb(SearchResult& result) {
    if (candidates_.empty()) {
      Net net = copy_of(teacher_, description_);
      quantize_after_training(*net.model, input_, splits_.train, options_.calibration_samples);
      finish({.name = "int8", .method = "PTQ"}, net);
    }
    Candidate faultless;
    judge(faultless, by_float_, std::vector<bool>(by_float_.size(), true),
          confidence_behind(candidates_, options_.promise));
    if (!faultless.supports(options_.promise)) {
      return std::to_string(by_float_.size()) + " validation samples are too few to support any candidate";
    }
    while (candidates_.size() == 1 || candidates_.back().supports(options_.promise)) {
      const size_t number = candidates_.size();
      if (static_cast<int64_t>(number) > options_.rungs) {
        return "all rungs were supported";
      }
      Net net = number == 1 ? copy_of(teacher_, description_) : load(number - 1);
      Candidate candidate{.name = "rung " + std::to_string(number),
                          .wanted = std::pow(options_.factor, static_cast<double>(number)),
                          .bits = candidates_.back().bits};
      const auto nothing_goes = [](const Thinned& thinned) { return thinned.channels == 0 && thinned.layers == 0; };
      Thinned thinned;
      // All the weights of a layer lose bits at once, so the last rung may be where this one should go.
      for (;; candidate.wanted *= options_.factor) {
        thinned = thin(*net.model, net.description, candidate.bits, input_, splits_.train, layer_cost(number - 1),
                       {.cost = candidate.wanted - fixed_cost(number - 1)});
        if (!nothing_goes(thinned) || !thinned.reached) {
          break;
        }
      }
      if (nothing_goes(thinned)) {
        return "nothing more can be taken out";
      }
      try {
        if (!train(candidate, net, thinned.channels > 0)) {
          result.interrupted = true;
          return "it was stopped";
        }
      } catch (const Error& error) {  // what is supported so far stands
        return "'" + candidate.name + "' could not be trained: " + error.what();
      }
      finish(std::move(candidate), net);
    }
    return "'" + candidates_.back().name + "' is not supported by the validation data";
  }

  Net load(size_t number) const {
    const Checkpoint checkpoint = load_checkpoint(float_checkpoint(number));
    return {zoo::load(checkpoint, kinds()), zoo::description_of(checkpoint)};
  }
  std::filesystem::path float_checkpoint(size_t number) const {
    return file_of(options_.folder, number, ".float.safetensors");
  }

  // The net in float, if it is another than the last rung's, then in both ways quantized; it leaves as the better one
  // of these. False if it was stopped.
  bool train(Candidate& candidate, Net& net, bool is_new) {
    const size_t number = candidates_.size();
    const int64_t quantized_epochs = is_new ? few_epochs() : epochs_;
    const auto finished = [&](const std::optional<FitResult>& part) {
      for (const EpochRecord& record : part.has_value() ? part->history : std::vector<EpochRecord>{}) {
        candidate.training_loss.push_back(record.train.loss);
      }
      return part.has_value();
    };
    if (!is_new) {
      save_net(net, float_checkpoint(number));
    } else if (!finished(fit_net(net, float_checkpoint(number), epochs_ - quantized_epochs, 1, {}))) {
      return false;
    }
    Net after = copy_of(*net.model, net.description);
    const quant::TrainingPlan plan = quantized_training(candidate.bits);
    quant::prepare(*net.model, input_, plan.spec, {.live_norms = true});
    const std::filesystem::path quantized = file_of(options_.folder, number, ".qat.safetensors");
    const FitHooks hooks = quantizing_hooks(plan, *net.model, input_, splits_.train, options_.fit);
    if (!finished(fit_net(net, quantized, quantized_epochs, kQuantizedRate, hooks))) {
      return false;
    }
    quantize_after_training(*after.model, input_, splits_.train, options_.calibration_samples, candidate.bits);
    const bool trained_is_better = training_loss(*net.model) <= training_loss(*after.model);
    candidate.method = trained_is_better ? "QAT" : "PTQ";
    if (!trained_is_better) {
      net = std::move(after);
    }
    return true;
  }

  double training_loss(Module& model) const {
    return evaluate(model, splits_.train.subset(data::spread_over(splits_.train, kComparedSamples))).loss;
  }

  std::optional<FitResult> fit_net(Net& net, const std::filesystem::path& out, int64_t epochs, double rate,
                                   const FitHooks& hooks) {
    FitOptions fit_options = options_.fit;
    fit_options.epochs = epochs;
    fit_options.rate *= rate;
    fit_options.schedule = "cosine";
    fit_options.out = out;
    fit_options.metadata[zoo::kModelKey] = zoo::to_text(net.description);
    fit_options.distillation.teacher = &teacher_;
    fit_options.hooks = both(hooks, keep_last());
    fit_options.kinds = &kinds();
    fit_options.resume = std::filesystem::exists(last_state_path(out));
    const FitResult result =
        fit(*net.model, {.train = splits_.train, .validation = {}, .test = {}}, fit_options, observer_);
    return result.interrupted ? std::nullopt : std::optional(result);
  }

  Checkpoint save_net(Net& net, const std::filesystem::path& path) const {
    Checkpoint checkpoint{.tensors = {}, .metadata = options_.fit.metadata};
    zoo::store(checkpoint, net.description, *net.model);
    save_checkpoint(path, checkpoint);
    return checkpoint;
  }

  // Lowers, runs, judges and remembers.
  void finish(Candidate candidate, Net& net) {
    const size_t number = candidates_.size();
    const Checkpoint checkpoint = save_net(net, candidate_checkpoint(options_.folder, number));
    const std::string metadata = options_.program_metadata ? options_.program_metadata(checkpoint) : std::string();
    const Shape sample = splits_.train.sample_shape();
    write(candidate_program(options_.folder, number), deploy::program_of(*net.model, sample, {.metadata = metadata}));
    const Summary summary = summarize(*net.model, input_);
    candidate.parameters = summary.trainable;
    candidate.macs = summary.macs;
    candidate.bytes = std::filesystem::file_size(candidate_program(options_.folder, number));
    candidate.weight_bits = mean_weight_bits(engine_of(number).program());
    candidate.cost = cost_of(number) / cost_of(0);
    const Answers answers = options_.run(candidate_program(options_.folder, number));
    candidate.latency_us = answers.latency_us;
    judge(candidate, by_float_, answers.right, confidence_behind(candidates_, options_.promise));
    candidates_.push_back(std::move(candidate));
    save();
    std::error_code ignored;
    for (const char* gone : {".float.safetensors.last", ".float.safetensors.last.1", ".qat.safetensors",
                             ".qat.safetensors.last", ".qat.safetensors.last.1"}) {
      std::filesystem::remove(file_of(options_.folder, number, gone), ignored);
    }
    tell(candidates_.back());
  }

  // ---- What things cost --------------------------------------------------------------------------

  // Of a program that lies in the folder, in bytes and microseconds, by what the target looks at.
  struct Weights {
    double of_byte = 0;
    double of_microsecond = 0;
  };
  Weights weights() const {
    const bool size = options_.target != Target::kLatency;
    const bool latency = options_.target != Target::kSize;
    const runtime::Engine plain = engine_of(0);
    const double share = size && latency ? 0.5 : 1;
    return {.of_byte = size ? share / static_cast<double>(plain.program().header().file_bytes) : 0,
            .of_microsecond = latency ? share / options_.latencies.microseconds(plain.program()) : 0};
  }

  runtime::Engine engine_of(size_t number) const {
    const std::filesystem::path file = candidate_program(options_.folder, number);
    const std::vector<std::byte> bytes = read_file(file);
    try {
      return runtime::Engine({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
    } catch (const std::invalid_argument& refused) {
      fail("compress", file.string(), ": ", refused.what());
    }
  }

  // Plain int8 costs 1.
  double cost_of(size_t number) const {
    const Weights weight = weights();
    const runtime::Engine engine = engine_of(number);
    const runtime::Program& program = engine.program();
    return weight.of_byte * static_cast<double>(program.header().file_bytes) +
           (weight.of_microsecond > 0 ? weight.of_microsecond * options_.latencies.microseconds(program) : 0);
  }

  // What a layer of a program will cost when it is thinner: bytes of weights, and of the bias, multiplier and bound
  // that every channel has; the time of its op with that many multiply-accumulates.
  LayerCost layer_cost(size_t number) const {
    const runtime::Engine engine = engine_of(number);
    const runtime::Program& program = engine.program();
    std::map<std::string, std::string> op_kinds;
    for (uint32_t i = 0; i < program.op_count(); ++i) {
      if (program.op(i).weights != runtime::kNone) {
        op_kinds[program.name(program.op(i).name)] = work_of(program, i).kind;
      }
    }
    return [this, op_kinds, weight = weights()](const LayerSize& layer) {
      constexpr double kBytesOfChannel = 12;
      double cost = weight.of_byte * (layer.weights * layer.bits / 8 + kBytesOfChannel * layer.out);
      if (weight.of_microsecond > 0) {
        cost += weight.of_microsecond *
                options_.latencies.microseconds({.kind = op_kinds.at(layer.path), .work = layer.macs});
      }
      return cost;
    };
  }

  // What no layer is to blame for.
  double fixed_cost(size_t number) const {
    const runtime::Engine engine = engine_of(number);
    const runtime::Program& program = engine.program();
    const LayerCost cost = layer_cost(number);
    double of_layers = 0;
    for (uint32_t i = 0; i < program.op_count(); ++i) {
      const runtime::OpRecord op = program.op(i);
      if (op.weights != runtime::kNone) {
        const runtime::ValueRecord weights_of_op = program.value(op.weights);
        of_layers += cost({.path = program.name(op.name),
                           .weights = static_cast<double>(runtime::elements(weights_of_op)),
                           .macs = work_of(program, i).work,
                           .out = static_cast<double>(weights_of_op.dims[0]),
                           .bits = static_cast<int>(runtime::width_of(weights_of_op.type))});
      }
    }
    return cost_of(number) - of_layers;
  }

  Module& teacher_;
  const zoo::Description& description_;
  const data::Splits& splits_;
  const SearchOptions& options_;
  const std::function<void(const Candidate&)>& report_;
  FitObserver* observer_;
  Shape input_;
  int64_t epochs_;
  std::vector<bool> by_float_;
  std::vector<Candidate> candidates_;
};

}  // namespace

int64_t steps_per_epoch(const data::Splits& splits, int64_t batch) { return (splits.train.size() + batch - 1) / batch; }

int64_t usual_steps(const data::Splits& splits, const SearchOptions& options) {
  constexpr int64_t kEpochs = 8;
  constexpr int64_t kSteps = 5000;
  const int64_t an_epoch = steps_per_epoch(splits, options.fit.batch);
  return options.rungs * an_epoch * std::max(kEpochs, (kSteps + an_epoch - 1) / an_epoch);
}

std::optional<LatencyTable> latencies_begun_with(const std::filesystem::path& folder) {
  if (!std::filesystem::exists(state_of(folder))) {
    return std::nullopt;
  }
  const Json state = read_json("compress", state_of(folder));
  const Json::json_pointer place("/settings/latencies");
  require(state.contains(place), "compress", state_of(folder).string(), " is no state of a search");
  return LatencyTable::from(state[place]);
}

std::filesystem::path candidate_program(const std::filesystem::path& folder, size_t number) {
  return file_of(folder, number, ".wtl");
}
std::filesystem::path candidate_checkpoint(const std::filesystem::path& folder, size_t number) {
  return file_of(folder, number, ".safetensors");
}

LatencyTable measure_latencies(Module& model, const zoo::Description& description, const data::Dataset& train,
                               int64_t calibration_samples) {
  const Shape input = one_of(train);
  LatencyTable table;
  for (const double gone : {0.0, 0.25, 0.5, 0.75, 0.9}) {
    Net net = copy_of(model, description);
    thin_evenly(*net.model, net.description, input, gone);
    quantize_after_training(*net.model, input, train, calibration_samples);
    const std::vector<uint8_t> bytes = deploy::program_of(*net.model, train.sample_shape());
    table.measure(runtime::Engine(bytes));
  }
  return table;
}

void check(const SearchOptions& options, const data::Splits& splits) {
  check(options.promise);
  require(splits.train.is_classification(), "compress", "'", splits.train.name(),
          "' is a regression; a drop is promised in points of accuracy, which needs classes");
  require(!splits.validation.empty(), "compress", "'", splits.train.name(),
          "' has no validation samples, and nothing can be promised without");
  require(options.rungs >= 1 && options.rungs <= 99, "compress", options.rungs, " rungs are not from 1 to 99");
  require(options.factor > 0 && options.factor < 1, "compress", "the factor ", options.factor,
          " from rung to rung is not between 0 and 1");
  require(options.steps >= 0, "compress", "a budget of ", options.steps, " steps is negative");
  require(options.calibration_samples >= 1, "compress", options.calibration_samples, " samples cannot calibrate");
  require(options.run != nullptr, "compress", "nobody was named who runs programs");
  require(options.fit.resume || !std::filesystem::exists(state_of(options.folder)), "compress", options.folder.string(),
          " holds a search already; go on with it (--resume), or delete it to begin anew");
  require(options.fit.batch <= splits.train.size(), "compress", "a batch of ", options.fit.batch,
          " is larger than the ", splits.train.size(), " training samples (--batch)");
  FitOptions of_a_rung = options.fit;
  of_a_rung.resume = false;  // it has no files yet
  check_options(of_a_rung);
  data::check_augmentation(options.fit.augment, splits.train);
}

SearchResult search(Module& model, const zoo::Description& description, const data::Splits& splits,
                    const SearchOptions& options, const std::function<void(const Candidate&)>& report,
                    FitObserver* observer) {
  check(options, splits);
  return Search(model, description, splits, options, report, observer).run();
}

}  // namespace whittle::inline WHITTLE_PRECISION::compress
