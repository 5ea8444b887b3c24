// Each leaf against the ops it stands for. Float twin.

#include <doctest/doctest.h>

#include <cmath>
#include <memory>
#include <vector>

#include "core/ops.h"
#include "core/parallel.h"
#include "layers/batch_norm.h"
#include "layers/conv2d.h"
#include "layers/dropout.h"
#include "layers/leaves.h"
#include "layers/linear.h"
#include "layers/sequential.h"
#include "tests/layers/plugs.h"
#include "tests/support/message.h"
#include "tests/support/seed.h"

namespace whittle {

namespace {

Tensor noise(const Shape& shape, std::string_view name) {
  return Tensor::normal(shape, RngKey{.seed = test_seed()}.child(name));
}

}  // namespace

TEST_SUITE("layers") {
  TEST_CASE("leaves without parameters are their ops") {
    CAPTURE(test_seed());
    const Variable x = noise({2, 6, 4, 3}, "x");
    const Variable y = noise({2, 6, 4, 3}, "y");
    CHECK(numbers(Input()(x).value()) == numbers(x.value()));
    CHECK(Flatten()(x).shape() == Shape{2, 72});
    const PoolGeometry window{.kernel = {3, 2}, .stride = {2, 1}, .padding = {.top = 1}};
    CHECK(numbers(MaxPool(window)(x).value()) == numbers(max_pool(x, window).value()));
    CHECK(numbers(AvgPool(window)(x).value()) == numbers(avg_pool(x, window).value()));
    CHECK(numbers(GlobalAvgPool()(x).value()) == numbers(global_avg_pool(x).value()));
    CHECK(numbers(Add()(x, y).value()) == numbers(add(x, y).value()));
    CHECK(numbers(Add({.act = Act::kRelu6})(x, y).value()) == numbers(relu6(add(x, y)).value()));
    const Variable three[] = {x, y, x};
    CHECK(Concat().call(three).shape() == Shape{2, 6, 4, 9});
    CHECK(numbers(Concat({.axis = 1})(x, y).value()) == numbers(concat({x, y}, 1).value()));
    CHECK(message_of([&] { Add()(x, noise({3}, "row")); }) == "[add] the inputs have shapes [2,6,4,3] and [3]");
  }

  TEST_CASE("an activation that stands alone is its op, and knows its name") {
    const Variable x = noise({5, 7}, "x");
    const std::vector<std::tuple<Function, const char*, Variable>> cases{
        {Function::kRelu, "relu", relu(x)},
        {Function::kRelu6, "relu6", relu6(x)},
        {Function::kLeakyRelu, "leaky_relu", leaky_relu(x, real(0.2))},
        {Function::kSigmoid, "sigmoid", sigmoid(x)},
        {Function::kTanh, "tanh", tanh(x)},
        {Function::kHardSwish, "hard_swish", hard_swish(x)},
        {Function::kGelu, "gelu", gelu(x)},
        {Function::kSoftmax, "softmax", softmax(x)},
        {Function::kLogSoftmax, "log_softmax", log_softmax(x)},
    };
    for (const auto& [function, title, expected] : cases) {
      const std::string name = title;
      CAPTURE(name);
      Activation leaf({.function = function, .slope = 0.2});
      CHECK(leaf.details() == name);
      CHECK(numbers(leaf(x).value()) == numbers(expected.value()));
    }
    CHECK(message_of([] { Activation({.slope = std::nan("")}); }).starts_with("[activation] slope nan"));
  }

  TEST_CASE("linear with a norm: batch statistics over rows, running ones in evaluation") {
    Linear layer({.in = 5, .out = 4, .norm = true, .act = Act::kRelu});
    CHECK_FALSE(layer.bias.defined());
    CHECK(layer.parameters().size() == 3);
    const Variable x = noise({16, 5}, "x");
    const Variable sums = linear(x, layer.weight.value());
    const BatchNormResult expected =
        batch_norm_train(sums, layer.norm.gamma.value(), layer.norm.beta.value(), real(1e-5), Act::kRelu);
    CHECK(numbers(layer(x).value()) == numbers(expected.y.value()));
    CHECK(layer.norm.running_mean.at({2}) == doctest::Approx(0.1 * expected.mean.at({2})));
    CHECK(layer.norm.running_variance.at({2}) == doctest::Approx(0.9 + 0.1 * expected.variance.at({2}) * 16 / 15));
    layer.train(false);
    CHECK(numbers(layer(x).value()) ==
          numbers(batch_norm_eval(sums, layer.norm.gamma.value(), layer.norm.beta.value(), layer.norm.running_mean,
                                  layer.norm.running_variance, real(1e-5), Act::kRelu)
                      .value()));
  }

  TEST_CASE("a bias in front of a norm exists on request, and the norm cancels it") {
    Conv2d with({.in = 3, .out = 4, .norm = true, .norm_bias = true});
    Conv2d without({.in = 3, .out = 4, .norm = true});
    CHECK(with.parameters().size() == 4);
    CHECK(without.parameters().size() == 3);
    with.bias.raw.assign(Tensor::of({4}, {1, -2, 3, -4}));
    const Variable x = noise({2, 5, 5, 3}, "x");
    const Variable a = with(x);
    const Variable b = without(x);
    for (size_t i = 0; i < a.value().values().size(); ++i) {
      CHECK(a.value().values()[i] == doctest::Approx(b.value().values()[i]).epsilon(1e-4));
    }
    CHECK(with.norm.running_mean.at({3}) == doctest::Approx(without.norm.running_mean.at({3}) - 0.4));
  }

  TEST_CASE("batch norm as a leaf does what it does inside a convolution") {
    Conv2d conv({.in = 2, .out = 2, .kernel = {1, 1}, .norm = true, .act = Act::kRelu});
    conv.weight.raw.assign(Tensor::of({2, 1, 1, 2}, {1, 0, 0, 1}));
    BatchNorm norm({.channels = 2, .act = Act::kRelu});
    const Variable x = noise({3, 4, 4, 2}, "x");
    CHECK(numbers(conv(x).value()) == numbers(norm(x).value()));
    CHECK(numbers(conv.norm.running_variance) == numbers(norm.norm.running_variance));
    initialize(norm, {});
    CHECK(norm.norm.running_mean.at({0}) == 0);
    CHECK(message_of([] { BatchNorm({.channels = 0}); }) == "[batch_norm] channels must be at least 1, got 0");
    CHECK(message_of([] { BatchNorm({.channels = 1, .epsilon = 0}); }) == "[batch_norm] epsilon 0 is not positive");
    CHECK(message_of([] { Linear({.in = 1, .out = 1, .norm = true, .norm_momentum = 2}); }) ==
          "[batch_norm] momentum 2 is outside [0, 1]");
  }

  TEST_CASE("multiply-accumulates and details") {
    const Conv2d conv({.in = 8, .out = 16, .kernel = {3, 5}, .stride = {2, 1}, .groups = 4, .norm = true});
    CHECK(conv.macs({}, {2, 7, 9, 16}) == 2 * 7 * 9 * 16 * 3 * 5 * 2);
    CHECK(conv.details() == "3x5 8->16 stride 2x1 groups 4 norm");
    const Linear linear_layer({.in = 30, .out = 20, .act = Act::kRelu6});
    CHECK(linear_layer.macs({}, {3, 20}) == 3 * 20 * 30);
    CHECK(linear_layer.details() == "30->20 relu6");
    CHECK(Add().macs({}, {3, 20}) == 0);
    CHECK(MaxPool({.kernel = {3, 3}, .stride = {2, 2}}).details() == "3x3 stride 2");
    CHECK(Dropout({.p = 0.25}).details() == "p 0.25");
  }

  TEST_CASE("dropout: by seed, path and call; the identity in evaluation") {
    const auto make = [](uint64_t seed) {
      auto net = std::make_unique<Sequential>();
      net->add<Dropout>("a", {.p = 0.5});
      initialize(*net, {.seed = seed});
      return net;
    };
    const Variable ones = Tensor::full({1000}, 1);
    const auto net = make(1);
    const auto first = numbers((*net)(ones).value());
    const auto second = numbers((*net)(ones).value());
    CHECK(first != second);  // each call drops others
    CHECK(std::ranges::count(first, real(0)) == doctest::Approx(500).epsilon(0.15));
    CHECK(std::ranges::count(first, real(2)) + std::ranges::count(first, real(0)) == 1000);

    const auto again = make(1);
    for (const int threads : {1, 3}) {
      set_num_threads(threads);
      initialize(*again, {.seed = 1});
      CHECK(numbers((*again)(ones).value()) == first);
      again->train(false);
      CHECK(numbers((*again)(ones).value()) == numbers(ones.value()));  // and does not count as a call
      again->train(true);
      CHECK(numbers((*again)(ones).value()) == second);
    }
    set_num_threads(0);
    CHECK(numbers((*make(2))(ones).value()) != first);

    Sequential pair;
    pair.add<Dropout>("a");
    pair.add<Dropout>("b");
    initialize(pair, {.seed = 1});
    CHECK(numbers((*pair.modules()[1].module)(ones).value()) == first);  // the path, not the net
    CHECK(numbers((*pair.modules()[2].module)(ones).value()) != first);
    CHECK(message_of([] { Dropout({.p = 1}); }) == "[dropout] p 1 is outside [0, 1)");
    CHECK(message_of([] { Dropout({.p = std::nan("")}); }) == "[dropout] p nan is outside [0, 1)");
  }
}

}  // namespace whittle
