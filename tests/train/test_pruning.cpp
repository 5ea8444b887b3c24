// Pruning inside a training: the hooks, the model that is kept, and resuming to the bit.

#include <doctest/doctest.h>

#include <cmath>

#include "layers/model_checkpoint.h"
#include "prune/schedule.h"
#include "tests/support/seed.h"
#include "tests/support/temp_folder.h"
#include "tests/train/small_training.h"
#include "train/fit.h"

namespace whittle {

namespace {

// A movement-pruned training: gradual, with a state of its own in the checkpoint.
struct Pruned {
  explicit Pruned(const std::filesystem::path& out)
      : model(net()),
        layers(prune::targets(*model, {1, 2})),
        movement(layers, prune::GradientScores::Kind::kMovement),
        pruner(*model, {1, 2}, layers, {.amount = 0.7, .begin = 5, .end = 33, .every = 7}, {},
               [this](std::span<const prune::Target>) { return movement.scores(); }) {
    prune::add_mask_kind(kinds);
    options = {.epochs = 6,
               .batch = 32,
               .seed = test_seed(),
               .rate = 0.1,
               .weight_decay = 1e-4,
               .ema = 0.9,
               .patience = 2,
               .out = out,
               .hooks = {.after_backward = [this](const FitHooks::Point&) { movement.add(); },
                         .after_step = [this](const FitHooks::Point& p) { pruner(p.step); },
                         .may_keep = [this](const FitHooks::Point& p) { return pruner.finished(p.step); },
                         .store = [this](Checkpoint& c) { movement.store(c); },
                         .restore = [this](const Checkpoint& c) { movement.restore(c); }},
               .kinds = &kinds};
  }
  std::unique_ptr<Sequential> model;
  std::vector<prune::Target> layers;
  prune::GradientScores movement;
  prune::GradualPruner pruner;
  TransformKinds kinds;
  FitOptions options;
};

}  // namespace

TEST_SUITE("pruning in fit") {
  TEST_CASE("stopped at any step and resumed, a pruned training ends with the same bytes") {
    CAPTURE(test_seed());
    const data::Splits splits{.train = moons(1, 300), .validation = moons(2, 100), .test = {}};  // 10 steps an epoch
    const TempFolder folder;
    Pruned whole(folder / "whole.safetensors");
    const FitResult result = fit(*whole.model, splits, whole.options);
    CHECK(result.best_epoch >= 4);  // dense and half pruned models do not count, nor does patience before
    const auto kept = load_checkpoint(folder / "whole.safetensors");
    const Tensor mask = kept.at("fc2.weight/mask").to_tensor();
    int64_t zeros = 0;
    for (const real k : mask.values()) {
      zeros += k == 0;
    }
    CHECK(zeros == std::lrint(0.7 * 24 * 16));
    for (const int64_t stop : {1, 5, 6, 20, 30, 33, 34, 45}) {
      CAPTURE(stop);
      const std::filesystem::path out = folder / ("part" + std::to_string(stop) + ".safetensors");
      {
        Pruned first(out);
        StopAt observer(stop);
        first.options.stop = &observer.stop;
        REQUIRE(fit(*first.model, splits, first.options, &observer).interrupted);
      }
      Pruned second(out);
      second.options.resume = true;
      const FitResult resumed = fit(*second.model, splits, second.options);
      CHECK(resumed.best_epoch == result.best_epoch);
      CHECK(load_checkpoint(out) == kept);
      Checkpoint a, b;
      store_model(a, *whole.model);
      store_model(b, *second.model);
      CHECK(a == b);
    }
  }

  TEST_CASE("hooks are told the step, the length and the rate; nothing is kept if nothing may be") {
    const data::Splits splits{.train = moons(1, 64), .validation = moons(2, 50), .test = {}};
    const TempFolder folder;
    const auto model = net();
    int64_t backward_steps = 0, steps = 0;
    const FitResult result =
        fit(*model, splits,
            {.epochs = 3,
             .batch = 32,
             .rate = 0.1,
             .patience = 1,
             .out = folder / "m.safetensors",
             .hooks = {.after_backward = [&](const FitHooks::Point& p) { CHECK(p.step == backward_steps++); },
                       .after_step =
                           [&](const FitHooks::Point& p) {
                             CHECK(p.step == ++steps);
                             CHECK(p.steps == 6);
                             CHECK(p.rate == 0.1);
                           },
                       .may_keep = [](const FitHooks::Point&) { return false; }}});
    CHECK(steps == 6);
    CHECK(result.best_epoch == 0);
    CHECK_FALSE(result.stopped_early);
    CHECK_FALSE(std::filesystem::exists(folder / "m.safetensors"));
  }
}

}  // namespace whittle
