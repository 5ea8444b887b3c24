// Quantization-aware, incremental and fixed-point training, inside fit().

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "compress/fixed_point.h"
#include "compress/inq.h"
#include "compress/quantizing.h"
#include "core/ops.h"
#include "core/parallel.h"
#include "datasets/loader.h"
#include "datasets/registry.h"
#include "layers/linear.h"
#include "layers/sequential.h"
#include "layers/statistics.h"
#include "quant/array/inq.h"
#include "tests/quant/nets.h"
#include "tests/support/message.h"
#include "tests/support/same_bits.h"
#include "tests/support/seed.h"
#include "tests/support/temp_folder.h"
#include "train/fit.h"

namespace whittle {

namespace {

using compress::FixedPoint;
using compress::Inq;
using compress::InqPlan;

std::shared_ptr<Sequential> moons_net() {
  const auto net = std::make_shared<Sequential>();
  net->add<Linear>("fc1", {.in = 2, .out = 16, .act = Act::kRelu});
  net->add<Linear>("fc2", {.in = 16, .out = 2});
  initialize(*net, {.seed = test_seed()});
  return net;
}

data::Splits moons() { return data::load("moons", {.seed = 1, .first_training = 256}); }

const Inq& inq_of(WeightedLayer& layer) { return *layer.weight.chain.find<Inq>(); }

std::vector<real> raw_of(Module& net) {
  std::vector<real> all;
  for (const NamedParameter& named : net.parameters()) {
    all.insert(all.end(), named.parameter->raw.value().values().begin(), named.parameter->raw.value().values().end());
  }
  return all;
}

}  // namespace

TEST_SUITE("inq") {
  TEST_CASE("frozen weights are levels and have no gradient, the others are as they were") {
    CAPTURE(test_seed());
    const Shape shape{5, 20};
    Inq inq(4, shape);
    const Tensor w = Tensor::normal(shape, {test_seed(), 1});
    const Tensor g = Tensor::normal(shape, {test_seed(), 2});
    std::vector<float> slow(w.values().begin(), w.values().end());
    std::vector<uint8_t> frozen(100, 0);
    float most = 0;
    for (const float x : slow) {
      most = std::max(most, std::abs(x));
    }
    const std::vector<float> levels = quant::array::inq_levels(most, 4);
    for (const double share : {0.3, 0.6, 1.0}) {
      inq.freeze(w, share);
      quant::array::inq_freeze(slow, frozen, share, levels);
      CHECK(inq.share() == doctest::Approx(share));
      Variable x = Variable::leaf(w);
      const Variable y = inq.apply(x);
      backward(sum(mul(y, Variable(g))));
      for (int64_t i = 0; i < 100; ++i) {
        CHECK(y.value().data()[i] == slow[static_cast<size_t>(i)]);
        CHECK(x.grad().data()[i] == (frozen[static_cast<size_t>(i)] != 0 ? 0 : g.data()[i]));
      }
    }
  }

  TEST_CASE("in a training: shares when their time has come, powers of two at the end, resumed to the same bits") {
    CAPTURE(test_seed());
    const TempFolder folder;
    const data::Splits splits = moons();
    const InqPlan plan = compress::parse_inq("3,shares=0.5+0.75+1");
    TransformKinds kinds;
    compress::add_inq_kind(kinds);
    std::vector<double> shares;
    const auto run = [&](const std::string& name, bool stop_half_way) {
      const auto net = moons_net();
      compress::prepare_inq(*net, plan);
      FitHooks watch{
          .after_step = [&](const FitHooks::Point&) { shares.push_back(inq_of(*weighted_layers(*net)[0]).share()); }};
      std::atomic<bool> stop = false;
      if (stop_half_way) {
        watch.after_step = [&stop](const FitHooks::Point& at) { stop = at.step == 7; };
      }
      FitOptions options{.epochs = 3,
                         .out = folder / name,
                         .hooks = both(compress::inq_hooks(*net, plan), watch),
                         .kinds = &kinds,
                         .stop = stop_half_way ? &stop : nullptr};
      if (stop_half_way) {
        CHECK(fit(*net, splits, options).interrupted);
        options.resume = true;
        options.stop = nullptr;
      }
      const FitResult result = fit(*net, splits, options);
      CHECK(result.best_epoch >= 2);  // not before all is frozen
      CHECK(result.steps == 12);
      for (WeightedLayer* const layer : weighted_layers(*net)) {
        const std::vector<float> levels = inq_of(*layer).levels();
        for (const real v : layer->effective_weight().value().values()) {
          CHECK(std::ranges::find(levels, static_cast<float>(v)) != levels.end());
        }
      }
      return evaluated(*net, splits.test.batch(std::vector<int64_t>{0, 1, 2, 3}).inputs);
    };
    const Tensor whole = run("a", false);
    REQUIRE(shares.size() == 12);
    CHECK(shares[0] == 0.5);
    CHECK(shares[2] == 0.5);
    CHECK(shares[3] == 0.75);
    CHECK(shares[6] == 0.75);
    CHECK(shares[7] == 1);
    CHECK(same_bits(whole.values(), run("b", true).values()));
  }

  TEST_CASE("plans in words") {
    const InqPlan plan = compress::parse_inq("5,shares=0.25+1,skip=conv1+fc*");
    CHECK(plan.bits == 5);
    CHECK(plan.shares == std::vector<double>{0.25, 1});
    CHECK(plan.skip == std::vector<std::string>{"conv1", "fc*"});
    const auto says = [](const char* text) { return message_of([&] { return compress::parse_inq(text); }); };
    CHECK(says("x") == "[inq] 'x' in 'x' is not a number");
    CHECK(says("1") == "[inq] bits are 1, expected 2 to 16");
    CHECK(says("5,shares=0.5") == "[inq] the last share must be 1, so that no weight stays in float");
    CHECK(says("5,shares=0.5+0.4+1") == "[inq] shares must rise from above 0 to 1, got 0.4 after 0.5");
    CHECK(says("5,lsq") == "[inq] 'lsq' is not known; there are shares=0.5+1 and skip=PATH+PATH");
    CHECK(message_of([] {
            compress::prepare_inq(*moons_net(), {.skip = {"conv9"}});
            return 0;
          }) == "[inq] skip 'conv9' fits no layer of the model");
    const auto net = moons_net();
    compress::prepare_inq(*net, {});
    CHECK(message_of([&] {
            compress::prepare_inq(*net, {});
            return 0;
          }) == "[inq] 'fc1' is quantized already");
  }
}

TEST_SUITE("quantizing") {
  TEST_CASE("before the freeze, norms learn the statistics of the training data, in batches of training") {
    CAPTURE(test_seed());
    constexpr int64_t kBatch = 48;
    const data::Splits splits = moons();
    const quant::TrainingPlan plan = quant::parse_training("w4a4,freeze=0.5");
    constexpr FitHooks::Point kBefore{.step = 1, .steps = 4};
    constexpr FitHooks::Point kFreeze{.step = 2, .steps = 4};
    const auto norm_after = [&](const std::function<void(Module&)>& freeze) {
      const auto net = std::make_shared<Sequential>();
      net->add<Linear>("fc1", {.in = 2, .out = 16, .norm = true, .act = Act::kRelu});
      net->add<Linear>("fc2", {.in = 16, .out = 2});
      initialize(*net, {.seed = test_seed()});
      quant::prepare(*net, {1, 2}, plan.spec, {.live_norms = true});
      (void)(*net)(Variable(Tensor::normal({8, 2}, {.seed = test_seed()})));
      quant::after_step(*net, {1, 2}, plan, kBefore.step, kBefore.steps);
      freeze(*net);
      auto& layer = dynamic_cast<Linear&>(*net->modules()[1].module);
      CHECK_FALSE(layer.fold()->live());
      return std::pair{layer.norm.running_mean, layer.norm.running_variance};
    };
    const auto by_hooks = norm_after([&](Module& net) {
      compress::quantizing_hooks(plan, net, {1, 2}, splits.train, {.batch = kBatch}).after_step(kFreeze);
    });
    const auto by_hand = norm_after([&](Module& net) {
      data::DataLoader loader(splits.train, {.batch = kBatch, .workers = 0});
      measure_statistics(net, [&] {
        const auto batch = loader.next();
        return batch.has_value() ? batch->inputs : Tensor();
      });
      quant::freeze(net, {1, 2});
    });
    const auto of_a_batch = norm_after([&](Module& net) { quant::freeze(net, {1, 2}); });
    CHECK(same_bits(by_hooks.first.values(), by_hand.first.values()));
    CHECK(same_bits(by_hooks.second.values(), by_hand.second.values()));
    CHECK_FALSE(same_bits(by_hooks.second.values(), of_a_batch.second.values()));
  }
}

TEST_SUITE("fixed point") {
  TEST_CASE(
      "parameters never leave the grid; stochastic rounding keeps small updates on the average, nearest loses them") {
    CAPTURE(test_seed());
    const FixedPoint format{.bits = 10, .fraction = 6};
    constexpr double kStep = 1.0 / 64;
    for (const bool stochastic : {false, true}) {
      const auto net = std::make_shared<Sequential>();
      net->add<Linear>("fc", {.in = 100, .out = 1000, .bias = false});
      scatter(*net, {test_seed(), 3});
      FixedPoint own = format;
      own.stochastic = stochastic;
      const FitHooks hooks = compress::fixed_point_hooks(*net, own, 7);
      const std::vector<real> begin = raw_of(*net);
      real* const raw = net->parameters()[0].parameter->raw.mutable_data();
      constexpr int kSteps = 20;
      constexpr double kUpdate = 0.2 * kStep;
      for (int step = 1; step <= kSteps; ++step) {
        for (size_t i = 0; i < begin.size(); ++i) {
          raw[i] += static_cast<real>(kUpdate);
        }
        hooks.after_step({.step = step, .steps = kSteps});
        for (size_t i = 0; i < begin.size(); i += 97) {
          const double units = static_cast<double>(raw[i]) / kStep;
          CHECK(units == std::round(units));
          CHECK(static_cast<double>(raw[i]) >= own.low());
          CHECK(static_cast<double>(raw[i]) <= own.high());
        }
      }
      double moved = 0;
      for (size_t i = 0; i < begin.size(); ++i) {
        moved += static_cast<double>(raw[i] - begin[i]);
      }
      moved /= static_cast<double>(begin.size());
      if (stochastic) {
        // A rounding's variance is p (1 - p) step^2; the draws of all steps and weights are independent.
        const double sigma = kStep * std::sqrt(0.2 * 0.8 * kSteps / static_cast<double>(begin.size()));
        CHECK(std::abs(moved - kSteps * kUpdate) < 4 * sigma);
      } else {
        CHECK(moved == 0);
      }
    }
  }

  TEST_CASE("gradients too, beyond the ends saturated, the same for any number of threads") {
    CAPTURE(test_seed());
    std::vector<std::vector<real>> results;
    for (const int threads : {1, 3}) {
      set_num_threads(threads);
      const auto net = std::make_shared<Sequential>();
      net->add<Linear>("fc", {.in = 200, .out = 200});
      scatter(*net, {test_seed(), 4});
      const FixedPoint format = compress::parse_fixed_point("6.4,stochastic,gradients");
      const FitHooks hooks = compress::fixed_point_hooks(*net, format, 8);
      Parameter& weight = *net->parameters()[0].parameter;
      weight.raw.mutable_data()[0] = 100;
      weight.raw.mutable_data()[1] = -100;
      weight.raw.set_grad(Tensor::normal(weight.shape(), {test_seed(), 5}));
      hooks.after_backward({.step = 1, .steps = 2});
      for (const real g : weight.raw.grad().values()) {
        CHECK_MESSAGE(g * 16 == std::round(g * 16), g);
      }
      hooks.after_step({.step = 1, .steps = 2});
      CHECK(weight.raw.value().data()[0] == 2 - real(1) / 16);
      CHECK(weight.raw.value().data()[1] == -2);
      results.push_back(raw_of(*net));
    }
    set_num_threads(0);
    CHECK(same_bits(results[0], results[1]));
  }

  TEST_CASE("formats in words") {
    const FixedPoint format = compress::parse_fixed_point("12.8,nearest");
    CHECK(format.bits == 12);
    CHECK(format.fraction == 8);
    CHECK_FALSE(format.stochastic);
    CHECK_FALSE(format.gradients);
    CHECK(format.high() == 8 - 1.0 / 256);
    const auto says = [](const char* text) { return message_of([&] { return compress::parse_fixed_point(text); }); };
    CHECK(says("16") == "[fixed_point] '16' does not begin with bits and fraction, as 16.12 does");
    CHECK(says("17.4") == "[fixed_point] bits are 17, expected 2 to 16");
    CHECK(says("8.25") == "[fixed_point] the fraction has 25 bits, expected 0 to 24");
    CHECK(says("8.4,up") == "[fixed_point] 'up' is not known; there are nearest, stochastic and gradients");
  }
}

}  // namespace whittle
