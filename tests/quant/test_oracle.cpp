// Frozen models against the oracle: 0 differing codes.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"
#include "datasets/registry.h"
#include "layers/conv2d.h"
#include "layers/dropout.h"
#include "layers/leaves.h"
#include "layers/linear.h"
#include "layers/sequential.h"
#include "layers/trace.h"
#include "layers/zoo/zoo.h"
#include "tests/quant/nets.h"
#include "tests/quant/oracle.h"
#include "tests/support/same_bits.h"
#include "tests/support/sanitized.h"
#include "tests/support/seed.h"
#include "train/fit.h"

namespace whittle {

TEST_SUITE("oracle") {
  TEST_CASE("random nets of all leaves, bits 1 to 8 and 16: 0 differing codes") {
    CAPTURE(test_seed());
    int64_t compared = 0;
    const int nets = kSanitized ? 20 : 150;
    for (int i = 0; i < nets; ++i) {
      CAPTURE(i);
      const RngKey key = RngKey{.seed = test_seed()}.child("nets").child(static_cast<uint64_t>(i));
      Rng rng(key);
      const Shape input = some_input(rng);
      const auto net = some_net(rng, input);
      scatter(*net, key);
      const quant::QuantSpec spec = some_spec(rng);
      CAPTURE(spec.weights.bits);
      CAPTURE(spec.weights.symmetric);
      CAPTURE(spec.activations.bits);
      quantize_static(*net, input, spec, noise_batches(with_batch(input, 5), 2, key.child("calibration")));
      const Tensor batch = Tensor::normal(with_batch(input, 3), key.child("data"), 0, real(1.5));
      CHECK(oracle_differences(*net, batch, &compared) == "");
    }
    CHECK(compared > nets * 100);
  }

  TEST_CASE("gradients on or off, the size of the batch and the threads change no bit") {
    CAPTURE(test_seed());
    for (int i = 0; i < (kSanitized ? 4 : 25); ++i) {
      CAPTURE(i);
      const RngKey key = RngKey{.seed = test_seed()}.child("same").child(static_cast<uint64_t>(i));
      Rng rng(key);
      const Shape input = some_input(rng);
      const auto net = some_net(rng, input);
      scatter(*net, key);
      quant::QuantSpec spec = some_spec(rng);
      if (i % 3 == 2) {
        spec.activations = {.symmetric = false, .per = quant::Granularity::kChannel, .dynamic = true};
      }
      quantize_static(*net, input, spec, noise_batches(with_batch(input, 4), 2, key.child("calibration")));
      const Tensor batch = Tensor::normal(with_batch(input, 4), key.child("data"));
      const EvaluationMode evaluation(*net);
      const Tensor with_gradients = (*net)(batch).value();
      CHECK(same_bits(with_gradients.values(), evaluated(*net, batch).values()));
      CHECK(same_for_any_thread_count([&] { return evaluated(*net, batch); }));
      const int64_t length = batch.elements() / 4;
      const int64_t result = with_gradients.elements() / 4;
      for (int64_t s = 0; s < 4; ++s) {
        const Tensor one =
            Tensor::from(input, batch.values().subspan(static_cast<size_t>(s * length), static_cast<size_t>(length)));
        CHECK(same_bits(evaluated(*net, one).values(),
                        with_gradients.values().subspan(static_cast<size_t>(s * result), static_cast<size_t>(result))));
      }
    }
  }

  TEST_CASE("accumulators far beyond 2^24 are exact too") {
    CAPTURE(test_seed());
    const RngKey key = RngKey{.seed = test_seed()}.child("wide");
    for (const int bits : {8, 12, 16}) {
      CAPTURE(bits);
      for (const int weight_bits : {2, 8}) {
        CAPTURE(weight_bits);
        // All products of one sign: the sums reach 2^15 2^7 2^12.
        Sequential net;
        net.add<Input>("input");
        auto& conv =
            net.add<Conv2d>("conv", {.in = 512, .out = 3, .padding = {1, 0, 1, 0}, .groups = 1, .act = Act::kRelu});
        net.add<GlobalAvgPool>("pool");
        auto& fc = net.add<Linear>("fc", {.in = 3, .out = 2});
        conv.weight.raw.assign(Tensor::uniform(conv.weight.shape(), key.child("w"), real(0.3), 1));
        conv.bias.raw.assign(Tensor::of({3}, {5, -400, 0}));
        fc.weight.raw.assign(Tensor::normal({2, 3}, key.child("fc")));
        const Shape input{2, 4, 3, 512};
        const auto data = [&](uint64_t n) { return Tensor::uniform(input, key.child(n), -1, 3); };
        quant::prepare(net, input,
                       {.weights = {.bits = weight_bits, .per = quant::Granularity::kChannel},
                        .activations = {.bits = bits, .symmetric = bits > 8}});
        bool given = false;
        quant::calibrate(net, [&] { return std::exchange(given, true) ? Tensor() : data(1); });
        quant::freeze(net, input);
        CHECK(oracle_differences(net, data(2)) == "");
        CHECK(same_for_any_thread_count([&] { return evaluated(net, data(2)); }));
      }
    }
  }

  TEST_CASE("dynamic quantization is A24, to the last bit") {
    CAPTURE(test_seed());
    for (int i = 0; i < (kSanitized ? 10 : 80); ++i) {
      CAPTURE(i);
      const RngKey key = RngKey{.seed = test_seed()}.child("dynamic").child(static_cast<uint64_t>(i));
      Rng rng(key);
      const Shape input = with_batch(some_input(rng), rng.between(1, 4));
      const auto net = std::make_shared<Wired>();
      WeightedLayer* layer = nullptr;
      if (i % 3 == 0) {
        net->then(std::make_shared<Flatten>(), {-1});
        layer = &net->add<Linear>({.in = input.elements() / input[0],
                                   .out = rng.between(1, 7),
                                   .bias = rng.below(2) == 0,
                                   .act = some_act(rng)},
                                  {0});
      } else {
        layer = &net->add<Conv2d>(some_conv(rng, input), {-1});
      }
      scatter(*net, key);
      quant::QuantSpec spec = some_spec(rng);
      spec.weights.bits = static_cast<int>(rng.between(2, 8));
      quant::quantize(*net, input, {.method = quant::Method::kDynamic, .spec = spec});
      // Samples of different size; one of them 0, one nearly so, in most rounds.
      Tensor x = Tensor::normal(input, key.child("x"), rng.below(2) == 0 ? 3 : 0);
      const int64_t length = x.elements() / input[0];
      for (int64_t s = 0; s < input[0]; ++s) {
        constexpr float kSizes[] = {1, 0, 0x1p-105F, 1e30F, 0x1p-119F, -3e-3F};
        const auto by = static_cast<real>(kSizes[rng.below(std::ssize(kSizes))]);
        for (int64_t k = s * length; k < (s + 1) * length; ++k) {
          x.mutable_data()[k] *= by;
        }
      }
      const Tensor got = evaluated(*net, x);
      const std::vector<float> expected =
          oracle_dynamic(*layer, i % 3 == 0 ? x.reshape({input[0], length}) : x, got.shape());
      int64_t differ = 0;
      for (size_t k = 0; k < expected.size(); ++k) {
        differ += std::memcmp(&expected[k], &got.data()[k], sizeof(float)) != 0;
      }
      CHECK(differ == 0);
    }
  }

  TEST_CASE("concatenations of one grid and of several") {
    CAPTURE(test_seed());
    const RngKey key = RngKey{.seed = test_seed()}.child("concat");
    for (const int bits : {4, 8, 16}) {
      CAPTURE(bits);
      for (const bool one_grid : {false, true}) {
        Wired net;
        net.then(std::make_shared<Input>(), {-1});
        net.add<Conv2d>({.in = 3, .out = 4, .act = Act::kRelu}, {0});
        if (one_grid) {
          net.add<Concat>({}, {1, 1});
          net.add<Concat>({.axis = 1}, {2, 2});
        } else {
          net.add<Conv2d>({.in = 3, .out = 4}, {0});
          net.add<Concat>({.axis = 2}, {1, 2});
          net.add<Concat>({}, {3, 3, 3});
        }
        scatter(net, key);
        const Shape input{6, 9, 9, 3};
        quantize_static(net, input, quant::usual_spec(8, bits), noise_batches(input, 2, key.child("c")));
        CHECK(oracle_differences(net, Tensor::normal(input, key.child("x"))) == "");
      }
    }
  }

  TEST_CASE("nets of the zoo with random weights: 0 differing codes") {
    CAPTURE(test_seed());
    struct Net {
      const char* name;
      zoo::Options options;
      int images;
    };
    const std::vector<Net> nets{{"edge-simple", {.input = Shape{10}}, 20},
                                {"edge-complex", {.input = Shape{10}}, 20},
                                {"resnet8", {.input = Shape{16, 16, 3}}, 1},
                                {"ds-cnn", {}, 1},
                                {"mobilenet-v1", {.input = Shape{32, 32, 3}, .width = 0.25}, 1},
                                {"edge-cnn", {.input = Shape{8, 8, 3}}, 1}};
    for (const Net& net : nets) {
      CAPTURE(net.name);
      const auto model = zoo::make(net.name, net.options);
      const RngKey key = RngKey{.seed = test_seed()}.child(net.name);
      const Shape sample = *zoo::describe(net.name, net.options).options.input;
      std::vector<int64_t> extents{net.images};
      extents.insert(extents.end(), sample.dims().begin(), sample.dims().end());
      const Shape input(extents);
      scatter(*model, key);
      const quant::Batches batches = noise_batches(input, 2, key.child("calibration"));
      for (const auto& [weights, activations] : {std::pair(8, 8), std::pair(4, 4), std::pair(8, 16)}) {
        CAPTURE(weights);
        CAPTURE(activations);
        if (kSanitized && weights != 4) {
          continue;
        }
        quant::strip(*model);
        quantize_static(*model, input, quant::usual_spec(weights, activations), batches);
        CHECK(oracle_differences(*model, Tensor::normal(input, key.child("x"))) == "");
      }
    }
  }

  TEST_CASE("a trained edge-complex on the whole test set of telescope: 0 differing codes") {
    const char* const folder = std::getenv("WHITTLE_DATA");
    if (folder == nullptr || kSanitized) {
      MESSAGE("skipped: no data");
      return;
    }
    data::Splits splits;
    try {
      splits = data::load("telescope", {.protocol = data::Protocol::kEdge});
    } catch (const Error&) {
      MESSAGE("skipped: no data");
      return;
    }
    const auto model = zoo::make("edge-complex", {.classes = 2, .input = splits.train.sample_shape()});
    initialize(*model, {.seed = 1});
    fit(*model, splits, {.epochs = 2, .batch = 64, .optimizer = "adam", .rate = 0.002});
    const Tensor test = splits.test.all().inputs;
    const Tensor calibration = splits.train.all().inputs;
    const quant::Batches batches = [&] {
      return [&, given = false]() mutable { return std::exchange(given, true) ? Tensor() : calibration; };
    };
    for (const int bits : {8, 4}) {
      quant::strip(*model);
      quantize_static(*model, {1, test.dim(1)}, quant::usual_spec(bits, bits), batches);
      int64_t compared = 0;
      CHECK(oracle_differences(*model, test, &compared) == "");
      MESSAGE(bits << " bits: " << compared << " codes of " << test.dim(0) << " samples compared");
    }
  }
}

}  // namespace whittle
