#include "quant/weight_table.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "layers/weighted.h"
#include "quant/array/quantized.h"
#include "quant/fake_quant.h"
#include "quant/half.h"
#include "quant/levels.h"
#include "quant/prepare.h"

namespace whittle::inline WHITTLE_PRECISION::quant {

namespace {

std::vector<float> floats_of(const Tensor& x) {
  std::vector<float> values(static_cast<size_t>(x.elements()));
  std::ranges::transform(x.values(), values.begin(), [](real v) { return static_cast<float>(v); });
  return values;
}

int64_t distinct(std::vector<int32_t> codes) {
  std::ranges::sort(codes);
  return std::unique(codes.begin(), codes.end()) - codes.begin();
}

void add_affine(const FakeQuant& quantizer, const std::vector<float>& values, const Grids& grids, WeightFigures& row) {
  const TensorSpec& spec = quantizer.tensor_spec();
  const auto runs = static_cast<int64_t>(grids.size());
  const size_t length = values.size() / grids.size();
  for (size_t r = 0; r < grids.size(); ++r) {
    std::vector<int32_t> codes;
    for (size_t i = r * length; i < (r + 1) * length; ++i) {
      codes.push_back(arithmetic::quantize(values[i], grids[r]));
    }
    row.distinct_codes = std::max(row.distinct_codes, distinct(std::move(codes)));
  }
  row.stored_bits = spec.bits * row.weights + runs * (32 + (spec.symmetric ? 0 : spec.bits));
}

}  // namespace

std::vector<WeightFigures> weight_table(Module& model) {
  const EvaluationMode evaluation(model);
  const NoGrad no_grad;
  std::vector<WeightFigures> table;
  for (const auto& [path, module] : model.modules()) {
    auto* const layer = dynamic_cast<WeightedLayer*>(module);
    if (layer == nullptr || layer->weight.chain.at(Stage::kFakeQuant) == nullptr) {
      continue;
    }
    const std::vector<float> before = floats_of(unquantized_weight(*layer).value());
    const std::vector<float> after = floats_of(layer->effective_weight().value());
    WeightFigures row{.layer = path, .weights = static_cast<int64_t>(before.size())};
    if (const auto* const affine = layer->weight.chain.find<FakeQuant>()) {
      const GridsPtr grids = layer->effective_weight().grids();
      if (grids == nullptr) {  // it still observes
        continue;
      }
      add_affine(*affine, after, *grids, row);
    } else if (const auto* const levels = layer->weight.chain.find<Levels>()) {
      Levels::About about = levels->about();
      if (!levels->fixed()) {
        about = Levels::about_of(levels->quantized(unquantized_weight(*layer).value()));
      }
      row.distinct_codes = about.distinct_codes;
      row.stored_bits = about.bits;
      row.terms = static_cast<double>(about.terms) / static_cast<double>(levels->runs());
    } else if (layer->weight.chain.find<Half>() != nullptr) {
      std::vector<int32_t> codes;
      std::ranges::transform(after, std::back_inserter(codes), [](float v) { return int32_t{half_bits(v)}; });
      row.distinct_codes = distinct(std::move(codes));
      row.stored_bits = 16 * row.weights;
    } else {
      continue;
    }
    const array::Distortion lost = array::distortion(before, after);
    row.mse = lost.mse;
    row.sqnr_db = lost.sqnr_db;
    table.push_back(row);
  }
  return table;
}

}  // namespace whittle::inline WHITTLE_PRECISION::quant
