#include "apps/report/measure.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include "apps/inspect_program.h"
#include "apps/latency.h"
#include "apps/machine.h"
#include "apps/models.h"
#include "apps/program.h"
#include "apps/report/page.h"
#include "compress/quantizing.h"
#include "core/error.h"
#include "core/json.h"
#include "core/parallel.h"
#include "datasets/split.h"
#include "deploy/lower.h"
#include "layers/summary.h"
#include "layers/weighted.h"
#include "prune/select.h"
#include "quant/post_training.h"
#include "quant/tap.h"
#include "runtime/hosted/choose.h"
#include "train/fit.h"
#include "train/statistics.h"

namespace whittle::apps::report {

namespace {

constexpr std::array kBits = {8, 7, 6, 5, 4, 3, 2};
constexpr std::array kSparsities = {0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98};
constexpr int64_t kWatched = 64;  // samples whose activations are counted, and that show what a layer's grids disturb
constexpr size_t kBins = 80;

data::Dataset some_of(const data::Dataset& data, int64_t count) { return data.subset(data::spread_over(data, count)); }

// Values in bins of one width. What is exactly zero in a pruned weight is counted apart: it would hide the rest.
Json histogram_of(const std::vector<float>& values) {
  const auto [low, high] = std::ranges::minmax(values);
  const double width = std::max((static_cast<double>(high) - low) / kBins, 1e-30);
  std::vector<int64_t> counts(kBins, 0);
  for (const float v : values) {
    ++counts[std::min(kBins - 1, static_cast<size_t>((static_cast<double>(v) - low) / width))];
  }
  std::vector<double> edges(kBins + 1);
  for (size_t i = 0; i <= kBins; ++i) {
    edges[i] = low + width * static_cast<double>(i);
  }
  return {{"edges", edges}, {"counts", counts}};
}

// The values that codes of a grid stand for, of the coarsest of several: those of the channel with the widest range.
Json levels_of(const Grids& grids) {
  const Grid& grid = *std::ranges::max_element(grids, {}, &Grid::scale);
  Json levels = Json::array();
  for (int32_t code = grid.qmin; grid.qmax - grid.qmin < 256 && code <= grid.qmax; ++code) {
    levels.push_back(arithmetic::dequantize(code, grid));
  }
  return levels;
}

class Measurement {
 public:
  Measurement(const std::string& file, const Checkpoint& checkpoint, const SavedData& saved,
              const MeasureOptions& options)
      : file_(file),
        checkpoint_(checkpoint),
        saved_(saved),
        options_(options),
        sample_(saved.splits.train.sample_shape()),
        input_(one_sample(sample_)),
        split_(saved.splits.validation.empty() ? "test" : "validation"),
        judged_on_(some_of(split_named("report", saved, split_), options.samples)) {}

  Json all() {
    const std::shared_ptr<Module> model = load_model(checkpoint_);
    std::optional<ProgramFile> program;
    if (!options_.program.empty()) {
      program.emplace(options_.program);
      check_made_of(*model, *program);
    }
    const bool whole = !quant::is_quantized(*model);
    const Summary summary = summarize(*model, input_);
    json_["model"] = {{"name", model_name(checkpoint_)}, {"file", file_},        {"data", saved_.arguments.name},
                      {"parameters", summary.trainable}, {"macs", summary.macs}, {"split", split_},
                      {"samples", judged_on_.size()}};
    if (whole) {
      section("techniques", [&] { return techniques(); });
      section("sweeps", [&] { return Json{{"bits", bits()}, {"sparsity", sparsities()}}; });
      quant::quantize(*model, input_, {}, batches(options_.calibration));
    } else {
      note("The model is quantized already: report its float original to see sweeps and the comparison of techniques.");
    }
    section("sizes", [&] {
      if (!program.has_value()) {
        program.emplace(deploy::program_of(*model, sample_), file_);
      }
      return sizes(*program);
    });
    json_["sizes_of"] = !options_.program.empty() ? options_.program.string()
                        : whole                   ? "the program of the model in int8"
                                                  : "the program of this model";
    section("layers", [&] { return layers(*model, summary, program); });
    section("histograms", [&] { return histograms(*model); });
    return std::move(json_);
  }

 private:
  void note(const std::string& sentence) { json_["notes"].push_back(sentence); }

  // A section that this model cannot have leaves a note.
  template <class Make>
  void section(const char* name, Make make) {
    if (options_.progress) {
      options_.progress(name);
    }
    try {
      json_[name] = make();
    } catch (const Error& error) {
      note(std::string("No ") + name + ": " + error.what());
    }
  }

  quant::Batches batches(int64_t samples) const { return compress::calibration_batches(saved_.splits.train, samples); }

  ProgramFile program_of(Module& model, const std::string& name) const {
    return {deploy::program_of(model, sample_), name};
  }

  // With Wilson's interval, if it is an accuracy.
  Json judged(const Metrics& metrics) const {
    if (!judged_on_.is_classification()) {
      return {{"mse", metrics.mse}};
    }
    const auto right = std::llround(metrics.accuracy * static_cast<double>(metrics.samples));
    const statistics::Interval interval = statistics::share_interval(right, metrics.samples);
    return {{"accuracy", metrics.accuracy}, {"low", interval.low}, {"high", interval.high}};
  }

  // ---- Techniques -------------------------------------------------------------------------

  Json row_of(const char* name, const char* data_needed, Module& model) {
    const ProgramFile program = program_of(model, name);
    Json row = judged(evaluate(program, judged_on_));
    const std::vector<int64_t> times = times_of(program, options_.repeats);
    const bool integer_only = (program.engine().program().features() & ~runtime::kIntegerFeatures) == 0;
    row.update({{"name", name},
                {"data_needed", data_needed},
                {"bytes", program.bytes().size()},
                {"latency_us", microseconds_at(times, 50)},
                {"latency_low_us", microseconds_at(times, 10)},
                {"latency_high_us", microseconds_at(times, 90)},
                {"runs_on", integer_only ? "every CPU, also without floating point" : "CPUs with floating point"}});
    return row;
  }

  Json techniques() {
    const auto quantized = [&](quant::Method method) {
      std::shared_ptr<Module> model = load_model(checkpoint_);
      quant::quantize(*model, input_, {.method = method}, batches(options_.calibration));
      return model;
    };
    Json rows = Json::array();
    rows.push_back(row_of("float32", "none", *load_model(checkpoint_)));
    json_["float"] = rows.front();
    for (const char* name : {"name", "data_needed", "runs_on"}) {
      json_["float"].erase(name);
    }
    rows.push_back(row_of("reduced float (fp16 weights)", "none", *quantized(quant::Method::kHalf)));
    rows.push_back(row_of("hybrid (int8 weights, float activations)", "none", *quantized(quant::Method::kHybrid)));
    const std::string unlabelled =
        std::to_string(std::min(options_.calibration, saved_.splits.train.size())) + " samples without labels";
    rows.push_back(
        row_of("full integer (int8, after training)", unlabelled.c_str(), *quantized(quant::Method::kStatic)));
    if (options_.training > 0) {
      const data::Dataset part = some_of(saved_.splits.train, options_.training);
      const std::string labelled = std::to_string(part.size()) + " samples with labels, one epoch";
      rows.push_back(row_of("quantization-aware training (int8)", labelled.c_str(), *trained(part)));
    }
    return rows;
  }

  std::shared_ptr<Module> trained(const data::Dataset& part) const {
    std::shared_ptr<Module> model = load_model(checkpoint_);
    const quant::TrainingPlan plan = quant::parse_training("w8a8");
    quant::prepare(*model, input_, plan.spec, {.live_norms = true});
    const data::Splits splits{.train = part, .validation = {}, .test = {}};
    FitOptions training{.epochs = 1, .seed = options_.seed, .rate = 0.001, .schedule = "cosine"};
    training.hooks = compress::quantizing_hooks(plan, *model, input_, splits.train, training);
    fit(*model, splits, training);
    return model;
  }

  // ---- Sweeps -----------------------------------------------------------------------------

  Json bits() const {
    Json points = Json::array();
    for (const int bits : kBits) {
      const std::shared_ptr<Module> model = load_model(checkpoint_);
      quant::quantize(*model, input_, {.spec = quant::usual_spec(bits, 8)}, batches(options_.calibration));
      points.push_back(judged(whittle::evaluate(*model, judged_on_)));
      points.back()["bits"] = bits;
    }
    return points;
  }

  Json sparsities() const {
    Json points = Json::array();
    const std::shared_ptr<Module> model = load_model(checkpoint_);
    const std::vector<prune::Target> targets = prune::targets(*model, input_);
    const prune::Scores scores = prune::magnitude(targets);
    for (const double amount : kSparsities) {
      prune::attach(*model,
                    prune::select(*model, input_, targets, scores, {.scope = prune::Scope::kGlobal, .amount = amount}));
      points.push_back(judged(whittle::evaluate(*model, judged_on_)));
      points.back()["sparsity"] = prune::sparsity_of(prune::sparsity(*model));
    }
    return points;
  }

  // ---- The program ------------------------------------------------------------------------

  // One of the same zoo model may be a thinner one. Times and sizes are of one sample.
  void check_made_of(Module& model, const ProgramFile& file) const {
    const std::string name = options_.program.string();
    const std::string other = model_name(file.about());
    require(other == model_name(checkpoint_), "report", name, " is a program of '", other, "', not of '",
            model_name(checkpoint_), "'");
    const data::Preprocessing theirs = preprocessing_of("report", name, file.about());
    const data::Preprocessing ours = preprocessing_of("report", file_, checkpoint_);
    require(theirs.sample == ours.sample && theirs.classes == ours.classes, "report", name, " reads samples of ",
            theirs.sample, " for ", theirs.classes.size(), " classes, ", file_, " reads ", ours.sample, " for ",
            ours.classes.size(), ": it was not made of this model");
    require(file.batch() == 1, "report", name, " computes ", file.batch(),
            " samples at a time; export one without --batch");
    const runtime::Program& program = file.engine().program();
    std::map<std::string, uint64_t> weights;
    for (const auto& [path, module] : model.modules()) {
      if (const auto* layer = dynamic_cast<const WeightedLayer*>(module); layer != nullptr) {
        weights[path] = static_cast<uint64_t>(layer->weight.shape().elements());
      }
    }
    for (uint32_t i = 0; i < program.op_count(); ++i) {
      const runtime::OpRecord op = program.op(i);
      const auto layer = weights.find(program.name(op.name));
      if (layer != weights.end() && op.weights != runtime::kNone) {
        const uint64_t count = runtime::elements(program.value(op.weights));
        require(count == layer->second, "report", name, " has ", count, " weights in ", layer->first, ", ", file_,
                " has ", layer->second, ": it was not made of this model");
      }
    }
  }

  static Json sizes(const ProgramFile& program) {
    Json parts = Json::array();
    uint64_t sum = 0;
    for (const auto& [part, bytes] : parts_of(program.engine().program())) {
      parts.push_back({{"part", part}, {"bytes", bytes}});
      sum += bytes;
    }
    require(sum == program.bytes().size(), "report", "the parts of the file are ", sum, " bytes, the file has ",
            program.bytes().size(), "; this is a defect of whittle");
    return parts;
  }

  // Medians of each op, in microseconds.
  std::vector<double> op_times(const ProgramFile& file) const {
    const runtime::Program& program = file.engine().program();
    runtime::Engine::Lease lease = file.engine().acquire();
    std::vector<std::vector<int64_t>> times(program.op_count());
    for (int64_t r = 0; r < options_.repeats; ++r) {
      write_any_input(program, lease.input(0));
      for (uint32_t i = 0; i < program.op_count(); ++i) {
        const auto start = std::chrono::steady_clock::now();
        lease.run_op(i);
        const auto time = std::chrono::steady_clock::now() - start;
        times[i].push_back(std::chrono::duration_cast<std::chrono::nanoseconds>(time).count());
      }
    }
    std::vector<double> medians;
    std::ranges::transform(times, std::back_inserter(medians), [](auto& of) { return microseconds_at(of, 50); });
    return medians;
  }

  Json layers(Module& model, const Summary& summary, const std::optional<ProgramFile>& file) const {
    Json rows = Json::array();
    const auto row_named = [&rows](const std::string& name) -> Json* {
      const auto found = std::find_if(rows.begin(), rows.end(), [&](const Json& row) { return row["name"] == name; });
      return found == rows.end() ? nullptr : &*found;
    };
    for (const SummaryRow& row : summary.rows) {
      rows.push_back({{"name", row.path},
                      {"kind", row.kind},
                      {"shape", row.output.str()},
                      {"details", row.details},
                      {"parameters", row.trainable},
                      {"macs", row.macs}});
    }
    for (const auto& [name, quantizer] : quant::quantizers(model)) {
      const bool weight = quantizer->role() == quant::Role::kWeight;
      if (Json* row = row_named(name.substr(0, weight ? name.rfind('.') : name.find('/'))); row != nullptr) {
        (*row)[weight ? "weight_bits" : "activation_bits"] = quantizer->tensor_spec().bits;
      }
    }
    if (!quant::quantizers(model).empty()) {
      for (const quant::Sensitivity& s : quant::sensitivities(model, batches(kWatched))) {
        if (Json* row = row_named(s.layer); row != nullptr && std::isfinite(s.sqnr)) {
          (*row)["sqnr_db"] = s.sqnr;
        }
      }
    }
    for (const prune::SparsityRow& s : prune::sparsity(model)) {
      if (Json* row = row_named(s.name.substr(0, s.name.rfind('.'))); row != nullptr && s.masked) {
        (*row)["sparsity"] = static_cast<double>(s.zeros) / static_cast<double>(s.elements);
      }
    }
    if (file.has_value()) {
      const runtime::Program& program = file->engine().program();
      const std::vector<double> times = op_times(*file);
      for (uint32_t i = 0; i < program.op_count(); ++i) {
        const runtime::OpRecord op = program.op(i);
        if (Json* row = row_named(program.name(op.name)); row != nullptr) {
          uint64_t bytes = 0;
          for (const uint32_t v : {op.weights, op.bias, op.multipliers, op.bounds, op.table}) {
            bytes += v == runtime::kNone ? 0 : runtime::bytes_of(program.value(v));
          }
          (*row)["bytes"] = row->value("bytes", uint64_t{0}) + bytes;
          (*row)["latency_us"] = row->value("latency_us", 0.0) + times[i];
        }
      }
    }
    return rows;
  }

  // ---- Histograms -------------------------------------------------------------------------

  static void add(Json& all, const std::string& layer, const char* of, std::vector<float> values,
                  const GridsPtr& grids) {
    if (std::erase(values, 0.0F) > 0 && values.empty()) {
      return;
    }
    Json one = histogram_of(values);
    one.update({{"layer", layer}, {"of", of}, {"grid", Json::array()}});
    if (grids != nullptr) {
      one["grid"] = levels_of(*grids);
      one["grids"] = grids->size();
    }
    all.push_back(std::move(one));
  }

  Json histograms(Module& model) const {
    const EvaluationMode evaluation(model);
    const NoGrad no_grad;
    Json all = Json::array();
    for (const auto& [path, module] : model.modules()) {
      if (auto* const layer = dynamic_cast<WeightedLayer*>(module); layer != nullptr) {
        const Tensor w = quant::unquantized_weight(*layer).value();
        add(all, path, "weights", {w.values().begin(), w.values().end()}, layer->effective_weight().grids());
      }
      if (const auto* const quantizer = module->output.find<quant::FakeQuant>(); quantizer != nullptr) {
        add(all, path, "activations", passing(model, *module), quantizer->grids());
      }
    }
    return all;
  }

  // What a module gives for some samples, while nothing is quantized.
  std::vector<float> passing(Module& model, Module& module) const {
    std::vector<float> values;
    const auto tap = std::make_shared<quant::Tap>([&values](const Variable& x) {
      values.insert(values.end(), x.value().values().begin(), x.value().values().end());
    });
    const std::vector<quant::NamedQuantizer> quantizers = quant::quantizers(model);
    for (const auto& [name, quantizer] : quantizers) {
      quantizer->turn(false);
    }
    const quant::Plugged plugged(module.output, tap);
    model(some_of(saved_.splits.train, kWatched).all().inputs);
    for (const auto& [name, quantizer] : quantizers) {
      quantizer->turn(true);
    }
    return values;
  }

  const std::string& file_;
  const Checkpoint& checkpoint_;
  const SavedData& saved_;
  const MeasureOptions& options_;
  Shape sample_;
  Shape input_;  // a batch of one
  std::string split_;
  data::Dataset judged_on_;
  Json json_ = Json::object();
};

}  // namespace

Json measure(const std::string& file, const Checkpoint& checkpoint, const SavedData& saved,
             const MeasureOptions& options) {
  for (const int64_t number : {options.samples, options.calibration, options.repeats}) {
    require(number >= 1 && number <= 10'000'000, "report",
            "numbers of samples and repeats are from 1 to 10000000, not ", number);
  }
  require(options.training >= 0, "report", "the samples to train with are ", options.training, ", which is negative");
  return Measurement(file, checkpoint, saved, options).all();
}

Json heading(const std::string& command, uint64_t seed) {
  return {{"format", kFormat},
          {"version", kVersion},
          {"command", command},
          {"date", now()},
          {"revision", revision()},
          {"cpu", cpu_model()},
          {"kernels", runtime::choose_kernels().int8->name},
          {"threads", num_threads()},
          {"seed", seed}};
}

}  // namespace whittle::apps::report
