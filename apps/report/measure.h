// What the page of `whittle report` shows of one model, measured here and now.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "apps/data_options.h"
#include "core/checkpoint.h"
#include "core/json_fwd.h"

namespace whittle::apps::report {

struct MeasureOptions {
  std::filesystem::path program{};  // that was made of the model; empty: one is made in memory, quantized if need be
  int64_t samples = 1000;           // that each accuracy is measured on, spread over the validation data
  int64_t calibration = 256;        // of the training data, for ranges
  int64_t training = 2000;          // of the training data, for one epoch of quantized training; 0: none
  int64_t repeats = 100;            // of each timing
  uint64_t seed = 0;                // of that training
  std::function<void(const std::string&)> progress{};  // what is measured now
};

// The sections "model", "float", "sweeps", "layers", "histograms", "sizes", "techniques" of the document
// (docs/report.md), and "notes": a sentence for each of these that this model cannot have. `file` is the model's, for
// names and messages.
Json measure(const std::string& file, const Checkpoint& checkpoint, const SavedData& saved,
             const MeasureOptions& options);

// What every document begins with: format, version, the command, the time and the machine.
Json heading(const std::string& command, uint64_t seed);

}  // namespace whittle::apps::report
