// The transform socket, with toy plugs. Float twin.

#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "core/json.h"
#include "core/ops.h"
#include "core/parameter.h"
#include "optim/sgd.h"
#include "tests/support/message.h"

namespace whittle {

namespace {

// Multiplies by a fixed tensor of zeros and ones.
class ToyMask : public Transform {
 public:
  explicit ToyMask(Tensor keep) : keep_(std::move(keep)) {}
  std::string_view kind() const override { return "mask"; }
  Stage stage() const override { return Stage::kMask; }
  Variable apply(const Variable& x) override { return mul(x, keep_); }
  Json spec() const override { return Json::object(); }
  void visit_state(const std::function<void(std::string_view, Tensor&)>& visit) override { visit("", keep_); }

 private:
  Tensor keep_;
};

// Adds a constant: what a zero mask would lose if the order were wrong.
class ToyFold : public Transform {
 public:
  explicit ToyFold(real shift) : shift_(shift) {}
  std::string_view kind() const override { return "fold"; }
  Stage stage() const override { return Stage::kFold; }
  Variable apply(const Variable& x) override { return affine(x, 1, shift_); }
  Json spec() const override { return {{"shift", shift_}}; }

 private:
  real shift_;
};

// Multiplies by a step of its own that is trained with the weights, and counts
// the values seen in training mode.
class ToyQuant : public Transform {
 public:
  explicit ToyQuant(int bits) : step(Tensor::of({1}, {2})), bits_(bits) {
    if (bits < 1 || bits > 16) {
      throw Error("[toy_quant] bits out of range");
    }
  }
  std::string_view kind() const override { return "fake_quant"; }
  Stage stage() const override { return Stage::kFakeQuant; }
  Variable apply(const Variable& x) override {
    if (learning_) {
      seen_ = seen_.defined() ? Tensor::scalar(seen_.item() + 1) : Tensor::scalar(1);
    }
    return mul(x, step.value());
  }
  void train(bool on) override { learning_ = on; }
  Json spec() const override { return {{"bits", bits_}}; }
  void visit_state(const std::function<void(std::string_view, Tensor&)>& visit) override { visit("seen", seen_); }
  void visit_parameters(const std::function<void(std::string_view, Parameter&)>& visit) override {
    visit("step", step);
  }
  real seen() const { return seen_.defined() ? seen_.item() : 0; }
  int bits() const { return bits_; }
  Parameter step;

 private:
  int bits_;
  bool learning_ = true;
  Tensor seen_;
};

TransformKinds toy_kinds() {
  TransformKinds kinds;
  kinds.add("mask", [](const Json&, const Shape& shape) { return std::make_shared<ToyMask>(Tensor::zeros(shape)); });
  kinds.add("fold",
            [](const Json& spec, const Shape&) { return std::make_shared<ToyFold>(spec.at("shift").get<real>()); });
  kinds.add("fake_quant",
            [](const Json& spec, const Shape&) { return std::make_shared<ToyQuant>(spec.at("bits").get<int>()); });
  return kinds;
}

Parameter dressed(std::vector<int> order) {
  Parameter p(Tensor::of({4}, {1, 2, 3, 4}));
  const std::vector<std::shared_ptr<Transform>> plugs = {std::make_shared<ToyMask>(Tensor::of({4}, {1, 0, 1, 0})),
                                                         std::make_shared<ToyFold>(real(10)),
                                                         std::make_shared<ToyQuant>(8)};
  for (const int i : order) {
    p.chain.attach(plugs[static_cast<size_t>(i)]);
  }
  return p;
}

std::vector<real> numbers(const Tensor& t) { return {t.values().begin(), t.values().end()}; }

}  // namespace

TEST_SUITE("parameter") {
  TEST_CASE("an empty chain reads the raw value itself") {
    const Parameter p(Tensor::of({2}, {1, 2}));
    CHECK(p.value().node() == p.raw.node());
    CHECK(p.chain.empty());
  }

  TEST_CASE("the order of stages does not depend on the order of attaching") {
    std::vector<int> order{0, 1, 2};
    int orders = 0;
    do {
      CHECK(numbers(dressed(order).value().value()) == std::vector<real>{22, 20, 26, 20});  // (raw mask + 10) * 2
      ++orders;
    } while (std::ranges::next_permutation(order).found);
    CHECK(orders == 6);
  }

  TEST_CASE("gradients reach raw and the transform's own parameter, and are zero where masked") {
    Parameter p = dressed({0, 1, 2});
    auto* quant = p.chain.find<ToyQuant>();
    REQUIRE(quant != nullptr);
    backward(sum(p.value()));
    CHECK(numbers(p.raw.grad()) == std::vector<real>{2, 0, 2, 0});
    CHECK(numbers(quant->step.raw.grad()) == std::vector<real>{11 + 10 + 13 + 10});
  }

  TEST_CASE("an optimizer sees raw values and transform parameters by name") {
    Parameter p = dressed({0, 1, 2});
    const NamedParameter named[] = {{"conv1.weight", &p}};
    const auto all = with_transform_parameters(named);
    REQUIRE(all.size() == 2);
    CHECK(all[0].name == "conv1.weight");
    CHECK(all[1].name == "conv1.weight/fake_quant.step");
    backward(sum(p.value()));
    optim::Sgd(all, {.rate = 1}).step();
    CHECK(numbers(p.raw.value()) == std::vector<real>{-1, 2, 1, 4});  // masked entries did not move
    CHECK(p.chain.find<ToyQuant>()->step.raw.value().item() == 2 - 44);
  }

  TEST_CASE("a taken stage is refused; a detached one is free") {
    Parameter p = dressed({0, 2});
    CHECK(message_of([&] { p.chain.attach(std::make_shared<ToyQuant>(4)); }) ==
          "[attach] cannot attach 'fake_quant': the fake-quant stage is taken by 'fake_quant'");
    class Impostor : public ToyFold {
     public:
      Impostor() : ToyFold(1) {}
      std::string_view kind() const override { return "mask"; }
    };
    CHECK(message_of([&] { p.chain.attach(std::make_shared<Impostor>()); }) ==
          "[attach] the chain already has a 'mask'");
    CHECK(message_of([&] { p.chain.attach(nullptr); }) == "[attach] the transform is null");
    CHECK(p.chain.detach(Stage::kFakeQuant) != nullptr);
    CHECK(p.chain.detach(Stage::kFakeQuant) == nullptr);
    p.chain.attach(std::make_shared<ToyQuant>(4));
    CHECK(p.chain.find<ToyQuant>()->bits() == 4);
    CHECK(p.chain.find<ToyFold>() == nullptr);
  }

  TEST_CASE("observers learn in training mode only") {
    const Parameter p = dressed({2});
    const auto* quant = p.chain.find<ToyQuant>();
    p.value();
    p.chain.train(false);
    p.value();
    CHECK(quant->seen() == 1);
  }

  TEST_CASE("a chain is rebuilt from its spec, with its states, and keys keep their names") {
    Parameter p = dressed({2, 1, 0});
    p.value();
    p.chain.find<ToyQuant>()->step.raw.assign(Tensor::of({1}, {3}));
    Parameter plain(Tensor::of({2}, {7, 8}));
    Checkpoint checkpoint;
    store_parameters(checkpoint, std::vector<NamedParameter>{{"conv1.weight", &p}, {"fc.bias", &plain}});
    std::vector<std::string> keys;
    for (const auto& [key, stored] : checkpoint.tensors) {
      keys.push_back(key);
    }
    CHECK(keys == std::vector<std::string>{"conv1.weight", "conv1.weight/fake_quant.seen",
                                           "conv1.weight/fake_quant.step", "conv1.weight/mask", "fc.bias"});

    const Checkpoint loaded = decode_checkpoint(encode_checkpoint(checkpoint), "memory");
    Parameter q(Tensor::zeros({4}));
    Parameter r(Tensor::zeros({2}));
    r.chain.attach(std::make_shared<ToyFold>(real(1)));  // replaced by what the file says: nothing
    restore_parameters(loaded, std::vector<NamedParameter>{{"conv1.weight", &q}, {"fc.bias", &r}}, toy_kinds());
    CHECK(numbers(q.value().value()) == numbers(p.value().value()));
    CHECK(q.chain.find<ToyQuant>()->bits() == 8);
    CHECK(q.chain.find<ToyQuant>()->seen() == 2);  // one saved, one by the call above
    CHECK(r.chain.empty());
    CHECK(numbers(r.value().value()) == std::vector<real>{7, 8});
  }

  TEST_CASE("restoring is all or nothing") {
    Parameter p = dressed({0, 1, 2});
    Parameter other(Tensor::of({2}, {7, 8}));
    p.value();
    Checkpoint good;
    store_parameters(good, std::vector<NamedParameter>{{"w", &p}, {"b", &other}});

    const auto refused = [&](Checkpoint bad, const TransformKinds& kinds, const char* phrase) {
      Parameter w(Tensor::of({4}, {5, 5, 5, 5}));
      Parameter b(Tensor::of({2}, {6, 6}));
      const std::string message = message_of([&] {
        restore_parameters(bad, std::vector<NamedParameter>{{"w", &w}, {"b", &b}}, kinds);
      });
      CAPTURE(message);
      CHECK(message.find(phrase) != std::string::npos);
      CHECK(numbers(w.raw.value()) == std::vector<real>{5, 5, 5, 5});
      CHECK(numbers(b.raw.value()) == std::vector<real>{6, 6});
      CHECK(w.chain.empty());
    };
    const auto with_specs = [&](const char* specs) {
      Checkpoint bad = good;
      bad.metadata["whittle.transforms"] = specs;
      return bad;
    };
    const auto without = [&](const char* key) {
      Checkpoint bad = good;
      bad.tensors.erase(key);
      return bad;
    };
    const auto reshaped = [&](const char* key) {
      Checkpoint bad = good;
      bad.tensors[key] = StoredTensor::from(Tensor::zeros({3}));
      return bad;
    };
    refused(without("b"), toy_kinds(), "'b'");
    refused(without("w/mask"), toy_kinds(), "'w/mask'");
    refused(without("w/fake_quant.step"), toy_kinds(), "'w/fake_quant.step'");
    refused(reshaped("b"), toy_kinds(), "'b' has shape [3] in the checkpoint and [2] in the model");
    refused(reshaped("w/mask"), toy_kinds(), "'w/mask' has shape [3], expected [4]");
    refused(reshaped("w/fake_quant.step"), toy_kinds(), "'w/fake_quant.step' has shape [3], expected [1]");
    refused(good, TransformKinds(), "kind 'mask' is not known to this program");
    refused(with_specs("not json"), toy_kinds(), "is not a JSON object");
    refused(with_specs("[1]"), toy_kinds(), "is not a JSON object");
    refused(with_specs(R"({"w":5})"), toy_kinds(), "the transforms of 'w' are not a list");
    refused(with_specs(R"({"w":[{"kind":"mask"}]})"), toy_kinds(), "lacks its kind or spec");
    refused(with_specs(R"({"w":[{"kind":"fold","spec":{}}]})"), toy_kinds(), "the spec of 'w' does not fit its kind");
    refused(with_specs(R"({"w":[{"kind":"fake_quant","spec":{"bits":99}}]})"), toy_kinds(), "bits out of range");
    refused(with_specs(R"({"w":[{"kind":"fold","spec":{"shift":1}},{"kind":"fold","spec":{"shift":1}}]})"), toy_kinds(),
            "stage is taken");
  }

  TEST_CASE("a kind is registered once") {
    TransformKinds kinds = toy_kinds();
    CHECK(message_of([&] { kinds.add("mask", nullptr); }) == "[transform_kinds] kind 'mask' is already known");
  }
}

}  // namespace whittle
