#include "prune/schedule.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/error.h"

namespace whittle::inline WHITTLE_PRECISION::prune {

double compounded_amount(double share, int64_t rounds) {
  require(share >= 0 && share < 1, "prune", "the share ", share, " of a round is not in [0, 1)");
  require(rounds >= 0, "prune", rounds, " rounds are not possible");
  return 1 - std::pow(1 - share, static_cast<double>(rounds));
}

double iterative_amount(double amount, int64_t round, int64_t rounds, double factor) {
  require(amount >= 0 && amount < 1, "prune", "the amount ", amount, " is not in [0, 1)");
  require(rounds >= 1 && round >= 1 && round <= rounds, "prune", "round ", round, " of ", rounds,
          " is no round of at least one");
  require(factor >= 0 && factor <= 1, "prune", "the factor ", factor, " of the rate is outside [0, 1]");
  if (round == rounds && factor == 1) {
    return amount;  // exactly, so that the last count is the one asked for
  }
  const double share = 1 - std::pow(1 - amount, 1 / static_cast<double>(rounds));  // of each round
  return compounded_amount(factor * share, round);
}

double iterative_amount(double amount, int64_t round, int64_t rounds) {
  return iterative_amount(amount, round, rounds, 1);
}

void Gradual::check() const {
  require(initial >= 0 && initial <= amount && amount < 1, "prune", "gradual pruning from ", initial, " to ", amount,
          " does not go upwards within [0, 1)");
  require(begin >= 0 && end > begin, "prune", "gradual pruning from step ", begin, " to step ", end,
          " has no step to take");
  require(every >= 1, "prune", "gradual pruning every ", every, " steps is not possible");
}

bool Gradual::due(int64_t step) const {
  return step == end || (step >= begin && step < end && (step - begin) % every == 0);
}

double Gradual::amount_at(int64_t step) const {
  if (step >= end) {
    return amount;
  }
  const double left = 1 - static_cast<double>(std::max(step, begin) - begin) / static_cast<double>(end - begin);
  return step < begin ? 0 : amount + (initial - amount) * left * left * left;
}

GradualPruner::GradualPruner(Module& model, const Shape& input, std::vector<Target> targets, const Gradual& schedule,
                             SelectOptions selection, std::function<Scores(std::span<const Target>)> score)
    : model_(model),
      input_(input),
      targets_(std::move(targets)),
      schedule_(schedule),
      selection_(std::move(selection)),
      score_(std::move(score)) {
  schedule_.check();
  require(selection_.amounts.empty() && !selection_.count.has_value(), "prune",
          "gradual pruning has one amount for all layers");
}

bool GradualPruner::operator()(int64_t step) {
  if (!schedule_.due(step)) {
    return false;
  }
  selection_.amount = schedule_.amount_at(step);
  attach(model_, select(model_, input_, targets_, score_(targets_), selection_));
  return true;
}

void rewind(Module& model, const Checkpoint& checkpoint) {
  std::vector<std::pair<Parameter*, Tensor>> values;
  for (const auto& [name, parameter] : model.parameters()) {
    values.emplace_back(parameter, checkpoint.at(name).to_tensor());
    require(values.back().second.shape() == parameter->shape(), "rewind", "'", name, "' has shape ",
            values.back().second.shape(), " in the checkpoint and ", parameter->shape(), " in the model");
  }
  std::vector<std::pair<Tensor*, Tensor>> states;
  for (const auto& [name, state] : model.states()) {
    states.emplace_back(state, checkpoint.at(name).to_tensor());
    require(states.back().second.shape() == state->shape(), "rewind", "'", name, "' has shape ",
            states.back().second.shape(), " in the checkpoint and ", state->shape(), " in the model");
  }
  std::vector<std::pair<std::span<int64_t>, std::vector<int64_t>>> integers;
  for (const auto& [name, numbers] : model.integers()) {
    integers.emplace_back(numbers, checkpoint.at(name).to_integers());
    require(integers.back().second.size() == numbers.size(), "rewind", "'", name, "' has ",
            integers.back().second.size(), " numbers in the checkpoint and ", numbers.size(), " in the model");
  }
  for (auto& [parameter, value] : values) {
    parameter->raw.assign(value);
  }
  for (auto& [state, value] : states) {
    *state = std::move(value);
  }
  for (const auto& [numbers, value] : integers) {
    std::ranges::copy(value, numbers.begin());
  }
}

}  // namespace whittle::inline WHITTLE_PRECISION::prune
