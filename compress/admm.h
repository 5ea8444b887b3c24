// Weights that are trained into a set: sparse ones, ones that take few values, or both.
//
//   minimise  loss(W)   subject to  W in S
//
// becomes, with a copy Z of the weights that lies in S and a running error U (Boyd et al. 2011;
// for networks Zhang et al. 2018, Ren et al. 2019):
//
//   W   some steps of training on  loss(W) + rho/2 |W - Z + U|^2     gradient + rho (W - Z + U)
//   Z = the point of S nearest to  W + U
//   U = U + W - Z
//
// so weights move towards S while the loss has its say, instead of being cut off. rho grows by a factor
// at each update; U is scaled by what rho grew (Boyd, section 3.4.1). At the end finish() cuts: W becomes
// its nearest point in S and gets the mask; what is left is trained on.
//
//   Admm admm(model, input, targets, {.sets = {{"fc1", {.amount = 0.98}}, {"conv2", {.granularity = pattern(2, 4)}}}});
//   fit(model, splits, {.epochs = 10, .hooks = admm.hooks(), ...});
//   admm.finish();
//   fit(model, splits, {.epochs = 10, ...});      // masked
//
// A set is per layer: a granularity with an amount (so many single weights, blocks or channels are 0, or N of each M
// stay), levels (what is not 0 takes few values), or both jointly.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/json_fwd.h"
#include "prune/select.h"
#include "quant/array/grids.h"
#include "train/fit.h"

namespace whittle::inline WHITTLE_PRECISION::compress {

// The values of a layer's weights: at most 2^bits, 0 among them. Symmetric affine, power of two or
// k-means (clusters: a codebook) grids, one for the whole tensor.
struct AdmmLevels {
  quant::array::GridKind kind = quant::array::GridKind::kKMeans;
  int bits = 4;

  static AdmmLevels parse(const std::string& text);  // "kmeans:4", "affine:8", "power-of-two:3"
  std::string text() const;
  friend bool operator==(const AdmmLevels&, const AdmmLevels&) = default;
};

struct AdmmSet {
  prune::Granularity granularity{};
  double amount = 0;  // share of units that are 0; a pattern needs none
  std::optional<AdmmLevels> levels{};

  // "0.98", "nm:2:4", "channel+0.5", "0.9+kmeans:4": parts in any order; what is not said is as in `otherwise`.
  static AdmmSet parse(const std::string& text, const AdmmSet& otherwise);
  std::string text() const;
  friend bool operator==(const AdmmSet&, const AdmmSet&) = default;
};
using AdmmSets = std::map<std::string, AdmmSet>;  // by the layer's path

using Values = std::map<std::string, Tensor>;  // by the parameter's name

// The point of the sets that is nearest to `values`, in the sum of squared differences; exact if there are no
// levels. With levels: they are fitted to what is kept without them, and then what is kept, and at which level, is the
// best for them. `masks` says what is kept, as in prune/select.h; ties go by index. Weights that the model's masks have
// already pruned stay 0.
struct Projection {
  Values values;
  prune::MaskSet masks;
  std::map<std::string, std::vector<float>> levels;  // by the parameter's name, sorted, with 0
};
Projection project(Module& model, const Shape& input, std::span<const prune::Target> targets, const AdmmSets& sets,
                   const Values& values);

// What each weight saves in the sum of squares if it may take its nearest level instead of 0: w^2 - (w - q)^2.
Tensor savings(const Tensor& values, std::span<const float> levels);

struct AdmmOptions {
  AdmmSets sets{};  // layers without a set are left alone
  double rho = 1e-2;
  double growth = 2;    // of rho, at each update
  double most_rho = 1;  // ... as far as this
  int64_t every = 0;    // steps between updates; 0: 10 updates over the training
};

class Admm {
 public:
  // The model and the targets' layers must outlive it. Throws if a set names no target.
  Admm(Module& model, const Shape& input, std::span<const prune::Target> targets, AdmmOptions options);

  void penalize();   // gradient of raw += rho (W - Z + U); call it after backward()
  void update();     // of Z, U and rho
  FitHooks hooks();  // both; refers to this object. Resumes with the training

  // W = its nearest point in the sets, and the masks stay. Returns it.
  Projection finish();

  double rho() const { return rho_; }
  int64_t updates() const { return updates_; }
  const Values& z() const { return z_; }
  const Values& u() const { return u_; }
  double distance() const;  // |W - Z| / |W| over all layers with a set

 private:
  Values weights() const;
  void store(Checkpoint& checkpoint) const;
  void restore(const Checkpoint& checkpoint);

  Module& model_;
  Shape input_;
  std::vector<prune::Target> targets_;  // with a set
  AdmmOptions options_;
  double rho_;
  int64_t updates_ = 0;
  Values z_;
  Values u_;
};

}  // namespace whittle::inline WHITTLE_PRECISION::compress
