// Small networks and data for the tests of quant/.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/json.h"
#include "core/rng.h"
#include "layers/conv2d.h"
#include "layers/module.h"
#include "layers/weighted.h"
#include "quant/post_training.h"

namespace whittle {

// Leaves wired freely: node k reads the results of earlier nodes, or the input (-1).
class Wired : public Module {
 public:
  std::string_view kind() const override { return "wired"; }
  int then(std::shared_ptr<Module> leaf, std::vector<int> from);
  template <class M>
  M& add(const typename M::Options& options, std::vector<int> from) {
    const auto leaf = std::make_shared<M>(options);
    then(leaf, std::move(from));
    return *leaf;
  }
  int last() const { return static_cast<int>(leaves_.size()) - 1; }

 protected:
  Variable forward(std::span<const Variable> inputs) override;

 private:
  std::vector<std::shared_ptr<Module>> leaves_;
  std::vector<std::vector<int>> from_;
};

// Biases, norms and their statistics away from their initial values; some gammas negative.
void scatter(Module& model, RngKey key);

// So many batches of normal numbers.
quant::Batches noise_batches(const Shape& shape, int count, RngKey key);

// Prepared, calibrated on `batches`, frozen.
void quantize_static(Module& model, const Shape& input, const quant::QuantSpec& spec, const quant::Batches& batches);

// A pruning mask, as prune/ might make one: every `every`-th weight is 0.
class TestMask : public Transform {
 public:
  TestMask(const Shape& shape, int64_t every);
  std::string_view kind() const override { return "test_mask"; }
  Stage stage() const override { return Stage::kMask; }
  Variable apply(const Variable& x) override;
  Json spec() const override { return Json::object(); }
  Tensor mask;
};

// Drawn: nets of all leaves, and how to quantize them.
Act some_act(Rng& rng);
Conv2dOptions some_conv(Rng& rng, const Shape& x);
PoolGeometry some_pool(Rng& rng, const Shape& x);
Shape some_input(Rng& rng);  // of one image
// Random leaves on random earlier results. Without `head` the last of them is the net's result.
std::shared_ptr<Wired> some_net(Rng& rng, const Shape& input, bool head = true);
quant::QuantSpec some_spec(Rng& rng);

Shape with_batch(const Shape& one, int64_t n);  // {1, 8, 8, 3} -> {n, 8, 8, 3}

std::vector<WeightedLayer*> weighted_layers(Module& model);
Tensor evaluated(Module& model, const Tensor& x);

}  // namespace whittle
