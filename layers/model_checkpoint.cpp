#include "layers/model_checkpoint.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "core/error.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

// The names of `tensors` that begin with `prefix`.
std::vector<std::string> names_below(const std::map<std::string, StoredTensor>& tensors, const std::string& prefix) {
  std::vector<std::string> names;
  for (auto it = tensors.lower_bound(prefix); it != tensors.end() && it->first.starts_with(prefix); ++it) {
    names.push_back(it->first);
  }
  return names;
}

}  // namespace

void store_model(Checkpoint& checkpoint, Module& model) {
  store_parameters(checkpoint, model.parameters());
  store_chains(checkpoint, model.activation_chains());
  for (const NamedState& named : model.states()) {
    checkpoint.tensors[named.name] = StoredTensor::from(*named.state);
  }
  for (const NamedIntegers& named : model.integers()) {
    checkpoint.tensors[named.name] = StoredTensor::from({static_cast<int64_t>(named.values.size())}, named.values);
  }
}

namespace {

// "a, b, c and 4 more"
std::string listing(const std::vector<std::string>& names) {
  constexpr size_t kShown = 4;
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), kShown); ++i) {
    text += (i == 0 ? "'" : ", '") + names[i] + "'";
  }
  return names.size() <= kShown ? text : text + " and " + std::to_string(names.size() - kShown) + " more";
}

// The model's tensors against the checkpoint's, by name alone.
void check_names(const Checkpoint& checkpoint, Module& model, const std::vector<NamedChain>& outputs,
                 const RestoreOptions& options) {
  std::set<std::string> wanted;                  // must be there
  std::map<std::string, std::string> prefix_of;  // of the tensors of each chain
  for (const NamedParameter& named : model.parameters()) {
    wanted.insert(named.name);
    prefix_of[named.name] = named.name + "/";
  }
  for (const NamedChain& named : outputs) {
    prefix_of[named.name] = named.prefix;
  }
  for (const NamedState& named : model.states()) {
    wanted.insert(named.name);
  }
  for (const NamedIntegers& named : model.integers()) {
    wanted.insert(named.name);
  }
  std::vector<std::string> missing;
  std::ranges::copy_if(wanted, std::back_inserter(missing),
                       [&](const std::string& name) { return !checkpoint.tensors.contains(name); });
  require(missing.empty(), "restore_model", "the checkpoint lacks what the model has: ", listing(missing));

  std::set<std::string> chain_tensors;
  for (const auto& [owner, kinds] : stored_transforms(checkpoint)) {
    require(prefix_of.contains(owner), "restore_model", "the checkpoint has transforms for '", owner,
            "', which the model has not");
    for (const std::string& kind : kinds) {
      const std::string name = prefix_of.at(owner) + kind;
      if (checkpoint.tensors.contains(name)) {
        chain_tensors.insert(name);
      }
      std::ranges::copy(names_below(checkpoint.tensors, name + "."), std::inserter(chain_tensors, chain_tensors.end()));
    }
  }
  std::vector<std::string> unknown;
  for (const auto& [name, tensor] : checkpoint.tensors) {
    const bool others = std::ranges::any_of(
        options.not_ours, [&name = name](const std::string& prefix) { return name.starts_with(prefix); });
    if (!others && !wanted.contains(name) && !chain_tensors.contains(name)) {
      unknown.push_back(name);
    }
  }
  require(unknown.empty(), "restore_model", "the checkpoint has what the model has no place for: ", listing(unknown));
}

}  // namespace

void restore_model(const Checkpoint& checkpoint, Module& model, const TransformKinds& kinds,
                   const RestoreOptions& options) {
  const std::vector<NamedChain> outputs = model.activation_chains();
  check_names(checkpoint, model, outputs, options);

  std::vector<std::pair<Tensor*, Tensor>> states;
  for (const auto& [name, state] : model.states()) {
    Tensor loaded = checkpoint.at(name).to_tensor();
    require(loaded.shape() == state->shape(), "restore_model", "'", name, "' has shape ", loaded.shape(),
            " in the checkpoint and ", state->shape(), " in the model");
    states.emplace_back(state, std::move(loaded));
  }
  std::vector<std::pair<std::span<int64_t>, std::vector<int64_t>>> integers;
  for (const auto& [name, values] : model.integers()) {
    std::vector<int64_t> loaded = checkpoint.at(name).to_integers();
    require(loaded.size() == values.size(), "restore_model", "'", name, "' has ", loaded.size(),
            " numbers in the checkpoint and ", values.size(), " in the model");
    integers.emplace_back(values, std::move(loaded));
  }
  std::vector<TransformChain> output_transforms = rebuilt_chains(checkpoint, outputs, kinds);
  restore_parameters(checkpoint, model.parameters(), kinds);  // the first change, and all or nothing

  for (auto& [state, loaded] : states) {
    *state = std::move(loaded);
  }
  for (const auto& [values, loaded] : integers) {
    std::ranges::copy(loaded, values.begin());
  }
  for (size_t i = 0; i < outputs.size(); ++i) {
    *outputs[i].chain = std::move(output_transforms[i]);
  }
  for (const auto& [path, module] : model.modules()) {  // new transforms, the model's mode
    module->input.train(module->training());
    module->output.train(module->training());
    for (const NamedParameter& named : module->own_parameters()) {
      named.parameter->chain.train(module->training());
    }
  }
}

}  // namespace whittle::inline WHITTLE_PRECISION
