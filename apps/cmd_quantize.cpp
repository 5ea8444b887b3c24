// whittle quantize: a trained model's weights and activations onto grids, without training.

#include <unistd.h>

#include <algorithm>
#include <iomanip>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "apps/cli.h"
#include "apps/data_options.h"
#include "apps/metrics_text.h"
#include "apps/models.h"
#include "apps/text.h"
#include "core/checkpoint.h"
#include "core/error.h"
#include "core/json.h"
#include "core/parallel.h"
#include "layers/model_checkpoint.h"
#include "layers/summary.h"
#include "quant/post_training.h"

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
  int edge_bits = 0;
  bool equalize = false;
  bool correct_biases = false;
  bool sensitivity = false;
  DataArguments data;
  int64_t samples = 512;
  std::string out;
  int threads = 0;
  bool quiet = false;
  bool json = false;
};

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
  spec.edge_bits = options.edge_bits;
  return spec;
}

// Positions spread evenly over the set, in batches.
quant::Batches calibration_batches(const data::Dataset& data, int64_t samples) {
  require(samples >= 1, "quantize", "--samples ", samples, " is not at least 1");
  require(!data.empty(), "quantize", "the calibration set '", data.name(), "' is empty");
  const int64_t count = std::min(samples, data.size());
  return [&data, count] {
    return [&data, count, at = int64_t{0}]() mutable {
      constexpr int64_t kBatch = 64;
      std::vector<int64_t> indices;
      for (; at < count && static_cast<int64_t>(indices.size()) < kBatch; ++at) {
        indices.push_back(at * data.size() / count);
      }
      return indices.empty() ? Tensor() : data.batch(indices).inputs;
    };
  };
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
        std::cout << std::setprecision(about.regression ? 4 : 2) << std::setw(10)
                  << (about.regression ? row.metric : 100 * row.metric) << (about.regression ? "" : " %");
      }
      std::cout << '\n';
    }
  }
  return rows;
}

void quantize(const Options& options) {
  set_num_threads(options.threads);
  const quant::PostTrainingOptions plan{.method = quant::method_named(options.method),
                                        .spec = spec_of(options),
                                        .equalize = options.equalize,
                                        .correct_biases = options.correct_biases,
                                        .progress = {}};
  require(!options.sensitivity || plan.method == quant::Method::kStatic || plan.method == quant::Method::kHybrid,
          "quantize", "--sensitivity is for static and hybrid quantization");
  quant::check_weights(plan.spec.weights);
  quant::check_activations(plan.spec.activations);
  Checkpoint checkpoint = load_checkpoint(options.model);
  const std::shared_ptr<Module> model = load_model(checkpoint);
  const auto [arguments, splits] = data_of("quantize", options.model, checkpoint, options.data);
  const data::DataInfo& about = data::info(arguments.name);
  const quant::Batches batches = calibration_batches(splits.train, options.samples);
  const Shape input = one_sample(splits.train.sample_shape());

  Json json = {{"model", options.model}, {"data", arguments.name}, {"method", options.method}, {"bits", options.bits}};
  Metrics before;
  if (!splits.test.empty()) {
    before = evaluate(*model, splits.test);
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
  if (options.sensitivity) {
    json["sensitivity"] = report_sensitivity(*model, batches, splits.validation, about, options.quiet);
  }
  if (!splits.test.empty()) {
    const Metrics metrics = evaluate(*model, splits.test);
    json["test"] = to_json(metrics, about);
    if (!options.quiet) {
      std::cout << arguments.name << " test, float:     " << sentence(before, about) << '\n'
                << arguments.name << " test, quantized: " << sentence(metrics, about) << '\n';
    }
  }
  if (!options.out.empty()) {
    checkpoint.tensors.clear();
    store_model(checkpoint, *model);
    save_checkpoint(options.out, checkpoint);
    if (!options.quiet) {
      std::cout << "saved as " << options.out << '\n';
    }
  }
  if (options.json) {
    std::cout << json_line(json) << '\n';
  }
}

}  // namespace

void add_quantize(CLI::App& program) {
  CLI::App* verb = program.add_subcommand("quantize", "Put a trained model's weights and activations on grids");
  const auto options = std::make_shared<Options>();
  verb->add_option("MODEL", options->model, "A checkpoint written by train")->required();
  verb->add_option("--method", options->method,
                   "static: integer arithmetic; dynamic: ranges found at run time; hybrid: float activations; fp16")
      ->capture_default_str();
  verb->option_defaults()->group("Grids");
  verb->add_option("--bits", options->bits, "Bits of weights, 1 to 16")->capture_default_str();
  verb->add_option("--activation-bits", options->activation_bits, "Bits of activations, 1 to 16; 0: float")
      ->capture_default_str();
  verb->add_option("--per", options->per, "One weight grid per channel, tensor or group:N inputs")
      ->capture_default_str();
  verb->add_option("--weight-range", options->weight_range,
                   "minmax, percentile or mse; default minmax from 8 bits on, else mse");
  verb->add_option("--activation-range", options->activation_range,
                   "minmax, average, percentile, mse or entropy; default mse up to 8 bits, else minmax");
  verb->add_option("--percentile", options->percentile, "Of the ranges by percentile")->capture_default_str();
  verb->add_flag("--asymmetric-weights", options->asymmetric_weights,
                 "Weight grids with zero-points (simulation only)");
  verb->add_flag("--symmetric-activations", options->symmetric_activations, "Activation grids without zero-points");
  verb->add_option("--skip", options->skip, "Layers left in float, by path; * at the end stands for anything")
      ->delimiter(',');
  verb->add_option("--edge-bits", options->edge_bits,
                   "Bits of the network's input, first and last layer; 0: as the others")
      ->capture_default_str();
  verb->option_defaults()->group("Help for accuracy");
  verb->add_flag("--equalize", options->equalize, "Even out the weights of neighbouring layers first");
  verb->add_flag("--correct-biases", options->correct_biases, "Take back the mean error of each layer");
  verb->add_flag("--sensitivity", options->sensitivity, "Print how much each layer alone hurts");
  verb->option_defaults()->group("Data");
  add_data_arguments(*verb, options->data);
  verb->add_option("--calib", options->data.name,
                   "The same as --data: whose training part calibrates (default: the model's own)");
  verb->add_option("--samples", options->samples, "Samples that calibrate")->capture_default_str();
  verb->option_defaults()->group("Files, threads, output");
  verb->add_option("--out", options->out, "Where to save the quantized model");
  verb->add_option("--threads", options->threads, "Threads that compute; 0: all there are")->capture_default_str();
  verb->add_flag("--quiet", options->quiet, "Only the JSON line");
  verb->add_flag("--json", options->json, "The last line is a JSON object with the results");
  verb->callback([options] { quantize(*options); });
  set_example(*verb,
              "whittle quantize m.safetensors --method static --bits 8 --out q.safetensors\n"
              "  whittle quantize m.safetensors --method static --bits 4 --equalize --correct-biases --sensitivity");
}

}  // namespace whittle::apps
