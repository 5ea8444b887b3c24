#include "train/evaluate.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "core/error.h"
#include "core/json.h"
#include "train/metrics.h"

namespace whittle::inline WHITTLE_PRECISION {

Variable loss_of(const Variable& output, const data::Batch& batch, double label_smoothing) {
  if (batch.targets.defined()) {
    return batch.labels.empty() ? mse_loss(output, batch.targets) : cross_entropy(output, batch.targets);
  }
  return cross_entropy(output, batch.labels, {.label_smoothing = static_cast<real>(label_smoothing)});
}

void MetricSums::add(double batch_loss, const Tensor& output, const data::Batch& batch,
                     const data::Preprocessing& scaling) {
  const int64_t count = output.dim(0);
  const auto weight = static_cast<double>(count);
  samples += count;
  loss += weight * batch_loss;
  if (!batch.labels.empty()) {
    right += static_cast<double>(right_answers(output, batch.labels, each));
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    const double error = static_cast<double>(output.data()[i] - batch.targets.data()[i]) * scaling.target_spread;
    squared_error += error * error;
  }
}

Metrics MetricSums::metrics() const {
  const auto n = static_cast<double>(std::max<int64_t>(samples, 1));
  return {.loss = loss / n, .accuracy = right / n, .mse = squared_error / n, .samples = samples};
}

Json to_json(const Metrics& m) {
  return {{"loss", m.loss}, {"accuracy", m.accuracy}, {"mse", m.mse}, {"samples", m.samples}};
}

Metrics metrics_from(const Json& j) {
  return {.loss = j.at("loss").get<double>(),
          .accuracy = j.at("accuracy").get<double>(),
          .mse = j.at("mse").get<double>(),
          .samples = j.at("samples").get<int64_t>()};
}

Metrics evaluate(Module& model, const data::Dataset& data, const EvaluateOptions& options) {
  require(!data.empty(), "evaluate", "the data set '", data.name(), "' has no samples");
  require(options.batch >= 1, "evaluate", "batch ", options.batch, " is not at least 1");
  const NoGrad no_grad;
  const EvaluationMode evaluating(model);
  MetricSums sums;
  sums.each = options.right;
  std::vector<int64_t> indices;
  for (int64_t begin = 0; begin < data.size(); begin += options.batch) {
    indices.resize(static_cast<size_t>(std::min(options.batch, data.size() - begin)));
    std::iota(indices.begin(), indices.end(), begin);
    const data::Batch batch = data.batch(indices);
    const Variable output = model(batch.inputs);
    const double loss = static_cast<double>(loss_of(output, batch).value().item());
    sums.add(loss, output.value(), batch, data.preprocessing());
  }
  return sums.metrics();
}

}  // namespace whittle::inline WHITTLE_PRECISION
