#include "compress/quantizing.h"

#include <algorithm>
#include <optional>

#include "core/error.h"
#include "datasets/loader.h"
#include "datasets/split.h"
#include "layers/statistics.h"

namespace whittle::inline WHITTLE_PRECISION::compress {

quant::Batches calibration_batches(const data::Dataset& data, int64_t samples) {
  require(samples >= 1, "quantize", "--samples ", samples, " is not at least 1");
  require(!data.empty(), "quantize", "the calibration set '", data.name(), "' is empty");
  return [&data, all = data::spread_over(data, samples)] {
    return [&data, all, at = size_t{0}]() mutable {
      constexpr size_t kBatch = 64;
      const std::span<const int64_t> next = std::span(all).subspan(at, std::min(kBatch, all.size() - at));
      at += next.size();
      return next.empty() ? Tensor() : data.batch(next).inputs;
    };
  };
}

FitHooks quantizing_hooks(const quant::TrainingPlan& plan, Module& model, const Shape& input,
                          const data::Dataset& train, const FitOptions& training) {
  const int64_t size = std::min(training.batch, train.size());
  return {.after_step =
              [&plan, &model, input, train, size, augment = training.augment](const FitHooks::Point& at) {
                if (at.step == plan.freeze_at(at.steps)) {
                  constexpr int64_t kSamples = 4096;
                  data::DataLoader loader(train, {.batch = size, .workers = 0, .augment = augment});
                  measure_statistics(model, [&loader, size, left = kSamples]() mutable {
                    const std::optional<data::Batch> batch = left > 0 ? loader.next() : std::nullopt;
                    left -= size;
                    return batch.has_value() ? batch->inputs : Tensor();
                  });
                }
                quant::after_step(model, input, plan, at.step, at.steps);
              },
          .may_keep = [&plan](const FitHooks::Point& at) { return at.step >= plan.freeze_at(at.steps); }};
}

}  // namespace whittle::inline WHITTLE_PRECISION::compress
