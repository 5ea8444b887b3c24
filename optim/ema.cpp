#include "optim/ema.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "core/error.h"
#include "core/parallel.h"
#include "optim/saved_state.h"

namespace whittle::inline WHITTLE_PRECISION::optim {

namespace {

constexpr const char* kOp = "ema";
constexpr const char* kUpdates = "updates";

}  // namespace

Ema::Ema(std::vector<NamedParameter> parameters, const EmaOptions& options, std::vector<NamedTensor> tensors)
    : options_(options) {
  require(options.decay >= 0 && options.decay < 1, kOp, "decay must be in [0, 1), got ", options.decay);
  for (NamedParameter& named : parameters) {
    require(named.parameter != nullptr && named.parameter->defined(), kOp, "parameter '", named.name, "' has no value");
    add(std::move(named.name), named.parameter, nullptr);
  }
  for (NamedTensor& named : tensors) {
    require(named.tensor != nullptr && named.tensor->defined(), kOp, "tensor '", named.name, "' has no value");
    add(std::move(named.name), nullptr, named.tensor);
  }
  require(!averages_.empty(), kOp, "there is nothing to average");
}

void Ema::add(std::string name, Parameter* parameter, Tensor* tensor) {
  require(name != kUpdates, kOp, "'", name, "' is the checkpoint's name for the number of updates, not for a weight");
  require(std::ranges::find(averages_, name, &Average::name) == averages_.end(), kOp, "two weights are called '", name,
          "'");
  Average added{.name = std::move(name), .parameter = parameter, .tensor = tensor, .average = {}};
  added.average = added.source().clone();
  averages_.push_back(std::move(added));
}

void Ema::require_swapped_out(const char* what) const {
  require(!swapped_in_, kOp, "cannot ", what, " while the averages are swapped in");
}

void Ema::update() {
  require_swapped_out("update");
  for (const Average& a : averages_) {
    require(a.source().shape() == a.average.shape(), kOp, "'", a.name, "' had shape ", a.average.shape(), " and has ",
            a.source().shape(), " now; make a new average after changing a model");
  }
  const auto t = static_cast<double>(updates_++);
  const double decay = options_.warm_up ? std::min(options_.decay, (1 + t) / (10 + t)) : options_.decay;
  for (Average& a : averages_) {
    const real* weight = a.source().data();
    real* average = a.average.mutable_data();
    parallel_ranges(a.average.elements(), kElementGrain,
                    [=, fresh = static_cast<real>(1 - decay)](int64_t begin, int64_t end) {
                      for (int64_t i = begin; i < end; ++i) {
                        average[i] += fresh * (weight[i] - average[i]);
                      }
                    });
  }
}

// A parameter's elements are exchanged, because every copy of its Variable must see
// the change; a plain tensor's storage is not ours to write to, so handles are.
void Ema::swap() noexcept {
  swapped_in_ = !swapped_in_;
  for (Average& a : averages_) {
    if (a.parameter == nullptr) {
      std::swap(*a.tensor, a.average);
      continue;
    }
    assert(a.parameter->shape() == a.average.shape());
    std::swap_ranges(a.average.mutable_data(), a.average.mutable_data() + a.average.elements(),
                     a.parameter->raw.mutable_data());
  }
}

void Ema::visit_state(const std::function<void(std::string_view name, Tensor& average)>& visit) {
  for (Average& a : averages_) {
    visit(a.name, a.average);
  }
}

SavedState Ema::saved_state() {
  SavedState saved(kOp, "ema/");
  saved.add(kUpdates, updates_);
  visit_state([&saved](std::string_view name, Tensor& average) { saved.add(std::string(name), average); });
  return saved;
}

void Ema::store(Checkpoint& checkpoint) const {
  require_swapped_out("store");
  const_cast<Ema*>(this)->saved_state().store(checkpoint);  // one list serves both ways; storing only reads
}

void Ema::restore(const Checkpoint& checkpoint) {
  require_swapped_out("restore");
  saved_state().restore(checkpoint);
}

EmaScope::EmaScope(Ema& ema) : ema_(ema) {
  ema.require_swapped_out("swap in");
  for (const Ema::Average& a : ema.averages_) {
    require(a.source().shape() == a.average.shape(), kOp, "'", a.name, "' had shape ", a.average.shape(), " and has ",
            a.source().shape(), " now; make a new average after changing a model");
  }
  ema.swap();
}

EmaScope::~EmaScope() { ema_.swap(); }

}  // namespace whittle::inline WHITTLE_PRECISION::optim
