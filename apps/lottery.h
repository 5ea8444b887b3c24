// `whittle prune --lottery`: what the command line says of it, and doing it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "apps/cli.h"
#include "apps/data_options.h"
#include "apps/pruning.h"
#include "apps/runs/recorder.h"
#include "train/fit.h"

namespace whittle::apps {

struct LotteryArguments {
  bool on = false;
  double share = 0.2;
  int64_t rewind_step = 0;
  std::vector<std::string> controls;
  int64_t look_every = 100;
};

void add_lottery_arguments(CLI::App& verb, LotteryArguments& arguments);

// `model` names a checkpoint of which the architecture, the data and its preparation are taken; initial weights are
// drawn from the fit's seed, as train does. Results go into the folder `out`.
void play_lottery(const LotteryArguments& arguments, const std::string& model, const std::string& out,
                  const PruneSpec& spec, int64_t rounds, const DataArguments& data, const FitOptions& fit, bool quiet,
                  bool json, Recorder& run);

}  // namespace whittle::apps
