// whittle train: a model of the zoo on a data set.

#include <unistd.h>

#include <chrono>
#include <csignal>
#include <iomanip>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "apps/cli.h"
#include "apps/data_options.h"
#include "apps/metrics_text.h"
#include "apps/text.h"
#include "core/error.h"
#include "core/json.h"
#include "core/parallel.h"
#include "layers/summary.h"
#include "layers/zoo/zoo.h"
#include "train/fit.h"
#include "train/progress.h"

namespace whittle::apps {

namespace {

struct Options {
  std::string model;
  DataArguments data;
  FitOptions fit;
  std::string out;
  std::string log;
  uint64_t seed = 0;
  int threads = 0;
  bool quiet = false;
  bool json = false;
  // What zoo models take; unset means the model's own default.
  std::vector<int64_t> hidden;
  double width = 0;
  double dropout = -1;
};

std::atomic<bool> stop_asked{false};

// The first Ctrl-C asks; a second one ends the program at once.
extern "C" void on_signal(int number) {
  stop_asked.store(true, std::memory_order_relaxed);
  std::signal(number, SIG_DFL);
}

void print_models(bool json) {
  Json models = Json::array();
  for (const zoo::Entry& entry : zoo::list()) {
    models.push_back({{"name", entry.name}, {"summary", entry.summary}, {"parameters", entry.trainable}});
    if (!json) {
      std::cout << std::left << std::setw(18) << entry.name << std::right << std::setw(12) << entry.trainable << "  "
                << entry.summary << '\n';
    }
  }
  if (json) {
    std::cout << json_line(models) << '\n';
  }
}

zoo::Description describe(const Options& options, const data::Dataset& data) {
  zoo::Options wanted{.classes = data.is_classification() ? data.classes() : 1, .input = data.sample_shape()};
  if (!options.hidden.empty()) {
    wanted.hidden = options.hidden;
  }
  if (options.width > 0) {
    wanted.width = options.width;
  }
  if (options.dropout >= 0) {
    wanted.dropout = options.dropout;
  }
  return zoo::describe(options.model, wanted);
}

void train(Options& options) {
  if (options.model == "list") {
    print_models(options.json);
    return;
  }
  require(!options.data.name.empty(), "train", "--data is missing; `whittle data list` names the data sets");
  const data::DataInfo& about = data::info(options.data.name);
  set_num_threads(options.threads);
  const auto start = std::chrono::steady_clock::now();
  const data::Splits splits = data::load(options.data.name, options.data.load_options());
  const zoo::Description description = describe(options, splits.train);
  const std::shared_ptr<Module> model = zoo::build(description);
  initialize(*model, {.seed = options.seed});

  FitOptions& fit_options = options.fit;
  fit_options.seed = options.seed;
  fit_options.out = options.out;
  fit_options.log = options.log;
  fit_options.stop = &stop_asked;
  fit_options.metadata = {{"whittle.model", zoo::to_text(description)},
                          {kDataKey, options.data.text()},
                          {kPreprocessingKey, data::to_json(splits.train.preprocessing())}};

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
  std::signal(SIGINT, on_signal);
  std::signal(SIGTERM, on_signal);
  const FitResult result = fit(*model, splits, fit_options, options.quiet ? nullptr : &progress);
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
  if (result.interrupted) {
    fail("train", "interrupted after ", result.steps, " steps",
         options.out.empty() ? "; nothing was saved, because there is no --out"
                             : "; the same command with --resume goes on");
  }

  // What is reported is the model that is kept: with --out the best by validation,
  // else the last.
  static const TransformKinds none;
  const std::shared_ptr<Module> kept = options.out.empty() ? model : zoo::load(load_checkpoint(options.out), none);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  Json json = {{"model", description.name}, {"data", options.data.name},       {"parameters", trainable_count(*kept)},
               {"seed", options.seed},      {"epochs", result.history.size()}, {"best_epoch", result.best_epoch},
               {"steps", result.steps}};
  if (!splits.test.empty()) {
    const Metrics test = evaluate(*kept, splits.test);
    json["test"] = to_json(test, about);
    if (!options.quiet) {
      std::cout << (options.out.empty() ? "last epoch" : "best epoch " + std::to_string(result.best_epoch)) << ": test "
                << sentence(test, about) << '\n';
    }
  }
  json["seconds"] = seconds;
  if (!options.quiet && !options.out.empty()) {
    std::cout << "saved as " << options.out << '\n';
  }
  if (options.json) {
    std::cout << json_line(json) << '\n';
  }
}

}  // namespace

void add_train(CLI::App& program) {
  CLI::App* verb = program.add_subcommand("train", "Train a model of the zoo on a data set");
  const auto options = std::make_shared<Options>();
  FitOptions& fit_options = options->fit;
  verb->add_option("--model", options->model, "Model of the zoo, or `list` to name them")->required();
  add_data_arguments(*verb, options->data);
  add_preparation_arguments(*verb, options->data);
  verb->add_option("--epochs", fit_options.epochs, "Passes over the training data")->capture_default_str();
  verb->add_option("--batch", fit_options.batch, "Samples per step")->capture_default_str();
  verb->add_option("--seed", options->seed, "Seed of weights, order and augmentation")->capture_default_str();
  verb->add_option("--optimizer", fit_options.optimizer, "sgd, adam or adamw")->capture_default_str();
  verb->add_option("--rate", fit_options.rate, "Learning rate")->capture_default_str();
  verb->add_option("--momentum", fit_options.momentum, "Momentum of sgd")->capture_default_str();
  verb->add_flag("--nesterov", fit_options.nesterov, "Nesterov's momentum");
  verb->add_option("--weight-decay", fit_options.weight_decay, "Weight decay of matrices and filters")
      ->capture_default_str();
  verb->add_option("--schedule", fit_options.schedule,
                   "constant, cosine, step:30,60:0.1, onecycle; warmup:5+ in front of any")
      ->capture_default_str();
  verb->add_option("--clip-norm", fit_options.clip_norm, "Limit of the gradient's norm; 0: none")
      ->capture_default_str();
  verb->add_option("--label-smoothing", fit_options.label_smoothing, "Share of each label spread over all classes")
      ->capture_default_str();
  verb->add_option("--ema", fit_options.ema, "Decay of averaged weights; 0: none")->capture_default_str();
  verb->add_option("--crop", fit_options.augment.crop, "Augmentation: shift images by up to so many pixels");
  verb->add_flag("--flip", fit_options.augment.flip, "Augmentation: mirror half of the images");
  verb->add_option("--rotation", fit_options.augment.rotation, "Augmentation: turn by up to so many degrees");
  verb->add_option("--cutout", fit_options.augment.cutout, "Augmentation: side of a square set to 0");
  verb->add_option("--mixup", fit_options.augment.mixup, "Augmentation: blend images, share from Beta(a, a)");
  verb->add_option("--patience", fit_options.patience, "Stop after so many epochs without a better validation result");
  verb->add_option("--workers", fit_options.workers, "Threads that prepare batches")->capture_default_str();
  verb->add_option("--threads", options->threads, "Threads that compute; 0: all there are")->capture_default_str();
  verb->add_option("--hidden", options->hidden, "Widths of hidden layers, for dense models")->delimiter(',');
  verb->add_option("--width", options->width, "Width multiplier, for models that take one");
  verb->add_option("--dropout", options->dropout, "Dropout probability, for models that take one");
  verb->add_option("--out", options->out, "Where to save the best model; training state goes beside it");
  verb->add_flag("--resume", fit_options.resume, "Go on from the state saved beside --out");
  verb->add_option("--log", options->log, "CSV file, a line per epoch");
  verb->add_flag("--quiet", options->quiet, "No progress");
  verb->add_flag("--json", options->json, "The last line is a JSON object with the results");
  verb->callback([options] { train(*options); });
  set_example(*verb, "whittle train --model lenet-300-100 --data glyphs --epochs 5 --out m.safetensors");
}

}  // namespace whittle::apps
