// Compaction: smaller tensors, the same results, and a file that brings them back.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "core/json.h"
#include "layers/batch_norm.h"
#include "layers/blocks.h"
#include "layers/leaves.h"
#include "layers/model_checkpoint.h"
#include "layers/summary.h"
#include "layers/zoo/zoo.h"
#include "prune/compact.h"
#include "prune/select.h"
#include "tests/prune/nets.h"
#include "tests/support/message.h"
#include "tests/support/same_bits.h"
#include "tests/support/sanitized.h"
#include "tests/support/seed.h"

namespace whittle {

using namespace prune;

namespace {

TransformKinds mask_kinds() {
  TransformKinds kinds;
  add_mask_kind(kinds);
  return kinds;
}

// Norms of a trained net: nothing is 0 or 1 by chance.
void stir(Module& model, RngKey key) {
  for (const NamedParameter& named : model.parameters()) {
    if (named.parameter->shape().rank() == 1) {
      named.parameter->raw.assign(
          Tensor::uniform(named.parameter->shape(), key.child(named.name), real(0.5), real(1.5)));
    }
  }
  for (const NamedState& named : model.states()) {
    *named.state = Tensor::uniform(named.state->shape(), key.child(named.name), real(0.5), real(1.5));
  }
}

Tensor result_of(Module& model, const Tensor& x) {
  const NoGrad no_grad;
  const EvaluationMode evaluating(model);
  return model(x).value();
}

// The largest difference, as a share of the largest value.
double distance(const Tensor& a, const Tensor& b) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < a.values().size(); ++i) {
    difference = std::max(difference, std::abs(static_cast<double>(a.values()[i]) - b.values()[i]));
    size = std::max(size, std::abs(static_cast<double>(a.values()[i])));
  }
  return difference / size;
}

Shape one(const Shape& sample) {
  std::vector<int64_t> dims{1};
  dims.insert(dims.end(), sample.dims().begin(), sample.dims().end());
  return Shape(dims);
}

}  // namespace

TEST_SUITE("compact") {
  TEST_CASE("every net of the zoo that is small enough: what masking computes, and its file comes back") {
    CAPTURE(test_seed());
    const std::vector<std::pair<std::string, zoo::Options>> nets{
        {"lenet-300-100", {}},
        {"lenet5", {}},
        {"small-cnn", {}},
        {"edge-cnn", {}},
        {"resnet8", {}},
        {"resnet20", {}},
        {"resnet9", {}},
        {"resnet18", {}},
        {"resnet18-3x3", {.input = Shape{8, 8, 3}}},
        {"resnet50", {.classes = 10, .input = Shape{32, 32, 3}}},
        {"conv2", {.norm = true}},
        {"conv4", {}},
        {"conv6", {}},
        {"vgg16", {}},
        {"mobilenet-v1", {.classes = 2, .input = Shape{32, 32, 3}, .width = 0.25}},
        {"mobilenet-v2", {.classes = 5, .input = Shape{32, 32, 3}, .width = 0.35}},
        {"ds-cnn", {}},
        {"ds-cnn-l", {}},
    };
    const TransformKinds kinds = mask_kinds();
    for (const auto& net : nets) {
      const std::string& name = net.first;
      CAPTURE(name);
      zoo::Description description = zoo::describe(name, net.second);
      if (zoo::entry(name).trainable > (kSanitized ? 500'000 : 30'000'000)) {
        continue;  // VGG-16; its miniatures have the same parts
      }
      const auto model = zoo::make(description);
      const RngKey key = RngKey{.seed = test_seed()}.child(name);
      stir(*model, key);
      const Shape input = one(*description.options.input);
      const std::vector<Target> layers = targets(*model, input);
      attach(*model, select(*model, input, layers, random(layers, key),
                            {.granularity = Granularity::channel(), .scope = Scope::kGlobal, .amount = 0.6}));
      // Single weights go as well: their masks have to be cut.
      attach(*model, {{layers[0].name, [&] {
                         Mask mask = *mask_of(layers[0].weight());
                         const Mask more = random_mask(mask.shape, key, 0.2);
                         for (size_t i = 0; i < mask.keep.size(); ++i) {
                           mask.keep[i] = mask.keep[i] & more.keep[i];
                         }
                         return mask;
                       }()}});
      const Tensor x = Tensor::normal(input, key.child("x"));
      const Tensor masked_result = result_of(*model, x);
      const Summary before = summarize(*model, input);

      const Compaction gone = compact(*model, input);
      const Summary after = summarize(*model, input);
      CHECK(gone.channels > 0);
      CHECK(after.trainable < before.trainable);
      CHECK(after.macs < before.macs);
      CHECK(distance(masked_result, result_of(*model, x)) < 2e-5);
      const MaskSet left = masks(*model);
      for (const auto& [masked_name, mask] : left) {
        CHECK(mask.pruned() > 0);
        CHECK((masked_name.ends_with("weight")));  // norms and biases of channels that stay are whole
      }

      description.widths = gone.widths;
      Checkpoint checkpoint;
      zoo::store(checkpoint, description, *model);
      const auto again = zoo::load(decode_checkpoint(encode_checkpoint(checkpoint), "test"), kinds);
      CHECK(zoo::description_of(checkpoint) == description);
      CHECK(masks(*again) == left);
      CHECK(same_bits(result_of(*again, x).values(), result_of(*model, x).values()));
      CHECK(compact(*again, input).widths.empty());  // nothing is left to take
    }
  }

  TEST_CASE("exactly the channels that are dead or unread go") {
    const auto net = small_net(test_seed());
    stir(*net, {.seed = test_seed()});
    const std::vector<Target> layers = targets(*net, kSmallInput, {.spare_last = false});
    const RngKey key{.seed = test_seed()};
    const Tensor x = Tensor::normal({3, 5, 5, 3}, key);

    // A filter of zeros alone still gives what norm and bias make of 0.
    const auto zero_rows = [](Parameter& p, std::initializer_list<int64_t> rows) {
      const int64_t row = p.shape().elements() / p.shape()[0];
      for (const int64_t r : rows) {
        std::fill_n(p.raw.mutable_data() + r * row, row, real(0));
      }
    };
    zero_rows(layers[0].weight(), {1, 2});
    zero_rows(layers[1].weight(), {0, 5});
    CHECK(compact(*net, kSmallInput).widths.empty());
    zero_rows(layers[0].layer->norm.gamma, {1, 2});
    zero_rows(layers[0].layer->norm.beta, {1});
    zero_rows(layers[1].layer->bias, {5});
    // fc reads nothing of conv2's channel 3, so that conv1's channel 7, read by it alone, is unread too.
    real* fc = layers[2].weight().raw.mutable_data();
    fc[3] = fc[6 + 3] = fc[12 + 3] = 0;
    real* conv2 = layers[1].weight().raw.mutable_data();
    for (int64_t i = 0; i < 6 * 9 * 8; ++i) {
      if (i % 8 == 7 && i / 72 != 3) {
        conv2[i] = 0;
      }
    }
    const Tensor before = result_of(*net, x);
    const Compaction gone = compact(*net, kSmallInput);
    const std::map<std::string, LayerWidths> expected{{"conv1", {3, 6}}, {"conv2", {6, 4}}, {"fc", {4, 3}}};
    CHECK(gone.widths == expected);
    CHECK(gone.channels == 4);
    CHECK(distance(before, result_of(*net, x)) < 1e-5);
  }

  TEST_CASE("concatenation, a norm of its own, flattening, average pools and activations") {
    CAPTURE(test_seed());
    class Branches : public Module {
     public:
      Branches() {
        const auto conv = [this](const char* name, int64_t in, int64_t out, Size2 kernel) {
          return add_module(name, std::make_shared<Conv2d>(Conv2dOptions{
                                      .in = in, .out = out, .kernel = kernel, .padding = Padding::all(kernel.h / 2)}));
        };
        a_ = conv("a", 3, 5, {3, 3});
        b_ = conv("b", 3, 4, {1, 1});
        join_ = add_module("join", std::make_shared<Concat>());
        norm_ = add_module("norm", std::make_shared<BatchNorm>(BatchNormOptions{.channels = 9, .act = Act::kRelu}));
        tanh_ = add_module("tanh", std::make_shared<Activation>(ActivationOptions{.function = Function::kTanh}));
        pool_ =
            add_module("pool", std::make_shared<AvgPool>(PoolGeometry{.kernel = {3, 3}, .padding = Padding::all(1)}));
        grouped_ =
            add_module("grouped", std::make_shared<Conv2d>(Conv2dOptions{
                                      .in = 9, .out = 9, .kernel = {3, 3}, .padding = Padding::all(1), .groups = 9}));
        flatten_ = add_module("flatten", std::make_shared<Flatten>());
        fc_ = add_module("fc", std::make_shared<Linear>(LinearOptions{.in = 36, .out = 7}));
        sigmoid_ =
            add_module("sigmoid", std::make_shared<Activation>(ActivationOptions{.function = Function::kSigmoid}));
        last_ = add_module("last", std::make_shared<Linear>(LinearOptions{.in = 7, .out = 2}));
      }
      std::string_view kind() const override { return "branches"; }

     protected:
      Variable forward(std::span<const Variable> inputs) override {
        const Variable x = (*pool_)((*tanh_)((*norm_)((*join_)((*a_)(inputs[0]), (*b_)(inputs[0])))));
        return (*last_)((*sigmoid_)((*fc_)((*flatten_)((*grouped_)(x)))));
      }

     private:
      std::shared_ptr<Module> a_, b_, join_, norm_, tanh_, pool_, grouped_, flatten_, fc_, sigmoid_, last_;
    };
    Branches net;
    const RngKey key{.seed = test_seed()};
    initialize(net, key);
    stir(net, key);
    const Shape input{1, 5, 5, 3};
    const std::vector<Target> layers = targets(net, input);
    attach(net, select(net, input, layers, magnitude(layers), {.granularity = Granularity::channel(), .amount = 0.5}));
    const Tensor x = Tensor::normal({2, 5, 5, 3}, key.child("x"));
    const Tensor before = result_of(net, x);
    const std::map<std::string, LayerWidths> expected{
        {"a", {3, 3}}, {"b", {3, 2}}, {"norm", {5, 5}}, {"grouped", {5, 5}}, {"fc", {20, 7}}};
    // 5 / 2 rounds to 2. The sigmoid of 0 is not 0, so fc keeps its width.
    CHECK(compact(net, input).widths == expected);
    CHECK(distance(before, result_of(net, x)) < 1e-5);
  }

  TEST_CASE("a layer that is dead altogether keeps one channel, and the result") {
    const auto net = small_net(test_seed());
    stir(*net, {.seed = test_seed()});
    const std::vector<Target> layers = targets(*net, kSmallInput);
    for (const NamedParameter& named : net->parameters()) {
      if (named.name.starts_with("conv2")) {
        set_mask(*named.parameter, random_mask(named.parameter->shape(), {}, 1));
      }
    }
    const Tensor x = Tensor::normal({2, 5, 5, 3}, {.seed = test_seed()});
    const Tensor before = result_of(*net, x);
    const Compaction gone = compact(*net, kSmallInput);
    CHECK(gone.widths.at("conv1") == LayerWidths{3, 1});  // nobody reads it
    CHECK(gone.widths.at("conv2") == LayerWidths{1, 1});
    CHECK(gone.widths.at("fc") == LayerWidths{1, 3});
    CHECK(distance(before, result_of(*net, x)) < 1e-6);
  }

  TEST_CASE("a compacted model trains on") {
    const auto net = small_net(test_seed());
    const std::vector<Target> layers = targets(*net, kSmallInput);
    attach(*net, select(*net, kSmallInput, layers, magnitude(layers), {.granularity = Granularity::channel()}));
    compact(*net, kSmallInput);
    some_gradients(*net, {4, 5, 5, 3}, {.seed = test_seed()});
    for (const NamedParameter& named : net->parameters()) {
      CHECK(named.parameter->raw.grad().shape() == named.parameter->shape());
    }
  }

  TEST_CASE("other transforms are refused, before anything changes") {
    class Other : public Transform {
     public:
      std::string_view kind() const override { return "other"; }
      Stage stage() const override { return Stage::kFakeQuant; }
      Variable apply(const Variable& x) override { return x; }
      Json spec() const override { return Json::object(); }
    };
    const auto net = small_net(1);
    const std::vector<Target> layers = targets(*net, kSmallInput);
    layers[0].weight().chain.attach(std::make_shared<Other>());
    CHECK(message_of([&] { compact(*net, kSmallInput); }) ==
          "[compact] 'conv1.weight' has a transform of kind 'other': take channels out first and quantize the result");
    layers[0].weight().chain.detach(Stage::kFakeQuant);
    layers[1].layer->output.attach(std::make_shared<Other>());
    CHECK(message_of([&] { compact(*net, kSmallInput); }) ==
          "[compact] the output of 'conv2' has a transform: take channels out first and quantize the result");
  }

  TEST_CASE("widths in a description are checked") {
    zoo::Description description = zoo::describe("resnet8");
    description.widths = {{"conv1", {3, 12}}, {"layer1.0.conv1", {12, 9}}};
    CHECK(zoo::from_text(zoo::to_text(description)) == description);
    CHECK(zoo::to_text(zoo::describe("resnet8")).find("widths") == std::string::npos);
    CHECK(dynamic_cast<Conv2d&>(*zoo::build(description)->modules()[2].module).options().out == 12);
    const auto refusal = [&](const std::string& path, LayerWidths widths) {
      description.widths = {{path, widths}};
      return message_of([&] { zoo::build(description); });
    };
    CHECK(refusal("conv1", {3, 17}) ==
          "[zoo] the layer 'conv1' cannot have 3 inputs and 17 outputs: it is built with 3 and 16");
    CHECK(refusal("conv1", {0, 1}) ==
          "[zoo] the layer 'conv1' cannot have 0 inputs and 1 outputs: it is built with 3 and 16");
    CHECK(refusal("pool", {1, 1}) ==
          "[zoo] the layer 'pool' cannot have 1 inputs and 1 outputs: it is built with 0 and 0");
    CHECK(refusal("conv9", {1, 1}) == "[zoo] the description has widths for a layer 'conv9', which the model has not");
    for (const char* widths : {"[]", "{\"conv1\":[3]}", "{\"conv1\":[3,1.5]}", "{\"conv1\":[3,\"a\"]}"}) {
      CAPTURE(widths);
      CHECK_THROWS_AS(zoo::from_text(std::string(R"({"name":"resnet8","widths":)") + widths + "}"), Error);
    }
  }
}

}  // namespace whittle
