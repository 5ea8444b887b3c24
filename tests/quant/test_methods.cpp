// Folding, phases, files, masks, and what improves post-training quantization. Float twin.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"
#include "layers/conv2d.h"
#include "layers/dropout.h"
#include "layers/fold.h"
#include "layers/leaves.h"
#include "layers/linear.h"
#include "layers/model_checkpoint.h"
#include "layers/sequential.h"
#include "layers/trace.h"
#include "layers/zoo/zoo.h"
#include "quant/half.h"
#include "quant/training.h"
#include "tests/quant/nets.h"
#include "tests/quant/oracle.h"
#include "tests/support/message.h"
#include "tests/support/same_bits.h"
#include "tests/support/sanitized.h"
#include "tests/support/seed.h"

namespace whittle {

namespace {

using quant::FakeQuant;
using quant::Granularity;
using quant::Phase;
using quant::RangeRule;
using quant::Role;

RngKey key_of(std::string_view name) { return RngKey{.seed = test_seed()}.child(name); }

double distance(const Tensor& a, const Tensor& b) {  // relative to the largest number
  double most = 1e-30;
  double apart = 0;
  for (int64_t i = 0; i < a.elements(); ++i) {
    most = std::max(most, std::abs(static_cast<double>(a.data()[i])));
    apart = std::max(apart, std::abs(static_cast<double>(a.data()[i]) - static_cast<double>(b.data()[i])));
  }
  return apart / most;
}

TransformKinds kinds() {
  TransformKinds known;
  add_fold_kind(known);
  quant::add_fake_quant_kind(known);
  quant::add_half_kind(known);
  return known;
}

Shape batched(const Shape& sample, int64_t n) {
  std::vector<int64_t> extents{n};
  extents.insert(extents.end(), sample.dims().begin(), sample.dims().end());
  return Shape(extents);
}

// conv relu - depthwise - conv - flatten - fc, with norms.
std::shared_ptr<Sequential> chain_net(RngKey key, Act act = Act::kRelu) {
  const auto net = std::make_shared<Sequential>();
  net->add<Input>("input");
  net->add<Conv2d>("conv1", {.in = 3, .out = 8, .padding = Padding::all(1), .norm = true, .act = act});
  net->add<Conv2d>("depthwise",
                   {.in = 8, .out = 8, .padding = Padding::all(1), .groups = 8, .norm = true, .act = Act::kRelu});
  net->add<MaxPool>("pool", {});
  net->add<Conv2d>("conv2", {.in = 8, .out = 6, .act = Act::kRelu});
  net->add<Flatten>("flatten");
  net->add<Linear>("fc", {.in = 6 * 4, .out = 5});
  scatter(*net, key);
  return net;
}
const Shape kChainInput{1, 8, 8, 3};

std::vector<Phase> phases(Module& model) {
  std::vector<Phase> all;
  for (const auto& [name, quantizer] : quant::quantizers(model)) {
    all.push_back(quantizer->phase());
  }
  return all;
}

// x with which the model has gone through one training step's forward pass.
void train_step(Module& model, const Tensor& x) {
  model.train();
  (void)model(x);
}

}  // namespace

TEST_SUITE("fold") {
  TEST_CASE("every net of the zoo: folded, it computes in evaluation what it did") {
    CAPTURE(test_seed());
    for (const zoo::Entry& entry : zoo::list()) {
      if (entry.trainable > (kSanitized ? 100'000 : 3'000'000)) {
        continue;
      }
      const std::string& name = entry.name;
      CAPTURE(name);
      const auto model = zoo::make(name);
      bool has_norm = false;
      for (const WeightedLayer* layer : weighted_layers(*model)) {
        has_norm = has_norm || layer->norm.defined();
      }
      if (!has_norm) {
        continue;
      }
      scatter(*model, key_of(name));
      const Tensor x = Tensor::normal(batched(*entry.defaults.input, 1), key_of("x"));
      const Tensor before = evaluated(*model, x);
      for (const bool live : {true, false}) {
        fold_norms(*model, {.live = live});
        CHECK(distance(before, evaluated(*model, x)) < 1e-4);
        freeze_folds(*model);
        CHECK(distance(before, evaluated(*model, x)) < 1e-4);
        for (WeightedLayer* layer : weighted_layers(*model)) {
          layer->weight.chain.detach(Stage::kFold);
        }
      }
      CHECK(same_bits(before.values(), evaluated(*model, x).values()));
    }
  }

  TEST_CASE("a step of a frozen fold moves the folded weight no further than one without a norm") {
    CAPTURE(test_seed());
    constexpr int64_t kIn = 5;
    constexpr int64_t kOut = 8;
    Linear normed({.in = kIn, .out = kOut, .norm = true, .norm_bias = true});
    initialize(normed, key_of("weights"));
    Linear plain({.in = kIn, .out = kOut});
    for (int64_t c = 0; c < kOut; ++c) {
      normed.norm.running_variance.mutable_data()[c] = std::pow(real(10), static_cast<real>(2 - c));
      normed.norm.gamma.raw.mutable_data()[c] = static_cast<real>(c % 2 == 0 ? 1 : -0.5);
    }
    fold_norms(normed);
    const Tensor factor = normed.norm.factor().value();
    plain.weight.raw.assign(normed.effective_weight().value());
    plain.bias.raw.assign(normed.effective_bias().value());
    const Tensor x = Tensor::normal({3, kIn}, key_of("x"));
    const Variable ways{Tensor::normal({3, kOut}, key_of("ways"))};
    const Variable a = normed(Variable(x));
    const Variable b = plain(Variable(x));
    CHECK(same_bits(a.value().values(), b.value().values()));
    backward(sum(mul(a, ways)));
    backward(sum(mul(b, ways)));
    for (int64_t c = 0; c < kOut; ++c) {
      const real f = factor.data()[c];
      CAPTURE(f);
      // f times what w moves by, beside what w' would move by.
      const double slower = std::min(1.0, static_cast<double>(f) * static_cast<double>(f));
      CHECK(static_cast<double>(f * normed.bias.raw.grad().data()[c]) ==
            doctest::Approx(slower * static_cast<double>(plain.bias.raw.grad().data()[c])).epsilon(1e-5));
      for (int64_t i = c * kIn; i < (c + 1) * kIn; ++i) {
        CHECK(static_cast<double>(f * normed.weight.raw.grad().data()[i]) ==
              doctest::Approx(slower * static_cast<double>(plain.weight.raw.grad().data()[i])).epsilon(1e-5));
      }
    }
  }
}

TEST_SUITE("phases") {
  TEST_CASE("learned steps of a folded weight: training gives the same, however large the fold's factor is") {
    CAPTURE(test_seed());
    const Tensor x = Tensor::normal({16, 6}, key_of("x"));
    const auto trained = [&](double smaller) {
      Linear layer({.in = 6, .out = 4, .norm = true});
      initialize(layer, key_of("weights"));
      for (int64_t c = 0; c < 4; ++c) {  // the same statistics seen from afar
        const auto variance = static_cast<real>(c + 1);
        layer.norm.running_variance.mutable_data()[c] = variance / static_cast<real>(smaller * smaller);
        layer.norm.gamma.raw.mutable_data()[c] = static_cast<real>(c == 2 ? -0.7 : 1.5);
      }
      quant::prepare(layer, {1, 6},
                     {.weights = {.bits = 2, .per = quant::Granularity::kChannel, .range = RangeRule::kLearnedStep}},
                     {.live_norms = true});
      layer.norm.options.momentum = 0;
      (void)layer(Variable(x));
      quant::adapt(layer);
      const Variable y = layer(Variable(x));
      backward(sum(mul(y, y)));
      std::vector<Tensor> all{y.value(), layer.weight.raw.grad()};
      for (const NamedParameter& named : layer.all_parameters()) {
        if (named.name.ends_with("weight/fake_quant.step")) {
          all.push_back(named.parameter->raw.value());
          all.push_back(named.parameter->raw.grad());
        }
      }
      REQUIRE(all.size() == 4);
      return all;
    };
    const std::vector<Tensor> near = trained(1);
    for (const double smaller : {4.0, 64.0}) {
      const std::vector<Tensor> far = trained(smaller);
      for (size_t i = 0; i < near.size(); ++i) {
        CAPTURE(i);
        CHECK(distance(near[i], far[i]) < 1e-3);  // epsilon counts for more where the variance is small
      }
    }
  }

  TEST_CASE("observing changes nothing; a trace is no data") {
    CAPTURE(test_seed());
    const auto net = chain_net(key_of("observe"));
    const Tensor x = Tensor::normal({4, 8, 8, 3}, key_of("x"));
    fold_norms(*net);
    const Tensor before = evaluated(*net, x);
    quant::prepare(*net, kChainInput, {.activations = {.symmetric = false, .range = RangeRule::kMovingAverage}});
    (void)trace(*net, kChainInput);
    for (const auto& [name, quantizer] : quant::quantizers(*net)) {
      CHECK_FALSE(quantizer->observer().seen());
      CHECK(quantizer->phase() == Phase::kObserve);
      CHECK(quantizer->grids() == nullptr);
    }
    CHECK(message_of([&] { quant::freeze(*net, kChainInput); }) ==
          "[fake_quant] no data has passed, so there is no range");
    CHECK(same_bits(before.values(), evaluated(*net, x).values()));
    (void)trace(*net, kChainInput);
    for (const auto& [name, quantizer] : quant::quantizers(*net)) {
      CAPTURE(name);
      CHECK(quantizer->observer().samples() == (quantizer->role() == Role::kActivation ? 4 : 0));
    }
  }

  TEST_CASE("adapting follows weights always and activations in training; fixed follows nothing") {
    CAPTURE(test_seed());
    const auto net = chain_net(key_of("adapt"));
    const Tensor x = Tensor::normal({4, 8, 8, 3}, key_of("x"));
    quant::prepare(*net, kChainInput, {}, {.live_norms = true});
    train_step(*net, x);
    quant::adapt(*net);
    CHECK(std::ranges::count(phases(*net), Phase::kAdapt) == std::ssize(phases(*net)));
    auto& conv2 = dynamic_cast<Conv2d&>(*net->modules()[5].module);
    const auto weight_step = [&] { return (*conv2.effective_weight().grids())[0].scale; };
    const auto input_step = [&] { return (*net->modules()[1].module->output.grids())[0].scale; };
    const float first_weight = weight_step();
    const float first_input = input_step();
    (void)evaluated(*net, affine(x, 5, 0).value());
    CHECK(input_step() == first_input);
    train_step(*net, affine(x, 5, 0).value());
    CHECK(input_step() == doctest::Approx(5 * first_input).epsilon(0.02));
    conv2.weight.raw.assign(affine(conv2.weight.raw, 3, 0).value());
    CHECK(weight_step() == doctest::Approx(3 * first_weight).epsilon(1e-5));

    quant::freeze(*net, kChainInput);
    CHECK(std::ranges::count(phases(*net), Phase::kFixed) == std::ssize(phases(*net)));
    for (const WeightedLayer* layer : weighted_layers(*net)) {
      CHECK((layer->fold() == nullptr || !layer->fold()->live()));
    }
    const float fixed_weight = weight_step();
    const float fixed_input = input_step();
    conv2.weight.raw.assign(affine(conv2.weight.raw, 3, 0).value());
    train_step(*net, affine(x, 50, 0).value());
    CHECK(weight_step() == fixed_weight);
    CHECK(input_step() == fixed_input);
    CHECK(oracle_differences(*net, x) == "");
  }

  TEST_CASE("skipped: a layer's weight, the result of a leaf without one, and of the last layer") {
    const auto net = chain_net(key_of("skip"));
    quant::prepare(*net, kChainInput, {.skip = {"input", "conv*", "fc"}});
    std::vector<std::string> names;
    for (const auto& [name, quantizer] : quant::quantizers(*net)) {
      names.push_back(name);
    }
    CHECK(names == std::vector<std::string>{"depthwise.weight", "conv1/output", "depthwise/output", "conv2/output"});
    quant::calibrate(*net, noise_batches({4, 8, 8, 3}, 1, key_of("c"))());
    quant::freeze(*net, kChainInput);
    CHECK(evaluated(*net, Tensor::normal({2, 8, 8, 3}, key_of("x"))).all_finite());
  }

  TEST_CASE("bits of the ends, of what is multiplied, and of what only sums and pools read") {
    const auto model = zoo::make("resnet8", {.classes = 10, .input = Shape{8, 8, 3}});
    quant::QuantSpec spec;
    spec.weights.bits = spec.activations.bits = 4;
    spec.edge_bits = 8;
    spec.sum_bits = 6;
    spec.bits = {{.layer = "layer2.0.conv1", .weights = 5, .activations = 3}};
    quant::prepare(*model, {1, 8, 8, 3}, spec);
    std::map<std::string, int> bits;
    for (const auto& [name, quantizer] : quant::quantizers(*model)) {
      bits[name.substr(0, name.rfind("/output"))] = quantizer->tensor_spec().bits;
    }
    const std::map<std::string, int> wanted{{"input", 8},          {"conv1.weight", 8},
                                            {"conv1", 4},          {"layer1.0.conv1.weight", 4},
                                            {"layer1.0.conv1", 4}, {"layer1.0.conv2.weight", 4},
                                            {"layer1.0.conv2", 6}, {"layer1.0.add", 4},
                                            {"layer2.0.conv1", 3}, {"layer2.0.conv1.weight", 5},
                                            {"layer2.0.conv2", 6}, {"layer2.0.shortcut", 6},
                                            {"layer3.0.add", 6},   {"pool", 4},
                                            {"fc.weight", 8},      {"fc", 8}};
    for (const auto& [name, number] : wanted) {
      CAPTURE(name);
      CHECK(bits[name] == number);
    }
    // Weights alone, and as the words of both verbs.
    const auto mixed = zoo::make("resnet8", {.classes = 10, .input = Shape{8, 8, 3}});
    spec.bits = {quant::layer_bits_from("test", "layer2.*=2"), quant::layer_bits_from("test", "layer2.0.conv1=7a7"),
                 quant::layer_bits_from("test", "fc=3a5")};
    quant::prepare(*mixed, {1, 8, 8, 3}, spec);
    bits.clear();
    for (const auto& [name, quantizer] : quant::quantizers(*mixed)) {
      bits[name.substr(0, name.rfind("/output"))] = quantizer->tensor_spec().bits;
    }
    CHECK(bits["layer2.0.conv1.weight"] == 2);  // the first that fits
    CHECK(bits["layer2.0.conv1"] == 7);         // and says something
    CHECK(bits["layer2.0.conv2"] == 6);
    CHECK(bits["fc.weight"] == 3);  // goes before the edges
    CHECK(bits["fc"] == 5);
    CHECK(bits["conv1.weight"] == 8);
    const quant::QuantSpec trained = quant::parse_training("w4a4,layers=layer1.*=2+fc=3a5").spec;
    REQUIRE(trained.bits.size() == 2);
    CHECK(trained.bits[0].layer == "layer1.*");
    CHECK(trained.bits[0].weights == 2);
    CHECK(trained.bits[0].activations == 0);
    CHECK(trained.bits[1].activations == 5);
    for (const auto& [text, reason] : {std::pair{"fc", "[quantize] 'fc' does not say a layer's bits, as fc=4 does"},
                                       {"fc=", "[quantize] '' in 'fc=' is not a number"},
                                       {"fc=17", "[quantize] 'fc=17': bits of weights are 1 to 16"},
                                       {"fc=4a1", "[quantize] 'fc=4a1': bits of activations are 2 to 16"},
                                       {"fc=4a8a8", "[quantize] 'fc=4a8a8': bits of activations are 2 to 16"}}) {
      CHECK(message_of([&, word = text] { return quant::layer_bits_from("quantize", word); }) == reason);
    }
    spec.bits.clear();
    spec.sum_bits = 0;
    const auto plain = zoo::make("resnet8", {.classes = 10, .input = Shape{8, 8, 3}});
    quant::prepare(*plain, {1, 8, 8, 3}, spec);
    for (const auto& [name, quantizer] : quant::quantizers(*plain)) {
      CHECK(quantizer->tensor_spec().bits != 6);
    }
  }

  TEST_CASE("a learned clip goes behind ReLUs alone") {
    const auto net = chain_net(key_of("pact"));
    quant::prepare(*net, kChainInput, {.activations = {.symmetric = false, .range = RangeRule::kLearnedClip}});
    std::vector<std::string> clipped;
    for (const auto& [name, quantizer] : quant::quantizers(*net)) {
      if (quantizer->tensor_spec().range == RangeRule::kLearnedClip) {
        clipped.push_back(name);
      }
    }
    CHECK(clipped == std::vector<std::string>{"conv1/output", "depthwise/output", "conv2/output"});
  }

  TEST_CASE("every phase and rule comes back from a checkpoint: the same bits, and the same after more training") {
    CAPTURE(test_seed());
    const TransformKinds known = kinds();
    const zoo::Description description = zoo::describe("resnet8", {.input = Shape{8, 8, 3}});
    const Shape input{1, 8, 8, 3};
    const Tensor x = Tensor::normal({4, 8, 8, 3}, key_of("x"));
    for (const auto rule : {RangeRule::kMinMax, RangeRule::kMovingAverage, RangeRule::kPercentile, RangeRule::kMse,
                            RangeRule::kEntropy, RangeRule::kLearnedStep, RangeRule::kLearnedClip}) {
      for (int until = 0; until < 3; ++until) {
        CAPTURE(quant::name_of(rule));
        CAPTURE(until);
        const auto model = zoo::build(description);
        scatter(*model, key_of("weights"));
        quant::QuantSpec spec;
        spec.weights.bits = 4;
        spec.weights.range = rule == RangeRule::kLearnedStep || rule == RangeRule::kMse ? rule : RangeRule::kMinMax;
        spec.activations.bits = 5;
        spec.activations.range = rule;
        quant::prepare(*model, input, spec, {.live_norms = true});
        train_step(*model, x);
        train_step(*model, affine(x, 2, 0).value());
        if (until > 0) {
          quant::adapt(*model);
          train_step(*model, x);
        }
        if (until > 1) {
          quant::freeze(*model, input);
        }
        Checkpoint checkpoint;
        zoo::store(checkpoint, description, *model);
        const auto loaded = zoo::load(checkpoint, known);
        CHECK(phases(*loaded) == phases(*model));
        CHECK(same_bits(evaluated(*model, x).values(), evaluated(*loaded, x).values()));
        Checkpoint again;
        zoo::store(again, description, *loaded);
        CHECK(again.metadata == checkpoint.metadata);
        CHECK(again.tensors.size() == checkpoint.tensors.size());
        // Both go on alike.
        for (Module* const m : {model.get(), loaded.get()}) {
          train_step(*m, affine(x, 3, 0).value());
          quant::freeze(*m, input);
        }
        CHECK(same_bits(evaluated(*model, x).values(), evaluated(*loaded, x).values()));
      }
    }
    const auto half = zoo::build(description);
    scatter(*half, key_of("weights"));
    quant::prepare_half(*half);
    Checkpoint checkpoint;
    zoo::store(checkpoint, description, *half);
    CHECK(same_bits(evaluated(*half, x).values(), evaluated(*zoo::load(checkpoint, known), x).values()));
  }

  TEST_CASE("malformed quantizers of a checkpoint are refused in a sentence") {
    const zoo::Description description = zoo::describe("mlp", {.classes = 3, .input = Shape{4}, .hidden = {{6}}});
    const auto model = zoo::build(description);
    scatter(*model, key_of("weights"));
    quantize_static(*model, {1, 4}, {}, noise_batches({8, 4}, 1, key_of("data")));
    Checkpoint good;
    zoo::store(good, description, *model);
    std::string weight;
    std::string activation;
    for (const auto& [name, tensor] : good.tensors) {
      if (name.ends_with("weight/fake_quant.scale") && weight.empty()) {
        weight = name.substr(0, name.size() - 5);
      } else if (name.ends_with("output.fake_quant.scale") && activation.empty()) {
        activation = name.substr(0, name.size() - 5);
      }
    }
    REQUIRE_FALSE(weight.empty());
    REQUIRE_FALSE(activation.empty());
    const auto message = [&](const std::string& name, const Tensor& value) {
      Checkpoint bad = good;
      bad.tensors[name] = StoredTensor::from(value);
      return message_of([&] { return zoo::load(bad, kinds()); });
    };
    const auto ends = [](const std::string& text, const std::string& end) {
      CAPTURE(text);
      CHECK(text.ends_with(end));
      CHECK(text.find('\n') == std::string::npos);
    };
    for (const real v : {real(-1), real(0), real(NAN), real(INFINITY), real(1e-40)}) {
      ends(message(activation + "scale", Tensor::full({1}, v)), " is not a positive normal number");
      ends(message(weight + "scale", Tensor::full({6}, v)), " is not a positive normal number");
    }
    for (const real v : {real(-129), real(128), real(0.5), real(NAN)}) {
      ends(message(activation + "zero_point", Tensor::full({1}, v)), " is not a code");
    }
    // Three grids would divide the 24 weights, and mean something else.
    ends(message(weight + "scale", Tensor::full({3}, 1)),
         "[fake_quant] scales of shape [3] and zero-points of shape "
         "[6], expected [6]");
    ends(message(activation + "ranges", Tensor::full({4}, 1)), "the ranges of an observer are malformed");
    Checkpoint bad = good;
    bad.tensors.erase(activation + "scale");
    ends(message_of([&] { return zoo::load(bad, kinds()); }), "fixed grids without scales");
    for (const auto& [from, to] :
         std::vector<std::pair<std::string, std::string>>{{"\"bits\":8", "\"bits\":99"},
                                                          {"\"bits\":8", "\"bits\":\"x\""},
                                                          {"\"phase\":\"fixed\"", "\"phase\":\"solid\""},
                                                          {"\"role\":\"weight\"", "\"role\":\"cook\""},
                                                          {"\"per\":\"channel\"", "\"per\":\"pixel\""},
                                                          {"\"per\":\"channel\"", "\"per\":\"group\""},
                                                          {"\"range\":\"minmax\"", "\"range\":\"wild\""}}) {
      CAPTURE(from);
      CAPTURE(to);
      bad = good;
      std::string& text = bad.metadata.at("whittle.transforms");
      const size_t at = text.find(from);
      REQUIRE(at != std::string::npos);
      text.replace(at, from.size(), to);
      const std::string refusal = message_of([&] { return zoo::load(bad, kinds()); });
      CAPTURE(refusal);
      CHECK(refusal != "no error");
      CHECK(refusal.find('\n') == std::string::npos);
    }
  }
}

TEST_SUITE("methods") {
  TEST_CASE("masks and fake quantization: zeros stay zeros, in every phase, and the oracle agrees") {
    CAPTURE(test_seed());
    for (const int bits : {1, 2, 4, 8}) {
      CAPTURE(bits);
      const auto net = chain_net(key_of("mask"));
      for (WeightedLayer* layer : weighted_layers(*net)) {
        layer->weight.chain.attach(std::make_shared<TestMask>(layer->weight.shape(), 3));
      }
      quant::QuantSpec spec = quant::usual_spec(bits, 8);
      spec.weights.symmetric = bits != 4;
      const auto zeros_hold = [&] {
        for (WeightedLayer* layer : weighted_layers(*net)) {
          const Tensor w = layer->effective_weight().value();
          for (int64_t i = 0; i < w.elements(); i += 3) {
            CHECK(w.data()[i] == 0);
          }
        }
      };
      quant::prepare(*net, kChainInput, spec);
      quant::calibrate(*net, noise_batches({4, 8, 8, 3}, 2, key_of("c"))());
      zeros_hold();
      quant::adapt(*net);
      zeros_hold();
      quant::freeze(*net, kChainInput);
      zeros_hold();
      CHECK(oracle_differences(*net, Tensor::normal({4, 8, 8, 3}, key_of("x"))) == "");
    }
  }

  TEST_CASE("binary weights: alpha sign(x), 0 stays 0, gradients pass") {
    const Variable x = Variable::leaf(Tensor::of({2, 3}, {-2, 0, real(0.5), 1, -1, real(-1e-9)}));
    const GridsPtr grids = make_grids({{2, 0, -1, 1}, {0.5F, 0, -1, 1}});
    const Variable y = quant::binarize(x, grids);
    CHECK(std::vector<real>(y.value().values().begin(), y.value().values().end()) ==
          std::vector<real>{-2, 0, 2, real(0.5), real(-0.5), real(-0.5)});
    backward(sum(mul(y, Tensor::of({2, 3}, {1, 2, 3, 4, 5, 6}))));
    const auto g = x.grad().values();
    CHECK(std::vector<real>(g.begin(), g.end()) == std::vector<real>{1, 2, 3, 4, 5, 6});
  }

  TEST_CASE("a bias beyond 2^30 raises the scale of its channel, or of the tensor (A5)") {
    CAPTURE(test_seed());
    for (const auto per : {Granularity::kChannel, Granularity::kTensor}) {
      Sequential net;
      net.add<Input>("input");
      auto& fc = net.add<Linear>("fc", {.in = 3, .out = 3});
      fc.weight.raw.assign(Tensor::of({3, 3}, {real(1e-3), 0, real(1e-3), 1, -1, 1, 0, 0, 0}));
      fc.bias.raw.assign(Tensor::of({3}, {real(1e9), 0, real(-3)}));
      quantize_static(net, {1, 3}, {.weights = {.per = per}}, noise_batches({16, 3}, 1, key_of("data")));
      const float sx = (*net.modules()[1].module->output.grids())[0].scale;
      const Grids& w = *fc.effective_weight().grids();
      CHECK(w[0].scale == 1e9F / sx * 0x1p-30F);
      if (per == Granularity::kChannel) {
        CHECK(w[1].scale == 1.0F / 127);
      }
      const Tensor x = Tensor::normal({4, 3}, key_of("x"));
      CHECK(oracle_differences(net, x) == "");
      CHECK(evaluated(net, x).at({0, 0}) == doctest::Approx(1e9).epsilon(0.01));
    }
  }

  TEST_CASE("equalization: the same results, and neighbours with equal ranges") {
    CAPTURE(test_seed());
    for (const Act act : {Act::kRelu, Act::kNone}) {
      const auto net = chain_net(key_of("equalize"), act);
      const Tensor x = Tensor::normal({8, 8, 8, 3}, key_of("x"));
      const Tensor before = evaluated(*net, x);
      CHECK(quant::equalize(*net, kChainInput, 100) == 3);
      CHECK(distance(before, evaluated(*net, x)) < 1e-4);
      const std::vector<WeightedLayer*> layers = weighted_layers(*net);
      const auto ranges = [](const Tensor& w, bool by_input, int64_t channels) {
        std::vector<double> most(static_cast<size_t>(channels), 0);
        for (int64_t i = 0; i < w.elements(); ++i) {
          double& m = most[static_cast<size_t>(by_input ? i % channels : i / (w.elements() / w.dim(0)))];
          m = std::max(m, std::abs(static_cast<double>(w.data()[i])));
        }
        return most;
      };
      for (size_t k = 0; k + 1 < layers.size(); ++k) {
        const Tensor first = layers[k]->effective_weight().value();
        const Tensor second = layers[k + 1]->effective_weight().value();
        const std::vector<double> out = ranges(first, false, first.dim(0));
        const std::vector<double> in = ranges(second, k != 0, first.dim(0));
        for (size_t c = 0; c < out.size(); ++c) {
          CAPTURE(k);
          CAPTURE(c);
          CHECK(out[c] == doctest::Approx(in[c]).epsilon(1e-2));
        }
      }
    }
    // A ReLU6 stands in the way.
    CHECK(quant::equalize(*chain_net(key_of("equalize"), Act::kRelu6), kChainInput) == 2);
  }

  TEST_CASE("equalization leaves layers alone that are called twice, and branches") {
    CAPTURE(test_seed());
    for (const bool shared_first : {true, false}) {
      Wired net;
      const auto shared = std::make_shared<Linear>(LinearOptions{.in = 4, .out = 4, .act = Act::kRelu});
      net.then(std::make_shared<Input>(), {-1});
      // Twice the same module, by a wrapper that calls it again.
      struct Twice : Module {
        Twice(std::shared_ptr<Linear> layer, bool first)
            : layer_(add_module("layer", std::move(layer))), first_(first) {
          a_ = add_module("a", std::make_shared<Linear>(LinearOptions{.in = 4, .out = 4, .act = Act::kRelu}));
          b_ = add_module("b", std::make_shared<Linear>(LinearOptions{.in = 4, .out = 4, .act = Act::kRelu}));
          add_ = add_module("add", std::make_shared<Add>());
        }
        std::string_view kind() const override { return "twice"; }
        Variable forward(std::span<const Variable> x) override {
          return first_ ? (*add_)((*a_)((*layer_)(x[0])), (*b_)((*layer_)(affine_free(x[0]))))
                        : (*add_)((*layer_)((*a_)(x[0])), (*layer_)((*b_)(x[0])));
        }
        static const Variable& affine_free(const Variable& x) { return x; }
        std::shared_ptr<Linear> layer_, a_, b_;
        std::shared_ptr<Add> add_;
        bool first_;
      };
      net.then(std::make_shared<Twice>(shared, shared_first), {0});
      scatter(net, key_of("twice"));
      const Tensor x = Tensor::normal({8, 4}, key_of("x"));
      const Tensor before = evaluated(net, x);
      CHECK(quant::equalize(net, {1, 4}) == 0);
      CHECK(distance(before, evaluated(net, x)) < 1e-5);
      CHECK(message_of([&] {
              quant::prepare(net, {1, 4}, {});
            }) ==
            "[quantize] 'n1.layer' is called twice; one grid cannot serve two results, so give each call a layer of "
            "its own");
    }
  }

  TEST_CASE("bias correction: what the formula says, after which the mean error is near 0") {
    CAPTURE(test_seed());
    for (const bool norm : {false, true}) {
      Sequential net;
      net.add<Input>("input");
      auto& conv = net.add<Conv2d>("conv", {.in = 4, .out = 6, .padding = Padding::all(1), .norm = norm});
      scatter(net, key_of("bias"));
      const Shape input{1, 6, 6, 4};
      const quant::Batches batches = [] {
        return [n = uint64_t{0}]() mutable {
          return n < 3 ? Tensor::uniform({8, 6, 6, 4}, key_of("data").child(n++), 0, 2) : Tensor();
        };
      };
      fold_norms(net);
      std::vector<Tensor> truth;
      const auto next = batches();
      for (Tensor x = next(); x.defined(); x = next()) {
        truth.push_back(evaluated(net, x));
      }
      const auto mean_errors = [&] {
        std::vector<double> errors(6, 0);
        const auto again = batches();
        for (const Tensor& t : truth) {
          const Tensor y = evaluated(net, again());
          for (int64_t i = 0; i < y.elements(); ++i) {
            errors[static_cast<size_t>(i % 6)] +=
                (static_cast<double>(y.data()[i]) - static_cast<double>(t.data()[i])) /
                static_cast<double>(3 * y.elements() / 6);
          }
        }
        return errors;
      };
      quantize_static(net, input, quant::usual_spec(2, 16), batches);
      const std::vector<double> before = mean_errors();
      // The formula, by hand: the mean of sum(x, w) - sum(x, quantized w).
      const Tensor lost = sub(quant::unquantized_weight(conv), conv.effective_weight()).value();
      std::vector<double> expected(6, 0);
      const auto once_more = batches();
      for (size_t b = 0; b < 3; ++b) {
        const EvaluationMode evaluation(net);
        const Variable x = (*net.modules()[1].module)(once_more());
        const Tensor y = conv2d(x, lost, {}, {.padding = Padding::all(1)}).value();
        for (int64_t i = 0; i < y.elements(); ++i) {
          expected[static_cast<size_t>(i % 6)] += static_cast<double>(y.data()[i]) / (3 * 8 * 36);
        }
      }
      const Tensor bias_before = conv.effective_bias().value().clone();
      quant::correct_biases(net, input, batches);
      const Tensor bias_after = conv.effective_bias().value();
      const std::vector<double> after = mean_errors();
      double most_before = 0;
      for (int64_t c = 0; c < 6; ++c) {
        const auto at = static_cast<size_t>(c);
        CHECK(static_cast<double>(bias_after.data()[c]) - static_cast<double>(bias_before.data()[c]) ==
              doctest::Approx(expected[at]).epsilon(1e-3));
        most_before = std::max(most_before, std::abs(before[at]));
        CHECK(std::abs(after[at]) < 2e-3);
      }
      CHECK(most_before > 0.02);  // else there was nothing to correct
      CHECK(conv.input.empty());
    }
    // Whatever throws, no tap stays behind.
    const auto net = chain_net(key_of("throws"));
    quantize_static(*net, kChainInput, {}, noise_batches({2, 8, 8, 3}, 1, key_of("c")));
    CHECK_THROWS_AS(quant::correct_biases(*net, kChainInput, noise_batches({2, 8, 8, 2}, 1, key_of("c"))), Error);
    for (const auto& [path, module] : net->modules()) {
      CHECK(module->input.empty());
    }
  }

  TEST_CASE("sensitivities: one layer at a time, all quantizers on again, the formula for decibels") {
    CAPTURE(test_seed());
    const auto net = chain_net(key_of("sensitive"));
    const quant::Batches batches = noise_batches({4, 8, 8, 3}, 2, key_of("c"));
    fold_norms(*net);
    const Tensor x = batches()();
    const Tensor truth = evaluated(*net, x);
    quantize_static(*net, kChainInput, quant::usual_spec(3, 4), batches);
    const Tensor before = evaluated(*net, x);
    int calls = 0;
    const auto one_batch = noise_batches({4, 8, 8, 3}, 1, key_of("c"));
    const auto table = quant::sensitivities(*net, one_batch, [&] { return static_cast<double>(++calls); });
    CHECK(same_bits(before.values(), evaluated(*net, x).values()));
    std::vector<std::string> names;
    for (const auto& row : table) {
      names.push_back(row.layer);
    }
    std::ranges::sort(names);
    CHECK(names == std::vector<std::string>{"conv1", "conv2", "depthwise", "fc", "input"});
    CHECK(calls == 5);
    for (const auto& row : table) {
      for (const auto& [name, quantizer] : quant::quantizers(*net)) {
        quantizer->turn(name.starts_with(row.layer + "/") || name.starts_with(row.layer + "."));
      }
      const Tensor y = evaluated(*net, x);
      double signal = 0;
      double noise = 0;
      for (int64_t i = 0; i < y.elements(); ++i) {
        signal += std::pow(static_cast<double>(truth.data()[i]), 2);
        noise += std::pow(static_cast<double>(truth.data()[i]) - static_cast<double>(y.data()[i]), 2);
      }
      CHECK(row.sqnr == doctest::Approx(10 * std::log10(signal / noise)).epsilon(1e-3));
    }
    for (const auto& [name, quantizer] : quant::quantizers(*net)) {
      quantizer->turn(true);
    }
    // Also when the metric throws.
    CHECK_THROWS_AS(quant::sensitivities(*net, one_batch, []() -> double { fail("metric", "broken"); }), Error);
    CHECK(same_bits(before.values(), evaluated(*net, x).values()));
  }

  TEST_CASE("every method in one call") {
    CAPTURE(test_seed());
    const quant::Batches batches = noise_batches({8, 8, 8, 3}, 3, key_of("c"));
    const Tensor x = batches()();  // of the calibration data: nothing is beyond a range
    for (const auto method :
         {quant::Method::kStatic, quant::Method::kDynamic, quant::Method::kHybrid, quant::Method::kHalf}) {
      CAPTURE(quant::name_of(method));
      const auto net = chain_net(key_of("methods"));
      const Tensor before = evaluated(*net, x);
      const auto report = quant::quantize(*net, kChainInput, {.method = method}, batches);
      CHECK(report.samples == (method == quant::Method::kStatic ? 24 : 0));
      CHECK(quant::is_quantized(*net));
      const double off = distance(before, evaluated(*net, x));
      CHECK(off > 0);
      CHECK(off < (method == quant::Method::kHalf ? 2e-3 : 0.06));
      CHECK(message_of([&] { quant::quantize(*net, kChainInput, {.method = method}, batches); }) ==
            "[quantize] the model is quantized already");
      quant::strip(*net);
      CHECK_FALSE(quant::is_quantized(*net));
      CHECK(distance(before, evaluated(*net, x)) < 1e-4);
    }
  }
}

TEST_SUITE("refusals") {
  TEST_CASE("specs that make no sense") {
    const auto weights = [](const quant::TensorSpec& spec) { return message_of([&] { quant::check_weights(spec); }); };
    const auto activations = [](const quant::TensorSpec& spec) {
      return message_of([&] { quant::check_activations(spec); });
    };
    CHECK(weights({.bits = 17}) == "[quantize] bits of weights are 17, expected 1 to 16, or 0 for float");
    CHECK(activations({.bits = -1}) == "[quantize] bits of activations are -1, expected 2 to 16, or 0 for float");
    CHECK(activations({.bits = 1}) == "[quantize] bits of activations are 1, expected 2 to 16, or 0 for float");
    CHECK(weights({.per = Granularity::kGroup}) == "[quantize] weights per group with groups of 0");
    CHECK(weights({.group = 4}) == "[quantize] weights per tensor with groups of 4");
    CHECK(weights({.dynamic = true}) == "[quantize] 'dynamic' is for activations, not for weights");
    for (const auto rule : {RangeRule::kMovingAverage, RangeRule::kEntropy, RangeRule::kLearnedClip}) {
      CHECK(weights({.range = rule}) ==
            "[quantize] '" + std::string(quant::name_of(rule)) + "' is for activations, not for weights");
    }
    CHECK(weights({.bits = 1, .range = RangeRule::kLearnedStep}) ==
          "[quantize] weights of 1 bit have no step to be learned: their scale is the mean of |w|");
    for (const double p : {50.0, 100.1, std::nan("")}) {
      CHECK(activations({.range = RangeRule::kPercentile, .percentile = p}).ends_with(" is outside (50, 100]"));
    }
    CHECK(activations({.per = Granularity::kChannel}) ==
          "[quantize] activations are quantized per tensor, or per sample where ranges are dynamic, not per channel");
    CHECK(activations({.range = RangeRule::kMse, .dynamic = true}) ==
          "[quantize] a dynamic range is the smallest and largest value, not 'mse'");
    CHECK(message_of([] { return quant::range_rule_named("x"); }).starts_with("[quantize] there is no range rule 'x'"));
    CHECK(message_of([] { return quant::method_named("x"); }) ==
          "[quantize] there is no method 'x'; there are static, dynamic, hybrid and fp16");
  }

  TEST_CASE("models and data that do not fit; a refusal changes nothing") {
    const auto net = chain_net(key_of("refused"));
    const quant::Batches none = [] { return [] { return Tensor(); }; };
    CHECK(message_of([&] { quant::prepare(*net, kChainInput, {.skip = {"conv9"}}); }) ==
          "[quantize] skip 'conv9' fits no layer of the model");
    CHECK(message_of([&] { quant::prepare_half(*net, {"conv9"}); }) ==
          "[quantize] skip 'conv9' fits no layer of the model");
    CHECK(message_of([&] {
            quant::prepare(*net, kChainInput, {.weights = {.per = Granularity::kGroup, .group = 5}});
          }).starts_with("[quantize] groups of 5 do not divide the 27 weights"));
    CHECK(weighted_layers(*net)[0]->fold() == nullptr);
    CHECK_FALSE(quant::is_quantized(*net));
    CHECK(message_of([&] { quant::calibrate(*net, none()); }) ==
          "[calibrate] the model has no quantizers; prepare() plugs them in");
    CHECK(message_of([&] { quant::quantize(*net, kChainInput, {}); }) ==
          "[quantize] static quantization needs calibration data");
    CHECK(message_of([&] {
            quant::quantize(*net, kChainInput, {.method = quant::Method::kHybrid, .correct_biases = true});
          }) == "[quantize] bias correction needs data");
    quant::prepare(*net, kChainInput, {});
    CHECK(message_of([&] { quant::calibrate(*net, none()); }) == "[calibrate] the calibration set is empty");
    Tensor bad = Tensor::zeros({2, 8, 8, 3});
    bad.mutable_data()[17] = NAN;
    CHECK(message_of([&] { quant::calibrate(*net, [&] { return bad; }); }) ==
          "[calibrate] the calibration data hold NaN or infinity, in samples 0 to 1");
    CHECK(message_of([&] { quant::prepare(*net, kChainInput, {}); }) == "[quantize] 'input' is quantized already");
    CHECK(message_of([&] { return quant::equalize(*net, kChainInput); }) ==
          "[equalize] the model is quantized already; weights are evened out before");

    const auto half = chain_net(key_of("refused"));
    quant::prepare_half(*half);
    CHECK(message_of([&] { quant::prepare(*half, kChainInput, {}); }) == "[quantize] 'conv1' is quantized already");

    // Constant data, even 0 throughout, are data.
    const auto flat = chain_net(key_of("refused"));
    quantize_static(*flat, kChainInput, {}, [] {
      return [given = false]() mutable { return std::exchange(given, true) ? Tensor() : Tensor::zeros({2, 8, 8, 3}); };
    });
    CHECK(evaluated(*flat, Tensor::zeros({1, 8, 8, 3})).all_finite());
    CHECK(oracle_differences(*flat, Tensor::normal({2, 8, 8, 3}, key_of("x"))) == "");
  }

  TEST_CASE("arithmetic outside of modules, and an input without a grid") {
    struct Loose : Module {
      Loose() {
        fc1 = add_module("fc1", std::make_shared<Linear>(LinearOptions{.in = 3, .out = 3}));
        fc2 = add_module("fc2", std::make_shared<Linear>(LinearOptions{.in = 3, .out = 3}));
      }
      std::string_view kind() const override { return "loose"; }
      Variable forward(std::span<const Variable> x) override { return (*fc2)(relu((*fc1)(x[0]))); }
      std::shared_ptr<Linear> fc1, fc2;
    } loose;
    const std::string refusal = message_of([&] { quant::prepare(loose, {1, 3}, {}); });
    CAPTURE(refusal);
    CHECK(refusal.find("relu") != std::string::npos);
    CHECK(refusal.find("fc2") != std::string::npos);
    CHECK_FALSE(quant::is_quantized(loose));

    Wired bare;
    bare.add<Linear>({.in = 3, .out = 3}, {-1});
    bare.add<Add>({}, {-1, 0});
    CHECK(message_of([&] {
            quant::prepare(bare, {1, 3}, {});
          }) ==
          "[quantize] 'n1' reads the model's input beside other values, so the model has to begin with an Input leaf, "
          "where the input gets a grid");
    // A pool in front quantizes for itself.
    Wired pool;
    pool.add<MaxPool>({}, {-1});
    pool.add<Conv2d>({.in = 2, .out = 2, .kernel = {1, 1}}, {0});
    quantize_static(pool, {1, 4, 4, 2}, {}, noise_batches({2, 4, 4, 2}, 1, key_of("c")));
    CHECK(oracle_differences(pool, Tensor::normal({3, 4, 4, 2}, key_of("x"))) == "");
  }
}

}  // namespace whittle
