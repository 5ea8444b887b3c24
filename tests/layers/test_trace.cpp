// The trace: what it says, what it refuses, and that it leaves nothing behind. Float twin.

#include <doctest/doctest.h>

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "core/ops.h"
#include "layers/blocks.h"
#include "layers/dropout.h"
#include "layers/linear.h"
#include "layers/sequential.h"
#include "layers/trace.h"
#include "tests/layers/plugs.h"
#include "tests/support/message.h"
#include "tests/support/seed.h"

namespace whittle {

namespace {

// A module whose forward is given as a function of its children a, b and sum.
class Given : public Module {
 public:
  using Forward = std::function<Variable(Given&, const Variable&)>;
  explicit Given(Forward forward) : forward_(std::move(forward)) {
    a = add_module("a", std::make_shared<Linear>(LinearOptions{.in = 3, .out = 3}));
    b = add_module("b", std::make_shared<Linear>(LinearOptions{.in = 3, .out = 3}));
    sum = add_module("sum", std::make_shared<Add>());
  }
  std::string_view kind() const override { return "given"; }

  std::shared_ptr<Linear> a, b;
  std::shared_ptr<Add> sum;

 protected:
  Variable forward(std::span<const Variable> inputs) override { return forward_(*this, inputs[0]); }

 private:
  Forward forward_;
};

std::string refusal_of(Given::Forward forward) {
  Given model(std::move(forward));
  return message_of([&] { trace(model, {1, 3}); });
}

// Remembers the shapes that leave a leaf.
class Eavesdropper : public Transform {
 public:
  std::string_view kind() const override { return "eavesdropper"; }
  Stage stage() const override { return Stage::kFakeQuant; }
  Variable apply(const Variable& x) override {
    shapes.push_back(x.shape());
    return x;
  }
  Json spec() const override { return Json::object(); }
  std::vector<Shape> shapes;
};

std::unique_ptr<Sequential> branching_net() {
  auto net = std::make_unique<Sequential>();
  net->add<Input>("input");
  net->add<Conv2d>("conv1", {.in = 3, .out = 4, .padding = Padding::all(1), .norm = true, .act = Act::kRelu});
  net->add<Dropout>("drop");
  net->add<ResidualBlock>("block1", {.in = 4, .out = 4});
  net->add<ResidualBlock>("block2", {.in = 4, .out = 8, .stride = 2});
  net->add<GlobalAvgPool>("pool");
  net->add<Flatten>("flatten");
  net->add<Linear>("fc", {.in = 8, .out = 2});
  return net;
}

}  // namespace

TEST_SUITE("trace") {
  TEST_CASE("a small net, call by call") {
    const auto net = branching_net();
    const Trace traced = trace(*net, {1, 6, 6, 3});
    std::vector<std::string> lines;
    for (const TracedCall& call : traced.calls) {
      std::string line = call.path + "(";
      for (const int input : call.inputs) {
        line += (line.back() == '(' ? "" : ",") + std::to_string(input);
      }
      lines.push_back(line + ")=" + std::to_string(call.output) + traced.output_shape(call).str());
    }
    CHECK(lines == std::vector<std::string>{
                       "input(0)=1[1,6,6,3]",
                       "conv1(1)=2[1,6,6,4]",
                       "drop(2)=3[1,6,6,4]",  // returns its input in evaluation, and yet is another value
                       "block1.conv1(3)=4[1,6,6,4]",
                       "block1.conv2(4)=5[1,6,6,4]",
                       "block1.add(5,3)=6[1,6,6,4]",
                       "block2.conv1(6)=7[1,3,3,8]",
                       "block2.conv2(7)=8[1,3,3,8]",
                       "block2.shortcut(6)=9[1,3,3,8]",
                       "block2.add(8,9)=10[1,3,3,8]",
                       "pool(10)=11[1,8]",
                       "flatten(11)=12[1,8]",
                       "fc(12)=13[1,2]",
                   });
    CHECK(traced.output == 13);
    CHECK(traced.values[3].readers == std::vector<int>{3, 5});
    CHECK(traced.values[0].producer == TracedValue::kInput);
  }

  TEST_CASE("values are produced once, before they are read, and have the shapes of a real run") {
    const auto net = branching_net();
    net->train(false);
    std::map<const Module*, Eavesdropper*> ears;
    for (const auto& [name, module] : net->modules()) {
      if (module->is_leaf()) {
        auto ear = std::make_shared<Eavesdropper>();
        ears[module] = ear.get();
        module->output.attach(ear);
      }
    }
    const Shape batch{3, 9, 7, 3};
    const Variable result = (*net)(Tensor::normal(batch, {.seed = test_seed()}));
    std::map<const Module*, Shape> real_shapes;
    for (const auto& [module, ear] : ears) {
      REQUIRE(ear->shapes.size() == 1);
      real_shapes[module] = ear->shapes[0];
    }

    const Trace traced = trace(*net, batch);
    CHECK(traced.values[0].shape == batch);
    CHECK(traced.values[static_cast<size_t>(traced.output)].shape == result.shape());
    CHECK(traced.calls.size() == ears.size());
    std::set<int> produced{0};
    for (size_t i = 0; i < traced.calls.size(); ++i) {
      const TracedCall& call = traced.calls[i];
      for (const int input : call.inputs) {
        CHECK(produced.contains(input));
        CHECK(std::ranges::count(traced.values[static_cast<size_t>(input)].readers, static_cast<int>(i)) >= 1);
      }
      CHECK(produced.insert(call.output).second);
      CHECK(traced.values[static_cast<size_t>(call.output)].producer == static_cast<int>(i));
      CHECK(traced.output_shape(call) == real_shapes.at(call.module));
      CHECK(traced.input_shapes(call).size() == call.inputs.size());
    }
    CHECK(produced.size() == traced.values.size());
  }

  TEST_CASE("a leaf called twice is there twice, and a value may be read twice by one call") {
    Given model([](Given& m, const Variable& x) {
      const Variable y = (*m.a)((*m.a)(x));
      return (*m.sum)(y, y);
    });
    const Trace traced = trace(model, {1, 3});
    REQUIRE(traced.calls.size() == 3);
    CHECK(traced.calls[0].path == "a");
    CHECK(traced.calls[1].path == "a");
    CHECK(traced.calls[0].module == traced.calls[1].module);
    CHECK(traced.calls[0].output != traced.calls[1].output);
    CHECK(traced.calls[2].inputs == std::vector<int>{2, 2});
    CHECK(traced.values[2].readers == std::vector<int>{2, 2});
  }

  TEST_CASE("a leaf alone is a model") {
    Linear layer({.in = 3, .out = 2});
    const Trace traced = trace(layer, {5, 3});
    REQUIRE(traced.calls.size() == 1);
    CHECK(traced.calls[0].path.empty());
    CHECK(traced.values[1].shape == Shape{5, 2});
  }

  TEST_CASE("arithmetic outside modules is refused by name, wherever it stands") {
    CHECK(refusal_of([](Given& m, const Variable& x) {
            const Variable y = (*m.a)(x);
            return (*m.b)(mul(y, y));
          }) == "[trace] the input of 'b' was produced by op 'mul' outside any module");
    CHECK(refusal_of([](Given& m, const Variable& x) { return relu((*m.a)(x)); }) ==
          "[trace] the result of the model was produced by op 'relu' outside any module");
    CHECK(refusal_of([](Given& m, const Variable& x) { return (*m.a)(affine(x, 2, 0)); }) ==
          "[trace] the input of 'a' was produced by op 'affine' outside any module");
    CHECK(refusal_of([](Given& m, const Variable& x) {
            return (*m.sum)((*m.a)(x), Tensor::zeros({1, 3}));
          }) == "[trace] the input of 'sum' is a constant, or was computed outside any module");
    CHECK(refusal_of([](Given& m, const Variable& x) { return (*m.a)((*m.b)(x).detach()); }) ==
          "[trace] the input of 'a' is a constant, or was computed outside any module");
    CHECK(refusal_of([](Given& m, const Variable& x) {
            return (*m.sum)((*m.a)(x), m.b->weight.raw);
          }).find("shapes [1,3] and [3,3]") != std::string::npos);
    CHECK(refusal_of([](Given& m, const Variable&) { return (*m.a)(m.b->weight.raw); }) ==
          "[trace] the input of 'a' is a parameter, not the result of a module");
    CHECK(refusal_of([](Given&, const Variable& x) { return x; }) ==
          "[trace] the result of the model is its input: no module was called");
    CHECK(refusal_of([](Given&, const Variable& x) { return Flatten()(x); }) ==
          "[trace] a leaf of kind 'flatten' is called that no add_module() has made known");

    // The path is whole, and stands where the sentence wants it.
    Sequential net;
    net.add("inner", std::make_shared<Given>([](Given& m, const Variable& x) { return (*m.b)(relu((*m.a)(x))); }));
    CHECK(message_of([&] {
            trace(net, {1, 3});
          }) == "[trace] the input of 'inner.b' was produced by op 'relu' outside any module");
  }

  TEST_CASE("a transform on the output of a module with children is refused") {
    const auto net = branching_net();
    net->modules()[4].module->output.attach(std::make_shared<Scaler>(2));
    CHECK(message_of([&] {
            trace(*net, {1, 6, 6, 3});
          }) ==
          "[trace] 'block1' has children and a transform on its output; attach it to the leaf that produces the value");
  }

  TEST_CASE("tracing changes nothing: modes, statistics, random state, gradients") {
    const auto net = branching_net();
    initialize(*net, {.seed = test_seed()});
    net->modules()[2].module->train(false);
    auto plug = std::make_shared<Scaler>(2);
    net->modules()[2].module->output.attach(plug);
    plug->training = false;
    const auto snapshot = [&] {
      std::vector<real> all;
      for (const auto& [name, module] : net->modules()) {
        all.push_back(module->training() ? 1 : 0);
      }
      for (const auto& [name, state] : net->states()) {
        all.insert(all.end(), state->values().begin(), state->values().end());
      }
      for (const auto& [name, values] : net->integers()) {
        for (const int64_t value : values) {
          all.push_back(static_cast<real>(value));
        }
      }
      all.push_back(plug->calls.item());
      return all;
    };
    const auto before = snapshot();
    trace(*net, {1, 6, 6, 3});
    CHECK(snapshot() == before);
    CHECK(message_of([&] { trace(*net, {1, 6, 6, 5}); }).starts_with("conv1: [conv2d] "));
    CHECK(snapshot() == before);
    CHECK(Tracer::active() == nullptr);
    for (const auto& [name, parameter] : net->parameters()) {
      CHECK_FALSE(parameter->raw.grad().defined());
    }
    // Nothing is recorded when nobody traces, and under NoGrad tracing works as well.
    const NoGrad no_grad;
    CHECK(trace(*net, {1, 6, 6, 3}).calls.size() == 13);
  }

  TEST_CASE("threads trace independently") {
    std::vector<size_t> calls(4);
    std::vector<std::thread> threads;
    for (size_t i = 0; i < calls.size(); ++i) {
      threads.emplace_back([&calls, i] {
        const auto net = branching_net();
        for (int repeat = 0; repeat < 5; ++repeat) {
          calls[i] = trace(*net, {1, 6, 6, 3}).calls.size();
        }
      });
    }
    for (std::thread& thread : threads) {
      thread.join();
    }
    CHECK(calls == std::vector<size_t>(4, 13));
  }
}

}  // namespace whittle
