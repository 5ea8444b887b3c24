// Masks: exact zeros, exact zero gradients, nothing that comes back to life, files.

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <memory>

#include "core/json.h"
#include "layers/model_checkpoint.h"
#include "optim/adam.h"
#include "optim/sgd.h"
#include "prune/mask.h"
#include "tests/prune/nets.h"
#include "tests/support/message.h"
#include "tests/support/same_bits.h"
#include "tests/support/sanitized.h"
#include "tests/support/seed.h"
#include "tests/support/temp_folder.h"

namespace whittle {

using namespace prune;

namespace {

bool is_plus_zero(real x) { return x == 0 && !std::signbit(x); }

TransformKinds mask_kinds() {
  TransformKinds kinds;
  add_mask_kind(kinds);
  return kinds;
}

// Rounds to multiples of 1/8, as a quantizer with a grid through 0 does; the gradient passes straight through.
class Eighths : public Transform {
 public:
  std::string_view kind() const override { return "grid"; }
  Stage stage() const override { return Stage::kFakeQuant; }
  Json spec() const override { return Json::object(); }
  Variable apply(const Variable& x) override {
    Tensor y = x.value().clone();
    for (real& value : y.mutable_values()) {
      smallest_seen = std::min(smallest_seen, std::abs(value));
      value = std::nearbyint(value * 8) / 8;
    }
    return make_op("grid", y, {x}, [](const Tensor& g) -> Gradients { return {g}; });
  }
  real smallest_seen = 1;
};

}  // namespace

TEST_SUITE("mask") {
  TEST_CASE("a masked value is the raw value or +0, its gradient likewise, whatever stands there") {
    const RngKey key{.seed = test_seed()};
    CAPTURE(test_seed());
    for (const Shape& shape : {Shape{1}, Shape{7}, Shape{3, 5}, Shape{40, 3, 3, 70}}) {
      Parameter p(Tensor::normal(shape, key));
      const Mask mask = random_mask(shape, key.child("mask"), 0.4);
      real* raw = p.raw.mutable_data();
      for (size_t i = 0; i < mask.keep.size(); ++i) {
        if (mask.keep[i] == 0) {
          const real odd[] = {-1, std::numeric_limits<real>::infinity(), std::numeric_limits<real>::quiet_NaN(), -0.0F};
          raw[i] = odd[i % 4];
        }
      }
      set_mask(p, mask);
      const Variable value = p.value();
      Tensor g = Tensor::normal(shape, key.child("g"));
      g.mutable_data()[0] = mask.keep[0] == 0 ? std::numeric_limits<real>::infinity() : 2;
      backward(sum(mul(value, g)));
      bool exact = true;
      for (size_t i = 0; i < mask.keep.size(); ++i) {
        const real v = value.value().values()[i], gradient = p.raw.grad().values()[i];
        exact = exact && (mask.keep[i] != 0 ? v == raw[i] && gradient == g.values()[i]
                                            : is_plus_zero(v) && is_plus_zero(gradient));
      }
      CHECK(exact);
    }
  }

  TEST_CASE("no optimizer revives a masked weight, and the others train as if it were not there") {
    const RngKey key{.seed = test_seed()};
    CAPTURE(test_seed());
    const int steps = kSanitized ? 100 : 1000;
    using Maker = std::function<std::unique_ptr<optim::Optimizer>(std::vector<NamedParameter>)>;
    const std::vector<Maker> makers{
        [](auto p) { return std::make_unique<optim::Sgd>(p, optim::SgdOptions{.rate = 0.05, .weight_decay = 0.01}); },
        [](auto p) {
          return std::make_unique<optim::Sgd>(p,
                                              optim::SgdOptions{.rate = 0.01, .momentum = 0.9, .weight_decay = 0.01});
        },
        [](auto p) {
          return std::make_unique<optim::Sgd>(
              p, optim::SgdOptions{.rate = 0.01, .momentum = 0.9, .nesterov = true, .weight_decay = 0.01});
        },
        [](auto p) { return std::make_unique<optim::Adam>(p, optim::AdamOptions{.rate = 0.01, .weight_decay = 0.01}); },
        [](auto p) { return std::make_unique<optim::AdamW>(p, optim::AdamWOptions{.rate = 0.01}); },
    };
    const Tensor x = Tensor::normal({16, 12}, key.child("x"));
    const Tensor y = Tensor::normal({16, 5}, key.child("y"));
    for (const Maker& maker : makers) {
      Linear layer({.in = 12, .out = 5});
      initialize(layer, key);
      const auto optimizer = maker(layer.parameters());
      const auto step = [&] {
        optimizer->zero_grad();
        backward(mse_loss(layer(x), y));
        optimizer->step();
      };
      for (int i = 0; i < 20; ++i) {
        step();  // momentum to begin with
      }
      const Mask mask = random_mask(layer.weight.shape(), key.child("mask"), 0.5);
      set_mask(layer.weight, mask);
      bool dead = true, moved = false;
      const Tensor before = layer.weight.raw.value().clone();
      for (int i = 0; i < steps; ++i) {
        step();
        const Tensor value = layer.weight.value().value();
        for (size_t e = 0; e < mask.keep.size(); ++e) {
          dead = dead && (mask.keep[e] != 0 ||
                          (is_plus_zero(value.values()[e]) && is_plus_zero(layer.weight.raw.grad().values()[e])));
          moved = moved || (mask.keep[e] != 0 && value.values()[e] != before.values()[e]);
        }
      }
      CHECK(dead);
      CHECK(moved);
      make_permanent(layer);
      CHECK(layer.weight.chain.empty());
      CHECK(Mask::of_nonzeros(layer.weight.raw.value()) == mask);
    }
  }

  TEST_CASE("a quantizer behind the mask sees exact zeros and leaves exact zeros, in either order of attaching") {
    const RngKey key{.seed = test_seed()};
    for (const bool mask_first : {true, false}) {
      Parameter p(Tensor::uniform({50}, key, real(0.5), 1));
      const Mask mask = random_mask({50}, key.child("mask"), 0.5);
      const auto grid = std::make_shared<Eighths>();
      if (mask_first) {
        set_mask(p, mask);
        p.chain.attach(grid);
      } else {
        p.chain.attach(grid);
        set_mask(p, mask);
      }
      CHECK(Mask::of_nonzeros(p.value().value()) == mask);
      CHECK(grid->smallest_seen == 0);
      set_mask(p, Mask::ones({50}));  // another mask leaves the quantizer where it is
      CHECK(p.chain.at(Stage::kFakeQuant) == grid.get());
      drop_mask(p);
      CHECK(p.chain.at(Stage::kFakeQuant) == grid.get());
      CHECK(p.chain.at(Stage::kMask) == nullptr);
    }
  }

  TEST_CASE("masks go through a file, one byte an element, and come back as they were") {
    const TempFolder folder;
    const RngKey key{.seed = test_seed()};
    const auto model = small_net(test_seed());
    attach(*model,
           {{"conv1.weight", random_mask({8, 3, 3, 3}, key, 0.5)}, {"conv1.gamma", random_mask({8}, key, 0.3)}});
    Checkpoint checkpoint;
    store_model(checkpoint, *model);
    CHECK(checkpoint.at("conv1.weight/mask").dtype == Dtype::kBool);
    CHECK(checkpoint.at("conv1.weight/mask").bytes.size() == 8 * 27);
    save_checkpoint(folder / "m.safetensors", checkpoint);

    const auto again = small_net(test_seed() + 1);
    attach(*again, {{"fc.weight", random_mask({3, 6}, key, 0.5)}});  // what the file does not have goes
    restore_model(load_checkpoint(folder / "m.safetensors"), *again, mask_kinds());
    CHECK(masks(*again) == masks(*model));
    const Tensor x = Tensor::normal({2, 5, 5, 3}, key);
    CHECK(same_bits((*again)(x).value().values(), (*model)(x).value().values()));

    // Written as numbers by someone else: taken if they are 0 and 1, refused if not.
    checkpoint.tensors["conv1.gamma/mask"] = StoredTensor::from(Tensor::of({8}, {1, 0, 1, 1, 0, 0, 1, 1}));
    restore_model(checkpoint, *again, mask_kinds());
    CHECK(masks(*again).at("conv1.gamma").kept() == 5);
    checkpoint.tensors["conv1.gamma/mask"] = StoredTensor::from(Tensor::full({8}, real(0.5)));
    CHECK(message_of([&] { restore_model(checkpoint, *again, mask_kinds()); }) ==
          "[mask] a mask holds 0 and 1, not 0.5");
    checkpoint.tensors["conv1.gamma/mask"] = StoredTensor::from(Tensor::zeros({7}));
    CHECK(message_of([&] { restore_model(checkpoint, *again, mask_kinds()); }) ==
          "[restore_parameters] 'conv1.gamma/mask' has shape [7], expected [8]");
    CHECK(masks(*again).at("conv1.gamma").kept() == 5);
  }

  TEST_CASE("made permanent, a model computes the same bits without masks") {
    const auto model = small_net(test_seed());
    const RngKey key{.seed = test_seed()};
    MaskSet set;
    for (const NamedParameter& named : model->parameters()) {
      set.emplace(named.name, random_mask(named.parameter->shape(), key.child(named.name), 0.3));
    }
    attach(*model, set);
    const EvaluationMode evaluating(*model);
    const Tensor x = Tensor::normal({2, 5, 5, 3}, key);
    const Tensor masked_result = (*model)(x).value();
    const std::vector<SparsityRow> before = sparsity(*model);
    make_permanent(*model);
    CHECK(masks(*model).empty());
    CHECK(same_bits((*model)(x).value().values(), masked_result.values()));
    int64_t zeros = 0;
    for (const SparsityRow& row : sparsity(*model)) {
      CHECK_FALSE(row.masked);
      zeros += row.zeros;
    }
    for (const SparsityRow& row : before) {
      CHECK(row.masked);
      zeros -= row.name.ends_with(".weight") ? row.zeros : 0;
    }
    CHECK(zeros == 0);
  }

  TEST_CASE("replacing takes the masks of others away, attaching does not") {
    const auto model = small_net(1);
    attach(*model, {{"conv1.weight", Mask::ones({8, 3, 3, 3})}});
    attach(*model, {{"fc.weight", Mask::ones({3, 6})}});
    CHECK(masks(*model).size() == 2);
    replace_masks(*model, {{"conv2.weight", Mask::ones({6, 3, 3, 8})}});
    CHECK(masks(*model).size() == 1);
    CHECK(masks(*model).contains("conv2.weight"));
  }

  TEST_CASE("what does not fit is refused before anything changes") {
    const auto model = small_net(1);
    const Mask good = Mask::ones({3, 6});
    CHECK(message_of([&] {
            attach(*model, {{"fc.weight", good}, {"fc3.weight", good}});
          }) == "[prune] there is a mask for 'fc3.weight', which the model has not");
    CHECK(message_of([&] {
            attach(*model, {{"fc.weight", good}, {"conv1.weight", good}});
          }) == "[prune] the mask for 'conv1.weight' has shape [3,6] and the parameter [8,3,3,3]");
    CHECK(masks(*model).empty());
    CHECK(message_of([] { Mask::of(Tensor::of({2}, {1, 2})); }) == "[mask] a mask holds 0 and 1, not 2");
    CHECK(message_of([] { MaskTransform({Shape{3}, {1, 0}}); }) == "[mask] a mask of shape [3] has 2 entries");
    CHECK(message_of([] { MaskTransform({Shape{2}, {1, 7}}); }) == "[mask] a mask holds 0 and 1 and no other number");
  }

  TEST_CASE("the table counts pruned weights and zeros") {
    const auto model = small_net(1);
    Mask mask = Mask::ones({3, 6});
    mask.keep[4] = mask.keep[5] = 0;
    attach(*model, {{"fc.weight", mask}});
    model->parameters();
    for (const NamedParameter& named : model->parameters()) {
      if (named.name == "fc.weight") {
        named.parameter->raw.mutable_data()[0] = 0;
        named.parameter->raw.mutable_data()[4] = 0;
      }
    }
    const std::vector<SparsityRow> rows = sparsity(*model);
    REQUIRE(rows.size() == 3);  // weights, and no bias or norm
    CHECK(rows[2].name == "fc.weight");
    CHECK(rows[2].zeros == 3);
    CHECK(rows[2].elements == 18);
    CHECK(sparsity_of(rows) == doctest::Approx(3.0 / (216 + 432 + 18)));
    CHECK(to_text(rows).find("16.67 %  masked\n") != std::string::npos);
    CHECK(sparsity_of({}) == 0);
  }
}

}  // namespace whittle
