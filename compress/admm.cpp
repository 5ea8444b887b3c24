#include "compress/admm.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include "core/checkpoint.h"
#include "core/error.h"
#include "core/json.h"
#include "core/parallel.h"
#include "quant/words.h"

namespace whittle::inline WHITTLE_PRECISION::compress {

namespace {

using prune::Granularity;
using prune::Target;

constexpr const char* kStateKey = "train/admm";  // metadata of a training state; tensors are train/admm.z.NAME

// The nearest of sorted levels; in the middle the lower one.
float nearest(std::span<const float> levels, float x) {
  const auto above = std::ranges::lower_bound(levels, x);
  if (above == levels.begin() || above == levels.end()) {
    return above == levels.end() ? levels.back() : levels.front();
  }
  const float below = *(above - 1);
  return x - below <= *above - x ? below : *above;
}

// 0 and at most 2^bits - 1 others, for values that are not to become 0.
std::vector<float> fitted(std::span<const float> kept, const AdmmLevels& levels) {
  std::vector<float> values;
  if (!kept.empty() && levels.kind == quant::array::GridKind::kKMeans) {
    values = quant::array::kmeans(kept, (int64_t{1} << levels.bits) - 1);
  } else if (!kept.empty()) {  // these have a 0
    const quant::array::Codebook codebook =
        quant::array::fit_grid(kept, {.kind = levels.kind, .bits = levels.bits}).codebook;
    for (int32_t code = codebook.first(); code <= codebook.last(); ++code) {
      values.push_back(codebook.value(code));
    }
  }
  values.push_back(0);
  std::ranges::sort(values);
  values.erase(std::unique(values.begin(), values.end()), values.end());
  return values;
}

template <class F>
Tensor combined(const Tensor& a, const Tensor& b, F f) {
  Tensor result = Tensor::empty(a.shape());
  const real* const x = a.data();
  const real* const y = b.data();
  real* const to = result.mutable_data();
  parallel_ranges(a.elements(), kElementGrain, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      to[i] = f(x[i], y[i]);
    }
  });
  return result;
}

double squares(const Tensor& x) {
  double sum = 0;
  for (const real v : x.values()) {
    sum += static_cast<double>(v) * static_cast<double>(v);
  }
  return sum;
}

// Of each channel, what all its weights' savings are together.
Tensor row_sums(const Tensor& x) {
  const int64_t rows = x.shape()[0];
  const int64_t size = x.elements() / rows;
  Tensor sums = Tensor::empty({rows});
  for (int64_t row = 0; row < rows; ++row) {
    double sum = 0;
    for (int64_t i = 0; i < size; ++i) {
      sum += static_cast<double>(x.data()[row * size + i]);
    }
    sums.mutable_data()[row] = static_cast<real>(sum);
  }
  return sums;
}

const AdmmSet& set_of(const AdmmSets& sets, const Target& target) { return sets.at(target.path); }

// What is kept if each weight saves so much. A unit's score is the mean of its weights' savings; units that compete
// have the same size, so that the largest means are the largest sums.
prune::MaskSet kept(Module& model, const Shape& input, std::span<const Target> targets, const AdmmSets& sets,
                    const Values& saved) {
  prune::MaskSet masks;
  std::vector<Granularity> seen;
  for (const Target& first : targets) {
    const Granularity granularity = set_of(sets, first).granularity;
    if (std::ranges::count(seen, granularity) > 0) {
      continue;
    }
    seen.push_back(granularity);
    const bool channels = granularity.kind == Granularity::Kind::kChannel;
    std::vector<Target> together;
    prune::Scores scores;
    prune::SelectOptions selection{.granularity = granularity, .amount = 0};
    for (const Target& target : targets) {
      if (const AdmmSet& set = set_of(sets, target); set.granularity == granularity) {
        together.push_back(target);
        scores.emplace(target.name, channels ? row_sums(saved.at(target.name)) : saved.at(target.name));
        if (granularity.kind != Granularity::Kind::kPattern) {
          selection.amounts.emplace(target.name, set.amount);
        }
      }
    }
    masks.merge(prune::select(model, input, together, scores, selection));
    for (const Target& target : together) {  // channels that may not go have none
      masks.try_emplace(target.name, prune::Mask::ones(target.weight().shape()));
    }
  }
  return masks;
}

std::vector<float> kept_values(const Tensor& values, const prune::Mask& mask) {
  std::vector<float> result;
  for (size_t i = 0; i < mask.keep.size(); ++i) {
    if (mask.keep[i] != 0) {
      result.push_back(static_cast<float>(values.data()[i]));
    }
  }
  return result;
}

}  // namespace

// ---- The words ------------------------------------------------------------------------------

AdmmLevels AdmmLevels::parse(const std::string& text) {
  const size_t colon = text.find(':');
  AdmmLevels levels;
  const char* const end = text.data() + text.size();
  const auto [stopped, error] = colon == std::string::npos
                                    ? std::from_chars_result{text.data(), std::errc::invalid_argument}
                                    : std::from_chars(text.data() + colon + 1, end, levels.bits);
  require(error == std::errc() && stopped == end, "admm", "levels are GRID:BITS, like kmeans:4, not '", text, "'");
  levels.kind = quant::array::parse_grid(text.substr(0, colon));
  using Kind = quant::array::GridKind;
  require(levels.kind == Kind::kAffine || levels.kind == Kind::kPowerOfTwo || levels.kind == Kind::kKMeans, "admm",
          "levels are affine, power-of-two or kmeans, not '", text.substr(0, colon), "'");
  require(levels.bits >= 2 && levels.bits <= 8, "admm", "levels of ", levels.bits, " bits are not from 2 to 8");
  return levels;
}

std::string AdmmLevels::text() const { return std::string(quant::array::grid_name(kind)) + ":" + std::to_string(bits); }

AdmmSet AdmmSet::parse(const std::string& text, const AdmmSet& otherwise) {
  AdmmSet set = otherwise;
  for (const std::string& part : quant::parts_of(text, '+')) {
    double amount = 0;
    const char* const end = part.data() + part.size();
    const auto [stopped, error] = std::from_chars(part.data(), end, amount);
    if (!part.empty() && error == std::errc() && stopped == end) {
      set.amount = amount;
    } else if (part == "element" || part == "channel" || part.starts_with("block:") || part.starts_with("nm:")) {
      set.granularity = Granularity::parse(part);
    } else {
      set.levels = AdmmLevels::parse(part);
    }
  }
  return set;
}

std::string AdmmSet::text() const {
  char share[32];
  const auto [end, error] = std::to_chars(share, share + sizeof(share), amount);
  return granularity.text() +
         (granularity.kind == Granularity::Kind::kPattern
              ? ""
              : "+" + std::string(share, error == std::errc() ? end : share)) +
         (levels.has_value() ? "+" + levels->text() : "");
}

// ---- Projecting -----------------------------------------------------------------------------

Tensor savings(const Tensor& values, std::span<const float> levels) {
  Tensor result = Tensor::empty(values.shape());
  const real* const from = values.data();
  real* const to = result.mutable_data();
  parallel_ranges(values.elements(), kElementGrain, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const auto w = static_cast<double>(from[i]);
      const double error = levels.empty() ? 0 : w - static_cast<double>(nearest(levels, static_cast<float>(from[i])));
      to[i] = static_cast<real>(std::max(w * w - error * error, 0.0));
    }
  });
  return result;
}

Projection project(Module& model, const Shape& input, std::span<const Target> targets, const AdmmSets& sets,
                   const Values& values) {
  Projection result;
  Values saved;
  bool levels = false;
  for (const Target& target : targets) {
    saved.emplace(target.name, savings(values.at(target.name), {}));
    levels = levels || set_of(sets, target).levels.has_value();
  }
  result.masks = kept(model, input, targets, sets, saved);
  if (levels) {
    for (const Target& target : targets) {
      if (const AdmmSet& set = set_of(sets, target); set.levels.has_value()) {
        const Tensor& x = values.at(target.name);
        const auto [where, added] =
            result.levels.emplace(target.name, fitted(kept_values(x, result.masks.at(target.name)), *set.levels));
        saved.at(target.name) = savings(x, where->second);
      }
    }
    result.masks = kept(model, input, targets, sets, saved);
  }
  for (const Target& target : targets) {
    const Tensor& x = values.at(target.name);
    const prune::Mask& mask = result.masks.at(target.name);
    const auto found = result.levels.find(target.name);
    Tensor point = Tensor::zeros(x.shape());
    for (size_t i = 0; i < mask.keep.size(); ++i) {
      if (mask.keep[i] != 0) {
        const real v = x.data()[i];
        point.mutable_data()[i] =
            found == result.levels.end() ? v : static_cast<real>(nearest(found->second, static_cast<float>(v)));
      }
    }
    result.values.emplace(target.name, std::move(point));
  }
  return result;
}

// ---- The iteration --------------------------------------------------------------------------

Admm::Admm(Module& model, const Shape& input, std::span<const Target> targets, AdmmOptions options)
    : model_(model), input_(input), options_(std::move(options)), rho_(options_.rho) {
  const AdmmOptions& o = options_;
  require(!o.sets.empty(), "admm", "no layer has a set");
  require(std::isfinite(o.rho) && o.rho > 0, "admm", "rho ", o.rho, " is not a positive number");
  require(std::isfinite(o.growth) && o.growth >= 1, "admm", "rho cannot grow by a factor of ", o.growth);
  require(std::isfinite(o.most_rho) && o.most_rho >= o.rho, "admm", "rho ", o.rho, " cannot grow to ", o.most_rho);
  require(o.every >= 0, "admm", "an update every ", o.every, " steps is not possible");
  for (const auto& [path, set] : o.sets) {
    const auto found = std::ranges::find(targets, path, &Target::path);
    require(found != targets.end(), "admm", "'", path, "' has a set and is no layer that is pruned");
    require(set.amount >= 0 && set.amount < 1, "admm", "the amount ", set.amount, " of '", path, "' is not in [0, 1)");
    require(set.granularity.kind != Granularity::Kind::kBlock, "admm", "the set of '", path,
            "' is of single weights, a pattern or channels");
    require(set.granularity.kind == Granularity::Kind::kPattern || set.amount > 0 || set.levels.has_value(), "admm",
            "the set of '", path, "' is all there is: give an amount, a pattern or levels");
  }
  for (const Target& target : targets) {
    if (o.sets.contains(target.path)) {
      targets_.push_back(target);
    }
  }
  // U = 0 and Z nearest to W. What a loss pulls out of the set shows from the first update on.
  z_ = project(model_, input_, targets_, o.sets, weights()).values;
  for (const Target& target : targets_) {
    u_.emplace(target.name, Tensor::zeros(target.weight().shape()));
  }
}

// What the layers read: pruned weights are 0.
Values Admm::weights() const {
  Values values;
  for (const Target& target : targets_) {
    const prune::Mask* const mask = prune::mask_of(target.weight());
    const Tensor& raw = target.weight().raw.value();
    values.emplace(target.name, mask == nullptr ? raw : combined(raw, mask->to_tensor(), [](real w, real keep) {
                     return keep != 0 ? w : real(0);
                   }));
  }
  return values;
}

void Admm::penalize() {
  const auto rho = static_cast<real>(rho_);
  const Values w = weights();
  for (const Target& target : targets_) {
    Variable& raw = target.weight().raw;
    const Tensor pull = combined(combined(w.at(target.name), z_.at(target.name), std::minus<>()), u_.at(target.name),
                                 [rho](real difference, real u) { return rho * (difference + u); });
    raw.set_grad(raw.grad().defined() ? combined(raw.grad(), pull, std::plus<>()) : pull);
  }
}

void Admm::update() {
  const Values w = weights();
  Values aim;
  for (const Target& target : targets_) {
    aim.emplace(target.name, combined(w.at(target.name), u_.at(target.name), std::plus<>()));
  }
  z_ = project(model_, input_, targets_, options_.sets, aim).values;
  const double next = std::min(rho_ * options_.growth, options_.most_rho);
  const auto scale = static_cast<real>(rho_ / next);  // rho U stays what it is
  for (const Target& target : targets_) {
    u_.at(target.name) =
        combined(aim.at(target.name), z_.at(target.name), [scale](real a, real z) { return scale * (a - z); });
  }
  rho_ = next;
  ++updates_;
}

FitHooks Admm::hooks() {
  return {.after_backward = [this](const FitHooks::Point&) { penalize(); },
          .after_step =
              [this](const FitHooks::Point& at) {
                const int64_t every = options_.every > 0 ? options_.every : std::max<int64_t>(1, at.steps / 10);
                if (at.step % every == 0) {
                  update();
                }
              },
          .store = [this](Checkpoint& checkpoint) { store(checkpoint); },
          .restore = [this](const Checkpoint& checkpoint) { restore(checkpoint); }};
}

Projection Admm::finish() {
  Projection result = project(model_, input_, targets_, options_.sets, weights());
  std::erase_if(result.masks, [](const auto& entry) { return entry.second.pruned() == 0; });
  prune::attach(model_, result.masks);
  for (const Target& target : targets_) {
    target.weight().raw.assign(result.values.at(target.name));
  }
  z_ = result.values;
  return result;
}

double Admm::distance() const {
  double apart = 0;
  double whole = 0;
  for (const auto& [name, w] : weights()) {
    apart += squares(combined(w, z_.at(name), std::minus<>()));
    whole += squares(w);
  }
  return whole == 0 ? 0 : std::sqrt(apart / whole);
}

void Admm::store(Checkpoint& checkpoint) const {
  for (const auto& [name, z] : z_) {
    checkpoint.tensors["train/admm.z." + name] = StoredTensor::from(z);
    checkpoint.tensors["train/admm.u." + name] = StoredTensor::from(u_.at(name));
  }
  checkpoint.metadata[kStateKey] = Json{{"rho", rho_}, {"updates", updates_}}.dump();
}

void Admm::restore(const Checkpoint& checkpoint) {
  const auto text = checkpoint.metadata.find(kStateKey);
  require(text != checkpoint.metadata.end(), "admm", "the training state has nothing of ADMM");
  Values z;
  Values u;
  for (const Target& target : targets_) {
    z.emplace(target.name, checkpoint.at("train/admm.z." + target.name).to_tensor());
    u.emplace(target.name, checkpoint.at("train/admm.u." + target.name).to_tensor());
    require(
        z.at(target.name).shape() == target.weight().shape() && u.at(target.name).shape() == target.weight().shape(),
        "admm", "the training state of '", target.name, "' is of another shape");
  }
  try {
    const Json state = Json::parse(text->second);
    rho_ = state.at("rho").get<double>();
    updates_ = state.at("updates").get<int64_t>();
  } catch (const Json::exception& error) {
    fail("admm", "the training state is damaged: ", error.what());
  }
  z_ = std::move(z);
  u_ = std::move(u);
}

}  // namespace whittle::inline WHITTLE_PRECISION::compress
