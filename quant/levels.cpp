#include "quant/levels.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "core/json.h"
#include "core/ops.h"
#include "layers/trace.h"
#include "quant/array/few_bits.h"
#include "quant/array/grids.h"
#include "quant/observer.h"

namespace whittle::inline WHITTLE_PRECISION::quant {

namespace {

// Grids whose rounding belongs to them, with their bits; 0: as many as are asked for.
struct Fused {
  std::string_view name;
  int bits;
};
constexpr std::array kFused = {Fused{"binary", 1}, Fused{"ternary", 2}, Fused{"ternary-exact", 2},
                               Fused{"multipoint", 0}};

const Fused* fused_named(std::string_view name) {
  const auto* const found = std::ranges::find(kFused, name, &Fused::name);
  return found == kFused.end() ? nullptr : found;
}

array::GridSpec grid_of(const LevelSpec& spec, int bits) {
  return {.kind = array::parse_grid(spec.grid), .bits = bits, .symmetric = true, .zero = spec.zero};
}

bool draws(const LevelSpec& spec) { return spec.rounding == "stochastic" && fused_named(spec.grid) == nullptr; }

std::vector<float> floats_of(const Tensor& x) {
  std::vector<float> values(static_cast<size_t>(x.elements()));
  std::ranges::transform(x.values(), values.begin(), [](real v) { return static_cast<float>(v); });
  return values;
}

bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.defined() && b.defined() && a.elements() == b.elements() &&
         std::memcmp(a.data(), b.data(), a.values().size_bytes()) == 0;
}

constexpr int64_t kHigh = 16777216;  // 2^24: what both parts of a count stay below, so that they are exact

}  // namespace

std::string grid_names() {
  std::string names;
  for (const array::GridKind kind : array::all_grids()) {
    names += std::string(array::grid_name(kind)) + ", ";
  }
  return names + "binary, ternary, ternary-exact and multipoint";
}

void check(const LevelSpec& spec, const TensorSpec& weights) {
  const Fused* const fused = fused_named(spec.grid);
  require(fused != nullptr ||
              std::ranges::any_of(array::all_grids(),
                                  [&](array::GridKind kind) { return array::grid_name(kind) == spec.grid; }),
          "quantize", "there is no grid '", spec.grid, "'; there are ", grid_names());
  const array::Rounding rounding = array::parse_rounding(spec.rounding);
  require(spec.output_error == std::nullopt || (spec.grid == "multipoint" && *spec.output_error > 0), "quantize",
          spec.grid == "multipoint" ? "an error of the output must be above 0"
                                    : "an error of the output is for multi-point alone, not for ",
          spec.grid == "multipoint" ? "" : spec.grid);
  if (fused == nullptr) {
    array::check(grid_of(spec, weights.bits));
    return;
  }
  require(rounding == array::Rounding::kNearestEven && !spec.zero, "quantize", "the rounding of ", spec.grid,
          " weights belongs to their grid, which leaves no choice");
  require(fused->bits == 0 || weights.bits == fused->bits, "quantize", spec.grid, " weights have ", fused->bits,
          fused->bits == 1 ? " bit, not " : " bits, not ", weights.bits);
  require(spec.grid != "multipoint" || (weights.bits >= 2 && spec.terms >= 1 && spec.terms <= 16), "quantize",
          "multi-point has 2 to 16 bits and 1 to 16 terms, got ", weights.bits, " and ", spec.terms);
}

bool has_zero(const LevelSpec& spec) {
  return spec.zero || spec.grid == "affine" || spec.grid == "power-of-two" || spec.grid.starts_with("ternary") ||
         spec.grid == "multipoint";
}

array::Quantized quantize_levels(std::span<const float> values, const LevelSpec& spec, int bits, int64_t groups,
                                 RngKey key, const array::GroupError& error) {
  if (spec.grid == "binary") {
    return array::binary(values, groups);
  }
  if (spec.grid.starts_with("ternary")) {
    return array::ternary(values, groups,
                          spec.grid == "ternary" ? array::TernaryThreshold::kRule : array::TernaryThreshold::kExact);
  }
  if (spec.grid == "multipoint") {
    return array::multipoint(values, {.bits = bits,
                                      .terms = spec.terms,
                                      .groups = groups,
                                      .error_limit = spec.output_error,
                                      .error = spec.output_error ? error : array::GroupError(),
                                      .centred = false});
  }
  return array::quantize(
      values,
      {.grid = grid_of(spec, bits), .rounding = array::parse_rounding(spec.rounding), .key = key, .groups = groups});
}

Levels::Levels(const LevelSpec& spec, const TensorSpec& weights, const Shape& shape)
    : levels_(spec), weights_(weights), shape_(shape), groups_(weight_runs(shape, weights)) {
  check(spec, weights);
}

array::Quantized Levels::quantized(const Tensor& x, const array::GroupError& error) const {
  return quantize_levels(floats_of(x), levels_, weights_.bits, groups_, {.seed = levels_.seed}, error);
}

Tensor Levels::values_of(const array::Quantized& found) const {
  const std::vector<float> values = found.values();
  Tensor tensor = Tensor::empty(shape_);
  std::ranges::transform(values, tensor.mutable_data(), [](float v) { return static_cast<real>(v); });
  return tensor;
}

Levels::About Levels::about_of(const array::Quantized& found) {
  About about{.bits = found.stored.total(), .distinct_codes = found.distinct_codes(), .terms = 0};
  for (const array::Group& group : found.groups) {
    about.terms += static_cast<int64_t>(group.terms.size());
  }
  return about;
}

void Levels::fix(const array::Quantized& found) {
  values_ = values_of(found);
  about_ = about_of(found);
}

Variable Levels::apply(const Variable& x) {
  if (!on_) {
    return x;
  }
  if (fixed()) {
    return make_op("levels", values_, {&x, 1}, [](const Tensor& g) -> Gradients { return {g}; });
  }
  const bool fresh = draws(levels_) && training_ && Tracer::active() == nullptr;
  if (fresh || !same_bytes(seen_, x.value())) {
    const RngKey key{.seed = levels_.seed};
    const array::Quantized found = quantize_levels(floats_of(x.value()), levels_, weights_.bits, groups_,
                                                   fresh ? key.child(static_cast<uint64_t>(++draws_)) : key);
    found_ = values_of(found);
    seen_ = fresh ? Tensor() : x.value().clone();
    inside_ = levels_.grid == "iqr" ? inside(x.value(), found) : Tensor();
  }
  return make_op("levels", found_, {&x, 1}, [inside = inside_](const Tensor& g) -> Gradients {
    return {inside.defined() ? mul(Variable(g), Variable(inside)).value() : g};
  });
}

// 1 from the lowest level to the highest, 0 beyond.
Tensor Levels::inside(const Tensor& x, const array::Quantized& found) const {
  Tensor mask = Tensor::empty(shape_);
  const int64_t length = x.elements() / groups_;
  for (int64_t i = 0; i < x.elements(); ++i) {
    const array::Codebook& book = found.groups[static_cast<size_t>(i / length)].codebook;
    const auto v = static_cast<float>(x.data()[i]);
    mask.mutable_data()[i] = v >= book.value(book.first()) && v <= book.value(book.last()) ? 1 : 0;
  }
  return mask;
}

Json Levels::spec() const {
  Json json = {{"levels", to_json(levels_)}, {"tensor", to_json(weights_)}};
  if (fixed()) {
    json["stored"] = {{"bits", about_.bits}, {"distinct_codes", about_.distinct_codes}, {"terms", about_.terms}};
  }
  return json;
}

void Levels::visit_state(const std::function<void(std::string_view, Tensor&)>& visit) {
  if (draws(levels_)) {
    Tensor count = Tensor::of({2}, {static_cast<real>(draws_ / kHigh), static_cast<real>(draws_ % kHigh)});
    visit("draws", count);
    require(count.defined() && count.shape() == Shape{2} && count.all_finite() && count.data()[0] >= 0 &&
                count.data()[1] >= 0 && count.data()[0] < static_cast<real>(kHigh) &&
                count.data()[1] < static_cast<real>(kHigh),
            "levels", "the count of draws is malformed");
    draws_ = static_cast<int64_t>(count.data()[0]) * kHigh + static_cast<int64_t>(count.data()[1]);
  }
  visit("values", values_);
  require(!fixed() || (values_.shape() == shape_ && values_.all_finite()), "levels", "values of shape ",
          fixed() ? values_.shape() : shape_, " that are no weight of shape ", shape_);
  seen_ = {};
}

void add_levels_kind(TransformKinds& kinds) {
  kinds.add(std::string(Levels::kKind), [](const Json& spec, const Shape& shape) {
    const TensorSpec weights = tensor_spec_from(spec.at("tensor"));
    check_weights(weights);
    auto levels = std::make_shared<Levels>(level_spec_from(spec.at("levels")), weights, shape);
    if (spec.contains("stored")) {
      const Json& stored = spec.at("stored");
      levels->describe({.bits = stored.at("bits").get<int64_t>(),
                        .distinct_codes = stored.at("distinct_codes").get<int64_t>(),
                        .terms = stored.at("terms").get<int64_t>()});
    }
    return levels;
  });
}

}  // namespace whittle::inline WHITTLE_PRECISION::quant
