// How good a model is on a data set.
#pragma once

#include <cstdint>
#include <vector>

#include "core/json_fwd.h"
#include "datasets/dataset.h"
#include "layers/module.h"

namespace whittle::inline WHITTLE_PRECISION {

struct Metrics {
  double loss = 0;      // mean cross-entropy, or mean squared error of the scaled targets
  double accuracy = 0;  // classification: share of right answers
  double mse = 0;       // regression: mean squared error in the target's own units
  int64_t samples = 0;
};

Json to_json(const Metrics& metrics);
Metrics metrics_from(const Json& json);  // throws Json::exception if it is not what to_json() wrote

struct EvaluateOptions {
  int64_t batch = 256;
  std::vector<bool>* right = nullptr;  // classification: whether each sample's answer is right is appended here
};

// Runs the model over the whole set, in evaluation mode and without recording.
// The model's mode is put back, also if something throws.
Metrics evaluate(Module& model, const data::Dataset& data, const EvaluateOptions& options = {});

// The loss that training minimises on this kind of data: cross-entropy with
// labels or with the probabilities of mixed images, or the mean squared error.
Variable loss_of(const Variable& output, const data::Batch& batch, double label_smoothing = 0);

// Adds a batch's share to sums over samples: loss, right answers, squared error.
struct MetricSums {
  double loss = 0;
  double right = 0;
  double squared_error = 0;
  int64_t samples = 0;
  std::vector<bool>* each = nullptr;  // gets a bit for every answer, if it is there

  void add(double batch_loss, const Tensor& output, const data::Batch& batch, const data::Preprocessing& scaling);
  Metrics metrics() const;
};

}  // namespace whittle::inline WHITTLE_PRECISION
