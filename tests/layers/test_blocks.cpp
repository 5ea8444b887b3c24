// Blocks against the same computation written out in ops. Float twin.

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "core/ops.h"
#include "layers/blocks.h"
#include "layers/summary.h"
#include "tests/layers/plugs.h"
#include "tests/support/message.h"
#include "tests/support/seed.h"

namespace whittle {

namespace {

// The parameters of a block by name, and what its convolutions do with them.
class ByHand {
 public:
  explicit ByHand(Module& block) : block_(block) {
    initialize(block, {.seed = test_seed()});
    block.train(false);
    int64_t salt = 0;
    for (const auto& [name, parameter] : block.parameters()) {  // no norm is the identity
      if (parameter->shape().rank() == 1) {
        parameter->raw.assign(Tensor::uniform(
            parameter->shape(), RngKey{.seed = test_seed()}.child(static_cast<uint64_t>(++salt)), real(0.5), 2));
      }
    }
  }

  Variable conv(const std::string& name, const Variable& x, const ConvGeometry& geometry) const {
    const Variable bias = find(name + ".bias");
    const Variable y = conv2d(x, find(name + ".weight"), bias, geometry);
    const Variable gamma = find(name + ".gamma");
    if (!gamma.defined()) {
      return y;
    }
    const int64_t channels = y.shape()[-1];
    return batch_norm_eval(y, gamma, find(name + ".beta"), Tensor::zeros({channels}), Tensor::full({channels}, 1));
  }

 private:
  Variable find(const std::string& wanted) const {
    for (const auto& [name, parameter] : block_.parameters()) {
      if (name == wanted) {
        return parameter->value();
      }
    }
    return {};
  }

  Module& block_;
};

ConvGeometry spatial(int64_t stride, int64_t groups = 1) {
  return {.stride = {stride, stride}, .padding = Padding::all(1), .groups = groups};
}

std::vector<std::string> children_of(Module& block) {
  std::vector<std::string> names;
  for (const auto& [name, module] : block.modules()) {
    if (!name.empty()) {
      names.push_back(name);
    }
  }
  return names;
}

void check_close(const Variable& a, const Variable& b) {
  REQUIRE(a.shape() == b.shape());
  double worst = 0;
  double size = 0;
  for (size_t i = 0; i < a.value().values().size(); ++i) {
    const double y = static_cast<double>(b.value().values()[i]);
    worst = std::max(worst, std::abs(static_cast<double>(a.value().values()[i]) - y));
    size = std::max(size, std::abs(y));
  }
  CHECK(size > 0);
  CHECK(worst <= 1e-5 * size);
}

Variable images() { return Tensor::normal({2, 7, 6, 4}, RngKey{.seed = test_seed()}.child("x")); }

using Names = std::vector<std::string>;

}  // namespace

TEST_SUITE("blocks") {
  TEST_CASE("residual block, identity shortcut") {
    const Variable x = images();
    ResidualBlock block({.in = 4, .out = 4});
    const ByHand hand(block);
    CHECK(children_of(block) == Names{"conv1", "conv2", "add"});
    const Variable inner = relu(hand.conv("conv1", x, spatial(1)));
    check_close(block(x), relu(hand.conv("conv2", inner, spatial(1)) + x));
  }

  TEST_CASE("residual block, convolutional shortcut with a norm or with a bias") {
    const Variable x = images();
    for (const bool norm : {true, false}) {
      ResidualBlock block({.in = 4, .out = 6, .stride = 2, .norm_bias = true, .shortcut_norm = norm});
      const ByHand hand(block);
      CHECK(children_of(block) == Names{"conv1", "conv2", "shortcut", "add"});
      const Variable inner = relu(hand.conv("conv1", x, spatial(2)));
      const Variable shortcut = hand.conv("shortcut", x, {.stride = {2, 2}});
      check_close(block(x), relu(hand.conv("conv2", inner, spatial(1)) + shortcut));
      CHECK(trainable_count(block) == (4 * 9 * 6 + 3 * 6) + (6 * 9 * 6 + 3 * 6) + (4 * 6 + (norm ? 2 * 6 : 6)));
    }
  }

  TEST_CASE("residual block in the manner of ResNet-9: ReLU before the sum, none after") {
    const Variable x = images();
    ResidualBlock block({.in = 4, .out = 4, .act = Act::kNone, .branch_act = Act::kRelu});
    const ByHand hand(block);
    const Variable inner = relu(hand.conv("conv1", x, spatial(1)));
    check_close(block(x), relu(hand.conv("conv2", inner, spatial(1))) + x);
  }

  TEST_CASE("bottleneck: the stride is the 3x3 convolution's") {
    const Variable x = images();
    BottleneckBlock block({.in = 4, .middle = 3, .out = 12, .stride = 2});
    const ByHand hand(block);
    CHECK(children_of(block) == Names{"conv1", "conv2", "conv3", "shortcut", "add"});
    const Variable narrow = relu(hand.conv("conv1", x, {}));
    const Variable inner = relu(hand.conv("conv2", narrow, spatial(2)));
    check_close(block(x), relu(hand.conv("conv3", inner, {}) + hand.conv("shortcut", x, {.stride = {2, 2}})));
  }

  TEST_CASE("depthwise-separable block") {
    const Variable x = images();
    SeparableBlock block({.in = 4, .out = 5, .stride = {2, 1}});
    const ByHand hand(block);
    CHECK(children_of(block) == Names{"depthwise", "pointwise"});
    const Variable inner = relu(hand.conv("depthwise", x, {.stride = {2, 1}, .padding = Padding::all(1), .groups = 4}));
    check_close(block(x), relu(hand.conv("pointwise", inner, {})));
  }

  TEST_CASE("inverted residual: with and without the sum, with and without expansion") {
    const Variable x = images();
    {
      InvertedResidual block({.in = 4, .out = 4});
      const ByHand hand(block);
      CHECK(children_of(block) == Names{"expand", "depthwise", "project", "add"});
      const Variable wide = relu6(hand.conv("expand", x, {}));
      const Variable inner = relu6(hand.conv("depthwise", wide, spatial(1, 24)));
      check_close(block(x), hand.conv("project", inner, {}) + x);
    }
    {
      InvertedResidual block({.in = 4, .out = 5, .stride = 2, .expansion = 1});
      const ByHand hand(block);
      CHECK(children_of(block) == Names{"depthwise", "project"});
      const Variable inner = relu6(hand.conv("depthwise", x, spatial(2, 4)));
      check_close(block(x), hand.conv("project", inner, {}));
    }
    CHECK(children_of(*std::make_shared<InvertedResidual>(InvertedOptions{.in = 4, .out = 4, .stride = 2})).size() ==
          3);
    CHECK(message_of([] { InvertedResidual({.in = 4, .out = 4, .expansion = 0}); }) ==
          "[inverted_residual] expansion 0 is not positive");
  }
}

}  // namespace whittle
