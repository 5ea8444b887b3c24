#include "prune/mask.h"

#include <algorithm>
#include <cstdio>

#include "core/error.h"
#include "core/json.h"
#include "core/parallel.h"
#include "layers/summary.h"
#include "layers/weighted.h"

namespace whittle::inline WHITTLE_PRECISION::prune {

namespace {

// A choice and not a product: what is pruned may be infinite or NaN, and -1 * 0 is -0.
Tensor chosen(const Tensor& x, const Mask& mask) {
  Tensor result = Tensor::empty(x.shape());
  const real* const from = x.data();
  real* const to = result.mutable_data();
  const uint8_t* const keep = mask.keep.data();
  parallel_ranges(x.elements(), kElementGrain, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      to[i] = keep[i] != 0 ? from[i] : real(0);
    }
  });
  return result;
}

}  // namespace

Mask Mask::ones(const Shape& shape) { return {shape, std::vector<uint8_t>(static_cast<size_t>(shape.elements()), 1)}; }

Mask Mask::of(const Tensor& zeros_and_ones) {
  Mask mask = of_nonzeros(zeros_and_ones);
  for (const real value : zeros_and_ones.values()) {
    require(value == 0 || value == 1, "mask", "a mask holds 0 and 1, not ", value);
  }
  return mask;
}

Mask Mask::of_nonzeros(const Tensor& values) {
  require(values.defined(), "mask", "there is no tensor to make a mask of");
  Mask mask = ones(values.shape());
  std::ranges::transform(values.values(), mask.keep.begin(), [](real value) -> uint8_t { return value != 0; });
  return mask;
}

Tensor Mask::to_tensor() const {
  Tensor result = Tensor::empty(shape);
  std::ranges::transform(keep, result.mutable_data(), [](uint8_t k) { return static_cast<real>(k); });
  return result;
}

int64_t Mask::kept() const { return std::ranges::count(keep, uint8_t{1}); }

Variable masked(const Variable& x, const std::shared_ptr<const Mask>& mask) {
  require_defined("mask", x);
  require(x.shape() == mask->shape, "mask", "the mask has shape ", mask->shape, " and what it masks ", x.shape());
  return make_op("mask", chosen(x.value(), *mask), {x},
                 [mask](const Tensor& g) -> Gradients { return {chosen(g, *mask)}; });
}

// ---- The transform ------------------------------------------------------------------

MaskTransform::MaskTransform(Mask mask) : mask_(std::make_shared<const Mask>(std::move(mask))) {
  require(static_cast<int64_t>(mask_->keep.size()) == mask_->shape.elements(), "mask", "a mask of shape ", mask_->shape,
          " has ", mask_->keep.size(), " entries");
  require(std::ranges::all_of(mask_->keep, [](uint8_t k) { return k <= 1; }), "mask",
          "a mask holds 0 and 1 and no other number");
}

Json MaskTransform::spec() const { return Json::object(); }

// As numbers for whoever looks, and checked if they were replaced.
void MaskTransform::visit_state(const std::function<void(std::string_view name, Tensor& state)>& visit) {
  Tensor state = mask_->to_tensor();
  const Tensor before = state;
  visit("", state);
  if (!state.shares_storage_with(before)) {
    mask_ = std::make_shared<const Mask>(Mask::of(state));
  }
}

StoredTensor MaskTransform::stored(const Tensor& state) const {
  StoredTensor result{.dtype = Dtype::kBool, .shape = state.shape(), .bytes = {}};
  result.bytes.resize(static_cast<size_t>(state.elements()));
  std::ranges::transform(state.values(), result.bytes.begin(), [](real value) { return std::byte{value != 0}; });
  return result;
}

void add_mask_kind(TransformKinds& kinds) {
  kinds.add("mask", [](const Json& /*spec*/, const Shape& shape) -> std::shared_ptr<Transform> {
    return std::make_shared<MaskTransform>(Mask::ones(shape));
  });
}

const Mask* mask_of(const Parameter& parameter) {
  const auto* const transform = parameter.chain.find<MaskTransform>();
  return transform == nullptr ? nullptr : &transform->mask();
}

void set_mask(Parameter& parameter, Mask mask) {
  require(mask.shape == parameter.shape(), "mask", "the mask has shape ", mask.shape, " and the parameter ",
          parameter.shape());
  auto transform = std::make_shared<MaskTransform>(std::move(mask));
  drop_mask(parameter);
  parameter.chain.attach(std::move(transform));
}

void drop_mask(Parameter& parameter) {
  if (parameter.chain.find<MaskTransform>() != nullptr) {
    parameter.chain.detach(Stage::kMask);
  }
}

// ---- Of a model -----------------------------------------------------------------------

MaskSet masks(Module& model) {
  MaskSet set;
  for (const auto& [name, parameter] : model.parameters()) {
    if (const Mask* mask = mask_of(*parameter); mask != nullptr) {
      set.emplace(name, *mask);
    }
  }
  return set;
}

namespace {

void attach(Module& model, const MaskSet& set, bool drop_others) {
  const std::vector<NamedParameter> parameters = model.parameters();
  for (const auto& [name, mask] : set) {
    const auto found = std::ranges::find(parameters, name, &NamedParameter::name);
    require(found != parameters.end(), "prune", "there is a mask for '", name, "', which the model has not");
    require(found->parameter->shape() == mask.shape, "prune", "the mask for '", name, "' has shape ", mask.shape,
            " and the parameter ", found->parameter->shape());
    const Transform* const there = found->parameter->chain.at(Stage::kMask);
    require(there == nullptr || there->kind() == "mask", "prune", "'", name, "' already has a transform of kind '",
            there == nullptr ? "" : there->kind(), "' where its mask would be");
  }
  for (const auto& [name, parameter] : parameters) {
    if (const auto found = set.find(name); found != set.end()) {
      set_mask(*parameter, found->second);
    } else if (drop_others) {
      drop_mask(*parameter);
    }
  }
}

}  // namespace

void attach(Module& model, const MaskSet& set) { attach(model, set, /*drop_others=*/false); }
void replace_masks(Module& model, const MaskSet& set) { attach(model, set, /*drop_others=*/true); }

void make_permanent(Module& model) {
  for (const auto& [name, parameter] : model.parameters()) {
    if (const Mask* mask = mask_of(*parameter); mask != nullptr) {
      parameter->raw.assign(chosen(parameter->raw.value(), *mask));
      drop_mask(*parameter);
    }
  }
}

// ---- Tables -------------------------------------------------------------------------------

std::vector<SparsityRow> sparsity(Module& model) {
  std::vector<SparsityRow> rows;
  for (const auto& [path, module] : model.modules()) {
    const auto* const layer = dynamic_cast<const WeightedLayer*>(module);
    for (const auto& [name, parameter] : module->own_parameters()) {
      const Mask* const mask = mask_of(*parameter);
      if (mask == nullptr && (layer == nullptr || parameter != &layer->weight)) {
        continue;
      }
      const std::span<const real> raw = parameter->raw.value().values();
      int64_t zeros = 0;
      for (size_t i = 0; i < raw.size(); ++i) {
        zeros += raw[i] == 0 || (mask != nullptr && mask->keep[i] == 0) ? 1 : 0;
      }
      rows.push_back({.name = join_path(path, name),
                      .shape = parameter->shape(),
                      .elements = parameter->shape().elements(),
                      .zeros = zeros,
                      .masked = mask != nullptr});
    }
  }
  return rows;
}

double sparsity_of(std::span<const SparsityRow> rows) {
  int64_t elements = 0;
  int64_t zeros = 0;
  for (const SparsityRow& row : rows) {
    elements += row.elements;
    zeros += row.zeros;
  }
  return elements == 0 ? 0 : static_cast<double>(zeros) / static_cast<double>(elements);
}

std::string to_text(std::span<const SparsityRow> rows) {
  size_t width = sizeof("parameter") - 1;
  for (const SparsityRow& row : rows) {
    width = std::max(width, row.name.size());
  }
  std::string text;
  const auto line = [&](const std::string& name, const std::string& elements, const std::string& zeros,
                        const std::string& share, const char* masked) {
    char buffer[160];
    std::snprintf(buffer, sizeof(buffer), "  %12s  %12s  %8s%s\n", elements.c_str(), zeros.c_str(), share.c_str(),
                  masked);
    text += name + std::string(width - std::min(width, name.size()), ' ') + buffer;
  };
  const auto percent = [](double share) {
    char buffer[32];
    std::snprintf(buffer, sizeof(buffer), "%.2f %%", 100 * share);
    return std::string(buffer);
  };
  line("parameter", "elements", "zeros", "share", "");
  SparsityRow total;
  for (const SparsityRow& row : rows) {
    line(row.name, with_thousands(row.elements), with_thousands(row.zeros), percent(sparsity_of({&row, 1})),
         row.masked ? "  masked" : "");
    total.elements += row.elements;
    total.zeros += row.zeros;
  }
  line("together", with_thousands(total.elements), with_thousands(total.zeros), percent(sparsity_of(rows)), "");
  return text;
}

}  // namespace whittle::inline WHITTLE_PRECISION::prune
