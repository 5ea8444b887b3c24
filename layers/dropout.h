// Dropout: in training each element is zero with probability p and scaled by
// 1 / (1 - p) otherwise; in evaluation the identity.
//
// Which elements fall depends on the key of reset() (the run's seed and this
// layer's path) and on how many training calls came before, and on nothing else:
// not on threads, not on other layers. Key and count are saved with the model, so a
// resumed run drops what the uninterrupted one would have dropped.
#pragma once

#include <array>

#include "layers/module.h"

namespace whittle::inline WHITTLE_PRECISION {

struct DropoutOptions {
  double p = 0.5;
};

class Dropout : public Module {
 public:
  using Options = DropoutOptions;
  explicit Dropout(const Options& options = {});
  std::string_view kind() const override { return "dropout"; }
  std::string details() const override;
  const Options& options() const { return options_; }
  void reset(RngKey key) override;

 protected:
  Variable forward(std::span<const Variable> inputs) override;

 private:
  Options options_;
  std::array<int64_t, 3> position_{};  // saved as "position": seed, stream, training calls so far
};

}  // namespace whittle::inline WHITTLE_PRECISION
