// Metrics as JSON and as words.
#pragma once

#include <cstdio>
#include <string>

#include "core/json.h"
#include "datasets/registry.h"
#include "train/evaluate.h"

namespace whittle::apps {

// Of the mean squared error, which is always about targets as the data set gives
// them, also where they are standardized for training.
inline std::string mse_unit(const data::DataInfo& about) {
  return "(" + (about.target_unit.empty() ? "target unit" : about.target_unit) + ")^2";
}

inline Json to_json(const Metrics& metrics, const data::DataInfo& about) {
  Json json = {{"loss", metrics.loss}, {"samples", metrics.samples}};
  if (about.regression) {
    json["mse"] = metrics.mse;
    json["mse_unit"] = mse_unit(about);
  } else {
    json["accuracy"] = metrics.accuracy;
  }
  return json;
}

inline std::string sentence(const Metrics& metrics, const data::DataInfo& about) {
  char number[64];
  std::snprintf(number, sizeof(number), about.regression ? "mse %.6g " : "accuracy %.2f %%",
                about.regression ? metrics.mse : 100 * metrics.accuracy);
  return number + (about.regression ? mse_unit(about) : "") + " (n = " + std::to_string(metrics.samples) + ")";
}

}  // namespace whittle::apps
