// Arrays to quantize: of several shapes, and as a weight looks.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "core/rng.h"

namespace whittle {

inline std::vector<float> normal_array(int64_t n, RngKey key, double mean = 0, double deviation = 1) {
  std::vector<float> values;
  for (int64_t i = 0; i < n; ++i) {
    values.push_back(static_cast<float>(mean + deviation * normal(key, static_cast<uint64_t>(i))));
  }
  return values;
}

inline std::vector<float> laplace_array(int64_t n, RngKey key) {
  std::vector<float> values;
  for (int64_t i = 0; i < n; ++i) {
    const double u = uniform(key, static_cast<uint64_t>(i)) - 0.5;
    values.push_back(static_cast<float>((u < 0 ? 1 : -1) * std::log(1 - 2 * std::abs(u) + 1e-300)));
  }
  return values;
}

// Small arrays with what is awkward about them.
struct Sample {
  std::string name;
  std::vector<float> values;
};
inline std::vector<Sample> samples(RngKey key) {
  std::vector<float> sparse = normal_array(60, key.child("sparse"));
  for (size_t i = 0; i < sparse.size(); i += 2) {
    sparse[i] = 0;
  }
  std::vector<float> positive = normal_array(60, key.child("positive"), 5, 0.5);
  return {
      {"normal", normal_array(120, key.child("normal"), 0.01, 0.3)},
      {"laplace", laplace_array(120, key.child("laplace"))},
      {"half zeros", sparse},
      {"positive", positive},
      {"two values", {-0.25F, 0.5F, 0.5F, -0.25F}},
      {"one value", {0.7F}},
      {"constant", std::vector<float>(12, -1.5F)},
      {"zeros", std::vector<float>(12, 0.0F)},
      {"outlier", {0.01F, -0.02F, 0.03F, 0.005F, -0.01F, 0.02F, 100.0F, 0.0F}},
      {"tiny", {1e-42F, -3e-42F, 2e-45F, 0.0F}},
      {"huge", {1e36F, -1.1e36F, 3e35F, 0.0F}},
  };
}

}  // namespace whittle
