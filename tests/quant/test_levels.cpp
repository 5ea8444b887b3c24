// Weights on the grids of quant/array in whole nets, rows of what layers read, and the table of weights. Float twin.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "core/error.h"
#include "layers/conv2d.h"
#include "layers/fold.h"
#include "layers/leaves.h"
#include "layers/linear.h"
#include "layers/model_checkpoint.h"
#include "layers/sequential.h"
#include "quant/array/grids.h"
#include "quant/levels.h"
#include "quant/patches.h"
#include "quant/post_training.h"
#include "quant/training.h"
#include "quant/weight_table.h"
#include "tests/quant/nets.h"
#include "tests/support/message.h"
#include "tests/support/same_bits.h"
#include "tests/support/seed.h"

namespace whittle {

namespace {

using quant::Levels;
using quant::LevelSpec;

RngKey key_of(std::string_view name) { return RngKey{.seed = test_seed()}.child(name); }

// Convolutions of every kind, with norms, and a linear layer.
std::shared_ptr<Sequential> some_layers() {
  const auto net = std::make_shared<Sequential>();
  net->add<Conv2d>("conv1", {.in = 3, .out = 8, .padding = Padding::all(1), .norm = true, .act = Act::kRelu});
  net->add<Conv2d>(
      "depthwise",
      {.in = 8, .out = 8, .stride = {2, 1}, .padding = {0, 1, 2, 1}, .groups = 8, .norm = true, .act = Act::kRelu});
  net->add<Conv2d>("grouped", {.in = 8, .out = 4, .kernel = {3, 2}, .dilation = {1, 2}, .groups = 2});
  net->add<Flatten>("flatten");
  net->add<Linear>("fc", {.in = 4 * 2 * 6, .out = 5});
  scatter(*net, key_of("net"));
  return net;
}
const Shape kInput{1, 8, 8, 3};

TransformKinds kinds() {
  TransformKinds known;
  add_fold_kind(known);
  quant::add_fake_quant_kind(known);
  quant::add_levels_kind(known);
  return known;
}

std::vector<float> floats(const Tensor& x) { return {x.values().begin(), x.values().end()}; }

quant::PostTrainingOptions hybrid(int bits, const LevelSpec& levels,
                                  quant::Granularity per = quant::Granularity::kChannel) {
  return {.method = quant::Method::kHybrid, .spec = {.weights = {.bits = bits, .per = per}, .levels = levels}};
}

struct Grid4 {
  std::string name;
  int bits;
};
std::vector<Grid4> all() {
  std::vector<Grid4> grids{{"binary", 1}, {"ternary", 2}, {"ternary-exact", 2}, {"multipoint", 3}};
  for (const quant::array::GridKind kind : quant::array::all_grids()) {
    grids.push_back({std::string(quant::array::grid_name(kind)), 3});
  }
  return grids;
}

}  // namespace

TEST_SUITE("levels") {
  TEST_CASE("every grid: each weight is the bare array's, is counted, and comes back from a file") {
    CAPTURE(test_seed());
    for (const Grid4& grid : all()) {
      for (const quant::Granularity per : {quant::Granularity::kTensor, quant::Granularity::kChannel}) {
        CAPTURE(grid.name);
        const LevelSpec spec{.grid = grid.name, .seed = 7};
        const auto net = some_layers();
        const auto plain = some_layers();
        fold_norms(*plain);
        quant::quantize(*net, kInput, hybrid(grid.bits, spec, per));
        const auto layers = weighted_layers(*net);
        const auto before = weighted_layers(*plain);
        const std::vector<quant::WeightFigures> table = quant::weight_table(*net);
        REQUIRE(table.size() == layers.size());
        for (size_t l = 0; l < layers.size(); ++l) {
          const std::vector<float> w = floats(before[l]->effective_weight().value());
          const int64_t groups = per == quant::Granularity::kTensor ? 1 : layers[l]->weight.shape()[0];
          const quant::array::Quantized q = quant::quantize_levels(w, spec, grid.bits, groups, {.seed = 7});
          CHECK(floats(layers[l]->effective_weight().value()) == q.values());
          CHECK(table[l].distinct_codes == q.distinct_codes());
          CHECK(table[l].distinct_codes <= int64_t{1} << grid.bits);
          CHECK(table[l].stored_bits == q.stored.total());
          const quant::array::Distortion lost = quant::array::distortion(w, q.values());
          CHECK(table[l].mse == lost.mse);
          CHECK(table[l].sqnr_db == lost.sqnr_db);
        }
        Checkpoint file;
        store_model(file, *net);
        const auto twin = some_layers();
        restore_model(file, *twin, kinds());
        const Tensor x = Tensor::normal(with_batch(kInput, 3), key_of("x"));
        CHECK(same_bits(evaluated(*net, x).values(), evaluated(*twin, x).values()));
        CHECK(quant::weight_table(*twin)[1].stored_bits == table[1].stored_bits);
        CHECK(message_of([&] {
                quant::quantize(*twin, kInput, hybrid(grid.bits, spec, per));
                return 0;
              }) == "[quantize] the model is quantized already");
      }
    }
  }

  TEST_CASE(
      "in training levels follow the weight, stochastic ones draw anew at every step, and a resumed run goes on") {
    CAPTURE(test_seed());
    const Shape shape{4, 30};
    const quant::TensorSpec weights{.bits = 3, .per = quant::Granularity::kChannel};
    Levels levels({.grid = "uniform", .rounding = "stochastic", .seed = 3}, weights, shape);
    const Variable w = Variable::leaf(Tensor::normal(shape, key_of("w")));
    levels.train(false);
    const Tensor evaluated_once = levels.apply(w).value();
    CHECK(same_bits(evaluated_once.values(), levels.apply(w).value().values()));
    levels.train(true);
    const Tensor first = levels.apply(w).value();
    const Tensor second = levels.apply(w).value();
    CHECK_FALSE(same_bits(first.values(), second.values()));
    Levels resumed({.grid = "uniform", .rounding = "stochastic", .seed = 3}, weights, shape);
    levels.visit_state([&](std::string_view name, Tensor& state) {
      const Tensor saved = state.defined() ? state.clone() : Tensor();
      resumed.visit_state([&](std::string_view other, Tensor& theirs) {
        if (other == name) {
          theirs = saved;
        }
      });
    });
    resumed.train(true);
    CHECK(same_bits(levels.apply(w).value().values(), resumed.apply(w).value().values()));

    // Another weight, other levels; and back.
    levels.train(false);
    const Variable other = Variable::leaf(Tensor::normal(shape, key_of("other")));
    CHECK_FALSE(same_bits(levels.apply(other).value().values(), evaluated_once.values()));
    CHECK(same_bits(levels.apply(w).value().values(), evaluated_once.values()));
  }

  TEST_CASE("gradients pass straight through, but for what Tukey's fences clip") {
    CAPTURE(test_seed());
    const Shape shape{1, 41};
    Tensor values = Tensor::normal(shape, key_of("w"));
    values.mutable_data()[5] = 30;
    values.mutable_data()[17] = -30;
    const Tensor weigh = Tensor::normal(shape, key_of("g"));
    for (const char* grid : {"mid-rise", "kmeans", "iqr"}) {
      Levels levels({.grid = grid}, {.bits = 3}, shape);
      Variable w = Variable::leaf(values);
      backward(sum(mul(levels.apply(w), Variable(weigh))));
      for (int64_t i = 0; i < shape.elements(); ++i) {
        const bool clipped = std::string(grid) == "iqr" && (i == 5 || i == 17);
        CHECK(w.grad().data()[i] == (clipped ? 0 : weigh.data()[i]));
      }
    }
  }

  TEST_CASE("what is pruned stays 0, or is refused where there is no 0") {
    for (const Grid4& grid : all()) {
      CAPTURE(grid.name);
      const auto net = some_layers();
      weighted_layers(*net)[3]->weight.chain.attach(std::make_shared<TestMask>(Shape{5, 48}, 3));
      const LevelSpec spec{.grid = grid.name};
      if (!quant::has_zero(spec)) {
        CHECK(message_of([&] {
                quant::quantize(*net, kInput, hybrid(grid.bits, spec));
                return 0;
              }) ==
              "[quantize] the weight of 'fc' is pruned, and a grid of kind '" + grid.name + "' has no level at 0");
        CHECK_FALSE(quant::is_quantized(*net));
        continue;
      }
      quant::quantize(*net, kInput, hybrid(grid.bits, spec));
      const Tensor w = weighted_layers(*net)[3]->effective_weight().value();
      const Tensor before = quant::unquantized_weight(*weighted_layers(*net)[3]).value();
      for (int64_t i = 0; i < w.elements(); ++i) {
        CHECK((before.data()[i] != 0 || w.data()[i] == 0));
      }
    }
  }

  TEST_CASE("rows of what layers read: their sums are the layer's own at these places") {
    CAPTURE(test_seed());
    const auto net = some_layers();
    fold_norms(*net);
    const auto layers = weighted_layers(*net);
    const auto batches = noise_batches({2, 8, 8, 3}, 2, key_of("data"));
    const quant::PatchOptions options{.per_sample = 5, .seed = 9};
    const auto rows = quant::sampled_patches(*net, batches, layers, options);
    // The same net by hand: what each layer reads, and its whole sum.
    const NoGrad no_grad;
    const EvaluationMode evaluation(*net);
    int64_t sample = 0;
    const auto next = batches();
    for (Tensor batch = next(); batch.defined(); batch = next(), sample += 2) {
      Variable x(batch);
      for (const auto& [path, module] : net->modules()) {
        auto* const layer = dynamic_cast<WeightedLayer*>(module);
        if (layer != nullptr) {
          const Variable w = layer->effective_weight();
          const Tensor whole = layer->sum_of(x, w).value();
          const Tensor sums = quant::sums_over(*layer, rows.at(layer), w).value();
          const int64_t channels = whole.dim(-1);
          const int64_t places = whole.elements() / whole.dim(0) / channels;
          const int64_t per_sample = path == "fc" ? 1 : options.per_sample;
          CHECK(sums.shape() == Shape{4 * per_sample, channels});
          for (int64_t n = 0; n < 2; ++n) {
            for (int64_t k = 0; k < per_sample; ++k) {
              const int64_t row = (sample + n) * per_sample + k;
              const auto place = static_cast<int64_t>(
                  below(RngKey{9}.child(path), static_cast<uint64_t>(row), static_cast<uint64_t>(places)));
              for (int64_t c = 0; c < channels; ++c) {
                const real wanted = whole.data()[(n * places + place) * channels + c];
                CHECK(std::abs(sums.data()[row * channels + c] - wanted) < 1e-5F * (1 + std::abs(wanted)));
              }
            }
          }
        }
        if (module->is_leaf()) {
          x = (*module)(x);
        }
      }
    }
  }

  TEST_CASE("multi-point by the error of outputs: every channel is good enough, on other data too") {
    CAPTURE(test_seed());
    constexpr double kLimit = 3e-3;
    const auto net = std::make_shared<Sequential>();
    net->add<Linear>("fc", {.in = 24, .out = 12});
    scatter(*net, key_of("fc"));
    real* const raw = weighted_layers(*net)[0]->weight.raw.mutable_data();
    for (int64_t i = 3 * 24; i < 4 * 24; ++i) {
      raw[i] *= 12;  // one channel matters more than all others
    }
    const Tensor before = weighted_layers(*net)[0]->weight.raw.value().clone();
    quant::quantize(*net, {1, 24}, hybrid(3, {.grid = "multipoint", .terms = 5, .output_error = kLimit}),
                    noise_batches({64, 24}, 8, key_of("data")));
    const Tensor after = weighted_layers(*net)[0]->effective_weight().value();
    for (const bool held_out : {false, true}) {
      const auto next = noise_batches({64, 24}, 8, key_of(held_out ? "other" : "data"))();
      std::vector<double> errors(12, 0);
      double power = 0;
      for (Tensor x = next(); x.defined(); x = next()) {
        for (int64_t n = 0; n < 64; ++n) {
          for (int64_t c = 0; c < 12; ++c) {
            double y = 0;
            double d = 0;
            for (int64_t i = 0; i < 24; ++i) {
              const auto xi = static_cast<double>(x.data()[n * 24 + i]);
              const auto w = static_cast<double>(before.data()[c * 24 + i]);
              y += xi * w;
              d += xi * (w - static_cast<double>(after.data()[c * 24 + i]));
            }
            power += y * y / 12;
            errors[static_cast<size_t>(c)] += d * d;
          }
        }
      }
      for (const double error : errors) {
        CHECK(error / power <= kLimit * (held_out ? 1.3 : 1.0001));
      }
    }
    const quant::WeightFigures row = quant::weight_table(*net)[0];
    CHECK(row.terms > 1);
    CHECK(row.terms < 2);  // few channels have more than one
    CHECK(row.stored_bits == std::llround(row.terms * 12) * (24 * 3 + 32) + 12 * 3);
  }

  TEST_CASE("bad grids and plans get one sentence") {
    const auto says = [](const LevelSpec& spec, int bits, const std::string& sentence) {
      CHECK(message_of([&] {
              quant::quantize(*some_layers(), kInput, hybrid(bits, spec));
              return 0;
            }).find(sentence) != std::string::npos);
    };
    says({.grid = "magic"}, 4, "there is no grid 'magic'; there are affine, mid-rise, uniform");
    says({.grid = "kmeans", .rounding = "up"}, 4, "'up' is none of nearest");
    says({.grid = "mid-rise", .zero = true}, 4, "mid-rise has no level at 0 by definition");
    says({.grid = "binary"}, 4, "binary weights have 1 bit, not 4");
    says({.grid = "ternary", .rounding = "floor"}, 2, "the rounding of ternary weights belongs to their grid");
    says({.grid = "multipoint", .terms = 0}, 4, "multi-point has 2 to 16 bits and 1 to 16 terms, got 4 and 0");
    says({.grid = "kmeans", .output_error = 0.1}, 4, "an error of the output is for multi-point alone, not for kmeans");
    says({.grid = "multipoint", .output_error = 0.0}, 4, "an error of the output must be above 0");
    says({.grid = "multipoint", .output_error = 0.1}, 4, "multi-point by the error of outputs needs calibration data");
    CHECK(message_of([&] {
            quant::PostTrainingOptions options = hybrid(4, {.grid = "kmeans"});
            options.method = quant::Method::kStatic;
            quant::quantize(*some_layers(), kInput, options, noise_batches(kInput, 1, key_of("x")));
            return 0;
          }).find("are for weights alone, which is the method hybrid, not static") != std::string::npos);
    const auto plan = [](const char* text) { return message_of([&] { return quant::parse_training(text); }); };
    CHECK(plan("w4a0,grid=kmeans,zero") == "no error");
    CHECK(plan("w1a8") == "no error");
    CHECK(plan("w4a0,rounding=stochastic").find("named by grid=") != std::string::npos);
    CHECK(plan("w4a0,grid=magic").find("there is no grid 'magic'") != std::string::npos);
    CHECK(plan("w4a0,grid=binary").find("binary weights have 1 bit, not 4") != std::string::npos);
  }
}

}  // namespace whittle
