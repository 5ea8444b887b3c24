// whittle train: a model of the zoo on a data set.

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <iomanip>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/cli.h"
#include "apps/data_options.h"
#include "apps/metrics_text.h"
#include "apps/models.h"
#include "apps/program.h"
#include "apps/pruning.h"
#include "apps/runs/recorder.h"
#include "apps/stopping.h"
#include "apps/text.h"
#include "apps/training_options.h"
#include "compress/fixed_point.h"
#include "compress/inq.h"
#include "compress/quantizing.h"
#include "core/checkpoint.h"
#include "core/error.h"
#include "core/json.h"
#include "core/ops.h"
#include "core/parallel.h"
#include "datasets/sha256.h"
#include "layers/summary.h"
#include "layers/zoo/zoo.h"
#include "quant/training.h"
#include "train/fit.h"
#include "train/progress.h"

namespace whittle::apps {

namespace {

struct Options {
  std::string model;
  std::string from;
  std::string qat;
  std::string teacher;
  DataArguments data;
  FitOptions fit;
  std::string out;
  std::string keep = "best";
  std::string log;
  uint64_t seed = 0;
  int threads = 0;
  std::string convolution = "auto";
  std::string prune;
  std::string inq;
  std::string fixed_point;
  bool quiet = false;
  bool json = false;
  std::optional<double> momentum;
  ModelArguments shape;
};

void print_models(bool json) {
  Json models = Json::array();
  for (const zoo::Entry& entry : zoo::list()) {
    const std::vector<std::string> options = zoo::option_names(entry.defaults);
    models.push_back(
        {{"name", entry.name}, {"summary", entry.summary}, {"parameters", entry.trainable}, {"options", options}});
    if (!json) {
      std::cout << std::left << std::setw(14) << entry.name << std::right << std::setw(12)
                << with_thousands(entry.trainable) << "  " << entry.summary;
      for (const char* argument : {"hidden", "width", "dropout"}) {
        std::cout << (std::ranges::count(options, argument) > 0 ? std::string("; --") + argument : "");
      }
      std::cout << '\n';
    }
  }
  if (json) {
    std::cout << json_line(models) << '\n';
  }
}

std::vector<std::string> model_names() {
  std::vector<std::string> names = {"list"};
  for (const zoo::Entry& entry : zoo::list()) {
    names.emplace_back(entry.name);
  }
  return names;
}

// Whatever is wrong with the command itself is said before a file is read or written.
void check(const Options& options, const data::DataInfo& about) {
  if (options.from.empty()) {
    zoo::describe(options.model, options.shape.options());
  }
  require(!options.fit.resume || !options.out.empty(), "train", "--resume needs --out, where the run was saved");
  require(options.keep == "best" || options.keep == "last", "train", "there is no epoch '", options.keep,
          "' to keep; there are best and last");
  require(options.keep == "best" || options.fit.patience == 0, "train",
          "--patience stops at any epoch; it does not go with --keep last");
  check_options(options.fit);
  if (!options.prune.empty()) {
    PruneSpec::parse(options.prune).check(/*while_training=*/true);
  }
  check_momentum("train", options.fit, options.momentum);
  check_augmentation_for(about, "train", options.fit.augment);
  check_teacher_for(about, "train", options.teacher);
  require(!about.regression || options.fit.label_smoothing == 0, "train", "'", about.name,
          "' is a regression; --label-smoothing is for classes");
}

zoo::Description describe(const Options& options, const data::Dataset& data) {
  zoo::Options wanted = options.shape.options();
  wanted.classes = data.is_classification() ? data.classes() : 1;
  wanted.input = data.sample_shape();
  return zoo::describe(options.model, wanted);
}

void train(Options& options, Recorder& run) {
  if (options.model == "list") {
    print_models(options.json);
    return;
  }
  if (options.model.empty() && options.from.empty()) {
    throw CLI::RequiredError("--model or --from");
  }
  require(options.from.empty() || (options.model.empty() && !options.shape.given()), "train",
          "--from brings its own model; --model and its options are for new ones");
  require(!options.data.name.empty() || !options.from.empty(), "train",
          "--data is missing; `whittle data list` names the data sets");
  if (!options.qat.empty()) {
    (void)quant::parse_training(options.qat);
  }
  require(options.inq.empty() || options.qat.empty(), "train",
          "--inq and --qat are two ways to quantize the same weights");
  if (!options.inq.empty()) {
    (void)compress::parse_inq(options.inq);
  }
  if (!options.fixed_point.empty()) {
    (void)compress::parse_fixed_point(options.fixed_point);
  }
  const std::optional<Checkpoint> begun =
      options.from.empty() ? std::nullopt : std::optional(load_net("train", options.from));
  if (begun.has_value()) {
    options.data = data_arguments_of("train", options.from, *begun, options.data);
  }
  const data::DataInfo about = options.data.info();
  if (data::is_own(options.data.name) && !about.images) {
    options.data.own.task = about.regression ? "number" : "classes";  // remembered: other files may look otherwise
  }
  FitOptions& fit_options = options.fit;
  fit_options.momentum = options.momentum.value_or(fit_options.momentum);
  fit_options.seed = options.seed;
  fit_options.out = options.out;
  fit_options.log = options.log;
  check(options, about);
  set_convolution(convolution_named(options.convolution));
  set_num_threads(options.threads);
  const auto start = std::chrono::steady_clock::now();
  const SavedData saved =
      begun.has_value() ? data_by("train", options.from, *begun, options.data) : new_data(options.data);
  const data::Splits& splits = saved.splits;
  const zoo::Description description =
      begun.has_value() ? zoo::description_of(*begun) : describe(options, splits.train);
  const std::shared_ptr<Module> model = begun.has_value() ? load_model(*begun) : zoo::build(description);
  if (!begun.has_value()) {
    initialize(*model, {.seed = options.seed});
  }

  fit_options.kinds = &known_transforms();
  fit_options.stop = StopOnSignal::asked();
  fit_options.metadata = {{zoo::kModelKey, zoo::to_text(description)},
                          {kDataKey, saved.arguments.text()},
                          {kPreprocessingKey, data::to_json(splits.train.preprocessing())}};
  if (begun.has_value()) {
    fit_options.metadata[kOriginKey] = sha256_of_file(options.from);
  }
  const Shape input = one_sample(splits.train.sample_shape());
  std::optional<PruneWhileTraining> pruning;
  if (!options.prune.empty()) {
    pruning.emplace(*model, input, PruneSpec::parse(options.prune));
    fit_options.hooks = pruning->hooks();
    fit_options.metadata[kPruneKey] = options.prune;
  }

  std::optional<quant::TrainingPlan> qat;
  if (!options.qat.empty()) {
    qat = quant::parse_training(options.qat);
    if (qat->spec.levels.has_value()) {
      qat->spec.levels->seed = options.seed;
    }
    quant::prepare(*model, input, qat->spec, {.live_norms = true});
    fit_options.hooks =
        both(fit_options.hooks, compress::quantizing_hooks(*qat, *model, input, splits.train, fit_options));
    fit_options.metadata[kQatKey] = options.qat;
  }
  if (!options.inq.empty()) {
    const compress::InqPlan plan = compress::parse_inq(options.inq);
    compress::prepare_inq(*model, plan);
    fit_options.hooks = both(fit_options.hooks, compress::inq_hooks(*model, plan));
    fit_options.metadata[kInqKey] = options.inq;
  }
  if (!options.fixed_point.empty()) {
    fit_options.hooks =
        both(fit_options.hooks,
             compress::fixed_point_hooks(*model, compress::parse_fixed_point(options.fixed_point), options.seed));
    fit_options.metadata[kFixedPointKey] = options.fixed_point;
  }

  if (options.keep == "last") {
    fit_options.hooks = both(fit_options.hooks, keep_last());
    fit_options.metadata[kKeepKey] = options.keep;
  }
  if (options.convolution != "auto") {  // other roundings, other bits
    fit_options.metadata[kConvolutionKey] = options.convolution;
  }
  const std::shared_ptr<Module> teacher = load_teacher(options.teacher, fit_options);

  const bool terminal = isatty(STDOUT_FILENO) != 0;
  Progress progress(std::cout, {.terminal = terminal, .classification = !about.regression});
  if (!options.quiet) {
    std::cout << description.name << " (" << with_thousands(trainable_count(*model)) << " parameters) on "
              << options.data.name << " (" << splits.train.size() << " training, " << splits.validation.size()
              << " validation, " << splits.test.size() << " test samples), seed " << options.seed << ", "
              << num_threads() << " threads\n";
    if (about.regression) {
      std::cout << "mse is in " << mse_unit(about)
                << (options.data.standardize_target ? ", loss in deviations of the target squared\n"
                                                    : ", and so is the loss\n");
    }
  }
  run.begin({.model = description.name, .data = options.data.name, .from = options.from});
  const FitResult result = [&] {
    const StopOnSignal stopping;
    return fit(*model, splits, fit_options, run.watch(options.quiet ? nullptr : &progress));
  }();
  run.trained(result);
  if (result.interrupted) {
    if (terminal && !options.quiet) {
      std::cout << '\n' << std::flush;  // the bar stays, the sentence gets a line of its own
    }
    throw Interrupted(StopOnSignal::signal(),
                      "[train] interrupted after " + std::to_string(result.steps) + " steps" +
                          (options.out.empty() ? "; nothing was saved, because there is no --out"
                                               : "; the same command with --resume goes on"));
  }

  // What is reported is the model that is kept: with --out the best by validation,
  // else the last.
  const std::shared_ptr<Module> kept = options.out.empty() ? model : load_model(load_checkpoint(options.out));
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  Json json = {{"model", description.name}, {"data", options.data.name},       {"parameters", trainable_count(*kept)},
               {"seed", options.seed},      {"epochs", result.history.size()}, {"best_epoch", result.best_epoch},
               {"steps", result.steps}};
  if (!splits.test.empty()) {
    const Metrics test = run.measure(*kept, splits.test, about);
    json["test"] = to_json(test, about);
    if (!options.quiet) {
      std::cout << (options.out.empty() ? "last epoch" : "best epoch " + std::to_string(result.best_epoch)) << ": test "
                << sentence(test, about) << '\n';
    }
  }
  if (splits.test.empty() && !options.quiet) {
    std::cout << "there are no test samples: how good it is is not known\n";
  }
  if (options.out.empty() && !options.quiet) {
    std::cout << "not saved, because there is no --out\n";
  }
  json["seconds"] = seconds;
  if (!options.out.empty()) {
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

}  // namespace

void add_train(CLI::App& program) {
  CLI::App* verb = program.add_subcommand("train", "Train a model of the zoo on a data set");
  const auto options = std::make_shared<Options>();
  offer(verb->add_option("--model", options->model, "Model of the zoo; `--model list` names them and what they take"),
        model_names());
  verb->add_option("--from", options->from, "Go on with a saved model instead, on its own data if there is no --data");
  verb->option_defaults()->group("Model");  // of what is added from here on
  add_model_arguments(*verb, options->shape);
  verb->option_defaults()->group("Data");
  add_data_arguments(*verb, options->data);
  add_preparation_arguments(*verb, options->data);
  add_own_arguments(*verb, options->data);
  verb->option_defaults()->group("Training");
  add_training_arguments(*verb, options->fit, options->momentum);
  verb->add_option("--seed", options->seed, "Seed of weights, order and augmentation")->capture_default_str();
  verb->add_option(
      "--prune", options->prune,
      "Prune while training: METHOD,amount=0.8[,granularity=nm:2:4,scope=global,begin=0,end=0.75,every=100,"
      "...]; l1,lambda=1e-4");
  verb->add_option("--qat", options->qat,
                   "Train quantized: w8a8, or w4a4,lsq,edges=8,observe=0.02,freeze=0.8 (docs/quantization.md)");
  verb->add_option(
      "--inq", options->inq,
      "Weights become powers of two share by share: 5, or 5,shares=0.5+0.75+0.875+1,skip=fc (docs/inq.md)");
  verb->add_option(
      "--fixed-point", options->fixed_point,
      "Parameters stay on a fixed-point grid: BITS.FRACTION, as 16.12,stochastic or 16.12,nearest,gradients "
      "(docs/fixed-point.md)");
  add_teacher_arguments(*verb, options->teacher, options->fit.distillation);
  verb->option_defaults()->group("Augmentation");
  add_augmentation_arguments(*verb, options->fit.augment);
  verb->option_defaults()->group("Files, threads, output");
  verb->add_option("--out", options->out, "Where to save the best model; training state goes beside it");
  offer(verb->add_option("--keep", options->keep,
                         "The epoch to save: best by validation, or last, so that validation data have chosen nothing"),
        {"best", "last"})
      ->capture_default_str();
  verb->add_flag("--resume", options->fit.resume, "Go on from the state saved beside --out");
  verb->add_option("--log", options->log, "CSV file, a line per epoch");
  verb->add_option("--workers", options->fit.workers, "Threads that prepare batches")->capture_default_str();
  offer(verb->add_option("--convolution", options->convolution,
                         "How 3x3 convolutions are computed: auto, direct, winograd2 or winograd4"),
        {"auto", "direct", "winograd2", "winograd4"})
      ->capture_default_str();
  verb->add_option("--threads", options->threads, "Threads that compute; 0: all there are")->capture_default_str();
  verb->add_flag("--quiet", options->quiet, "No progress");
  verb->add_flag("--json", options->json, "The last line is a JSON object with the results");
  const auto run = std::make_shared<Recorder>(*verb);
  verb->callback([options, run] { run->record([&] { train(*options, *run); }); });
  set_example(*verb,
              "whittle train --model lenet-300-100 --data glyphs --epochs 5 --out m.safetensors\n"
              "  whittle train --model mlp --hidden 64,64 --data california --standardize-target --optimizer adam "
              "--rate 0.001\n"
              "  whittle train --model mlp --data flowers.csv --target species --out m.safetensors\n"
              "  whittle train --model resnet8 --data photos --image-size 32,32 --flip --out m.safetensors\n"
              "  whittle train --model resnet8 --data cifar10 --epochs 60 --schedule warmup:2+cosine --crop 4 --flip");
}

}  // namespace whittle::apps
