#include "apps/lottery.h"

#include <unistd.h>

#include <cstdio>
#include <iostream>

#include "apps/metrics_text.h"
#include "apps/models.h"
#include "apps/program.h"
#include "apps/stopping.h"
#include "apps/text.h"
#include "compress/lottery.h"
#include "core/checkpoint.h"
#include "core/error.h"
#include "core/json.h"
#include "train/progress.h"

namespace whittle::apps {

namespace {

std::string line_of(const compress::LotteryRow& row, const data::DataInfo& about) {
  const auto value = [&](const Metrics& m) { return about.regression ? m.mse : 100 * m.accuracy; };
  const double share = 100 * static_cast<double>(row.kept) / static_cast<double>(row.weights);
  char line[200];
  std::snprintf(line, sizeof(line), "%5lld  %-13s  %9lld  %7.2f %%  %9lld  %10.6g  %10.6g\n",
                static_cast<long long>(row.round), std::string(name_of(row.net)).c_str(),
                static_cast<long long>(row.kept), share, static_cast<long long>(row.stop_step), value(row.stop_test),
                value(row.test));
  return line;
}

}  // namespace

void add_lottery_arguments(CLI::App& verb, LotteryArguments& arguments) {
  verb.add_flag("--lottery", arguments.on,
                "Look for lottery tickets: --rounds of training from the same initial weights, each with --share "
                "less of the weights. --out is a folder");
  verb.add_option("--share", arguments.share, "Of the weights that are left, gone in each round")
      ->capture_default_str();
  verb.add_option("--rewind-step", arguments.rewind_step,
                  "Go back to the weights of this step, not to the initial ones")
      ->capture_default_str();
  verb.add_option("--controls", arguments.controls, "reinitialized,random-mask: nets to compare each ticket with")
      ->delimiter(',')
      ->allow_extra_args(false);
  verb.add_option("--look-every", arguments.look_every, "Steps between two looks at the validation loss")
      ->capture_default_str();
}

void play_lottery(const LotteryArguments& arguments, const std::string& model, const std::string& out,
                  const PruneSpec& spec, int64_t rounds, const DataArguments& data, const FitOptions& fit, bool quiet,
                  bool json, Recorder& run) {
  const Checkpoint checkpoint = load_net("prune", model);
  const zoo::Description description = zoo::description_of(checkpoint);
  const SavedData saved = data_of("prune", model, checkpoint, data);
  const data::Splits& splits = saved.splits;
  const data::DataInfo about = saved.arguments.info();
  const std::shared_ptr<Module> net = zoo::build(description);
  initialize(*net, {.seed = fit.seed});

  compress::LotteryOptions options{.folder = out,
                                   .share = arguments.share,
                                   .rounds = rounds,
                                   .last_factor = spec.last == "spare"  ? 0.0
                                                  : spec.last == "half" ? 0.5
                                                                        : 1.0,
                                   .scope = spec.scope == "global" ? prune::Scope::kGlobal : prune::Scope::kLocal,
                                   .include = spec.include,
                                   .skip = spec.skip,
                                   .rewind_step = arguments.rewind_step,
                                   .look_every = arguments.look_every,
                                   .fit = fit};
  for (const std::string& control : arguments.controls) {
    options.controls.push_back(compress::lottery_net_named(control));
  }
  options.fit.stop = StopOnSignal::asked();
  options.fit.metadata = {{zoo::kModelKey, zoo::to_text(description)},
                          {kDataKey, saved.arguments.text()},
                          {kPreprocessingKey, data::to_json(splits.train.preprocessing())}};
  run.begin({.model = description.name, .data = saved.arguments.name, .from = model});
  Progress progress(std::cout, {.terminal = true, .classification = !about.regression});
  if (!quiet) {
    std::cout << "round  net            weights       left    stopped at  test "
              << (about.regression ? "mse" : "accuracy") << "    at the end\n";
  }
  const compress::LotteryResult result = [&] {
    const StopOnSignal stopping;
    return compress::lottery(
        *net, one_sample(splits.train.sample_shape()), splits, options,
        [&](const compress::LotteryRow& row) {
          if (!quiet) {
            std::cout << line_of(row, about) << std::flush;
          }
        },
        !quiet && isatty(STDOUT_FILENO) != 0 ? &progress : nullptr);
  }();
  if (result.interrupted) {
    throw Interrupted(StopOnSignal::signal(), "[prune] interrupted after " + std::to_string(result.rows.size()) +
                                                  " nets; the same command with --resume goes on");
  }
  if (!quiet) {
    std::cout << "nets and rounds.csv are in " << out << '\n';
  }
  Json lines = Json::array();
  for (const compress::LotteryRow& row : result.rows) {
    lines.push_back(compress::to_json(row));
    if (row.net == compress::LotteryNet::kTicket) {
      run.measured(row.test, about, "after");  // that of the last round counts
    }
  }
  const Json all = {{"model", model},
                    {"out", out},
                    {"data", saved.arguments.name},
                    {"net", description.name},
                    {"share", arguments.share},
                    {"rewind_step", arguments.rewind_step},
                    {"rows", lines}};
  run.result(all);
  if (json) {
    std::cout << json_line(all) << '\n';
  }
}

}  // namespace whittle::apps
