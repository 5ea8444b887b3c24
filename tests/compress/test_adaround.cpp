// AdaRound against exhaustive search on tiny layers, and what it promises on nets.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "compress/adaround.h"
#include "core/parallel.h"
#include "layers/conv2d.h"
#include "layers/leaves.h"
#include "layers/linear.h"
#include "layers/sequential.h"
#include "quant/fake_quant.h"
#include "quant/post_training.h"
#include "tests/quant/nets.h"
#include "tests/support/message.h"
#include "tests/support/same_bits.h"
#include "tests/support/sanitized.h"
#include "tests/support/seed.h"

namespace whittle {

namespace {

RngKey key_of(std::string_view name) { return RngKey{.seed = test_seed()}.child(name); }

const Shape kInput{1, 6, 6, 3};

std::shared_ptr<Sequential> some_net() {
  const auto net = std::make_shared<Sequential>();
  net->add<Input>("input");
  net->add<Conv2d>("conv1", {.in = 3, .out = 6, .padding = Padding::all(1), .norm = true, .act = Act::kRelu});
  net->add<Conv2d>("depthwise", {.in = 6, .out = 6, .groups = 6, .norm = true, .act = Act::kRelu});
  net->add<Flatten>("flatten");
  net->add<Linear>("fc", {.in = 6 * 16, .out = 4});
  scatter(*net, key_of("net"));
  weighted_layers(*net)[2]->weight.chain.attach(std::make_shared<TestMask>(Shape{4, 96}, 4));
  return net;
}

// Rows of inputs that have something to do with one another, as those of a net have.
quant::Batches related_rows(int64_t inputs, RngKey key) {
  return [=] {
    return [=, done = false]() mutable {
      if (done) {
        return Tensor();
      }
      done = true;
      Tensor x = Tensor::uniform({64, inputs}, key, 0, real(0.3));
      for (int64_t n = 0; n < 64; ++n) {
        const auto common = static_cast<real>(uniform(key.child("common"), static_cast<uint64_t>(n)));
        for (int64_t i = 0; i < inputs; ++i) {
          x.mutable_data()[n * inputs + i] += common;
        }
      }
      return x;
    };
  };
}

std::vector<int32_t> codes_of(WeightedLayer& layer, const Tensor& weight) {
  const Grids& grids = *layer.weight.chain.find<quant::FakeQuant>()->grids();
  std::vector<int32_t> codes;
  const int64_t length = weight.elements() / static_cast<int64_t>(grids.size());
  for (int64_t i = 0; i < weight.elements(); ++i) {
    const Grid& g = grids[static_cast<size_t>(i / length)];
    codes.push_back(static_cast<int32_t>(std::lround(weight.data()[i] / g.scale)));
    CHECK(codes.back() >= g.qmin);
    CHECK(codes.back() <= g.qmax);
  }
  return codes;
}

}  // namespace

TEST_SUITE("adaround") {
  TEST_CASE("one output channel of seven inputs: never worse than nearest, and most of what exhaustive search gains") {
    CAPTURE(test_seed());
    double nearest_sum = 0;
    double learned_sum = 0;
    double best_sum = 0;
    for (uint64_t round = 0; round < (kSanitized ? 2 : 8); ++round) {
      constexpr int64_t kInputs = 7;
      const auto net = std::make_shared<Sequential>();
      net->add<Linear>("fc", {.in = kInputs, .out = 1, .bias = false});
      scatter(*net, key_of("tiny").child(round));
      const auto batches = related_rows(kInputs, key_of("rows").child(round));
      const Tensor x = batches()();
      WeightedLayer& layer = *weighted_layers(*net)[0];
      const Tensor w = layer.weight.raw.value().clone();
      quant::quantize(
          *net, {1, kInputs},
          {.method = quant::Method::kHybrid, .spec = {.weights = {.bits = 3, .per = quant::Granularity::kChannel}}});
      const float scale = (*layer.weight.chain.find<quant::FakeQuant>()->grids())[0].scale;
      const auto error_of = [&](const std::vector<double>& candidate) {
        double sum = 0;
        for (int64_t n = 0; n < 64; ++n) {
          double d = 0;
          for (int64_t i = 0; i < kInputs; ++i) {
            d += static_cast<double>(x.data()[n * kInputs + i]) *
                 (candidate[static_cast<size_t>(i)] - static_cast<double>(w.data()[i]));
          }
          sum += d * d;
        }
        return sum / 64;
      };
      double best = 1e30;
      for (int choice = 0; choice < 1 << kInputs; ++choice) {
        std::vector<double> candidate;
        for (int i = 0; i < kInputs; ++i) {
          const double code = std::floor(static_cast<double>(w.data()[i] / scale)) + ((choice >> i) & 1);
          candidate.push_back(static_cast<double>(scale) * std::min(3.0, std::max(-3.0, code)));
        }
        best = std::min(best, error_of(candidate));
      }
      const auto report = compress::adaround(*net, {1, kInputs}, batches, {.steps = 500, .batch = 64});
      REQUIRE(report.size() == 1);
      const Tensor now = layer.effective_weight().value();
      const double learned = error_of({now.values().begin(), now.values().end()});
      CHECK(std::abs(learned - report[0].learned) <= 1e-4 * report[0].nearest);
      CHECK(report[0].learned <= report[0].nearest);
      CHECK(learned >= best * (1 - 1e-6));
      nearest_sum += report[0].nearest;
      learned_sum += learned;
      best_sum += best;
    }
    CHECK(learned_sum <= best_sum + 0.2 * (nearest_sum - best_sum));
  }

  TEST_CASE(
      "nets, hybrid and static: codes are nearest or beside it, zeros stay, layers gain, for any number of threads") {
    CAPTURE(test_seed());
    const auto batches = noise_batches({16, 6, 6, 3}, 2, key_of("data"));
    for (const quant::Method method : {quant::Method::kHybrid, quant::Method::kStatic}) {
      std::vector<Tensor> results;
      for (const int threads : {1, 3}) {
        set_num_threads(threads);
        const auto net = some_net();
        quant::quantize(*net, kInput, {.method = method, .spec = quant::usual_spec(3, 8)}, batches);
        std::vector<std::vector<int32_t>> nearest;
        for (WeightedLayer* const layer : weighted_layers(*net)) {
          nearest.push_back(codes_of(*layer, layer->effective_weight().value()));
        }
        const auto report =
            compress::adaround(*net, kInput, batches, {.steps = kSanitized ? 40 : 200, .batch = 64, .seed = 5});
        REQUIRE(report.size() == 3);
        const auto layers = weighted_layers(*net);
        for (size_t l = 0; l < layers.size(); ++l) {
          CHECK(report[l].learned <= report[l].nearest);
          const Tensor before = quant::unquantized_weight(*layers[l]).value();
          const Tensor w = layers[l]->effective_weight().value();
          const std::vector<int32_t> codes = codes_of(*layers[l], w);
          int64_t changed = 0;
          for (size_t i = 0; i < codes.size(); ++i) {
            CHECK(std::abs(codes[i] - nearest[l][i]) <= 1);
            changed += codes[i] != nearest[l][i] ? 1 : 0;
            CHECK((before.data()[i] != 0 || w.data()[i] == 0));
          }
          CHECK(changed == report[l].changed);
        }
        CHECK(report[2].learned < report[2].nearest);
        results.push_back(evaluated(*net, Tensor::normal({4, 6, 6, 3}, key_of("x"))));
      }
      set_num_threads(0);
      CHECK(same_bits(results[0].values(), results[1].values()));
    }
  }

  TEST_CASE("what it cannot do is said in a sentence") {
    const auto batches = noise_batches({4, 6, 6, 3}, 1, key_of("data"));
    const auto says = [&](Module& net, const quant::Batches& data, const compress::AdaRoundOptions& options = {}) {
      return message_of([&] { return compress::adaround(net, kInput, data, options).size(); });
    };
    const auto float_net = some_net();
    CHECK(says(*float_net, batches) == "[adaround] no weight is on an affine grid");
    const auto net = some_net();
    quant::quantize(*net, kInput, {.method = quant::Method::kHybrid, .spec = quant::usual_spec(4, 8)});
    CHECK(says(*net, {}) == "[adaround] learning how to round needs calibration data");
    CHECK(says(*net, noise_batches({4, 6, 6, 3}, 0, key_of("none"))) == "[patches] there are no calibration data");
    CHECK(says(*net, batches, {.steps = 0}) == "[adaround] 0 steps of 256 rows are not at least 1 of 1");
    const auto binary = some_net();
    quant::quantize(
        *binary, kInput,
        {.method = quant::Method::kHybrid, .spec = {.weights = {.bits = 1, .per = quant::Granularity::kChannel}}});
    CHECK(says(*binary, batches).find("is not on a fixed grid of 2 to 16 bits") != std::string::npos);
  }
}

}  // namespace whittle
