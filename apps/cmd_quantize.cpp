// whittle quantize: a trained model's weights and activations onto grids, without training.

#include <unistd.h>

#include <algorithm>
#include <iomanip>
#include <iostream>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "apps/cli.h"
#include "apps/data_options.h"
#include "apps/ignored.h"
#include "apps/metrics_text.h"
#include "apps/models.h"
#include "apps/program.h"
#include "apps/runs/recorder.h"
#include "apps/text.h"
#include "compress/adaround.h"
#include "compress/quantizing.h"
#include "core/checkpoint.h"
#include "core/error.h"
#include "core/file.h"
#include "core/json.h"
#include "core/parallel.h"
#include "layers/model_checkpoint.h"
#include "layers/summary.h"
#include "quant/array/edge_model.h"
#include "quant/levels.h"
#include "quant/post_training.h"
#include "quant/weight_table.h"

namespace whittle::apps {

namespace {

struct Options {
  std::string model;
  std::string method = "static";
  int bits = 8;
  int activation_bits = 8;
  std::string per = "channel";
  std::string weight_range;
  std::string activation_range;
  double percentile = 99.99;
  bool asymmetric_weights = false;
  bool symmetric_activations = false;
  std::vector<std::string> skip;
  std::vector<std::string> layer_bits;
  int edge_bits = 0;
  int sum_bits = 0;
  bool equalize = false;
  bool correct_biases = false;
  bool sensitivity = false;
  std::string grid;
  std::string rounding = "nearest";
  bool zero = false;
  std::optional<int> terms;
  std::optional<double> output_error;
  uint64_t seed = 0;
  int64_t steps = 1000;
  bool layers = false;
  std::string edge;
  DataArguments data;
  int64_t samples = 512;
  std::string out;
  int threads = 0;
  bool quiet = false;
  bool json = false;
};

bool learns_rounding(const Options& options) { return options.rounding == "adaround"; }

// Weights on a grid of quant/array; nothing: on that of the integer program.
std::optional<quant::LevelSpec> levels_of(const Options& options) {
  const bool plain = options.rounding == "nearest" || learns_rounding(options);
  if (options.grid.empty() && plain) {
    require(!options.zero && !options.terms.has_value() && !options.output_error.has_value(), "quantize",
            "--zero, --terms and --output-error go with a --grid");
    return std::nullopt;
  }
  require(!learns_rounding(options), "quantize",
          "--rounding adaround is for the grid of the integer program, without --grid");
  require(options.grid == "multipoint" || !options.terms.has_value(), "quantize", "--terms is for --grid multipoint");
  require(!options.sensitivity, "quantize", "--sensitivity is for the grid of the integer program, without --grid");
  quant::LevelSpec levels{.grid = options.grid.empty() ? "affine" : options.grid,
                          .rounding = options.rounding,
                          .zero = options.zero,
                          .output_error = options.output_error,
                          .seed = options.seed};
  // Where channels choose, they may choose among a few.
  levels.terms = options.terms.value_or(options.output_error.has_value() ? 4 : 2);
  return levels;
}

quant::QuantSpec spec_of(const Options& options) {
  quant::QuantSpec spec = quant::usual_spec(options.bits, options.activation_bits);
  if (options.per.starts_with("group:")) {
    spec.weights.per = quant::Granularity::kGroup;
    std::istringstream number(options.per.substr(6));
    require(number >> spec.weights.group && number.eof() && spec.weights.group >= 1, "quantize", "--per ", options.per,
            " is not group:N");
  } else {
    spec.weights.per = quant::granularity_named(options.per);
    require(spec.weights.per != quant::Granularity::kGroup, "quantize", "--per group wants a number: group:32");
  }
  if (!options.weight_range.empty()) {
    spec.weights.range = quant::range_rule_named(options.weight_range);
  }
  if (!options.activation_range.empty()) {
    spec.activations.range = quant::range_rule_named(options.activation_range);
  }
  for (const auto range : {spec.weights.range, spec.activations.range}) {
    require(range != quant::RangeRule::kLearnedStep && range != quant::RangeRule::kLearnedClip, "quantize", "'",
            quant::name_of(range), "' is learned in training; `whittle train --qat` does that");
  }
  spec.weights.percentile = options.percentile;
  spec.activations.percentile = options.percentile;
  spec.weights.symmetric = !options.asymmetric_weights;
  spec.activations.symmetric = spec.activations.symmetric || options.symmetric_activations;
  spec.skip = options.skip;
  for (const std::string& layer : options.layer_bits) {
    quant::LayerBits own = quant::layer_bits_from("quantize", layer);
    if (options.weight_range.empty() && own.weights > 0) {
      own.range = quant::usual_spec(own.weights, options.activation_bits).weights.range;
    }
    spec.bits.push_back(std::move(own));
  }
  require(options.bits > 0 || options.activation_bits > 0 || !spec.bits.empty(), "quantize",
          "--bits 0 and --activation-bits 0 leave nothing to quantize");
  spec.edge_bits = options.edge_bits;
  spec.sum_bits = options.sum_bits;
  spec.levels = levels_of(options);
  if (spec.levels.has_value()) {
    quant::check(*spec.levels, spec.weights);
  }
  return spec;
}

std::vector<Heeded> rules_of(const Options& options) {
  const quant::Method method = quant::method_named(options.method);
  const bool fixed = method == quant::Method::kStatic;
  const bool by_percentile = options.weight_range == "percentile" || options.activation_range == "percentile";
  const bool looks_at_data = fixed || learns_rounding(options) || options.correct_biases || options.sensitivity ||
                             options.output_error.has_value();
  return {{options.edge.empty(),
           "is not for --edge-compatible, which takes --bits, --terms and --seed",
           {"--activation-bits", "--weight-range", "--activation-range", "--percentile", "--asymmetric-weights",
            "--symmetric-activations", "--skip", "--layer-bits", "--edge-bits", "--sum-bits", "--zero",
            "--output-error", "--steps", "--layers", "--equalize", "--correct-biases", "--sensitivity", "--samples"}},
          {method != quant::Method::kHalf,
           "is for grids, and --method fp16 has none",
           {"--bits", "--per", "--weight-range", "--asymmetric-weights", "--layer-bits", "--edge-bits",
            "--correct-biases"}},
          {fixed || method == quant::Method::kDynamic,
           "is for --method static and dynamic; the others leave activations in float",
           {"--sum-bits"}},
          {fixed,
           "is for --method static, which alone has fixed grids of activations",
           {"--activation-bits", "--activation-range", "--symmetric-activations"}},
          {by_percentile, "is for --weight-range or --activation-range percentile", {"--percentile"}},
          {learns_rounding(options), "is for --rounding adaround", {"--steps"}},
          {looks_at_data,
           "is for what looks at data: --method static, --rounding adaround, --correct-biases, --output-error and "
           "--sensitivity",
           {"--samples"}}};
}

Json report_sensitivity(Module& model, const quant::Batches& batches, const data::Dataset& validation,
                        const data::DataInfo& about, bool quiet) {
  const auto metric = [&] {
    const Metrics m = evaluate(model, validation);
    return about.regression ? m.mse : m.accuracy;
  };
  const auto table = quant::sensitivities(model, batches, validation.empty() ? std::function<double()>() : metric);
  Json rows = Json::array();
  for (const quant::Sensitivity& row : table) {
    Json entry = {{"layer", row.layer}, {"sqnr_db", row.sqnr}};
    if (!validation.empty()) {
      entry[about.regression ? "mse" : "accuracy"] = row.metric;
    }
    rows.push_back(std::move(entry));
  }
  if (!quiet) {
    std::cout << "one layer quantized at a time" << (validation.empty() ? "" : ", on validation data") << ":\n";
    for (const quant::Sensitivity& row : table) {
      std::cout << "  " << std::left << std::setw(28) << row.layer << std::right << std::fixed << std::setprecision(1)
                << std::setw(8) << row.sqnr << " dB";
      if (!validation.empty()) {
        std::cout << "  " << std::setprecision(about.regression ? 4 : 2) << std::setw(10)
                  << (about.regression ? row.metric : 100 * row.metric) << (about.regression ? "" : " %");
      }
      std::cout << '\n';
    }
  }
  return rows;
}

Json report_weights(Module& model, bool quiet) {
  Json rows = Json::array();
  int64_t bits = 0;
  int64_t weights = 0;
  for (const quant::WeightFigures& row : quant::weight_table(model)) {
    if (!quiet && rows.empty()) {
      std::cout << "weights                          number   codes  terms  bits/weight        mse     sqnr\n";
    }
    rows.push_back({{"layer", row.layer},
                    {"weights", row.weights},
                    {"distinct_codes", row.distinct_codes},
                    {"terms", row.terms},
                    {"bits_per_weight", row.bits_per_weight()},
                    {"mse", row.mse},
                    {"sqnr_db", row.sqnr_db}});
    bits += row.stored_bits;
    weights += row.weights;
    if (!quiet) {
      std::cout << "  " << std::left << std::setw(26) << row.layer << std::right << std::setw(11) << row.weights
                << std::setw(8) << row.distinct_codes << std::fixed << std::setprecision(2) << std::setw(7) << row.terms
                << std::setw(13) << row.bits_per_weight() << std::scientific << std::setw(11) << row.mse << std::fixed
                << std::setprecision(1) << std::setw(6) << row.sqnr_db << " dB\n"
                << std::defaultfloat;
    }
  }
  const double mean = weights == 0 ? 0 : static_cast<double>(bits) / static_cast<double>(weights);
  if (!quiet) {
    std::cout << "all weights: " << std::fixed << std::setprecision(2) << mean
              << " bits each, scales and codebooks counted\n"
              << std::defaultfloat;
  }
  return {{"layers", std::move(rows)}, {"bits_per_weight", mean}};
}

Json learn_rounding(Module& model, const Shape& input, const quant::Batches& batches, const Options& options) {
  const auto table = compress::adaround(
      model, input, batches,
      {.steps = options.steps, .seed = options.seed, .progress = [&options](const std::string& layer) {
         if (!options.quiet && isatty(STDOUT_FILENO) != 0) {
           std::cout << "learning how to round " << layer << "\n" << std::flush;
         }
       }});
  Json rows = Json::array();
  for (const compress::RoundedLayer& row : table) {
    rows.push_back(
        {{"layer", row.layer}, {"nearest", row.nearest}, {"learned", row.learned}, {"changed", row.changed}});
    if (!options.quiet) {
      std::cout << "  " << std::left << std::setw(28) << row.layer << std::right << std::setprecision(3)
                << "output error " << std::setw(9) << row.nearest << " to nearest, " << std::setw(9) << row.learned
                << " learned, " << row.changed << " codes differ\n";
    }
  }
  return rows;
}

// What the model is worth now, called `now` beside "float"; and the file.
void finish(const Options& options, Module& model, Checkpoint& checkpoint, const SavedData& saved,
            const Metrics& before, const std::string& now, Json& json, Recorder& run) {
  const data::DataInfo about = saved.arguments.info();
  if (!saved.splits.test.empty()) {
    const Metrics metrics = run.measure(model, saved.splits.test, about, "after");
    json["test"] = to_json(metrics, about);
    if (!options.quiet) {
      const auto name = [&](const std::string& what) { return saved.arguments.name + " test, " + what + ":"; };
      const auto width = static_cast<int>(name(now).size());
      std::cout << std::left << std::setw(width) << name("float") << ' ' << sentence(before, about) << '\n'
                << name(now) << std::right << ' ' << sentence(metrics, about) << '\n';
    }
  }
  if (!options.out.empty()) {
    checkpoint.tensors.clear();
    store_model(checkpoint, model);
    save_checkpoint(options.out, checkpoint);
    run.wrote(options.out);
    if (!options.quiet) {
      std::cout << "saved as " << options.out << '\n';
    }
  }
  run.result(json);
  if (options.json) {
    std::cout << json_line(json) << '\n';
  }
}

// Edge's methods as its code computed them: raw values are replaced, in float, and nothing else happens.
void quantize_as_edge(const Options& options, Recorder& run) {
  const quant::edge::Method method = quant::edge::parse_edge_method(options.edge);
  require(options.terms == std::nullopt || method.rounding == quant::edge::Rounding::kMultiPoint, "quantize",
          "--terms is for multipoint, not for ", options.edge);
  check_place(options.out, "quantize", "--out");
  Checkpoint checkpoint = load_net("quantize", options.model);
  const std::shared_ptr<Module> model = load_model(checkpoint);
  const SavedData saved = data_of("quantize", options.model, checkpoint, options.data);
  const data::Splits& splits = saved.splits;
  const data::DataInfo about = saved.arguments.info();
  Json json = {{"model", options.model},
               {"data", saved.arguments.name},
               {"edge_compatible", quant::edge::method_name(method)},
               {"bits", options.bits}};
  run.begin({.model = model_name(checkpoint), .data = saved.arguments.name, .from = options.model});
  Metrics before;
  if (!splits.test.empty()) {
    before = run.measure(*model, splits.test, about, "before");
    json["float"] = {{"test", to_json(before, about)}};
  }
  quant::edge::edge_quantize(*model,
                             {.method = method, .bits = options.bits, .seed = options.seed, .terms = options.terms});
  const std::string now =
      "Edge's " + quant::edge::method_name(method) + " at " + std::to_string(options.bits) + " bits";
  finish(options, *model, checkpoint, saved, before, now, json, run);
}

void quantize(const Options& options, Recorder& run) {
  set_num_threads(options.threads);
  if (!options.edge.empty()) {
    quantize_as_edge(options, run);
    return;
  }
  const quant::PostTrainingOptions plan{.method = quant::method_named(options.method),
                                        .spec = spec_of(options),
                                        .equalize = options.equalize,
                                        .correct_biases = options.correct_biases,
                                        .progress = {}};
  require(!options.sensitivity || plan.method == quant::Method::kStatic || plan.method == quant::Method::kHybrid,
          "quantize", "--sensitivity is for static and hybrid quantization");
  quant::check_weights(plan.spec.weights);
  quant::check_activations(plan.spec.activations);
  const bool learned = learns_rounding(options);
  require(!learned || plan.method == quant::Method::kStatic || plan.method == quant::Method::kHybrid, "quantize",
          "--rounding adaround is for static and hybrid quantization");
  require(!learned || !options.correct_biases, "quantize",
          "--correct-biases has nothing to correct where rounding is learned");
  require(options.steps >= 1, "quantize", "--steps ", options.steps, " is not at least 1");
  check_place(options.out, "quantize", "--out");
  Checkpoint checkpoint = load_net("quantize", options.model);
  const std::shared_ptr<Module> model = load_model(checkpoint);
  const SavedData saved = data_of("quantize", options.model, checkpoint, options.data);
  const data::Splits& splits = saved.splits;
  const data::DataInfo about = saved.arguments.info();
  const quant::Batches batches = compress::calibration_batches(splits.train, options.samples);
  const Shape input = one_sample(splits.train.sample_shape());

  Json json = {
      {"model", options.model}, {"data", saved.arguments.name}, {"method", options.method}, {"bits", options.bits}};
  run.begin({.model = model_name(checkpoint), .data = saved.arguments.name, .from = options.model});
  Metrics before;
  if (!splits.test.empty()) {
    before = run.measure(*model, splits.test, about, "before");
    json["float"] = {{"test", to_json(before, about)}};
  }
  const quant::CalibrationReport report = quant::quantize(*model, input, plan, batches);
  json["calibration_samples"] = report.samples;
  Json warnings = Json::array();
  for (const quant::RangeWarning& warning : report.warnings) {
    warnings.push_back({{"name", warning.name}, {"ratio", warning.ratio}});
    if (!options.quiet) {
      std::cout << "note: at " << warning.name << " one sample alone reaches " << std::setprecision(3) << warning.ratio
                << " times as far as any other\n";
    }
  }
  json["warnings"] = std::move(warnings);
  if (learned) {
    json["adaround"] = learn_rounding(*model, input, batches, options);
  }
  if (options.layers || plan.spec.levels.has_value()) {
    json["weights"] = report_weights(*model, options.quiet);
  }
  if (options.sensitivity) {
    json["sensitivity"] = report_sensitivity(*model, batches, splits.validation, about, options.quiet);
  }
  finish(options, *model, checkpoint, saved, before, "quantized", json, run);
}

}  // namespace

void add_quantize(CLI::App& program) {
  CLI::App* verb = program.add_subcommand("quantize", "Put a trained model's weights and activations on grids");
  const auto options = std::make_shared<Options>();
  verb->add_option("MODEL", options->model, "A checkpoint written by train")->required();
  offer(verb->add_option(
            "--method", options->method,
            "static: integer arithmetic; dynamic: ranges found at run time; hybrid: float activations; fp16"),
        {"static", "dynamic", "hybrid", "fp16"})
      ->capture_default_str();
  verb->option_defaults()->group("Grids");
  verb->add_option("--bits", options->bits, "Bits of weights, 1 to 16")->capture_default_str();
  verb->add_option("--activation-bits", options->activation_bits, "Bits of activations, 2 to 16; 0: float")
      ->capture_default_str();
  verb->add_option("--per", options->per, "One weight grid per channel, tensor or group:N inputs")
      ->capture_default_str();
  offer(verb->add_option("--weight-range", options->weight_range,
                         "minmax, percentile or mse; default minmax from 8 bits on, else mse"),
        {"minmax", "percentile", "mse"});
  offer(verb->add_option("--activation-range", options->activation_range,
                         "minmax, average, percentile, mse or entropy; default mse up to 8 bits, else minmax"),
        {"minmax", "average", "percentile", "mse", "entropy"});
  verb->add_option("--percentile", options->percentile, "Of the ranges by percentile")->capture_default_str();
  verb->add_flag("--asymmetric-weights", options->asymmetric_weights,
                 "Weight grids with zero-points (simulation only)");
  verb->add_flag("--symmetric-activations", options->symmetric_activations, "Activation grids without zero-points");
  verb->add_option("--skip", options->skip, "Layers left in float, by path; * at the end stands for anything")
      ->delimiter(',');
  verb->add_option(
          "--layer-bits", options->layer_bits,
          "Bits of single layers, which go before all other rules: conv1=4,fc=8a8 (of weights; of results, too)")
      ->delimiter(',');
  verb->add_option("--edge-bits", options->edge_bits,
                   "Bits of the network's input, first and last layer; 0: as the others")
      ->check(CLI::Range(0, 16))
      ->capture_default_str();
  verb->add_option("--sum-bits", options->sum_bits,
                   "Bits of activations that only sums and pools read, 2 to 16; 0: as the others")
      ->check(CLI::Range(0, 16))
      ->capture_default_str();
  verb->option_defaults()->group("Other grids of weights, for --method hybrid (docs/grids.md)");
  verb->add_option("--grid", options->grid,
                   quant::grid_names() + "; binary needs --bits 1, ternary and ternary-exact --bits 2");
  offer(verb->add_option(
            "--rounding", options->rounding,
            "nearest, nearest-up, stochastic or floor; adaround: learned on calibration data, without --grid"),
        {"nearest", "nearest-up", "stochastic", "floor", "adaround"})
      ->capture_default_str();
  verb->add_flag("--zero", options->zero, "One level is exactly 0 (landmark sets and k-means)");
  verb->add_option("--terms", options->terms, "multipoint: terms of every channel, 2; with --output-error the most, 4");
  verb->add_option(
      "--output-error", options->output_error,
      "multipoint: terms are added until a channel's error is this share of the layer's output, 0.001 say");
  verb->add_option("--seed", options->seed, "Of stochastic rounding and of learning")->capture_default_str();
  verb->add_option("--steps", options->steps, "adaround: steps for each layer")->capture_default_str();
  verb->add_flag("--layers", options->layers, "Print codes, bits and errors of every weight; with --grid always");
  verb->add_option(
          "--edge-compatible", options->edge,
          "The Edge project's method, faults included (docs/edge-mode.md): mr, mr:iqr, rr:SET, sr:SET with SET "
          "uniform, histogram, normal or iqr, or multipoint; takes --bits, --terms and --seed")
      ->excludes("--method")
      ->excludes("--grid")
      ->excludes("--rounding")
      ->excludes("--per");
  verb->option_defaults()->group("Help for accuracy");
  verb->add_flag("--equalize", options->equalize, "Even out the weights of neighbouring layers first");
  verb->add_flag("--correct-biases", options->correct_biases, "Take back the mean error of each layer");
  verb->add_flag("--sensitivity", options->sensitivity, "Print how much each layer alone hurts");
  verb->option_defaults()->group("Data");
  add_data_arguments(*verb, options->data);
  offer(verb->add_option("--calib", options->data.name,
                         "The same as --data: whose training part calibrates (default: the model's own)"),
        data_names())
      ->excludes("--data");
  verb->add_option("--samples", options->samples, "Samples that calibrate")->capture_default_str();
  verb->option_defaults()->group("Files, threads, output");
  verb->add_option("--out", options->out, "Where to save the quantized model");
  verb->add_option("--threads", options->threads, "Threads that compute; 0: all there are")->capture_default_str();
  verb->add_flag("--quiet", options->quiet, "Only the JSON line");
  verb->add_flag("--json", options->json, "The last line is a JSON object with the results");
  verb->parse_complete_callback([verb, options] { refuse_ignored(*verb, rules_of(*options)); });
  const auto run = std::make_shared<Recorder>(*verb);
  verb->callback([options, run] { run->record([&] { quantize(*options, *run); }); });
  set_example(*verb,
              "whittle quantize m.safetensors --method static --bits 8 --out q.safetensors\n"
              "  whittle quantize m.safetensors --method static --bits 4 --equalize --correct-biases --sensitivity\n"
              "  whittle quantize m.safetensors --method hybrid --bits 4 --rounding adaround\n"
              "  whittle quantize m.safetensors --method hybrid --bits 4 --grid kmeans");
}

}  // namespace whittle::apps
