// Lottery tickets (Frankle and Carbin 2019; Frankle et al. 2019): is there a small net
// inside the large one that trains as well, from the same initial weights, alone?
//
//   train the dense net; then, round by round: take `share` of the weights that are left, the
//   smallest of each layer; put the others back to what they were at the beginning, or at step k; train again
//
// What is found is told apart from luck by two controls that train in every round beside the ticket:
//
//   reinitialized   the ticket's mask, other initial weights
//   random mask     the ticket's initial weights and number of weights in each layer, other positions
//
// Every net trains the same number of steps on the same data in the same order, and
// gives a row: the step with the lowest validation loss ("early stop"), the test accuracy of that
// step and of the last one. A folder holds all of it as ordinary checkpoints, and whoever was stopped, at
// any moment, goes on there and ends with the same bytes:
//
//   start.safetensors                        the initial weights
//   step.safetensors                         the training state at step k, if that is where weights go back to
//   round-03.safetensors                     the trained net of round 3 with its mask, and its row; round-00 is dense
//   round-03-reinitialized.safetensors, round-03-random-mask.safetensors
//   rounds.csv                               the rows
//
// It prunes single weights by magnitude. Rewinding to step k restores all of that step, momentum and
// the place in the data included, and trains the remaining steps.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/json_fwd.h"
#include "prune/select.h"
#include "train/fit.h"

namespace whittle::inline WHITTLE_PRECISION::compress {

enum class LotteryNet : uint8_t { kTicket, kReinitialized, kRandomMask };
std::string_view name_of(LotteryNet net);             // "ticket", "reinitialized", "random-mask"
LotteryNet lottery_net_named(std::string_view name);  // throws and names what there is

struct LotteryOptions {
  std::filesystem::path folder{};  // made if need be; one that holds a lottery needs fit.resume
  double share = 0.2;              // of the weights left, in each round
  int64_t rounds = 15;
  double last_factor = 0.5;  // the last layer's part of the share: 0 spares it. Global scope: 0 or 1
  prune::Scope scope = prune::Scope::kLocal;
  std::vector<std::string> include{};  // as in prune::TargetOptions
  std::vector<std::string> skip{};
  int64_t rewind_step = 0;             // k; 0: the initial weights
  std::vector<LotteryNet> controls{};  // beside the ticket
  int64_t look_every = 100;            // steps between two looks at the validation set
  FitOptions fit{};                    // of each net; without out, patience and ema. `stop` and `resume` are heeded
};

struct LotteryRow {
  int64_t round = 0;  // 0: dense
  LotteryNet net = LotteryNet::kTicket;
  int64_t weights = 0;  // of all convolutions and linear layers
  int64_t kept = 0;
  int64_t steps = 0;      // of the whole training
  int64_t stop_step = 0;  // with the lowest validation loss
  Metrics stop_validation{};
  Metrics stop_test{};  // at that step
  Metrics test{};       // at the end
};
Json to_json(const LotteryRow& row);

struct LotteryResult {
  std::vector<LotteryRow> rows;  // by round, the ticket before the controls
  bool interrupted = false;      // by fit.stop
};

// `model` holds the initial weights and no transforms; afterwards the last ticket, trained. `input` is the shape of a
// batch of one. The controls draw from fit.seed. `report` is told each row, also those that were there already.
LotteryResult lottery(Module& model, const Shape& input, const data::Splits& splits, const LotteryOptions& options,
                      const std::function<void(const LotteryRow&)>& report = {}, FitObserver* observer = nullptr);

}  // namespace whittle::inline WHITTLE_PRECISION::compress
