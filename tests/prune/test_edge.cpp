// The Edge project's pruning: its definition, and its printed numbers where its weights are found.

#include <doctest/doctest.h>

#include <cmath>

#include "datasets/registry.h"
#include "layers/weighted.h"
#include "prune/edge.h"
#include "prune/mask.h"
#include "tests/datasets/files.h"
#include "tests/prune/edge_nets.h"
#include "tests/prune/nets.h"
#include "tests/support/message.h"
#include "tests/support/seed.h"
#include "train/evaluate.h"

namespace whittle {

using namespace prune;

namespace {

// Rounds each layer's weight and bias to 2^bits points from the smallest to the largest of both.
void round_to_range(Module& model, int bits) {
  for (const auto& [path, module] : model.modules()) {
    auto* layer = dynamic_cast<WeightedLayer*>(module);
    if (layer == nullptr) {
      continue;
    }
    double low = 1e30, high = -1e30;
    for (const Parameter* p : {&layer->weight, &layer->bias}) {
      for (const real v : p->raw.value().values()) {
        low = std::min(low, static_cast<double>(v));
        high = std::max(high, static_cast<double>(v));
      }
    }
    const double step = (high - low) / (std::pow(2, bits) - 1);
    for (Parameter* p : {&layer->weight, &layer->bias}) {
      for (int64_t i = 0; i < p->shape().elements(); ++i) {
        real& v = p->raw.mutable_data()[i];
        v = static_cast<real>(low + step * std::floor((static_cast<double>(v) - low) / step + 0.5));
      }
    }
  }
}

}  // namespace

TEST_SUITE("edge") {
  TEST_CASE("dense ranks, against counting") {
    CAPTURE(test_seed());
    Rng rng(test_seed());
    for (int round = 0; round < 200; ++round) {
      const int64_t n = rng.between(1, 30);
      Tensor x = Tensor::empty({n});
      for (real& v : x.mutable_values()) {
        v = static_cast<real>(rng.between(-5, 5));
      }
      const double fraction = rng.uniform();
      std::set<real> magnitudes;
      for (const real v : x.values()) {
        magnitudes.insert(std::abs(v));
      }
      const double t = std::ceil(static_cast<double>(magnitudes.size() - 1) * fraction);
      const Tensor y = without_lowest_ranks(x, fraction);
      for (int64_t i = 0; i < n; ++i) {
        const real v = x.data()[i];
        int64_t rank = 0;
        for (const real m : magnitudes) {
          rank += m < std::abs(v);
        }
        CHECK(y.data()[i] == (static_cast<double>(rank) <= t ? 0 : v));
      }
    }
    CHECK(Mask::of_nonzeros(without_lowest_ranks(Tensor::of({4}, {3, -1, 2, 1}), 0)).keep ==
          std::vector<uint8_t>{1, 0, 1, 0});  // 0 % takes the smallest
  }

  TEST_CASE("every tensor but the last, statistics where asked for, quantized first") {
    const auto count = [](Module& model, const char* name) {
      for (const NamedParameter& named : model.parameters()) {
        if (named.name == name) {
          return Mask::of_nonzeros(named.parameter->raw.value()).pruned();
        }
      }
      for (const NamedState& named : model.states()) {
        if (named.name == name) {
          return Mask::of_nonzeros(*named.state).pruned();
        }
      }
      return int64_t{-1};
    };
    for (const bool statistics : {true, false}) {
      const auto net = small_net(3);
      for (const NamedParameter& named : net->parameters()) {
        named.parameter->raw.assign(Tensor::uniform(named.parameter->shape(), {.seed = 1}, 1, 2));
      }
      for (const NamedState& named : net->states()) {
        *named.state = Tensor::uniform(named.state->shape(), {.seed = 2}, 1, 2);
      }
      bool quantized = false;
      edge_prune(*net, {.fraction = 0.5, .running_statistics = statistics, .quantize = [&](Module& model) {
                          quantized = count(model, "conv1.weight") == 0;  // nothing is pruned yet
                        }});
      CHECK(quantized);
      CHECK(count(*net, "conv1.weight") == 109);  // ranks 0..108 of 0..215
      CHECK(count(*net, "conv1.gamma") == 5);
      CHECK(count(*net, "conv1.beta") == 5);
      CHECK(count(*net, "conv1.running_variance") == (statistics ? 5 : 0));
      CHECK(count(*net, "conv2.bias") == 4);
      CHECK(count(*net, "fc.weight") == 10);
      CHECK(count(*net, "fc.bias") == 0);
    }
  }

  TEST_CASE("what it cannot do is refused") {
    const auto net = small_net(1);
    CHECK(message_of([&] { edge_prune(*net, {.fraction = 1.5}); }) == "[edge_prune] the fraction 1.5 is not in [0, 1]");
    attach(*net, {{"fc.weight", Mask::ones({3, 6})}});
    CHECK(message_of([&] { edge_prune(*net); }) ==
          "[edge_prune] 'fc.weight' has transforms; this mode is for plain weights");
  }

  TEST_CASE("Telescope: the accuracies that were printed, to the sample") {
    const auto dir = real_data();
    if (!dir || !std::filesystem::exists(*dir / "edge-weights")) {
      return;
    }
    const data::Splits splits = data::load("telescope", {.data_dir = *dir, .protocol = data::Protocol::kEdge});
    const auto accuracy = [&](Module& net) { return std::round(10000 * evaluate(net, splits.test).accuracy) / 10000; };
    const auto after = [&](const char* name, double fraction) {
      const auto net = stored_telescope_net(*dir, name);
      edge_prune(*net, {.fraction = fraction});
      return accuracy(*net);
    };
    CHECK(accuracy(*stored_telescope_net(*dir, "simple")) == 0.8575);
    CHECK(accuracy(*stored_telescope_net(*dir, "complex")) == 0.8670);
    CHECK(after("simple", 0) == 0.8588);
    CHECK(after("complex", 0.4) == 0.8691);
    CHECK(after("complex", 0.7) == 0.7750);

    // Quantized first, "20 %" is a share of the levels. Printed as 20, 22, 35 and 54 % of the weights.
    const std::pair<int, double> table[] = {{16, 0.20}, {12, 0.22}, {8, 0.35}, {4, 0.54}};
    for (const auto& row : table) {
      const int bits = row.first;
      CAPTURE(bits);
      const auto net = stored_telescope_net(*dir, "complex");
      edge_prune(*net, {.fraction = 0.2, .quantize = [bits](Module& model) { round_to_range(model, bits); }});
      const double share = sparsity_of(sparsity(*net));
      CAPTURE(share);
      CHECK(std::abs(share - row.second) <= 0.005);
    }
  }
}

}  // namespace whittle
