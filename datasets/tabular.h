// From a table to a data set: which columns are inputs, which is the target, how text
// becomes numbers. Scaling comes after the split (split.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "datasets/dataset.h"
#include "datasets/table.h"

namespace whittle::inline WHITTLE_PRECISION::data {

struct TabularOptions {
  std::string name = "table";
  std::string target;               // column to predict
  bool classify = true;             // the target's distinct values are classes; otherwise it is a number
  std::vector<std::string> drop{};  // columns that are not inputs
  double target_divisor = 1;        // regression: target = cell / target_divisor
  double trim_low = 0;              // regression: keep the rows whose target lies between these quantiles
  double trim_high = 1;             //   (linear interpolation), both ends included

  // The inputs a trained network expects, from its Preprocessing: then `drop` is not looked at
  // a category that the table lacks is an input that is always 0, and one that they lack is refused.
  std::vector<InputColumn> columns{};
  std::vector<std::string> classes{};  // its classes, likewise: a row of none of them is refused
};

struct Tabular {
  Dataset data;
  std::vector<int64_t> rows;  // table row of each sample: all of them unless rows were trimmed
};

// Inputs are the one-hot categories of text columns first, sorted, then the numeric
// columns in the table's order. Classes are sorted too: bytewise for text, by value for
// numbers, which must be whole.
Tabular make_dataset(const Table& table, const TabularOptions& options);

// Rows for a trained network, prepared as it wants them. There need be no target, and the samples have none: their
// labels or targets are 0. A category that the network does not know is refused.
Dataset make_inputs(const Table& table, const Preprocessing& network);

// The q-quantile of values by linear interpolation between order statistics (NumPy's default).
double quantile(std::vector<double> values, double q);

}  // namespace whittle::inline WHITTLE_PRECISION::data
