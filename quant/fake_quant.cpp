#include "quant/fake_quant.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "core/error.h"
#include "core/json.h"
#include "core/loops.h"
#include "core/ops.h"
#include "layers/trace.h"

namespace whittle::inline WHITTLE_PRECISION::quant {

namespace {

constexpr std::string_view kPhases[] = {"observe", "adapt", "fixed"};

// Steps are kept positive, whatever an optimizer does.
constexpr float kLeastStep = 1e-12F;

Codes codes_of(Role role, const TensorSpec& spec) {
  return role == Role::kWeight ? weight_codes(spec) : activation_codes(spec);
}

bool is_binary(Role role, const TensorSpec& spec) { return role == Role::kWeight && spec.bits == 1 && spec.symmetric; }

// Values on grids, with the gradient of x itself.
Variable straight_through(const char* op, const Variable& x, Tensor values, const GridsPtr& grids) {
  return make_op(op, std::move(values), {x}, [](const Tensor& g) -> Gradients { return {g}; }).on(grids);
}

Phase phase_named(const std::string& name) {
  const auto* const found = std::ranges::find(kPhases, name);
  require(found != std::end(kPhases), "fake_quant", "there is no phase '", name, "'");
  return static_cast<Phase>(found - kPhases);
}

}  // namespace

FakeQuant::FakeQuant(Role role, const TensorSpec& spec, const Shape& shape, Phase phase)
    : role_(role), spec_(spec), phase_(phase), runs_(1), observer_(spec) {
  require(spec.quantizes(), "fake_quant", "0 bits quantize nothing");
  role == Role::kWeight ? check_weights(spec) : check_activations(spec);
  if (role == Role::kWeight) {
    runs_ = weight_runs(shape, spec);
  }
  if (spec.dynamic) {
    phase_ = Phase::kFixed;  // nothing to learn
  }
  if (learns_step() || learns_clip()) {
    learned_ = Parameter(Tensor::full({runs_}, 1));
  }
}

Variable FakeQuant::apply(const Variable& x) {
  if (!on_) {
    return x;
  }
  if (spec_.dynamic) {
    return fake_quant(x, sample_grids(x.value(), spec_));
  }
  // The zeros of a trace are no data.
  const bool follows = phase_ == Phase::kAdapt && training_ && !learns_step() && !learns_clip();
  if (role_ == Role::kActivation && (phase_ == Phase::kObserve || follows) && Tracer::active() == nullptr) {
    observer_.observe(x.value());
  }
  if (phase_ == Phase::kObserve) {
    return x;
  }
  if (phase_ == Phase::kAdapt && learns_step()) {
    return on_learned_step(x);
  }
  if (phase_ == Phase::kAdapt && learns_clip()) {
    return on_learned_clip(x);
  }
  const GridsPtr grids = phase_ == Phase::kFixed ? stored_grids() : found_grids(x.value());
  if (is_binary(role_, spec_)) {
    return binarize(x, grids);
  }
  if (phase_ == Phase::kAdapt && role_ == Role::kWeight && spec_.range == RangeRule::kMinMax) {
    // Nothing is outside, though the largest weight over its scale may round to more than the highest code.
    return straight_through("min_max", x, fake_quant(Variable(x.value()), grids).value(), grids);
  }
  return fake_quant(x, grids);
}

GridsPtr FakeQuant::grids() const {
  if (!on_ || phase_ == Phase::kObserve || spec_.dynamic) {
    return nullptr;
  }
  if (phase_ == Phase::kFixed) {
    return stored_grids();
  }
  if (learns_step() || learns_clip()) {
    return learned_grids();
  }
  return role_ == Role::kActivation ? make_grids({observer_.grid()}) : nullptr;
}

void FakeQuant::set_factor(const Variable& factor) {
  const int64_t rows = factor.shape()[0];
  if (!learns_step() || runs_ % rows != 0) {
    return;  // one step for rows of several factors is a step of the folded weight
  }
  constexpr auto kLeastUnit = static_cast<real>(0x1p-20);  // of rows that a norm has turned off
  unit_ = Tensor::empty({runs_});
  for (int64_t i = 0; i < runs_; ++i) {
    unit_.mutable_data()[i] = std::max(std::abs(factor.value().data()[i / (runs_ / rows)]), kLeastUnit);
  }
}

GridsPtr FakeQuant::found_grids(const Tensor& x) const {
  return role_ == Role::kWeight ? weight_grids(x, spec_) : make_grids({observer_.grid()});
}

GridsPtr FakeQuant::learned_grids() const {
  const Codes codes = codes_of(role_, spec_);
  Grids grids;
  const Tensor& values = learned_.raw.value();
  for (int64_t i = 0; i < values.elements(); ++i) {
    const real unit = unit_.defined() ? unit_.data()[i] : 1;
    const float learned = std::max(static_cast<float>(std::abs(values.data()[i]) * unit), kLeastStep);
    if (learns_clip()) {
      grids.push_back({learned / static_cast<float>(codes.high - codes.low), codes.low, codes.low, codes.high});
    } else {
      // A one-sided activation uses all of its codes.
      const bool one_sided = role_ == Role::kActivation && !spec_.symmetric && zero_point_.defined();
      grids.push_back({learned,
                       one_sided ? static_cast<int32_t>(zero_point_.data()[0]) : std::clamp(0, codes.low, codes.high),
                       codes.low, codes.high});
    }
  }
  return make_grids(std::move(grids));
}

// The gradient is scaled by 1 / sqrt(n qmax), so that steps move at the pace of weights (Esser et al. 2020).
Variable FakeQuant::on_learned_step(const Variable& x) {
  const GridsPtr grids = learned_grids();
  const Codes codes = codes_of(role_, spec_);
  const int64_t samples = role_ == Role::kActivation ? x.shape()[0] : 1;
  const double n =
      static_cast<double>(x.value().elements()) / static_cast<double>(samples) / static_cast<double>(grids->size());
  const double factor = 1 / std::sqrt(n * std::max(1, codes.high));
  const Variable steps = unit_.defined() ? mul(abs(learned_.value()), unit_) : abs(learned_.value());
  return fake_quant_learned(x, clamp(steps, static_cast<real>(kLeastStep), std::numeric_limits<real>::max()), grids,
                            static_cast<real>(factor));
}

// min(max(x, 0), clip), which has slope 1 along the clip where it cuts; then a grid from 0 to the clip (Choi et al.
// 2018). The grid's own mask has no say: clip / scale may round to more than the highest code.
Variable FakeQuant::on_learned_clip(const Variable& x) {
  const Variable clip = learned_.value();
  const Variable cut = sub(clip, relu(sub(clip, relu(x))));
  const GridsPtr grids = learned_grids();
  return straight_through("pact", cut, fake_quant(Variable(cut.value()), grids).value(), grids);
}

void FakeQuant::adapt(const Tensor& value) {
  if (phase_ != Phase::kObserve) {
    return;
  }
  if (learns_step()) {
    TensorSpec plain = spec_;
    plain.range = RangeRule::kMse;
    const GridsPtr grids = role_ == Role::kWeight ? weight_grids(value, plain) : make_grids({observer_.grid()});
    Tensor steps = Tensor::empty({static_cast<int64_t>(grids->size())});
    std::ranges::transform(*grids, steps.mutable_data(), [](const Grid& g) { return static_cast<real>(g.scale); });
    learned_.raw.assign(unit_.defined() ? map(steps, unit_, [](real step, real unit) { return step / unit; }) : steps);
    if (role_ == Role::kActivation) {
      zero_point_ = Tensor::scalar(static_cast<real>((*grids)[0].zero_point)).reshape({1});
    }
  } else if (learns_clip()) {
    learned_.raw.assign(Tensor::full({1}, static_cast<real>(std::max(observer_.range().high, kLeastStep))));
  } else if (role_ == Role::kActivation) {
    require(observer_.seen(), "fake_quant", "no data has passed, so there is no range");
  }
  phase_ = Phase::kAdapt;
}

void FakeQuant::fix(const Tensor& value) {
  if (phase_ == Phase::kFixed) {
    return;
  }
  adapt(value);
  fix_on(learns_step() || learns_clip() ? learned_grids() : found_grids(value));
}

void FakeQuant::fix_on(const GridsPtr& grids) {
  store(grids);
  phase_ = Phase::kFixed;
}

void FakeQuant::store(const GridsPtr& grids) {
  const auto n = static_cast<int64_t>(grids->size());
  scale_ = Tensor::empty({n});
  zero_point_ = Tensor::empty({n});
  for (int64_t i = 0; i < n; ++i) {
    scale_.mutable_data()[i] = static_cast<real>((*grids)[static_cast<size_t>(i)].scale);
    zero_point_.mutable_data()[i] = static_cast<real>((*grids)[static_cast<size_t>(i)].zero_point);
  }
  fixed_ = grids;
}

GridsPtr FakeQuant::stored_grids() const {
  if (fixed_ == nullptr) {  // loaded from a file
    const Codes codes = codes_of(role_, spec_);
    require(scale_.defined() && zero_point_.defined(), "fake_quant", "fixed grids without scales");
    require(scale_.shape() == Shape{runs_} && zero_point_.shape() == Shape{runs_}, "fake_quant", "scales of shape ",
            scale_.shape(), " and zero-points of shape ", zero_point_.shape(), ", expected ", Shape{runs_});
    Grids grids;
    for (int64_t i = 0; i < scale_.elements(); ++i) {
      const auto scale = static_cast<float>(scale_.data()[i]);
      const real zero = zero_point_.data()[i];
      require(std::isnormal(scale) && scale > 0, "fake_quant", "scale ", scale, " is not a positive normal number");
      require(zero >= static_cast<real>(codes.low) && zero <= static_cast<real>(codes.high) && zero == std::floor(zero),
              "fake_quant", "zero-point ", zero, " is not a code");
      grids.push_back({scale, static_cast<int32_t>(zero), codes.low, codes.high});
    }
    fixed_ = make_grids(std::move(grids));
  }
  return fixed_;
}

Json FakeQuant::spec() const {
  return {{"role", role_ == Role::kWeight ? "weight" : "activation"},
          {"phase", kPhases[static_cast<size_t>(phase_)]},
          {"tensor", to_json(spec_)}};
}

void FakeQuant::visit_state(const std::function<void(std::string_view, Tensor&)>& visit) {
  remember_observer();
  visit("scale", scale_);
  visit("zero_point", zero_point_);
  visit("ranges", ranges_);
  visit("histogram", histogram_);
  if (ranges_.defined() && !observer_.seen()) {  // has just been loaded
    recall_observer();
  }
  fixed_ = nullptr;
  if (phase_ == Phase::kFixed && !spec_.dynamic) {
    (void)stored_grids();  // checks
  }
}

namespace {

constexpr double kHigh = 16777216;  // 2^24: what both parts of a count stay below, so that they are exact

}  // namespace

void FakeQuant::remember_observer() {
  if (!observer_.seen()) {
    return;
  }
  const Observer::State state = observer_.state();
  ranges_ = Tensor::of(
      {5}, {static_cast<real>(state.all.low), static_cast<real>(state.all.high), static_cast<real>(state.average.low),
            static_cast<real>(state.average.high), static_cast<real>(state.limit / 2)});
  histogram_ = {};
  if (phase_ != Phase::kFixed && !state.bins.empty()) {
    histogram_ = Tensor::empty({2, Observer::kBins});
    for (int64_t i = 0; i < Observer::kBins; ++i) {
      const double count = state.bins[static_cast<size_t>(i)];
      const double high = std::floor(count / kHigh);
      histogram_.mutable_data()[i] = static_cast<real>(high);
      histogram_.mutable_data()[Observer::kBins + i] = static_cast<real>(count - high * kHigh);
    }
  }
}

void FakeQuant::recall_observer() {
  const auto at = [this](int64_t i) { return static_cast<float>(ranges_.data()[i]); };
  require(ranges_.shape() == Shape{5} && ranges_.all_finite() && at(0) <= at(1) && at(2) <= at(3) && at(4) >= 0,
          "fake_quant", "the ranges of an observer are malformed");
  Observer::State state{{at(0), at(1)}, {at(2), at(3)}, 2 * static_cast<double>(at(4))};
  if (histogram_.defined()) {
    require(histogram_.shape() == Shape{2, Observer::kBins} && state.limit > 0 &&
                std::ranges::all_of(histogram_.values(), [](real v) { return v >= 0 && std::isfinite(v); }),
            "fake_quant", "the histogram of an observer is malformed");
    for (int64_t i = 0; i < Observer::kBins; ++i) {
      state.bins.push_back(static_cast<double>(histogram_.data()[i]) * kHigh +
                           static_cast<double>(histogram_.data()[Observer::kBins + i]));
    }
  }
  observer_.restore(state);
}

void FakeQuant::visit_parameters(const std::function<void(std::string_view, Parameter&)>& visit) {
  if (learned_.defined()) {
    visit(learns_clip() ? "clip" : "step", learned_);
  }
}

void add_fake_quant_kind(TransformKinds& kinds) {
  kinds.add(std::string(FakeQuant::kKind), [](const Json& spec, const Shape& shape) {
    const auto role = spec.at("role").get<std::string>();
    require(role == "weight" || role == "activation", "fake_quant", "there is no role '", role, "'");
    return std::make_shared<FakeQuant>(role == "weight" ? Role::kWeight : Role::kActivation,
                                       tensor_spec_from(spec.at("tensor")), shape,
                                       phase_named(spec.at("phase").get<std::string>()));
  });
}

Variable binarize(const Variable& x, const GridsPtr& grids) {
  Tensor y = Tensor::empty(x.shape());
  const int64_t length = x.value().elements() / static_cast<int64_t>(grids->size());
  for (int64_t i = 0; i < x.value().elements(); ++i) {
    const real v = x.value().data()[i];
    const auto alpha = static_cast<real>((*grids)[static_cast<size_t>(i / length)].scale);
    y.mutable_data()[i] = v > 0 ? alpha : v < 0 ? -alpha : 0;
  }
  return straight_through("binarize", x, std::move(y), grids);
}

}  // namespace whittle::inline WHITTLE_PRECISION::quant
