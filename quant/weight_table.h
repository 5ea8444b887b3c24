// What quantizing has made of each weight, in figures.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "layers/module.h"

namespace whittle::inline WHITTLE_PRECISION::quant {

struct WeightFigures {
  std::string layer;
  int64_t weights = 0;
  int64_t distinct_codes = 0;  // the most that one run of a grid uses, of one term
  double terms = 1;            // the mean over the runs; above 1 for multi-point alone
  int64_t stored_bits = 0;     // codes, scales, zero-points, codebooks; not the container around them
  double mse = 0;              // mean squared error, against the masked and folded weight
  double sqnr_db = 0;          // 10 log10 of sum w^2 / sum error^2; infinite without an error

  double bits_per_weight() const { return static_cast<double>(stored_bits) / static_cast<double>(weights); }
};

// A row for each convolution and linear layer whose weight is quantized, in the model's order.
std::vector<WeightFigures> weight_table(Module& model);

}  // namespace whittle::inline WHITTLE_PRECISION::quant
