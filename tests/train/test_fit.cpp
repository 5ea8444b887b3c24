// The training loop: it learns, stops, resumes to the bit, and refuses. Float twin.

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <vector>

#include "core/checkpoint.h"
#include "datasets/generators.h"
#include "datasets/sha256.h"
#include "layers/dropout.h"
#include "layers/linear.h"
#include "layers/sequential.h"
#include "tests/support/message.h"
#include "tests/support/seed.h"
#include "tests/support/temp_folder.h"
#include "train/fit.h"
#include "train/progress.h"

namespace whittle {

namespace {

data::Dataset rows(const data::Labelled& points, const char* name) {
  data::Samples samples;
  for (const real x : points.inputs.values()) {
    samples.values.push_back(static_cast<double>(x));
  }
  samples.labels = points.labels;
  return {data::Preprocessing{.data = name, .sample = Shape{2}, .classes = {"upper", "lower"}}, std::move(samples)};
}

data::Splits moons() {
  return {.train = rows(data::moons({.samples = 300, .noise = 0.1, .seed = 1}), "moons"),
          .validation = rows(data::moons({.samples = 200, .noise = 0.1, .seed = 2}), "moons"),
          .test = rows(data::moons({.samples = 200, .noise = 0.1, .seed = 3}), "moons")};
}

std::unique_ptr<Sequential> net(double dropout = 0.1) {
  auto model = std::make_unique<Sequential>();
  model->add<Linear>({.in = 2, .out = 24, .act = Act::kRelu});
  model->add<Dropout>({.p = dropout});
  model->add<Linear>({.in = 24, .out = 2});
  initialize(*model, {.seed = test_seed()});
  return model;
}

std::string sha_of(Sequential& model) {
  std::vector<std::byte> bytes;
  for (const auto& [name, parameter] : model.parameters()) {
    const auto raw = std::as_bytes(parameter->raw.value().values());
    bytes.insert(bytes.end(), raw.begin(), raw.end());
  }
  return sha256(bytes);
}

// Raises a flag after so many steps, as a signal handler would.
class StopAfter : public FitObserver {
 public:
  explicit StopAfter(int64_t steps) : left_(steps) {}
  void step(const StepReport& /*report*/) override { stop = --left_ <= 0; }
  void note(const std::string& sentence) override { notes += sentence + "\n"; }
  std::atomic<bool> stop{false};
  std::string notes;

 private:
  int64_t left_;
};

}  // namespace

TEST_SUITE("fit") {
  TEST_CASE("every optimizer learns the moons, and the best model is on disk") {
    for (const auto& [optimizer, rate] : {std::pair{std::string("sgd"), 0.1}, {"adam", 0.03}, {"adamw", 0.03}}) {
      const TempFolder folder;
      const auto model = net();
      const std::filesystem::path out = folder.path() / "m.safetensors";
      const FitResult result = fit(*model, moons(),
                                   {.epochs = 25,
                                    .batch = 20,
                                    .optimizer = optimizer,
                                    .rate = rate,
                                    .weight_decay = 1e-4,
                                    .schedule = "cosine",
                                    .out = out,
                                    .log = folder.path() / "log.csv",
                                    .metadata = {{"mine", "kept"}}});
      const std::string optimizer_name = optimizer;
      CAPTURE(optimizer_name);
      CAPTURE(test_seed());
      CHECK(result.history.size() == 25);
      CHECK(result.steps == 25 * 15);
      CHECK(evaluate(*model, moons().test).accuracy >= 0.98);
      const Checkpoint best = load_checkpoint(out);
      CHECK(best.metadata.at("mine") == "kept");
      CHECK(best.tensors.contains("0.weight"));
      CHECK_FALSE(best.tensors.contains("optimizer/steps"));
      std::ifstream log(folder.path() / "log.csv");
      std::string line;
      int lines = 0;
      while (std::getline(log, line)) {
        ++lines;
      }
      CHECK(lines == 26);
    }
  }

  TEST_CASE("a run stopped at any step and resumed ends with the bits of one that was not") {
    const FitOptions options{.epochs = 4,
                             .batch = 32,
                             .seed = 5,
                             .workers = 2,
                             .optimizer = "adamw",
                             .rate = 0.01,
                             .schedule = "warmup:1+cosine",
                             .clip_norm = 1,
                             .ema = 0.9};
    const auto whole = net();
    const FitResult uninterrupted = fit(*whole, moons(), options);
    const std::string expected = sha_of(*whole);
    Rng rng(RngKey{.seed = test_seed()}.child("stops"));
    for (int i = 0; i < 20; ++i) {
      const TempFolder folder;
      FitOptions part = options;
      part.out = folder.path() / "m.safetensors";
      const int64_t stop_at = rng.between(1, uninterrupted.steps - 1);
      CAPTURE(stop_at);
      CAPTURE(test_seed());
      StopAfter observer(stop_at);
      part.stop = &observer.stop;
      const FitResult stopped = fit(*net(), moons(), part, &observer);
      CHECK(stopped.interrupted);
      CHECK(stopped.steps == stop_at);

      part.stop = nullptr;
      part.resume = true;
      const auto resumed = net(0.1);
      initialize(*resumed, {.seed = 999});  // everything must come from the file
      StopAfter notes(1'000'000);
      const FitResult finished = fit(*resumed, moons(), part, &notes);
      CHECK(notes.notes.find("resumed") == 0);
      CHECK(finished.steps == uninterrupted.steps);
      CHECK(sha_of(*resumed) == expected);
      CHECK(finished.history.size() == 4);
      for (size_t e = 0; e < 4; ++e) {
        CHECK(finished.history[e].train.loss == uninterrupted.history[e].train.loss);
        CHECK(finished.history[e].validation.loss == uninterrupted.history[e].validation.loss);
      }
    }
  }

  TEST_CASE("a damaged last state falls back to the one before, and says so") {
    const TempFolder folder;
    FitOptions options{.epochs = 3, .batch = 50, .out = folder.path() / "m.safetensors"};
    const auto whole = net();
    fit(*whole, moons(), options);
    const std::filesystem::path last = last_state_path(options.out);
    std::filesystem::resize_file(last, std::filesystem::file_size(last) - 1);
    options.resume = true;
    const auto resumed = net();
    StopAfter notes(1'000'000);
    fit(*resumed, moons(), options, &notes);
    CHECK(notes.notes.find("trying the state before it") != std::string::npos);
    CHECK(notes.notes.find("resumed") != std::string::npos);
    CHECK(sha_of(*resumed) == sha_of(*whole));

    std::filesystem::resize_file(last, 10);
    std::filesystem::resize_file(last.string() + ".1", 10);
    CHECK(message_of([&] { fit(*net(), moons(), options); }).find("can be read") != std::string::npos);
  }

  TEST_CASE("resuming with other settings is refused; without a state it starts") {
    const TempFolder folder;
    FitOptions options{.epochs = 2, .batch = 50, .out = folder.path() / "m.safetensors", .resume = true};
    StopAfter notes(1'000'000);
    fit(*net(), moons(), options, &notes);
    CHECK(notes.notes.find("starting from the beginning") != std::string::npos);
    options.batch = 60;
    const std::string message = message_of([&] { fit(*net(), moons(), options); });
    CHECK(message.find("was trained with batch 50, this run asks for 60") != std::string::npos);

    options = {.epochs = 2, .batch = 50, .out = folder.path() / "n.safetensors", .metadata = {{"data", "seed 1"}}};
    fit(*net(), moons(), options);
    options.resume = true;
    CHECK(message_of([&] { return fit(*net(), moons(), options); }) == "no error");
    options.metadata["data"] = "seed 2";
    CHECK(
        message_of([&] {
          return fit(*net(), moons(), options);
        }).ends_with("was trained with another data, seed 1, this run asks for seed 2; resume with the same settings"));
    options.metadata["data"] = std::string(1000, 'x');
    CHECK(message_of([&] {
            return fit(*net(), moons(), options);
          }).ends_with("was trained with another data; resume with the same settings"));
  }

  TEST_CASE("early stopping keeps to its patience") {
    const auto model = net();
    const FitResult result = fit(*model, moons(), {.epochs = 50, .batch = 50, .rate = 0, .patience = 3});
    CHECK(result.stopped_early);
    CHECK(result.best_epoch == 1);
    CHECK(result.history.size() == 4);
  }

  TEST_CASE("a loss that is not finite stops with step and layer, and the good files stay") {
    const TempFolder folder;
    FitOptions options{.epochs = 2, .batch = 50, .out = folder.path() / "m.safetensors"};
    const auto model = net();
    fit(*model, moons(), options);
    const Checkpoint before = load_checkpoint(options.out);

    model->parameters()[2].parameter->raw.mutable_data()[3] = NAN;  // of "2.weight"
    const std::string message = message_of([&] { fit(*model, moons(), options); });
    CAPTURE(message);
    CHECK(message.find("[fit] epoch 1, step 1: the loss is not finite (first at '2')") == 0);
    CHECK(load_checkpoint(options.out) == before);

    const std::string diverged = message_of([&] { fit(*net(), moons(), {.epochs = 20, .batch = 10, .rate = 1e30}); });
    CAPTURE(diverged);
    CHECK(diverged.find("is not finite") != std::string::npos);
  }

  TEST_CASE("a model whose validation loss is not finite is never kept") {
    const auto line = [](double far) {
      return data::Dataset({.data = "line", .sample = Shape{1}}, {.values = {0, 1, 2, far}, .targets = {0, 1, 2, 3}});
    };
    const TempFolder folder;
    Sequential model;
    model.add<Linear>({.in = 1, .out = 1});
    initialize(model, {.seed = 1});
    const FitOptions options{
        .epochs = 2, .batch = 2, .rate = 0.01, .out = folder / "m.safetensors", .log = folder / "log.csv"};
    const data::Splits splits{.train = line(3), .validation = line(1e30), .test = {}};  // squared beyond a float
    CHECK(message_of([&] { fit(model, splits, options); }).find("[fit] epoch 1: the validation loss is not finite") ==
          0);
    CHECK_FALSE(std::filesystem::exists(options.out));
    fit(model, {.train = line(3), .validation = line(4), .test = {}}, options);
    std::ifstream log(options.log);
    std::string head, first;
    std::getline(log, head);
    std::getline(log, first);
    CHECK(std::ranges::count(head, ',') == std::ranges::count(first, ','));
    CHECK(head.find("train_loss,train_accuracy,train_mse") != std::string::npos);
    CHECK(first.find(",,") != std::string::npos);  // accuracy, which a regression has not
  }

  TEST_CASE("regression: targets are learned, and the error is in their own units") {
    data::Samples samples;
    for (int i = 0; i < 200; ++i) {
      const double x = i / 100.0 - 1;
      samples.values.push_back(x);
      samples.targets.push_back(1000 + 300 * x);
    }
    const data::Dataset line({.data = "line", .sample = Shape{1}, .target_centre = 1000, .target_spread = 200},
                             std::move(samples));
    Sequential model;
    model.add<Linear>({.in = 1, .out = 1});
    const FitResult result =
        fit(model, {.train = line, .validation = line, .test = line}, {.epochs = 30, .batch = 20, .rate = 0.05});
    CHECK(result.history.back().validation.mse < 0.1);
    model.parameters()[0].parameter->raw.assign(Tensor::zeros({1, 1}));
    model.parameters()[1].parameter->raw.assign(Tensor::zeros({1}));
    CHECK(evaluate(model, line).mse == doctest::Approx(300 * 300 / 3.0).epsilon(0.02));  // variance of the line
  }

  TEST_CASE("what does not fit is refused before the first step") {
    const auto splits = moons();
    const auto refused = [&](Sequential& model, const FitOptions& options) {
      return message_of([&] { fit(model, splits, options); });
    };
    Sequential three;
    three.add<Linear>({.in = 2, .out = 3});
    CHECK(refused(three, {}) == "[fit] the model gives [1,3] for one sample of 'moons', which has 2 classes");
    Sequential wide;
    wide.add<Linear>({.in = 5, .out = 2});
    CHECK(refused(wide, {}).find("[fit] the model cannot read the samples of 'moons': ") == 0);
    const auto model = net();
    CHECK(refused(*model, {.distillation = {.teacher = &wide}}).find("[fit] the teacher cannot read the samples") == 0);
    CHECK(refused(*model, {.distillation = {.teacher = &three}}).find("[fit] the teacher gives [1,3]") == 0);
    CHECK(refused(*model, {.epochs = 0}).find("[fit] epochs 0") == 0);
    CHECK(refused(*model, {.optimizer = "lbfgs"}).find("there is no optimizer 'lbfgs'") != std::string::npos);
    CHECK(refused(*model, {.schedule = "cosin"}).find("cosin") != std::string::npos);
    CHECK(refused(*model, {.ema = 1}).find("[fit] ema 1") == 0);
    CHECK(refused(*model, {.batch = 0}) == "[fit] batch 0 is not at least 1");
    CHECK(refused(*model, {.workers = -1}) == "[fit] workers -1 is not between 0 and 64");
    CHECK(refused(*model, {.rate = -0.1}).find("rate") != std::string::npos);
    CHECK(refused(*model, {.optimizer = "adam", .nesterov = true}) == "[fit] nesterov is for sgd, not for adam");
    CHECK(refused(*model, {.augment = {.mixup = 1}, .label_smoothing = 0.1}).find("[fit] mixup and") == 0);
    const TempFolder folder;
    CHECK(refused(*model, {.out = folder / "none/m"}).find("is in a folder that does not exist") != std::string::npos);
    CHECK(refused(*model, {.log = folder.path()}).find("is a folder, not a file") != std::string::npos);
    CHECK(refused(*model, {.resume = true}).find("[fit] resume needs `out`, the path") == 0);
    CHECK(message_of([&] { fit(*model, {}, {}); }).find("no samples") != std::string::npos);
    CHECK(message_of([&] { evaluate(*model, {}); }).find("no samples") != std::string::npos);
    CHECK(model->training());
  }

  TEST_CASE("progress: whole lines in a log, a redrawn bar on a terminal") {
    std::ostringstream log;
    Progress plain(log, {.terminal = false, .log_every_seconds = 0});
    fit(*net(), moons(), {.epochs = 2, .batch = 100}, &plain);
    CHECK(log.str().find('\r') == std::string::npos);
    CHECK(log.str().find("epoch 1/2  step 1/3") == 0);
    CHECK(log.str().find("validation loss") != std::string::npos);
    std::ostringstream screen;
    Progress bar(screen, {.terminal = true});
    bar.step(
        {.epoch = 1, .epochs = 2, .step = 3, .steps = 6, .loss = 1, .samples_per_second = 10, .seconds_left = 4000});
    fit(*net(), moons(), {.epochs = 1, .batch = 100}, &bar);
    CHECK(screen.str().find("\r\x1b[K") != std::string::npos);
    CHECK(clock_text(65) == "1:05");
    CHECK(clock_text(3723) == "1:02:03");
  }
}

}  // namespace whittle
