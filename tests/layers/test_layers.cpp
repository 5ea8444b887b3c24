// Modules: names, modes, initialisation, errors. Float twin.

#include <doctest/doctest.h>

#include <cmath>
#include <memory>
#include <vector>

#include "core/ops.h"
#include "layers/batch_norm.h"
#include "layers/conv2d.h"
#include "layers/dropout.h"
#include "layers/linear.h"
#include "layers/sequential.h"
#include "layers/statistics.h"
#include "layers/trace.h"
#include "tests/layers/plugs.h"
#include "tests/support/message.h"
#include "tests/support/same_bits.h"
#include "tests/support/seed.h"

namespace whittle {

namespace {

std::vector<std::string> names_of(const std::vector<NamedParameter>& parameters) {
  std::vector<std::string> names;
  for (const NamedParameter& named : parameters) {
    names.push_back(named.name);
  }
  return names;
}

std::unique_ptr<Sequential> small_net() {
  auto net = std::make_unique<Sequential>();
  net->add<Conv2d>({.in = 3, .out = 4, .padding = Padding::all(1), .norm = true, .act = Act::kRelu});
  auto block = std::make_shared<Sequential>();
  block->add<Conv2d>({.in = 4, .out = 4, .kernel = {1, 1}});
  net->add(block);
  net->add<GlobalAvgPool>();
  net->add<Linear>({.in = 4, .out = 2, .bias = false});
  return net;
}

}  // namespace

TEST_SUITE("layers") {
  TEST_CASE("parameters and states have paths for names; absent ones are not listed") {
    const auto net = small_net();
    CHECK(names_of(net->parameters()) ==
          std::vector<std::string>{"0.weight", "0.gamma", "0.beta", "1.0.weight", "1.0.bias", "3.weight"});
    const auto states = net->states();
    REQUIRE(states.size() == 2);
    CHECK(states[0].name == "0.running_mean");
    CHECK(states[1].name == "0.running_variance");
    CHECK(net->modules().size() == 6);
    CHECK(net->modules()[0].name.empty());
  }

  TEST_CASE("measured statistics are plain means over the batches, and nothing else changes") {
    CAPTURE(test_seed());
    constexpr int64_t kChannels = 3;
    Sequential net;
    net.add<BatchNorm>({.channels = kChannels});
    net.add<Linear>({.in = kChannels, .out = 2, .norm = true});
    net.train(false);
    auto& norm = dynamic_cast<BatchNorm&>(*net.modules()[1].module).norm;
    const auto& second = dynamic_cast<Linear&>(*net.modules()[2].module).norm;
    const Tensor before = norm.running_mean;
    measure_statistics(net, [] { return Tensor(); });
    CHECK(same_bits(norm.running_mean.values(), before.values()));

    std::vector<Tensor> batches;
    for (const int64_t samples : {4, 7, 2}) {
      batches.push_back(
          Tensor::normal({samples, kChannels}, {.seed = test_seed() + static_cast<uint64_t>(samples)}, 1));
    }
    measure_statistics(net, [&, at = size_t{0}]() mutable { return at < batches.size() ? batches[at++] : Tensor(); });
    for (int64_t c = 0; c < kChannels; ++c) {
      double mean = 0;
      double variance = 0;
      for (const Tensor& batch : batches) {
        const auto n = static_cast<double>(batch.dim(0));
        double sum = 0;
        double squares = 0;
        for (int64_t i = 0; i < batch.dim(0); ++i) {
          const auto x = static_cast<double>(batch.at({i, c}));
          sum += x;
          squares += x * x;
        }
        mean += sum / n / 3;
        variance += (squares - sum * sum / n) / (n - 1) / 3;
      }
      CHECK(static_cast<double>(norm.running_mean.data()[c]) == doctest::Approx(mean).epsilon(1e-5));
      CHECK(static_cast<double>(norm.running_variance.data()[c]) == doctest::Approx(variance).epsilon(1e-4));
    }
    CHECK(second.running_mean.data()[0] != 0);
    CHECK(norm.options.momentum == 0.1);
    CHECK_FALSE(net.training());
    CHECK_FALSE(net.modules()[2].module->training());
  }

  TEST_CASE("a layer reads value(), and passes its result through the output chain") {
    Linear layer({.in = 2, .out = 1, .bias = false});
    layer.weight.raw.assign(Tensor::of({1, 2}, {1, 3}));
    const Tensor x = Tensor::of({1, 2}, {10, 1});
    CHECK(layer(x).value().item() == 13);
    layer.weight.chain.attach(std::make_shared<Scaler>(2));
    CHECK(layer(x).value().item() == 26);
    layer.output.attach(std::make_shared<Scaler>(2));
    CHECK(layer(x).value().item() == 52);
  }

  TEST_CASE("train() reaches every module, its parameters' chains and its output chain") {
    const auto net = small_net();
    auto weight_plug = std::make_shared<Scaler>(2);
    auto output_plug = std::make_shared<Scaler>(2);
    net->parameters()[3].parameter->chain.attach(weight_plug);
    net->modules()[3].module->output.attach(output_plug);
    net->train(false);
    for (const auto& [name, module] : net->modules()) {
      CHECK_FALSE(module->training());
    }
    CHECK_FALSE(weight_plug->training);
    CHECK_FALSE(output_plug->training);
    net->train();
    CHECK(weight_plug->training);
  }

  TEST_CASE("initial values depend on the key and the path, not on the rest of the net") {
    const auto a = small_net();
    const auto b = small_net();
    initialize(*a, {.seed = 1});
    initialize(*b, {.seed = 1});
    CHECK(numbers(a->parameters()[0].parameter->raw.value()) == numbers(b->parameters()[0].parameter->raw.value()));
    initialize(*b, {.seed = 2});
    CHECK(numbers(a->parameters()[0].parameter->raw.value()) != numbers(b->parameters()[0].parameter->raw.value()));

    Sequential shorter;
    shorter.add<Conv2d>({.in = 3, .out = 4, .padding = Padding::all(1), .norm = true, .act = Act::kRelu});
    initialize(shorter, {.seed = 1});
    CHECK(numbers(shorter.parameters()[0].parameter->raw.value()) ==
          numbers(a->parameters()[0].parameter->raw.value()));

    Linear wide({.in = 500, .out = 400});
    initialize(wide, {.seed = test_seed()});
    double squares = 0;
    for (const real w : wide.weight.raw.value().values()) {
      squares += static_cast<double>(w) * static_cast<double>(w);
    }
    CHECK(squares / 200'000 == doctest::Approx(2.0 / 500).epsilon(0.02));
  }

  TEST_CASE("batch norm inside a convolution: batch statistics in training, running ones in evaluation") {
    Conv2d layer({.in = 1, .out = 1, .kernel = {1, 1}, .norm = true, .norm_momentum = 0.5});
    layer.weight.raw.assign(Tensor::of({1, 1, 1, 1}, {2}));
    const Tensor x = Tensor::of({1, 2, 2, 1}, {1, 2, 3, 6});  // times 2: mean 6, biased variance 14
    const Variable y = layer(x);
    CHECK(y.value().at({0, 0, 0, 0}) == doctest::Approx(-4 / std::sqrt(14.0 + 1e-5)));
    CHECK(layer.norm.running_mean.item() == doctest::Approx(3));                             // half way from 0 to 6
    CHECK(layer.norm.running_variance.item() == doctest::Approx(0.5 + 0.5 * 14.0 * 4 / 3));  // unbiased
    layer.train(false);
    const double expected = (12 - 3) / std::sqrt(0.5 + 0.5 * 14.0 * 4 / 3 + 1e-5);
    CHECK(layer(x).value().at({0, 1, 1, 0}) == doctest::Approx(expected));
    CHECK(layer.norm.running_mean.item() == doctest::Approx(3));  // evaluation learns nothing
  }

  TEST_CASE("wrong options and wrong names are refused") {
    CHECK(message_of([] { Linear({.in = 0, .out = 3}); }) == "[linear] in and out must be at least 1, got 0 and 3");
    CHECK(message_of([] { Conv2d({.in = 3, .out = 4, .groups = 2}); }) ==
          "[conv2d] in 3 and out 4 must be positive multiples of groups 2");
    CHECK(message_of([] {
            Conv2d({.in = 3, .out = 4, .kernel = {0, 3}});
          }) == "[conv2d] kernel 0x3 must be at least 1x1");
    class Pair : public Module {
     public:
      Pair(const char* first, const char* second) {
        add_module(first, std::make_shared<Flatten>());
        add_module(second, std::make_shared<Flatten>());
      }
      std::string_view kind() const override { return "pair"; }

     protected:
      Variable forward(std::span<const Variable> inputs) override { return inputs[0]; }
    };
    CHECK(message_of([] { Pair("a", "a"); }) == "[add_module] there already is a child called 'a'");
    CHECK(message_of([] { Pair("a", "b.c"); }).find("'b.c' is not a name") != std::string::npos);
    CHECK(message_of([] { Pair("", "b"); }).find("'' is not a name") != std::string::npos);
    Sequential net;
    CHECK(message_of([&] { net.add(nullptr); }) == "[add_module] child '0' is null");
    CHECK(message_of([&] { net(Tensor::zeros({1, 1})); }) == "[sequential] there is no step to take: it is empty");
  }

  TEST_CASE("the module of docs/models.md") {
    class TwoScales : public Module {
     public:
      struct Options {
        int64_t in = 0;
        int64_t out = 0;  // half from each branch
      };
      explicit TwoScales(const Options& o) {
        point_ =
            add_module("point", std::make_shared<Conv2d>(Conv2dOptions{
                                    .in = o.in, .out = o.out / 2, .kernel = {1, 1}, .norm = true, .act = Act::kRelu}));
        wide_ = add_module(
            "wide", std::make_shared<Conv2d>(Conv2dOptions{
                        .in = o.in, .out = o.out / 2, .padding = Padding::all(1), .norm = true, .act = Act::kRelu}));
        join_ = add_module("join", std::make_shared<Concat>());
      }
      std::string_view kind() const override { return "two_scales"; }

     protected:
      Variable forward(std::span<const Variable> inputs) override {
        return (*join_)((*point_)(inputs[0]), (*wide_)(inputs[0]));
      }

     private:
      std::shared_ptr<Conv2d> point_, wide_;
      std::shared_ptr<Concat> join_;
    };
    Sequential net;
    net.add<Input>("input");
    net.add<TwoScales>("mix", {.in = 3, .out = 16});
    net.add<GlobalAvgPool>("pool");
    net.add<Linear>("fc", {.in = 16, .out = 10});
    initialize(net, {.seed = 1});
    CHECK(net(Tensor::zeros({2, 8, 8, 3})).shape() == Shape{2, 10});
    CHECK(names_of(net.parameters())[3] == "mix.wide.weight");
    CHECK(trace(net, {1, 8, 8, 3}).calls.size() == 6);
  }

  TEST_CASE("a module has one parent, and may move when that is gone") {
    const auto shared = std::make_shared<Linear>(LinearOptions{.in = 2, .out = 2});
    {
      Sequential first;
      first.add("head", shared);
      Sequential second;
      CHECK(message_of([&] { second.add("body", shared); }) ==
            "[add_module] 'body' already is the child 'head' of a module; to use its weights twice, call it twice");
    }
    Sequential third;
    third.add("body", shared);
    CHECK(names_of(third.parameters()) == std::vector<std::string>{"body.weight", "body.bias"});
  }

  TEST_CASE("an error from below carries the path of the module that raised it, once") {
    Sequential net;
    net.add<Conv2d>("conv1", {.in = 3, .out = 4});
    auto stage = std::make_shared<Sequential>();
    auto& inner = stage->add<Sequential>();
    inner.add<Conv2d>("conv", {.in = 8, .out = 4});
    net.add("layer1", stage);
    const std::string message = message_of([&] { net(Tensor::zeros({1, 8, 8, 3})); });
    CHECK(message.starts_with("layer1.0.conv: [conv2d] "));
    CHECK(message.find("layer1", 1) == std::string::npos);
    CHECK(message_of([&] { inner(Tensor::zeros({1, 8, 8, 3})); }).starts_with("0.conv: [conv2d] "));
    CHECK(message_of([&] { net(Tensor::zeros({1, 8, 8, 1})); }).starts_with("conv1: [conv2d] "));

    Conv2d alone({.in = 3, .out = 4});
    CHECK(message_of([&] { alone(Tensor::zeros({1, 8, 8, 1})); }).starts_with("[conv2d] "));
  }

  TEST_CASE("the number of inputs is checked") {
    Sequential net;
    auto& sum = net.add<Add>("sum");
    CHECK(message_of([&] { net(Tensor::zeros({1, 1})); }) == "sum: [add] called with 1 input, expected 2");
    CHECK(message_of([&] { sum.call({}); }) == "sum: [add] called with 0 inputs, expected 2");
    Concat concat;
    CHECK(message_of([&] { concat(Tensor::zeros({1, 1})); }) == "[concat] called with 1 input, expected 2 or more");
    const Variable x = Tensor::zeros({1, 1});
    CHECK(message_of([&] { Flatten()(x, x); }) == "[flatten] called with 2 inputs, expected 1");
  }

  TEST_CASE("evaluation mode ends as it began, module by module, also by an exception") {
    const auto net = small_net();
    net->modules()[1].module->train(false);
    auto plug = std::make_shared<Scaler>(2);
    net->parameters()[3].parameter->chain.attach(plug);
    const auto modes = [&] {
      std::vector<bool> all;
      for (const auto& [name, module] : net->modules()) {
        all.push_back(module->training());
      }
      return all;
    };
    const auto before = modes();
    try {
      const EvaluationMode evaluation(*net);
      CHECK(modes() == std::vector<bool>(before.size(), false));
      CHECK_FALSE(plug->training);
      throw Error("stop");
    } catch (const Error&) {
    }
    CHECK(modes() == before);
    CHECK(plug->training);
  }

  TEST_CASE("all_parameters() finds what transforms own, in chains and in output chains") {
    const auto net = small_net();
    net->parameters()[0].parameter->chain.attach(std::make_shared<Scaler>(2));
    net->modules()[1].module->output.attach(std::make_shared<Scaler>(2));
    net->output.attach(std::make_shared<Scaler>(2));
    CHECK(names_of(net->all_parameters()) == std::vector<std::string>{"0.weight", "0.weight/scaler.step", "0.gamma",
                                                                      "0.beta", "1.0.weight", "1.0.bias", "3.weight",
                                                                      "/output.scaler.step", "0/output.scaler.step"});
  }
}

}  // namespace whittle
