// The smallest program that keeps a promise: "at most so many points of accuracy lost, with so much confidence".
//
// A ladder of candidates, each thinner than the one before:
//
//   int8      the float model, quantized after training (static, eight bits): always possible, never given up for worse
//   rung k    weights of layers of rung k - 1 rounded to 4 bits, and channels taken out, whatever the loss minds
//             least for what it saves (thin.h), until the predicted cost is factor^k of int8's; if channels went,
//             trained again in float with the original as teacher (train/distill.h); then quantized in two ways:
//             after training, and by further epochs of quantization-aware training. The one with the lower loss on
//             training data stays
//
// Every candidate is lowered to a program, and the program itself answers the validation samples. How long the ladder
// is climbed and what is kept says candidate.h; test data are never looked at, and validation data by nothing but the
// test: each training ends with its last epoch.
//
// What layers give has eight bits throughout. Fewer bits of weights make a program smaller, not faster: where the
// target is latency, weights have eight, too.
//
// Everything finished is in a folder, and whoever was stopped, at any moment, goes on there and ends with the same
// bytes:
//
//   state.json                   the settings, and what became of each candidate
//   rung-02.float.safetensors    the net that rung 3 begins with (and its state of training, .last, while it trains)
//   rung-02.safetensors          its quantized form
//   rung-02.wtl                  the program
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "compress/candidate.h"
#include "compress/latency.h"
#include "layers/zoo/zoo.h"
#include "train/fit.h"

namespace whittle::inline WHITTLE_PRECISION::compress {

// How a program does, found by someone who can run one.
struct Answers {
  std::vector<bool> right{};  // on each validation sample
  double latency_us = 0;
};

struct SearchOptions {
  std::filesystem::path folder{};  // made if need be; one that holds a search needs fit.resume
  Promise promise{};
  Target target = Target::kSize;
  int64_t rungs = 8;    // above int8
  double factor = 0.8;  // of the cost, from rung to rung
  int64_t steps = 0;    // of training in all, the same whole number of epochs for each rung; 0: usual_steps()
  FitOptions
      fit{};  // of each rung: without epochs, schedule, kinds, out, patience and ema. `stop` and `resume` are heeded
  int64_t calibration_samples = 512;
  LatencyTable latencies{};  // for targets that look at it; else it may be empty
  std::function<std::string(const Checkpoint& checkpoint)> program_metadata{};  // of what is lowered; may be empty
  std::function<Answers(const std::filesystem::path& program)> run{};
  // What whoever asked calls a setting, for the sentence about one that is another now; empty: as settings are called
  // in state.json.
  std::function<std::string(const std::string& setting)> setting_name{};
};

// An epoch is a pass over the training data.
int64_t steps_per_epoch(const data::Splits& splits, int64_t batch);
// For each rung 8 epochs, and 5000 steps at least.
int64_t usual_steps(const data::Splits& splits, const SearchOptions& options);

struct SearchResult {
  std::vector<Candidate> candidates{};
  double float_accuracy = 0;  // on validation data
  int64_t epochs = 0;         // of each rung
  int64_t steps = 0;          // of training that were spent
  bool interrupted = false;   // by fit.stop
  std::string ended{};        // why the ladder ends, one sentence
};

// Where a candidate lies in the folder: its program, and the quantized net that it was lowered from.
std::filesystem::path candidate_program(const std::filesystem::path& folder, size_t number);
std::filesystem::path candidate_checkpoint(const std::filesystem::path& folder, size_t number);

// Of the search that `folder` holds, if it holds one. Throws Error if what is there is something else.
std::optional<LatencyTable> latencies_begun_with(const std::filesystem::path& folder);

// Measures the ops of the model's int8 program and of evenly thinned ones, so that times of thinner nets lie between.
LatencyTable measure_latencies(Module& model, const zoo::Description& description, const data::Dataset& train,
                               int64_t calibration_samples = 512);

// What can be said before anything is run: throws Error if an option or the data will not do. search() does this first.
void check(const SearchOptions& options, const data::Splits& splits);

// `model` is float, and stays what it is. `report` is told each candidate, also those that were there already.
SearchResult search(Module& model, const zoo::Description& description, const data::Splits& splits,
                    const SearchOptions& options, const std::function<void(const Candidate&)>& report = {},
                    FitObserver* observer = nullptr);

}  // namespace whittle::inline WHITTLE_PRECISION::compress
