#include "compress/inq.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <memory>

#include "core/error.h"
#include "core/json.h"
#include "core/ops.h"
#include "layers/weighted.h"
#include "quant/array/inq.h"
#include "quant/spec.h"
#include "quant/words.h"

namespace whittle::inline WHITTLE_PRECISION::compress {

namespace {

void check(const InqPlan& plan) {
  require(plan.bits >= 2 && plan.bits <= 16, "inq", "bits are ", plan.bits, ", expected 2 to 16");
  double before = 0;
  for (const double share : plan.shares) {
    require(share > before && share <= 1, "inq", "shares must rise from above 0 to 1, got ", share, " after ", before);
    before = share;
  }
  require(before == 1, "inq", "the last share must be 1, so that no weight stays in float");
}

struct Found {
  std::string path;
  WeightedLayer* layer;
};
std::vector<Found> layers_of(Module& model) {
  std::vector<Found> found;
  for (const auto& [path, module] : model.modules()) {
    if (auto* const layer = dynamic_cast<WeightedLayer*>(module)) {
      found.push_back({path, layer});
    }
  }
  return found;
}

}  // namespace

int64_t InqPlan::freeze_at(size_t share, int64_t steps) const {
  const double part = static_cast<double>(share) / static_cast<double>(shares.size());
  return std::max<int64_t>(1, std::llround(part * static_cast<double>(steps)));
}

InqPlan parse_inq(std::string_view text) {
  const std::vector<std::string> words = quant::parts_of(text, ',');
  InqPlan plan{.bits = quant::number_in<int>("inq", words[0], text)};
  for (size_t i = 1; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (word.starts_with("shares=")) {
      plan.shares.clear();
      for (const std::string& share : quant::parts_of(std::string_view(word).substr(7), '+')) {
        plan.shares.push_back(quant::number_in<double>("inq", share, word));
      }
    } else {
      require(word.starts_with("skip="), "inq", "'", word, "' is not known; there are shares=0.5+1 and skip=PATH+PATH");
      plan.skip = quant::parts_of(std::string_view(word).substr(5), '+');
    }
  }
  check(plan);
  return plan;
}

Inq::Inq(int bits, const Shape& shape)
    : bits_(bits),
      shape_(shape),
      frozen_(Tensor::zeros(shape)),
      values_(Tensor::zeros(shape)),
      largest_(Tensor::zeros({1})) {
  require(bits >= 2 && bits <= 16, "inq", "bits are ", bits, ", expected 2 to 16");
}

Variable Inq::apply(const Variable& x) {
  Tensor y = x.value().clone();
  for (int64_t i = 0; i < y.elements(); ++i) {
    if (frozen_.data()[i] != 0) {
      y.mutable_data()[i] = values_.data()[i];
    }
  }
  return make_op("inq", std::move(y), {&x, 1}, [frozen = frozen_](const Tensor& g) -> Gradients {
    Tensor gx = g.clone();
    for (int64_t i = 0; i < gx.elements(); ++i) {
      gx.mutable_data()[i] *= 1 - frozen.data()[i];
    }
    return {gx};
  });
}

Json Inq::spec() const { return {{"bits", bits_}}; }

void Inq::visit_state(const std::function<void(std::string_view, Tensor&)>& visit) {
  visit("frozen", frozen_);
  visit("values", values_);
  visit("largest", largest_);
  require(frozen_.shape() == shape_ && values_.shape() == shape_ && largest_.shape() == Shape{1} &&
              values_.all_finite() && largest_.all_finite() && largest_.data()[0] >= 0 &&
              std::ranges::all_of(frozen_.values(), [](real f) { return f == 0 || f == 1; }),
          "inq", "the frozen weights are malformed");
}

std::vector<float> Inq::levels() const {
  return quant::array::inq_levels(static_cast<float>(largest_.data()[0]), bits_);
}

double Inq::share() const {
  return static_cast<double>(std::ranges::count(frozen_.values(), real(1))) / static_cast<double>(frozen_.elements());
}

void Inq::freeze(const Tensor& x, double share) {
  const auto n = static_cast<size_t>(x.elements());
  std::vector<float> weights(n);
  std::vector<uint8_t> flags(n);
  for (size_t i = 0; i < n; ++i) {
    flags[i] = frozen_.data()[i] != 0 ? 1 : 0;
    weights[i] = static_cast<float>(flags[i] != 0 ? values_.data()[i] : x.data()[i]);
  }
  if (largest_.data()[0] == 0) {
    for (const float w : weights) {
      largest_.mutable_data()[0] = std::max(largest_.data()[0], static_cast<real>(std::abs(w)));
    }
  }
  const std::vector<float> found = levels();
  quant::array::inq_freeze(weights, flags, share, found);
  // A graph that is still held reads the old ones.
  Tensor frozen = Tensor::empty(shape_);
  Tensor values = Tensor::empty(shape_);
  for (size_t i = 0; i < n; ++i) {
    frozen.mutable_data()[i] = flags[i] != 0 ? real(1) : real(0);
    values.mutable_data()[i] = flags[i] != 0 ? static_cast<real>(weights[i]) : real(0);
  }
  frozen_ = frozen;
  values_ = values;
}

void add_inq_kind(TransformKinds& kinds) {
  kinds.add(std::string(Inq::kKind), [](const Json& spec, const Shape& shape) {
    return std::make_shared<Inq>(spec.at("bits").get<int>(), shape);
  });
}

void prepare_inq(Module& model, const InqPlan& plan) {
  check(plan);
  const std::vector<Found> found = layers_of(model);
  for (const std::string& pattern : plan.skip) {
    require(std::ranges::any_of(found, [&](const Found& f) { return quant::matches({pattern}, f.path); }), "inq",
            "skip '", pattern, "' fits no layer of the model");
  }
  for (const Found& f : found) {
    require(f.layer->weight.chain.at(Stage::kFakeQuant) == nullptr, "inq", "'", f.path, "' is quantized already");
  }
  for (const Found& f : found) {
    if (!quant::matches(plan.skip, f.path)) {
      f.layer->weight.chain.attach(std::make_shared<Inq>(plan.bits, f.layer->weight.shape()));
    }
  }
}

FitHooks inq_hooks(Module& model, const InqPlan& plan) {
  check(plan);
  return {
      .after_step =
          [&model, plan](const FitHooks::Point& at) {
            for (size_t k = 0; k < plan.shares.size(); ++k) {
              if (at.step != plan.freeze_at(k, at.steps)) {
                continue;
              }
              const NoGrad no_grad;
              for (const Found& f : layers_of(model)) {
                if (auto* const inq = f.layer->weight.chain.find<Inq>()) {
                  inq->freeze(f.layer->weight_before(Stage::kFakeQuant).value(), plan.shares[k]);
                }
              }
            }
          },
      .may_keep =
          [plan](const FitHooks::Point& at) { return at.step >= plan.freeze_at(plan.shares.size() - 1, at.steps); }};
}

}  // namespace whittle::inline WHITTLE_PRECISION::compress
