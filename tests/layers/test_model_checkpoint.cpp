// Whole models into checkpoints and back: bit for bit, and all or nothing. Float twin.

#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/checkpoint.h"
#include "layers/blocks.h"
#include "layers/dropout.h"
#include "layers/linear.h"
#include "layers/model_checkpoint.h"
#include "layers/sequential.h"
#include "layers/zoo/zoo.h"
#include "tests/layers/plugs.h"
#include "tests/support/message.h"
#include "tests/support/seed.h"

namespace whittle {

namespace {

std::unique_ptr<Sequential> plain_net() {
  auto net = std::make_unique<Sequential>();
  net->add<Conv2d>("conv1", {.in = 3, .out = 4, .padding = Padding::all(1), .norm = true, .act = Act::kRelu});
  net->add<ResidualBlock>("block", {.in = 4, .out = 6, .stride = 2});
  net->add<GlobalAvgPool>("pool");
  net->add<Dropout>("drop", {.p = 0.3});
  net->add<Linear>("fc", {.in = 6, .out = 3});
  return net;
}

Tensor batch(uint64_t number) { return Tensor::normal({4, 6, 6, 3}, RngKey{.seed = test_seed()}.child(number)); }

// A net that has seen data, with plugs on a weight and on two outputs, one of them the root's.
std::unique_ptr<Sequential> used_net() {
  auto net = plain_net();
  initialize(*net, {.seed = test_seed()});
  net->parameters()[0].parameter->chain.attach(std::make_shared<Scaler>(1.5));
  net->modules()[1].module->output.attach(std::make_shared<Scaler>(1.25));
  net->output.attach(std::make_shared<Scaler>(3));
  for (uint64_t i = 0; i < 3; ++i) {
    (*net)(batch(i));
  }
  return net;
}

Checkpoint stored(Module& model) {
  Checkpoint checkpoint;
  store_model(checkpoint, model);
  return checkpoint;
}

// Everything about a net that a checkpoint holds, as bytes: equal before and after means nothing changed.
Checkpoint state_of(Module& model) { return stored(model); }

}  // namespace

TEST_SUITE("checkpointing") {
  TEST_CASE("names") {
    const auto net = used_net();
    std::vector<std::string> names;
    for (const auto& [name, tensor] : stored(*net).tensors) {
      names.push_back(name);
    }
    CHECK(names == std::vector<std::string>{"/output.scaler.calls",
                                            "/output.scaler.step",
                                            "block.conv1.beta",
                                            "block.conv1.gamma",
                                            "block.conv1.running_mean",
                                            "block.conv1.running_variance",
                                            "block.conv1.weight",
                                            "block.conv2.beta",
                                            "block.conv2.gamma",
                                            "block.conv2.running_mean",
                                            "block.conv2.running_variance",
                                            "block.conv2.weight",
                                            "block.shortcut.beta",
                                            "block.shortcut.gamma",
                                            "block.shortcut.running_mean",
                                            "block.shortcut.running_variance",
                                            "block.shortcut.weight",
                                            "conv1.beta",
                                            "conv1.gamma",
                                            "conv1.running_mean",
                                            "conv1.running_variance",
                                            "conv1.weight",
                                            "conv1.weight/scaler.calls",
                                            "conv1.weight/scaler.step",
                                            "conv1/output.scaler.calls",
                                            "conv1/output.scaler.step",
                                            "drop.position",
                                            "fc.bias",
                                            "fc.weight"});
    CHECK(stored(*net).at("drop.position").dtype == Dtype::kI64);
  }

  TEST_CASE("a restored net gives the same bits, in evaluation and in further training") {
    const auto net = used_net();
    // Through bytes, as through a file.
    const Checkpoint checkpoint = decode_checkpoint(encode_checkpoint(stored(*net)), "test");
    const auto twin = plain_net();
    initialize(*twin, {.seed = test_seed() + 1});
    twin->modules()[1].module->output.attach(std::make_shared<Scaler>(9));  // what is there gives way
    restore_model(checkpoint, *twin, scaler_kinds());
    CHECK(state_of(*twin) == checkpoint);
    {
      const EvaluationMode a(*net);
      const EvaluationMode b(*twin);
      CHECK(numbers((*net)(batch(7)).value()) == numbers((*twin)(batch(7)).value()));
    }
    for (uint64_t i = 8; i < 11; ++i) {  // dropout continues its sequence, statistics their averages
      CHECK(numbers((*net)(batch(i)).value()) == numbers((*twin)(batch(i)).value()));
    }
    CHECK(state_of(*net) == state_of(*twin));
    CHECK(state_of(*net) != checkpoint);
  }

  TEST_CASE("restoring keeps the mode, also of new transforms") {
    const auto net = used_net();
    const auto twin = plain_net();
    twin->train(false);
    restore_model(stored(*net), *twin, scaler_kinds());
    CHECK_FALSE(twin->training());
    CHECK_FALSE(twin->output.find<Scaler>()->training);
    CHECK_FALSE(twin->parameters()[0].parameter->chain.find<Scaler>()->training);
  }

  TEST_CASE("others' tensors are left alone, and only theirs") {
    const auto net = plain_net();
    Checkpoint checkpoint = stored(*net);
    checkpoint.tensors["optimizer/conv1.weight.momentum"] = StoredTensor::from(Tensor::zeros({2}));
    checkpoint.tensors["train/step"] = StoredTensor::from(Tensor::zeros({1}));
    restore_model(checkpoint, *net, {});
    CHECK(message_of([&] { restore_model(checkpoint, *net, {}, {.not_ours = {"train/"}}); }) ==
          "[restore_model] the checkpoint has what the model has no place for: 'optimizer/conv1.weight.momentum'");
  }

  TEST_CASE("whatever is wrong is refused by name, and the model has not changed") {
    const auto source = used_net();
    const Checkpoint good = stored(*source);
    const auto twin = plain_net();
    initialize(*twin, {.seed = 5});
    twin->modules()[1].module->output.attach(std::make_shared<Scaler>(9));
    const Checkpoint before = state_of(*twin);

    struct Case {
      const char* expected;
      std::function<void(Checkpoint&)> damage;
    };
    const std::vector<Case> cases{
        {"[restore_model] the checkpoint lacks what the model has: 'block.conv1.running_mean', 'drop.position', "
         "'fc.weight'",
         [](Checkpoint& c) {
           c.tensors.erase("fc.weight");
           c.tensors.erase("drop.position");
           c.tensors.erase("block.conv1.running_mean");
         }},
        {"[restore_model] the checkpoint has what the model has no place for: 'a', 'b', 'conv1.bias', 'fc.weights' and "
         "1 more",
         [](Checkpoint& c) {
           for (const char* name : {"a", "b", "conv1.bias", "fc.weights", "zzz"}) {
             c.tensors[name] = StoredTensor::from(Tensor::zeros({1}));
           }
         }},
        {"has what the model has no place for: 'conv1.weight/mask'",
         [](Checkpoint& c) { c.tensors["conv1.weight/mask"] = StoredTensor::from(Tensor::zeros({1})); }},
        {"has what the model has no place for: 'fc/output.scaler.step'",
         [](Checkpoint& c) { c.tensors["fc/output.scaler.step"] = StoredTensor::from(Tensor::zeros({1})); }},
        {"has transforms for 'conv9/output', which the model has not",
         [](Checkpoint& c) { c.metadata["whittle.transforms"] = R"({"conv9/output":[]})"; }},
        {"is not a JSON object", [](Checkpoint& c) { c.metadata["whittle.transforms"] = "[1"; }},
        {"'fc.weight' has shape [6,3] in the checkpoint and [3,6] in the model",
         [](Checkpoint& c) {
           c.tensors["fc.weight"].shape = {6, 3};
         }},
        {"'conv1.running_mean' has shape [2,2] in the checkpoint and [4] in the model",
         [](Checkpoint& c) {
           c.tensors["conv1.running_mean"].shape = {2, 2};
         }},
        {"'drop.position' has 1 numbers in the checkpoint and 3 in the model",
         [](Checkpoint& c) { c.tensors["drop.position"] = StoredTensor::from({1}, std::vector<int64_t>{1}); }},
        {"holds no integers",
         [](Checkpoint& c) { c.tensors["drop.position"] = StoredTensor::from(Tensor::zeros({3})); }},
        {"conv1/output.scaler.step", [](Checkpoint& c) { c.tensors.erase("conv1/output.scaler.step"); }},
        {"'conv1/output.scaler.calls' has shape [2], expected [1]",
         [](Checkpoint& c) { c.tensors["conv1/output.scaler.calls"] = StoredTensor::from(Tensor::zeros({2})); }},
        {"conv1.weight/scaler.step", [](Checkpoint& c) { c.tensors.erase("conv1.weight/scaler.step"); }},
    };
    for (const auto& [sentence, damage] : cases) {
      const std::string expected = sentence;
      CAPTURE(expected);
      Checkpoint bad = good;
      damage(bad);
      const std::string message = message_of([&] { restore_model(bad, *twin, scaler_kinds()); });
      CAPTURE(message);
      CHECK(message.find(expected) != std::string::npos);
      CHECK(state_of(*twin) == before);
    }
    CHECK(message_of([&] { restore_model(good, *twin, {}); }).find("kind 'scaler' is not known") != std::string::npos);
    CHECK(state_of(*twin) == before);
    restore_model(good, *twin, scaler_kinds());
    CHECK(state_of(*twin) == good);
  }

  TEST_CASE("a file alone rebuilds a model of the zoo") {
    const zoo::Description description = zoo::describe("edge-complex", {.input = Shape{7}, .dropout = 0.2});
    const auto model = zoo::make(description);
    initialize(*model, {.seed = test_seed()});
    Checkpoint checkpoint;
    zoo::store(checkpoint, description, *model);
    checkpoint = decode_checkpoint(encode_checkpoint(checkpoint), "test");
    CHECK(zoo::description_of(checkpoint) == description);
    const auto twin = zoo::load(checkpoint, {});
    const Tensor x = Tensor::normal({9, 7}, {.seed = test_seed()});
    CHECK(numbers((*model)(x).value()) == numbers((*twin)(x).value()));
    checkpoint.metadata.erase("whittle.model");
    CHECK(message_of([&] { zoo::load(checkpoint, {}); }).find("does not say which model") != std::string::npos);
  }
}

}  // namespace whittle
