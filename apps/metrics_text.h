// Metrics as JSON and as words.
#pragma once

#include <cstdio>
#include <string>

#include "core/json.h"
#include "train/evaluate.h"

namespace whittle::apps {

inline Json to_json(const Metrics& metrics, bool classification) {
  Json json = {{"loss", metrics.loss}, {"samples", metrics.samples}};
  json[classification ? "accuracy" : "mse"] = classification ? metrics.accuracy : metrics.mse;
  return json;
}

inline std::string sentence(const Metrics& metrics, bool classification) {
  char text[128];
  std::snprintf(text, sizeof(text), classification ? "accuracy %.2f %% (n = %lld)" : "mse %.6g (n = %lld)",
                classification ? 100 * metrics.accuracy : metrics.mse, static_cast<long long>(metrics.samples));
  return text;
}

}  // namespace whittle::apps
