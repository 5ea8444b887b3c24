// Cutting a data set into training, validation and test parts, and scaling that looks
// at the training part alone.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "core/rng.h"
#include "datasets/dataset.h"

namespace whittle::inline WHITTLE_PRECISION::data {

// 0 .. n-1 in an order that depends on n and the key alone (Fisher-Yates).
std::vector<int64_t> permutation(int64_t n, RngKey key);

// Sample numbers of each part, ascending.
struct SplitIndices {
  std::vector<int64_t> train;
  std::vector<int64_t> validation;
  std::vector<int64_t> test;
};

struct SplitOptions {
  double validation = 0.2;  // shares of the whole, rounded to the nearest count
  double test = 0.2;
  uint64_t seed = 0;
};
SplitIndices split_at_random(int64_t samples, const SplitOptions& options);

// One character per sample, each on a line of its own or all on one: 0 training,
// 1 validation, 2 test, - not used. There must be exactly `samples` of them.
SplitIndices read_split(const std::filesystem::path& path, int64_t samples);

// The 60/20/20 split of the Edge project: NumPy's legacy generator with seed 0 draws 40 %,
// then halves them into test and validation.
SplitIndices edge_split(int64_t samples);

// At most `samples` positions that stand for a set: of each class its share, from all over the set, in the set's order.
// Files are often sorted, and their first samples are of one class then; or classes take turns, and every fifth sample
// is of one of two.
std::vector<int64_t> spread_over(const Dataset& data, int64_t samples);

// Refuses an empty training part, one that knows a single class, and an index that
// does not exist. Validation and test may be empty.
Splits split(const Dataset& data, const SplitIndices& indices);

// ---- Scaling ------------------------------------------------------------------------

enum class Scale {
  kNone,
  kStandardize,  // mean 0 and population deviation 1
  kMinMax,       // smallest 0, largest 1
};

// Centre and spread per channel or column, found on `data`, in the units it stores.
// Columns of one-hot categories are left alone; a column that never changes gets
// spread 1. The target, if asked for, is standardised.
struct FitOptions {
  Scale inputs = Scale::kStandardize;
  bool target = false;
};
Preprocessing fit_scaling(const Dataset& data, const FitOptions& options);

// All parts scaled by what was found on the training part.
Splits scale_by_training_part(const Splits& splits, const FitOptions& options);

}  // namespace whittle::inline WHITTLE_PRECISION::data
