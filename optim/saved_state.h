// State that a checkpoint must bring back bit for bit: tensors, counts and
// numbers under one prefix. Shared by the optimizers and the weight average;
// internal to optim/.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "core/checkpoint.h"

namespace whittle::inline WHITTLE_PRECISION::optim {

// A list of references to what is saved. Tensors are stored as they are, counts
// as I64 and numbers as F64 scalars.
class SavedState {
 public:
  // `op` names the owner in errors; `prefix` ("optimizer/") begins every key.
  SavedState(std::string op, std::string prefix) : op_(std::move(op)), prefix_(std::move(prefix)) {}

  void add(std::string name, Tensor& tensor) { entries_.push_back({prefix_ + std::move(name), &tensor}); }
  void add(std::string name, int64_t& count) { entries_.push_back({prefix_ + std::move(name), &count}); }
  void add(std::string name, double& number) { entries_.push_back({prefix_ + std::move(name), &number}); }

  // Replaces everything under the prefix.
  void store(Checkpoint& checkpoint) const;

  // All or nothing: every entry must be there with the right shape and type, and
  // nothing else may stand under the prefix, before the first one changes.
  void restore(const Checkpoint& checkpoint) const;

 private:
  struct Entry {
    std::string key;
    std::variant<Tensor*, int64_t*, double*> target;
  };

  std::string op_;
  std::string prefix_;
  std::vector<Entry> entries_;
};

}  // namespace whittle::inline WHITTLE_PRECISION::optim
