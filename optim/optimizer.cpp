#include "optim/optimizer.h"

#include <algorithm>
#include <limits>
#include <set>
#include <utility>

#include "core/error.h"
#include "core/parallel.h"
#include "optim/saved_state.h"

namespace whittle::inline WHITTLE_PRECISION::optim {

namespace {

constexpr const char* kKindKey = "optimizer.kind";

// False for NaN, infinity, and what would become infinity as a `real`.
bool usable(double x) { return x >= 0 && x <= static_cast<double>(std::numeric_limits<real>::max()); }

void check_rate(const std::string& kind, double rate) {
  require(usable(rate), kind, "the rate must be a finite number not below 0, got ", rate);
}

void check_parameters(const std::string& kind, std::span<const NamedParameter> parameters) {
  require(!parameters.empty(), kind, "there is no parameter to train");
  std::set<std::string_view> names;
  std::set<const Parameter*> seen;
  for (const auto& [name, parameter] : parameters) {
    require(parameter != nullptr && parameter->defined(), kind, "parameter '", name, "' has no value");
    require(names.insert(name).second, kind, "two parameters are called '", name, "'");
    require(seen.insert(parameter).second, kind, "parameter '", name, "' is listed twice, under different names");
  }
}

}  // namespace

Optimizer::Optimizer(std::string kind, std::vector<NamedParameter> parameters, const Common& common,
                     std::vector<std::string> states)
    : rate(common.rate), kind_(std::move(kind)), parameters_(std::move(parameters)), state_names_(std::move(states)) {
  check_rate(kind_, rate);
  require(usable(common.weight_decay), kind_, "weight decay must be a finite number not below 0, got ",
          common.weight_decay);
  check_parameters(kind_, parameters_);
  for (const NamedParameter& named : parameters_) {
    const Shape& shape = named.parameter->shape();
    const bool decays = (common.decay_vectors || shape.rank() > 1) && (!common.decays || common.decays(named));
    Record record{.shape = shape, .weight_decay = decays ? common.weight_decay : 0};
    for (size_t i = 0; i < state_names_.size(); ++i) {
      record.state.push_back(Tensor::zeros(shape));
    }
    records_.push_back(std::move(record));
  }
  slices_.reserve(parameters_.size());  // a step allocates nothing
  ends_.reserve(parameters_.size());
}

void Optimizer::zero_grad() {
  for (const NamedParameter& named : parameters_) {
    named.parameter->raw.zero_grad();
  }
}

void Optimizer::step() {
  check_rate(kind_, rate);
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const Shape& now = parameters_[i].parameter->shape();
    require(now == records_[i].shape, kind_, "parameter '", parameters_[i].name, "' had shape ", records_[i].shape,
            " and has ", now, " now; make a new optimizer after changing a model");
  }
  ++steps_;
  slices_.clear();
  ends_.clear();
  int64_t elements = 0;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    Variable& raw = parameters_[i].parameter->raw;
    if (!raw.grad().defined()) {
      continue;
    }
    Record& record = records_[i];
    ++record.updates;
    Slice whole{.size = raw.value().elements(),
                .gradient = raw.grad().data(),
                .value = raw.mutable_data(),
                .state = {},
                .weight_decay = record.weight_decay,
                .updates = record.updates};
    for (size_t s = 0; s < record.state.size(); ++s) {
      whole.state[s] = record.state[s].mutable_data();
    }
    slices_.push_back(whole);
    ends_.push_back(elements += whole.size);
  }
  // One parallel region for all of them: most parameters are too small for one of their own. Its tiles are large, for
  // in a small network the whole step takes less time than waking a thread.
  parallel_ranges(elements, 4 * kElementGrain, [this](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(std::ranges::upper_bound(ends_, begin) - ends_.begin()); begin < end; ++i) {
      Slice slice = slices_[i];
      const int64_t skipped = begin - (ends_[i] - slice.size);
      slice.size = std::min(end, ends_[i]) - begin;
      slice.gradient += skipped;
      slice.value += skipped;
      for (size_t s = 0; s < state_names_.size(); ++s) {
        slice.state[s] += skipped;
      }
      update(slice);
      begin += slice.size;
    }
  });
}

void Optimizer::visit_state(const std::function<void(std::string_view name, Tensor& state)>& visit) {
  for (size_t i = 0; i < parameters_.size(); ++i) {
    for (size_t s = 0; s < state_names_.size(); ++s) {
      visit(parameters_[i].name + "." + state_names_[s], records_[i].state[s]);
    }
  }
}

SavedState Optimizer::saved_state() {
  SavedState saved(kind_, "optimizer/");
  // "step" and "rate" cannot meet a parameter of that name: its keys end in ".something".
  saved.add("step", steps_);
  saved.add("rate", rate);
  for (size_t i = 0; i < parameters_.size(); ++i) {
    saved.add(parameters_[i].name + ".updates", records_[i].updates);
  }
  visit_state([&saved](std::string_view name, Tensor& state) { saved.add(std::string(name), state); });
  return saved;
}

void Optimizer::store(Checkpoint& checkpoint) const {
  const_cast<Optimizer*>(this)->saved_state().store(checkpoint);  // one list serves both ways; storing only reads
  checkpoint.metadata[kKindKey] = kind_;
}

void Optimizer::restore(const Checkpoint& checkpoint) {
  const auto written = checkpoint.metadata.find(kKindKey);
  require(written != checkpoint.metadata.end(), kind_, "the checkpoint holds no optimizer");
  require(written->second == kind_, kind_, "the checkpoint was written by '", written->second, "'");
  saved_state().restore(checkpoint);
}

}  // namespace whittle::inline WHITTLE_PRECISION::optim
