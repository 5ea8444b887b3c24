// Modules one after another.
//
//   Sequential net;
//   net.add<Linear>("fc1", {.in = 2, .out = 16, .act = Act::kRelu});
//   net.add<Linear>("fc2", {.in = 16, .out = 2});
#pragma once

#include <concepts>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "layers/leaves.h"
#include "layers/module.h"

namespace whittle::inline WHITTLE_PRECISION {

class Sequential : public Module {
 public:
  std::string_view kind() const override { return "sequential"; }

  // Steps without a name are called by their position: "0", "1", ...
  Sequential& add(std::string name, std::shared_ptr<Module> module);
  Sequential& add(std::shared_ptr<Module> module) { return add(std::to_string(steps_.size()), std::move(module)); }

  // Makes an M from its options, if it has any, and adds it.
  template <class M>
  M& add(std::string name, const typename M::Options& options) {
    const auto module = std::make_shared<M>(options);
    add(std::move(name), std::shared_ptr<Module>(module));
    return *module;
  }
  template <class M>
  requires std::default_initializable<M> M& add(std::string name) {
    const auto module = std::make_shared<M>();
    add(std::move(name), std::shared_ptr<Module>(module));
    return *module;
  }
  template <class M>
  M& add(const typename M::Options& options) {
    return add<M>(std::to_string(steps_.size()), options);
  }
  template <class M>
  requires std::default_initializable<M> M& add() { return add<M>(std::to_string(steps_.size())); }

 protected:
  Variable forward(std::span<const Variable> inputs) override;

 private:
  std::vector<std::shared_ptr<Module>> steps_;
};

}  // namespace whittle::inline WHITTLE_PRECISION
