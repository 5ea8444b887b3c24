// What all optimizers promise alike: which parameters move, the same bits for any
// number of threads, resuming as if never interrupted, and clear refusals.

#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "core/parallel.h"
#include "optim/adam.h"
#include "optim/sgd.h"
#include "tests/optim/rig.h"
#include "tests/support/message.h"

namespace whittle {

namespace {

using Parameters = std::vector<NamedParameter>;
using Make = std::function<std::unique_ptr<optim::Optimizer>(Parameters, bool decay_vectors, optim::DecayRule)>;

struct Kind {
  std::string name;
  Make make;
  std::vector<std::string> states;
};

const std::vector<Kind>& kinds() {
  static const std::vector<Kind> all = {
      {"plain sgd",
       [](Parameters p, bool vectors, optim::DecayRule rule) {
         return std::make_unique<optim::Sgd>(
             p, optim::SgdOptions{.rate = 0.05, .weight_decay = 0.02, .decay_vectors = vectors, .decays = rule});
       },
       {}},
      {"nesterov sgd",
       [](Parameters p, bool vectors, optim::DecayRule rule) {
         return std::make_unique<optim::Sgd>(p, optim::SgdOptions{.rate = 0.05,
                                                                  .momentum = 0.9,
                                                                  .nesterov = true,
                                                                  .weight_decay = 0.02,
                                                                  .decay_vectors = vectors,
                                                                  .decays = rule});
       },
       {"velocity"}},
      {"decoupled sgd",
       [](Parameters p, bool vectors, optim::DecayRule rule) {
         return std::make_unique<optim::Sgd>(p, optim::SgdOptions{.rate = 0.05,
                                                                  .momentum = 0.9,
                                                                  .weight_decay = 0.02,
                                                                  .decoupled = true,
                                                                  .decay_vectors = vectors,
                                                                  .decays = rule});
       },
       {"velocity"}},
      {"adam",
       [](Parameters p, bool vectors, optim::DecayRule rule) {
         return std::make_unique<optim::Adam>(
             p, optim::AdamOptions{.rate = 0.01, .weight_decay = 0.02, .decay_vectors = vectors, .decays = rule});
       },
       {"m", "v"}},
      {"adamw",
       [](Parameters p, bool vectors, optim::DecayRule rule) {
         return std::make_unique<optim::AdamW>(
             p, optim::AdamWOptions{.rate = 0.01, .weight_decay = 0.02, .decay_vectors = vectors, .decays = rule});
       },
       {"m", "v"}},
  };
  return all;
}

std::unique_ptr<optim::Optimizer> make(const Kind& kind, const Rig& rig) { return kind.make(rig.named, true, {}); }

Rig small_rig(double shift = 0) { return Rig({{"conv.weight", {4, 3}}, {"conv.bias", {4}}, {"scale", {}}}, shift); }

// A step in which each parameter sometimes has no gradient.
void step(Rig& rig, optim::Optimizer& optimizer, int number) {
  optimizer.zero_grad();
  for (size_t p = 0; p < rig.named.size(); ++p) {
    if ((number + static_cast<int>(p)) % 4 != 0) {
      rig.set_gradient(p, number);
    }
  }
  optimizer.rate *= 0.99;
  optimizer.step();
}

Checkpoint everything(const Rig& rig, const optim::Optimizer& optimizer) {
  Checkpoint checkpoint;
  store_parameters(checkpoint, rig.named);
  optimizer.store(checkpoint);
  return checkpoint;
}

}  // namespace

TEST_SUITE("optimizer") {
  TEST_CASE("a training stopped anywhere and resumed from its file ends in the same bits") {
    constexpr int kSteps = 30;
    for (const Kind& kind : kinds()) {
      CAPTURE(kind.name);
      Rig whole = small_rig();
      const auto uninterrupted = make(kind, whole);
      std::vector<std::vector<std::byte>> files;
      for (int i = 0; i < kSteps; ++i) {
        files.push_back(encode_checkpoint(everything(whole, *uninterrupted)));
        step(whole, *uninterrupted, i);
      }
      for (int stop = 0; stop < kSteps; ++stop) {
        CAPTURE(stop);
        Rig rig = small_rig(1);  // other weights, so that nothing is right by chance
        const auto resumed = make(kind, rig);
        step(rig, *resumed, 7);
        const Checkpoint read = decode_checkpoint(files[static_cast<size_t>(stop)], "memory");
        restore_parameters(read, rig.named, {});
        resumed->restore(read);
        CHECK(resumed->steps() == stop);
        for (int i = stop; i < kSteps; ++i) {
          step(rig, *resumed, i);
        }
        CHECK(everything(rig, *resumed) == everything(whole, *uninterrupted));
      }
    }
  }

  TEST_CASE("state has names, and so has what is stored") {
    for (const Kind& kind : kinds()) {
      CAPTURE(kind.name);
      Rig rig = small_rig();
      const auto optimizer = make(kind, rig);
      std::vector<std::string> visited, expected;
      optimizer->visit_state([&](std::string_view name, Tensor& state) {
        visited.emplace_back(name);
        CHECK(state.defined());
      });
      Checkpoint checkpoint;
      optimizer->store(checkpoint);
      for (const NamedParameter& named : rig.named) {
        CHECK(checkpoint.at("optimizer/" + named.name + ".updates").to_integers() == std::vector<int64_t>{0});
        for (const std::string& state : kind.states) {
          expected.push_back(named.name + "." + state);
          CHECK(checkpoint.at("optimizer/" + expected.back()).shape == named.parameter->shape());
        }
      }
      CHECK(visited == expected);
      CHECK(checkpoint.tensors.size() == 2 + 3 * (1 + kind.states.size()));
    }
  }

  TEST_CASE("storing replaces what an earlier optimizer stored, and nothing else") {
    Rig rig = small_rig();
    Checkpoint checkpoint;
    checkpoint.tensors["conv.weight"] = StoredTensor::from(Tensor::scalar(1));
    make(kinds()[3], rig)->store(checkpoint);
    const auto sgd = make(kinds()[1], rig);
    sgd->store(checkpoint);
    sgd->restore(checkpoint);
    CHECK(checkpoint.tensors.contains("conv.weight"));
    CHECK_FALSE(checkpoint.tensors.contains("optimizer/conv.weight.m"));
  }

  TEST_CASE("a state that does not fit is refused, and nothing has changed") {
    Rig rig = small_rig();
    const auto adam = make(kinds()[3], rig);
    for (int i = 0; i < 5; ++i) {
      step(rig, *adam, i);
    }
    const Checkpoint good = everything(rig, *adam);
    step(rig, *adam, 5);
    const Checkpoint before = everything(rig, *adam);
    const auto message = [&](const std::function<void(Checkpoint&)>& spoil) {
      Checkpoint bad = good;
      spoil(bad);
      const std::string text = message_of([&] { adam->restore(bad); });
      CHECK(everything(rig, *adam) == before);
      return text;
    };
    const auto tensor = [](Shape shape, real value) { return StoredTensor::from(Tensor::full(shape, value)); };
    const auto count = [](int64_t value) { return StoredTensor::from(Shape(), std::span<const int64_t>(&value, 1)); };

    for (const auto& [key, stored] : good.tensors) {
      if (key.starts_with("optimizer/")) {
        CHECK(message([&key = key](Checkpoint& c) { c.tensors.erase(key); }) ==
              "[adam] the checkpoint has no tensor '" + key + "'");
      }
    }
    CHECK(message([](Checkpoint& c) { c = {}; }) == "[adam] the checkpoint holds no optimizer");
    CHECK(message([](Checkpoint& c) { c.metadata["optimizer.kind"] = "sgd"; }) ==
          "[adam] the checkpoint was written by 'sgd'");
    CHECK(message([&](Checkpoint& c) {
            c.tensors["optimizer/conv.weight.velocity"] = tensor({4, 3}, 0);
          }) == "[adam] the checkpoint holds 'optimizer/conv.weight.velocity', which belongs to nothing here");
    CHECK(message([&](Checkpoint& c) { c.tensors["optimizer/scale.v"] = tensor({1}, 0); }) ==
          "[adam] 'optimizer/scale.v' has shape [1] in the checkpoint, expected []");
    CHECK(message([&](Checkpoint& c) { c.tensors["optimizer/scale.updates"] = count(-3); }) ==
          "[adam] 'optimizer/scale.updates' is -3 in the checkpoint; a count is not negative");
    CHECK(message([&](Checkpoint& c) {
            c.tensors["optimizer/step"] = StoredTensor::from({}, std::vector<uint8_t>{1});
          }) == "[adam] 'optimizer/step' is U8 [] in the checkpoint, expected an I64 scalar");
    CHECK(message([&](Checkpoint& c) { c.tensors["optimizer/rate"] = count(1); }) ==
          "[adam] 'optimizer/rate' is I64 [] in the checkpoint, expected an F64 scalar");
    CHECK(message([&](Checkpoint& c) {
            c.tensors["optimizer/rate"].bytes.back() = std::byte{0xff};
          }).ends_with("in the checkpoint, expected a finite number not below 0"));
  }

  TEST_CASE("a parameter without a gradient keeps value and state") {
    for (const Kind& kind : kinds()) {
      CAPTURE(kind.name);
      Rig rig = small_rig();
      const auto optimizer = make(kind, rig);
      rig.set_gradients(0);
      optimizer->step();
      const Checkpoint before = everything(rig, *optimizer);
      optimizer->zero_grad();
      rig.set_gradient(0, 1);
      optimizer->step();
      const Checkpoint after = everything(rig, *optimizer);
      CHECK(after.at("optimizer/step").to_integers().front() == 2);
      for (const auto& [name, stored] : before.tensors) {
        const std::string& key = name;  // doctest cannot capture a structured binding under clang
        CAPTURE(key);
        const bool moves = key.find("conv.weight") != std::string::npos || key == "optimizer/step";
        CHECK((after.at(key) == stored) == !moves);
        CHECK((key != "optimizer/rate" || after.at(key) == stored));
      }
    }
  }

  TEST_CASE("the same bits for 1, 2, 3, 5 and 8 threads") {
    for (const Kind& kind : kinds()) {
      CAPTURE(kind.name);
      std::vector<std::byte> first;
      for (const int threads : {1, 2, 3, 5, 8}) {
        set_num_threads(threads);
        Rig rig({{"large", {7, 10007}}, {"tile", {kElementGrain}}, {"small", {5}}});
        const auto optimizer = make(kind, rig);
        for (int i = 0; i < 6; ++i) {
          step(rig, *optimizer, i);
        }
        const auto bytes = encode_checkpoint(everything(rig, *optimizer));
        first = first.empty() ? bytes : first;
        CAPTURE(threads);
        CHECK(bytes == first);
      }
      set_num_threads(0);
    }
  }

  TEST_CASE("weight decay can leave out vectors, or whatever a rule names") {
    for (const Kind& kind : kinds()) {
      CAPTURE(kind.name);
      // Which of the three parameters move when the gradient is 0: those that decay.
      const auto decayed = [&kind](bool vectors, const optim::DecayRule& rule) {
        Rig rig = small_rig();
        const auto before = rig.values();
        const auto optimizer = kind.make(rig.named, vectors, rule);
        for (const NamedParameter& named : rig.named) {
          named.parameter->raw.set_grad(Tensor::zeros(named.parameter->shape()));
        }
        optimizer->step();
        const auto after = rig.values();
        return std::vector<bool>{after[0] != before[0], after[12] != before[12], after[16] != before[16]};
      };
      const optim::DecayRule not_scale = [](const NamedParameter& p) { return p.name != "scale"; };
      CHECK(decayed(true, {}) == std::vector<bool>{true, true, true});
      CHECK(decayed(false, {}) == std::vector<bool>{true, false, false});
      CHECK(decayed(true, not_scale) == std::vector<bool>{true, true, false});
      CHECK(decayed(false, not_scale) == std::vector<bool>{true, false, false});
    }
  }

  TEST_CASE("state that fades ends at 0 and not among the subnormal numbers") {
    Parameter w(Tensor::of({1}, {1}));
    optim::Adam adam({{"w", &w}}, {.rate = 0.01, .beta2 = 0.9});
    optim::Sgd sgd({{"w", &w}}, {.rate = 0.01, .momentum = 0.9});
    w.raw.set_grad(Tensor::of({1}, {1}));
    adam.step();
    sgd.step();
    w.raw.set_grad(Tensor::zeros({1}));
    const int steps = sizeof(real) == sizeof(double) ? 6800 : 850;  // until 0.9^n is below the smallest normal number
    for (int n = 0; n < steps; ++n) {
      adam.step();
      sgd.step();
    }
    const auto faded = [](std::string_view name, Tensor& state) {
      CAPTURE(name);
      CHECK(state.item() == 0);
    };
    adam.visit_state(faded);
    sgd.visit_state(faded);
  }

  TEST_CASE("misuse is refused with one sentence") {
    Parameter w(Tensor::of({2}, {1, 2})), u(Tensor::scalar(1)), undefined;
    const auto message = [](Parameters parameters) { return message_of([&] { optim::Sgd(parameters, {}); }); };
    CHECK(message({}) == "[sgd] there is no parameter to train");
    CHECK(message({{"w", nullptr}}) == "[sgd] parameter 'w' has no value");
    CHECK(message({{"w", &undefined}}) == "[sgd] parameter 'w' has no value");
    CHECK(message({{"w", &w}, {"w", &u}}) == "[sgd] two parameters are called 'w'");
    CHECK(message({{"w", &w}, {"u", &w}}) == "[sgd] parameter 'u' is listed twice, under different names");

    optim::Sgd sgd({{"u", &u}, {"w", &w}}, {});
    u.raw.set_grad(Tensor::scalar(1));
    w.raw.set_grad(Tensor::of({2}, {1, 1}));
    for (const double bad : {-0.1, double{NAN}, double{INFINITY}}) {
      sgd.rate = bad;
      CHECK(message_of([&] { sgd.step(); }).starts_with("[sgd] the rate must be a finite number not below 0, got "));
    }
    sgd.rate = 1;
    w.raw = Variable::leaf(Tensor::scalar(3));
    CHECK(message_of([&] { sgd.step(); }) ==
          "[sgd] parameter 'w' had shape [2] and has [] now; make a new optimizer after changing a model");
    CHECK(u.raw.value().item() == 1);  // nothing moved
    CHECK(sgd.steps() == 0);
  }
}

}  // namespace whittle
