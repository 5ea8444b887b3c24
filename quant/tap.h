// Looking at what a layer reads while a model runs.
#pragma once

#include <functional>
#include <memory>
#include <string_view>
#include <utility>

#include "core/json_fwd.h"
#include "core/parameter.h"

namespace whittle::inline WHITTLE_PRECISION::quant {

// Sees what passes, and lets it pass. In front of any quantizer of the same chain.
class Tap : public Transform {
 public:
  explicit Tap(std::function<void(const Variable&)> look) : look_(std::move(look)) {}
  std::string_view kind() const override { return "tap"; }
  Stage stage() const override { return Stage::kMask; }
  Variable apply(const Variable& x) override {
    look_(x);
    return x;
  }
  Json spec() const override;

 private:
  std::function<void(const Variable&)> look_;
};

// While it lives, in the chain.
class Plugged {
 public:
  Plugged(TransformChain& chain, const std::shared_ptr<Transform>& transform)
      : chain_(&chain), stage_(transform->stage()) {
    chain.attach(transform);
  }
  ~Plugged() { chain_->detach(stage_); }
  Plugged(const Plugged&) = delete;
  Plugged& operator=(const Plugged&) = delete;

 private:
  TransformChain* chain_;
  Stage stage_;
};

}  // namespace whittle::inline WHITTLE_PRECISION::quant
