// Pruning and quantization together: patterns after quantized training, and both orders of the two.

#include <doctest/doctest.h>

#include <cmath>

#include "layers/fold.h"
#include "layers/model_checkpoint.h"
#include "prune/schedule.h"
#include "prune/select.h"
#include "quant/post_training.h"
#include "quant/training.h"
#include "tests/support/same_bits.h"
#include "tests/support/seed.h"
#include "tests/support/temp_folder.h"
#include "tests/train/small_training.h"
#include "train/fit.h"

namespace whittle {

namespace {

const Shape kInput{1, 2};

std::vector<prune::Target> all_layers(Module& model) { return prune::targets(model, kInput, {.spare_last = false}); }

// What the layer multiplies by: masked, folded, quantized.
Tensor read(const prune::Target& layer, Module& model) {
  const EvaluationMode evaluating(model);
  const NoGrad no_grad;
  return layer.layer->effective_weight().value().clone();
}

// The least and the most that stay of m consecutive inputs.
std::pair<int64_t, int64_t> left_of_groups(const Tensor& weight, int64_t m) {
  std::pair<int64_t, int64_t> range{m, 0};
  const int64_t columns = weight.shape()[-1];
  for (int64_t row = 0; row < weight.elements() / columns; ++row) {
    for (int64_t first = 0; first + m <= columns; first += m) {
      int64_t left = 0;
      for (int64_t i = 0; i < m; ++i) {
        left += weight.data()[row * columns + first + i] != 0;
      }
      range = {std::min(range.first, left), std::max(range.second, left)};
    }
  }
  return range;
}

quant::Batches batches() {
  return [] {
    return [at = uint64_t{0}]() mutable {
      return at++ < 4 ? Tensor::uniform({32, 2}, {.seed = 5, .stream = at}, real(-1.5), real(2.5)) : Tensor();
    };
  };
}

int64_t zeros_of(const Tensor& x) { return prune::Mask::of_nonzeros(x).pruned(); }

}  // namespace

TEST_SUITE("pruned and quantized") {
  TEST_CASE("N:M holds in every group through quantized training and after it, in what the integer kernel reads") {
    CAPTURE(test_seed());
    const data::Splits splits{.train = moons(1, 300), .validation = moons(2, 100), .test = {}};
    struct Case {
      const char* qat;
      int64_t n, m;
    };
    for (const Case& c : {Case{"w8a8,observe=0.1,freeze=0.7", 2, 4}, Case{"w4a4,observe=0.1,freeze=0.7", 1, 4},
                          Case{"w8a8,observe=0.1,freeze=0.7", 4, 8}}) {
      CAPTURE(c.qat);
      const auto model = net(/*norm=*/true);
      const std::vector<prune::Target> layers = all_layers(*model);
      prune::attach(*model, prune::select(layers, prune::magnitude(layers),
                                          {.granularity = prune::Granularity::pattern(c.n, c.m)}));
      const prune::MaskSet before = prune::masks(*model);
      const quant::TrainingPlan plan = quant::parse_training(c.qat);
      quant::prepare(*model, kInput, plan.spec, {.live_norms = true});
      const auto holds = [&] {
        for (size_t i = 1; i < layers.size(); ++i) {  // the first has two inputs
          const Tensor weight = read(layers[i], *model);
          const auto [least, most] = left_of_groups(weight, c.m);
          CHECK(most <= c.n);
          const prune::Mask& mask = before.at(layers[i].name);
          for (size_t j = 0; j < mask.keep.size(); ++j) {
            CHECK((mask.keep[j] != 0 || weight.data()[j] == 0));
          }
        }
      };
      fit(*model, splits,
          {.epochs = 5,
           .batch = 32,
           .seed = test_seed(),
           .rate = 0.05,
           .weight_decay = 1e-3,
           .hooks = {.after_step = [&](const FitHooks::Point& p) {
             quant::after_step(*model, kInput, plan, p.step, p.steps);
             if (p.step % 10 == 0) {
               holds();
             }
           }}});
      CHECK(quant::is_quantized(*model));
      CHECK(prune::masks(*model) == before);
      holds();
    }
  }

  TEST_CASE("pruned then quantized, and quantized then pruned: exact counts, exact zeros, still on the grid") {
    CAPTURE(test_seed());
    const data::Splits splits{.train = moons(1, 400), .validation = moons(2, 300), .test = {}};
    const TempFolder folder;
    const auto trained = net(/*norm=*/true);
    fit(*trained, splits, {.epochs = 15, .batch = 32, .rate = 0.1});
    const double whole = evaluate(*trained, splits.validation).accuracy;
    Checkpoint dense;
    store_model(dense, *trained);
    for (const int bits : {8, 6}) {
      for (const bool prune_first : {true, false}) {
        CAPTURE(bits);
        CAPTURE(prune_first);
        const auto model = net(/*norm=*/true);
        restore_model(dense, *model, {});
        const auto prune_it = [&] {
          const std::vector<prune::Target> layers = prune::targets(*model, kInput);
          prune::attach(*model, prune::select(layers, prune::magnitude(layers), {.amount = 0.2}));
        };
        const auto quantize_it = [&] {
          quant::quantize(*model, kInput, {.spec = quant::usual_spec(bits, 8)}, batches());
        };
        prune_first ? prune_it() : quantize_it();
        std::map<std::string, Tensor> between;
        for (const prune::Target& layer : prune::targets(*model, kInput)) {
          between.emplace(layer.name, read(layer, *model));
        }
        prune_first ? quantize_it() : prune_it();
        for (const prune::Target& layer : prune::targets(*model, kInput)) {
          CAPTURE(layer.name);
          const prune::Mask& mask = *prune::mask_of(layer.weight());
          CHECK(mask.pruned() == std::lrint(0.2 * static_cast<double>(mask.keep.size())));
          const Tensor now = read(layer, *model);
          CHECK(zeros_of(now) >= mask.pruned());
          for (size_t i = 0; i < mask.keep.size(); ++i) {
            const real v = now.data()[i];
            if (mask.keep[i] == 0) {
              CHECK(v == 0);
              CHECK_FALSE(std::signbit(v));
            } else if (!prune_first) {
              CHECK(v == between.at(layer.name).data()[i]);  // what stays keeps its code
            }
          }
        }
        CHECK(evaluate(*model, splits.validation).accuracy >= whole - 0.05);

        // Through a file, and it is the same model.
        Checkpoint saved;
        store_model(saved, *model);
        TransformKinds kinds;
        add_fold_kind(kinds);
        quant::add_fake_quant_kind(kinds);
        prune::add_mask_kind(kinds);
        const auto loaded = net(/*norm=*/true);
        restore_model(saved, *loaded, kinds);
        const EvaluationMode first(*model), second(*loaded);
        const NoGrad no_grad;
        const Tensor x = splits.validation.all().inputs;
        CHECK(same_bits((*model)(x).value().values(), (*loaded)(x).value().values()));
      }
    }
  }
}

}  // namespace whittle
