// Quantized training inside a training: phases by the plan, and resuming to the bit, also where
// the quantizers own what is trained.

#include <doctest/doctest.h>

#include <string>

#include "layers/fold.h"
#include "layers/model_checkpoint.h"
#include "prune/mask.h"
#include "quant/training.h"
#include "tests/support/seed.h"
#include "tests/support/temp_folder.h"
#include "tests/train/small_training.h"
#include "train/fit.h"

namespace whittle {

namespace {

const Shape kInput{1, 2};

struct Quantized {
  Quantized(const std::string& spec, const std::filesystem::path& out)
      : model(net(/*norm=*/true)), plan(quant::parse_training(spec)) {
    add_fold_kind(kinds);
    quant::add_fake_quant_kind(kinds);
    prune::add_mask_kind(kinds);
    quant::prepare(*model, kInput, plan.spec, {.live_norms = true});
    options = {
        .epochs = 6,
        .batch = 32,
        .seed = test_seed(),
        .rate = 0.05,
        .weight_decay = 1e-4,
        .ema = 0.9,
        .out = out,
        .hooks = {.after_step =
                      [this](const FitHooks::Point& p) { quant::after_step(*model, kInput, plan, p.step, p.steps); },
                  .may_keep = [this](const FitHooks::Point& p) { return p.step >= plan.freeze_at(p.steps); }},
        .kinds = &kinds};
  }
  std::unique_ptr<Sequential> model;
  quant::TrainingPlan plan;
  TransformKinds kinds;
  FitOptions options;
};

}  // namespace

TEST_SUITE("quantized training in fit") {
  TEST_CASE("stopped at any step and resumed, a quantized training ends with the same bytes") {
    CAPTURE(test_seed());
    const data::Splits splits{.train = moons(1, 300), .validation = moons(2, 100), .test = {}};  // 10 steps an epoch
    const TempFolder folder;
    for (const std::string spec : {"w8a8,observe=0.1,freeze=0.7", "w4a4,observe=0.1,freeze=0.7",
                                   "w4a4,pact,observe=0.05,freeze=0.8", "w2a8,mse,tensor,observe=0.2,freeze=0.5"}) {
      CAPTURE(spec);
      Quantized whole(spec, folder / "whole.safetensors");
      const FitResult result = fit(*whole.model, splits, whole.options);
      CHECK(result.best_epoch >= 3);  // only what is on fixed grids is kept
      const auto kept = load_checkpoint(folder / "whole.safetensors");
      for (const int64_t stop : {1, 3, 6, 12, 13, 41, 43, 50}) {
        CAPTURE(stop);
        const std::filesystem::path out = folder / ("part" + std::to_string(stop) + ".safetensors");
        {
          Quantized first(spec, out);
          StopAt observer(stop);
          first.options.stop = &observer.stop;
          REQUIRE(fit(*first.model, splits, first.options, &observer).interrupted);
        }
        Quantized second(spec, out);
        second.options.resume = true;
        const FitResult resumed = fit(*second.model, splits, second.options);
        CHECK(resumed.best_epoch == result.best_epoch);
        CHECK(load_checkpoint(out) == kept);
        std::filesystem::remove(out);
        std::filesystem::remove(out.string() + ".last");
        std::filesystem::remove(out.string() + ".last.1");
      }
    }
  }

  TEST_CASE("phases change after their steps, and the plan's words are understood or refused") {
    const quant::TrainingPlan plan = quant::parse_training("w4a8,tensor,skip=fc1+fc3,edges=0,observe=0.25,freeze=0.5");
    CHECK(plan.spec.weights.bits == 4);
    CHECK(plan.spec.activations.bits == 8);
    CHECK(plan.spec.weights.range == quant::RangeRule::kLearnedStep);
    CHECK(plan.spec.activations.range == quant::RangeRule::kMovingAverage);
    CHECK(plan.spec.skip == std::vector<std::string>{"fc1", "fc3"});
    CHECK(plan.adapt_at(100) == 25);
    CHECK(plan.freeze_at(100) == 50);
    CHECK(quant::parse_training("w8a8").spec.edge_bits == 0);
    CHECK(quant::parse_training("w2a2").spec.edge_bits == 8);
    CHECK(quant::parse_training("w2a2").spec.sum_bits == 8);
    CHECK(quant::parse_training("w2a2,sums=0").spec.sum_bits == 0);
    for (const char* wrong : {"", "8", "w8", "w8a", "wxa8", "w8a8,", "w8a8,best", "w8a8,freeze=2", "w8a8,observe=0.96",
                              "w17a8", "w8a8,group:x", "w8a8,edges=99", "w8a8,sums=17", "w8a8,colour=red"}) {
      CAPTURE(wrong);
      CHECK_THROWS_AS(quant::parse_training(wrong), Error);
    }
    const auto model = net(true);
    quant::prepare(*model, kInput, quant::parse_training("w8a8").spec, {.live_norms = true});
    (*model)(Variable(Tensor::zeros({4, 2})));
    const auto phase = [&] { return quant::quantizers(*model).front().quantizer->phase(); };
    CHECK(phase() == quant::Phase::kObserve);
    quant::after_step(*model, kInput, plan, 24, 100);
    CHECK(phase() == quant::Phase::kObserve);
    quant::after_step(*model, kInput, plan, 25, 100);
    CHECK(phase() == quant::Phase::kAdapt);
    quant::after_step(*model, kInput, plan, 50, 100);
    CHECK(phase() == quant::Phase::kFixed);
  }
}

}  // namespace whittle
