#include "layers/sequential.h"

#include "core/error.h"

namespace whittle::inline WHITTLE_PRECISION {

Sequential& Sequential::add(std::string name, std::shared_ptr<Module> module) {
  steps_.push_back(add_module(std::move(name), std::move(module)));
  return *this;
}

Variable Sequential::forward(std::span<const Variable> inputs) {
  require(!steps_.empty(), "sequential", "there is no step to take: it is empty");
  Variable x = inputs[0];
  for (const auto& step : steps_) {
    x = (*step)(x);
  }
  return x;
}

}  // namespace whittle::inline WHITTLE_PRECISION
