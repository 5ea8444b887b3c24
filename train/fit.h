// The training loop: epochs of batches, metrics, the best and the last state on
// disk, and a way back after any stop.
//
//   FitResult result = fit(*model, splits, {.epochs = 10, .rate = 0.05, .out = "m.safetensors"});
//
// The state on disk is complete: a run that was stopped and resumed, at an epoch's
// end or in the middle of one, ends with the same bits as one that was not. Two
// files are written beside each other:
//
//   m.safetensors         the best model so far, by the validation metric
//   m.safetensors.last    where training stands; .last.1 is the one before it
//
// fit() prints nothing; it reports to the observer it is given (train/progress.h
// has one for terminals and logs). It does not draw initial weights: initialize()
// does, once, before.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/checkpoint.h"
#include "core/json_fwd.h"
#include "core/parameter.h"
#include "datasets/dataset.h"
#include "datasets/loader.h"
#include "layers/module.h"
#include "train/distill.h"
#include "train/evaluate.h"

namespace whittle::inline WHITTLE_PRECISION {

struct EpochRecord {
  int64_t epoch = 0;   // from 1
  double rate = 0;     // of the last step
  Metrics train;       // running: of the batches as they were trained on, augmented
  Metrics validation;  // samples == 0 if there is no validation set
  double seconds = 0;  // of this epoch, in the run that ended it
  bool best = false;
};

struct StepReport {
  int64_t epoch = 0;  // from 1
  int64_t epochs = 0;
  int64_t step = 0;  // within the epoch, from 1
  int64_t steps = 0;
  double loss = 0;  // mean of the epoch so far
  double samples_per_second = 0;
  double seconds_left = 0;  // of the whole training, at this pace
};

class FitObserver {
 public:
  virtual ~FitObserver() = default;
  virtual void begin() {}                                // a training, perhaps one of several
  virtual void note(const std::string& /*sentence*/) {}  // "resumed at epoch 3, ..."
  virtual void step(const StepReport& /*report*/) {}
  virtual void epoch(const EpochRecord& /*record*/) {}
};

// What else happens while a model trains, such as pruning it step by step. All may be
// empty; all are called on the thread of fit(). Steps count from the beginning of training,
// over all runs of one that is resumed.
struct FitHooks {
  struct Point {
    int64_t step = 0;   // optimizer steps done
    int64_t steps = 0;  // of the whole training
    double rate = 0;    // of the last step done
  };
  std::function<void(const Point&)> after_backward{};  // the gradients are there, clipped; the step comes next
  std::function<void(const Point&)> after_step{};
  // May the model of this point be kept as the best? What is still being made sparse is
  // better than what comes out, and no use. Patience waits until one may.
  std::function<bool(const Point&)> may_keep{};
  // What hooks remember of their own, under names that begin with "train/", for resuming.
  std::function<void(Checkpoint&)> store{};
  std::function<void(const Checkpoint&)> restore{};
};

// Each in turn; a model is kept if both allow it.
FitHooks both(const FitHooks& first, const FitHooks& second);

// The last epoch's model is kept, whatever the validation data say: nothing is chosen by them.
FitHooks keep_last();

struct FitOptions {
  int64_t epochs = 10;
  int64_t batch = 64;
  uint64_t seed = 0;  // of the order of samples and of augmentation
  int workers = 1;    // threads that prepare batches
  data::AugmentOptions augment{};

  std::string optimizer = "sgd";  // "sgd", "adam", "adamw"
  double rate = 0.05;
  double momentum = 0.9;  // sgd
  bool nesterov = false;  // sgd
  double weight_decay = 0;
  bool decay_vectors = false;         // also biases and norm parameters
  std::string schedule = "constant";  // as optim::Schedule::parse takes it
  double clip_norm = 0;               // 0: off
  double label_smoothing = 0;
  Distillation distillation{};  // a teacher, if there is one
  double ema = 0;               // decay of the averaged weights, which are then the model that is kept; 0: off

  int64_t patience = 0;  // stop after so many epochs without a better validation metric; 0: never

  std::filesystem::path out{};                    // empty: nothing is written
  bool resume = false;                            // go on from out's last state, if there is one
  std::filesystem::path log{};                    // CSV, a line per epoch; empty: none
  std::map<std::string, std::string> metadata{};  // for the checkpoints: what model and data are; resume compares

  FitHooks hooks{};
  const TransformKinds* kinds = nullptr;    // to rebuild transforms on resume; null: none are known
  const std::atomic<bool>* stop = nullptr;  // set by a signal handler: save and return
};

// What can be said without data: throws Error if an option is out of range or makes
// no sense, alone or with another, or a file of it has no folder. fit() does this first.
void check_options(const FitOptions& options);

struct FitResult {
  std::vector<EpochRecord> history;  // of all epochs, resumed ones too
  int64_t best_epoch = 0;            // from 1; 0: none might be kept
  int64_t steps = 0;
  bool interrupted = false;  // by options.stop; resume goes on
  bool stopped_early = false;
};

// What decides the bits of a training, so that one that goes on can be compared with the one that began.
Json settings_of(const FitOptions& options, const data::Splits& splits);

// Trains the model in place. At the end it holds the last weights, or the averaged
// ones with ema; the best are on disk.
//
// Throws Error if the data does not fit the model or the options are wrong, before
// the first step; and if the loss or a gradient stops being finite, naming the step
// and the first layer, after which the files hold what they held before.
FitResult fit(Module& model, const data::Splits& splits, const FitOptions& options, FitObserver* observer = nullptr);

// Metadata keys of fit()'s files: in both, the epoch a model is of, with its metrics;
// in the last state alone, what resuming needs.
inline constexpr const char* kMetricsKey = "whittle.metrics";
inline constexpr const char* kTrainingKey = "whittle.training";

// The epoch of the best model, as its file has it; nothing in a file of another
// origin. `seconds` is 0: the same training gives the same bytes, however long it takes.
std::optional<EpochRecord> best_record(const Checkpoint& checkpoint);

// Where `out`'s resumable state is.
std::filesystem::path last_state_path(const std::filesystem::path& out);

// The path of the first leaf whose result on these inputs is not finite, or ""
// if all are. Runs the model's leaves once, without recording.
std::string first_non_finite_layer(Module& model, const Tensor& inputs);

}  // namespace whittle::inline WHITTLE_PRECISION
