#include "layers/dropout.h"

#include <sstream>

#include "core/error.h"

namespace whittle::inline WHITTLE_PRECISION {

Dropout::Dropout(const Options& options) : options_(options) {
  require(options.p >= 0 && options.p < 1, "dropout", "p ", options.p, " is outside [0, 1)");
  add_integers("position", position_);
}

std::string Dropout::details() const {
  std::ostringstream text;
  text << "p " << options_.p;
  return text.str();
}

void Dropout::reset(RngKey key) { position_ = {static_cast<int64_t>(key.seed), static_cast<int64_t>(key.stream), 0}; }

Variable Dropout::forward(std::span<const Variable> inputs) {
  if (!training()) {
    return inputs[0];
  }
  const RngKey key{.seed = static_cast<uint64_t>(position_[0]), .stream = static_cast<uint64_t>(position_[1])};
  const auto call = static_cast<uint64_t>(position_[2]++);
  return dropout(inputs[0], static_cast<real>(options_.p), key.child("dropout").child(call));
}

}  // namespace whittle::inline WHITTLE_PRECISION
