// A model as a table: one row per leaf call, with shapes, parameters and work.
//
// Plain numbers for programs, text for people. It counts what the float network
// stores and computes; bits, sparsity and files are other folders' business.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "layers/module.h"

namespace whittle::inline WHITTLE_PRECISION {

struct SummaryRow {
  std::string path;
  std::string kind;
  std::string details;
  Shape output;
  int64_t trainable = 0;  // elements of the parameters, counted in the first row that uses them
  int64_t total = 0;      // with states, such as running statistics
  int64_t macs = 0;       // multiply-accumulates for the whole batch, padding included
};

struct Summary {
  Shape input;
  std::vector<SummaryRow> rows;  // in the order of execution
  // Of the whole model, also of what no row shows because it was not called.
  int64_t trainable = 0;
  int64_t total = 0;
  int64_t macs = 0;
};

// `input` is the shape of a batch; take one sample to get the MACs per sample.
Summary summarize(Module& model, const Shape& input);

// The table with a last line of totals; every line ends in a newline.
std::string to_text(const Summary& summary);

// 11181642 -> "11,181,642"
std::string with_thousands(int64_t n);

// Elements of all parameters, and those of all states as well.
int64_t trainable_count(Module& model);
int64_t total_count(Module& model);

}  // namespace whittle::inline WHITTLE_PRECISION
