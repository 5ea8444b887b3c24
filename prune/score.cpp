#include "prune/score.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/json.h"
#include "core/parallel.h"

namespace whittle::inline WHITTLE_PRECISION::prune {

namespace {

template <class F>
Tensor mapped(const Tensor& x, F f) {
  Tensor result = Tensor::empty(x.shape());
  const real* const from = x.data();
  real* const to = result.mutable_data();
  parallel_ranges(x.elements(), kElementGrain, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      to[i] = f(from[i]);
    }
  });
  return result;
}

}  // namespace

Scores magnitude(std::span<const Target> targets) {
  Scores scores;
  for (const Target& target : targets) {
    scores.emplace(target.name, mapped(target.weight().raw.value(), [](real w) { return std::abs(w); }));
  }
  return scores;
}

Scores random(std::span<const Target> targets, RngKey key) {
  Scores scores;
  for (const Target& target : targets) {
    scores.emplace(target.name, Tensor::uniform(target.weight().shape(), key.child(target.name)));
  }
  return scores;
}

Scores norm_scale(std::span<const Target> targets) {
  Scores scores;
  for (const Target& target : targets) {
    if (target.layer->norm.defined()) {
      scores.emplace(target.name,
                     mapped(target.layer->norm.gamma.raw.value(), [](real gamma) { return std::abs(gamma); }));
    }
  }
  require(!scores.empty(), "prune", "no layer has a batch norm whose scale could be its channels' score");
  return scores;
}

// ---- Gradients --------------------------------------------------------------------------

GradientScores::GradientScores(std::span<const Target> targets, Kind kind)
    : targets_(targets.begin(), targets.end()), kind_(kind) {
  for (const Target& target : targets_) {
    sums_.push_back(Tensor::zeros(target.weight().shape()));
  }
}

void GradientScores::add() {
  for (const Target& target : targets_) {
    require(target.weight().raw.grad().defined(), "prune", "'", target.name,
            "' has no gradient: scores are added after backward()");
  }
  for (size_t t = 0; t < targets_.size(); ++t) {
    const real* const w = targets_[t].weight().raw.value().data();
    const real* const g = targets_[t].weight().raw.grad().data();
    real* const sum = sums_[t].mutable_data();
    parallel_ranges(sums_[t].elements(), kElementGrain, [=, kind = kind_](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const real product = w[i] * g[i];
        sum[i] += kind == Kind::kTaylor ? std::abs(product) : kind == Kind::kFisher ? product * product / 2 : -product;
      }
    });
  }
  ++batches_;
}

Scores GradientScores::scores() const {
  require(batches_ > 0, "prune", "no gradient was added to the scores");
  const real scale = kind_ == Kind::kMovement ? real(1) : real(1) / static_cast<real>(batches_);
  Scores scores;
  for (size_t t = 0; t < targets_.size(); ++t) {
    scores.emplace(targets_[t].name, mapped(sums_[t], [scale](real sum) { return sum * scale; }));
  }
  return scores;
}

namespace {

constexpr const char* kBatchesKey = "train/prune.batches";
std::string sum_key(const std::string& name) { return "train/prune." + name; }

}  // namespace

void GradientScores::store(Checkpoint& checkpoint) const {
  const int64_t count[] = {batches_};
  checkpoint.tensors[kBatchesKey] = StoredTensor::from({1}, count);
  for (size_t t = 0; t < targets_.size(); ++t) {
    checkpoint.tensors[sum_key(targets_[t].name)] = StoredTensor::from(sums_[t]);
  }
}

void GradientScores::restore(const Checkpoint& checkpoint) {
  const std::vector<int64_t> count = checkpoint.at(kBatchesKey).to_integers();
  require(count.size() == 1 && count[0] >= 0, "prune", "'", kBatchesKey, "' is not a count");
  std::vector<Tensor> sums;
  for (size_t t = 0; t < targets_.size(); ++t) {
    sums.push_back(checkpoint.at(sum_key(targets_[t].name)).to_tensor());
    require(sums.back().shape() == sums_[t].shape(), "prune", "'", sum_key(targets_[t].name), "' has shape ",
            sums.back().shape(), ", expected ", sums_[t].shape());
  }
  sums_ = std::move(sums);
  batches_ = count[0];
}

// ---- Activations ---------------------------------------------------------------------------

class ActivationEnergy::Probe : public Transform {
 public:
  std::string_view kind() const override { return "energy_probe"; }
  Stage stage() const override { return Stage::kMask; }
  Json spec() const override { return Json::object(); }

  // Sums in double over rows in their order, channels apart: no thread count matters.
  Variable apply(const Variable& x) override {
    const auto channels = static_cast<size_t>(x.shape()[-1]);
    sums.resize(channels, 0);
    const real* const values = x.value().data();
    const auto rows = static_cast<size_t>(x.shape().elements()) / channels;
    for (size_t row = 0; row < rows; ++row) {
      for (size_t c = 0; c < channels; ++c) {
        const auto y = static_cast<double>(values[row * channels + c]);
        sums[c] += y * y;
      }
    }
    count += static_cast<int64_t>(rows);
    return x;
  }

  std::vector<double> sums;
  int64_t count = 0;
};

ActivationEnergy::ActivationEnergy(std::span<const Target> targets) : targets_(targets.begin(), targets.end()) {
  for (const Target& target : targets_) {
    require(target.layer->output.at(Stage::kMask) == nullptr, "prune", "the output of '", target.path,
            "' already has a transform at the mask stage, where its energy would be measured");
  }
  for (const Target& target : targets_) {
    probes_.push_back(std::make_shared<Probe>());
    target.layer->output.attach(probes_.back());
  }
}

ActivationEnergy::~ActivationEnergy() {
  for (const Target& target : targets_) {
    target.layer->output.detach(Stage::kMask);
  }
}

Scores ActivationEnergy::scores() const {
  Scores scores;
  for (size_t t = 0; t < targets_.size(); ++t) {
    const Probe& probe = *probes_[t];
    require(probe.count > 0, "prune", "'", targets_[t].path, "' was not called: run the model on data first");
    Tensor mean = Tensor::empty({static_cast<int64_t>(probe.sums.size())});
    std::ranges::transform(probe.sums, mean.mutable_data(),
                           [&probe](double sum) { return static_cast<real>(sum / static_cast<double>(probe.count)); });
    scores.emplace(targets_[t].name, std::move(mean));
  }
  return scores;
}

// ---- L1 and sigma ------------------------------------------------------------------------------

void soft_threshold(std::span<const Target> targets, double threshold) {
  require(std::isfinite(threshold) && threshold >= 0, "prune", "the threshold ", threshold,
          " of the proximal step is not a finite number >= 0");
  const auto t = static_cast<real>(threshold);
  for (const Target& target : targets) {
    real* const w = target.weight().raw.mutable_data();
    parallel_ranges(target.weight().shape().elements(), kElementGrain, [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        // Written so that what falls below is +0, and a NaN stays one.
        w[i] = w[i] > t ? w[i] - t : w[i] < -t ? w[i] + t : std::isnan(w[i]) ? w[i] : real(0);
      }
    });
  }
}

std::map<std::string, double> deviations(std::span<const Target> targets) {
  std::map<std::string, double> sigma;
  for (const Target& target : targets) {
    const std::span<const real> w = target.weight().raw.value().values();
    double sum = 0;
    for (const real value : w) {
      sum += static_cast<double>(value);
    }
    const double mean = sum / static_cast<double>(w.size());
    double squares = 0;
    for (const real value : w) {
      const double d = static_cast<double>(value) - mean;
      squares += d * d;
    }
    sigma.emplace(target.name, std::sqrt(squares / static_cast<double>(w.size())));
  }
  return sigma;
}

}  // namespace whittle::inline WHITTLE_PRECISION::prune
