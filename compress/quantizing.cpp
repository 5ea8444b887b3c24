#include "compress/quantizing.h"

#include <algorithm>

#include "core/error.h"
#include "layers/statistics.h"

namespace whittle::inline WHITTLE_PRECISION::compress {

std::vector<int64_t> spread_over(const data::Dataset& data, int64_t samples) {
  const int64_t count = std::min(samples, data.size());
  std::vector<int64_t> indices;
  for (int64_t i = 0; i < count; ++i) {
    indices.push_back(i * data.size() / count);
  }
  return indices;
}

quant::Batches calibration_batches(const data::Dataset& data, int64_t samples) {
  require(samples >= 1, "quantize", "--samples ", samples, " is not at least 1");
  require(!data.empty(), "quantize", "the calibration set '", data.name(), "' is empty");
  return [&data, all = spread_over(data, samples)] {
    return [&data, all, at = size_t{0}]() mutable {
      constexpr size_t kBatch = 64;
      const std::span<const int64_t> next = std::span(all).subspan(at, std::min(kBatch, all.size() - at));
      at += next.size();
      return next.empty() ? Tensor() : data.batch(next).inputs;
    };
  };
}

FitHooks quantizing_hooks(const quant::TrainingPlan& plan, Module& model, const Shape& input,
                          const data::Dataset& train) {
  return {.after_step =
              [&plan, &model, input, &train](const FitHooks::Point& at) {
                if (at.step == plan.freeze_at(at.steps)) {
                  constexpr int64_t kSamples = 2048;
                  measure_statistics(model, calibration_batches(train, kSamples)());
                }
                quant::after_step(model, input, plan, at.step, at.steps);
              },
          .may_keep = [&plan](const FitHooks::Point& at) { return at.step >= plan.freeze_at(at.steps); }};
}

}  // namespace whittle::inline WHITTLE_PRECISION::compress
