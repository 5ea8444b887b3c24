// What `whittle prune` and `whittle train --prune` share: how to prune, said in words, and
// pruning that goes on inside a training.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/json_fwd.h"
#include "datasets/dataset.h"
#include "prune/schedule.h"
#include "prune/score.h"
#include "prune/select.h"
#include "train/fit.h"

namespace whittle::apps {

struct PruneSpec {
  std::string method = "magnitude";
  std::optional<double> amount{};           // share that is gone at the end
  std::optional<double> sigma{};            // magnitude: a threshold of so many deviations of each layer, instead
  std::optional<double> lambda{};           // l1
  std::map<std::string, double> amounts{};  // by the layer's path
  std::string granularity = "element";
  std::string scope = "local";
  double power = 1;  // of the mean over a block or channel
  std::vector<std::string> include{};
  std::vector<std::string> skip{};
  std::string last = "spare";  // the last layer: spare, half (the share of each round), or same
  uint64_t seed = 0;           // random
  double begin = 0;            // gradual: shares of the training
  double end = 0.75;
  int64_t every = 100;  // steps

  // Throws unless the numbers make sense together. `while_training`: the method runs inside fit().
  void check(bool while_training) const;
  prune::SelectOptions selection() const;  // without amounts
  prune::TargetOptions targets() const;
  Json json() const;  // what a checkpoint remembers

  // "magnitude,amount=0.8,scope=global,begin=0.1,end=0.7,every=50": keys are the fields' names;
  // layers of include and skip are separated by "+".
  static PruneSpec parse(const std::string& text);
};

inline constexpr const char* kPruneKey = "whittle.prune";  // metadata of a checkpoint

// Scores of a method that needs no training; those that need data are told by data_needed().
bool data_needed(const PruneSpec& spec);
struct ScoreData {
  const data::Dataset* data = nullptr;
  int64_t samples = 1024;
  int64_t batch = 32;
};
prune::Scores scores_of(const PruneSpec& spec, Module& model, const std::vector<prune::Target>& targets,
                        const ScoreData& data);

// Prunes while fit() trains: gradually, or by L1 with proximal steps and a mask at the end.
class PruneWhileTraining {
 public:
  // `input` is the shape of a batch of one. All must outlive the training.
  PruneWhileTraining(Module& model, const Shape& input, PruneSpec spec);
  ~PruneWhileTraining();

  FitHooks hooks();  // refers to this object

 private:
  void after_step(const FitHooks::Point& point);
  void finish_l1();
  prune::Gradual schedule(int64_t steps) const;

  Module& model_;
  Shape input_;
  PruneSpec spec_;
  std::vector<prune::Target> targets_;
  std::optional<prune::GradientScores> gradients_;
};

}  // namespace whittle::apps
