#include "layers/model_checkpoint.h"

#include <algorithm>
#include <set>
#include <utility>

#include "core/error.h"
#include "core/json.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

constexpr const char* kSpecsKey = "whittle.transforms";  // as in core/parameter.cpp

// core/ stores chains together with the parameter they belong to. An output chain
// belongs to none, so for the crossing each gets a stand-in of one element, called
// "conv1/output". Its tensors "conv1/output/fake_quant.scale" are spelt with a dot
// in the file, and the stand-in itself never gets there.
struct OutputChains {
  explicit OutputChains(Module& model) {
    for (const auto& [path, module] : model.modules()) {
      Parameter stand_in(Tensor::zeros({1}));
      stand_in.chain = module->output;
      modules.push_back(module);
      names.push_back(path + "/output");
      stand_ins.push_back(std::move(stand_in));
    }
  }

  std::vector<NamedParameter> named() {
    std::vector<NamedParameter> all;
    for (size_t i = 0; i < names.size(); ++i) {
      all.push_back({names[i], &stand_ins[i]});
    }
    return all;
  }

  std::vector<Module*> modules;
  std::vector<std::string> names;
  std::vector<Parameter> stand_ins;
};

// The names of `tensors` that begin with `prefix`.
std::vector<std::string> names_below(const std::map<std::string, StoredTensor>& tensors, const std::string& prefix) {
  std::vector<std::string> names;
  for (auto it = tensors.lower_bound(prefix); it != tensors.end() && it->first.starts_with(prefix); ++it) {
    names.push_back(it->first);
  }
  return names;
}

std::string respelt(std::string name, size_t at, char separator) {
  name[at] = separator;
  return name;
}

}  // namespace

void store_model(Checkpoint& checkpoint, Module& model) {
  OutputChains outputs(model);
  std::vector<NamedParameter> all = model.parameters();
  std::ranges::move(outputs.named(), std::back_inserter(all));
  store_parameters(checkpoint, all);
  for (const std::string& name : outputs.names) {
    checkpoint.tensors.erase(name);
    for (const std::string& stored : names_below(checkpoint.tensors, name + "/")) {
      auto node = checkpoint.tensors.extract(stored);
      node.key() = respelt(stored, name.size(), '.');
      checkpoint.tensors.insert(std::move(node));
    }
  }
  for (const NamedState& named : model.states()) {
    checkpoint.tensors[named.name] = StoredTensor::from(*named.state);
  }
  for (const NamedIntegers& named : model.integers()) {
    checkpoint.tensors[named.name] = StoredTensor::from({static_cast<int64_t>(named.values.size())}, named.values);
  }
}

namespace {

// The chain specs by owner: "conv1.weight" or "conv1/output" -> the kinds of its transforms.
std::map<std::string, std::vector<std::string>> stored_kinds(const Checkpoint& checkpoint) {
  std::map<std::string, std::vector<std::string>> kinds;
  const auto text = checkpoint.metadata.find(kSpecsKey);
  if (text == checkpoint.metadata.end()) {
    return kinds;
  }
  const Json specs = Json::parse(text->second, nullptr, /*allow_exceptions=*/false);
  require(specs.is_object(), "restore_model", "the metadata '", kSpecsKey, "' is not a JSON object");
  for (const auto& [owner, chain] : specs.items()) {
    kinds[owner];
    for (const Json& entry : chain) {  // anything malformed is core's to refuse
      if (entry.is_object() && entry.contains("kind") && entry["kind"].is_string()) {
        kinds[owner].push_back(entry["kind"].get<std::string>());
      }
    }
  }
  return kinds;
}

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
void check_names(const Checkpoint& checkpoint, Module& model, const OutputChains& outputs,
                 const RestoreOptions& options) {
  std::set<std::string> wanted;                                              // must be there
  std::set<std::string> owners(outputs.names.begin(), outputs.names.end());  // of chains
  for (const NamedParameter& named : model.parameters()) {
    wanted.insert(named.name);
    owners.insert(named.name);
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
  for (const auto& [owner, kinds] : stored_kinds(checkpoint)) {
    require(owners.contains(owner), "restore_model", "the checkpoint has transforms for '", owner,
            "', which the model has not");
    const char separator = wanted.contains(owner) ? '/' : '.';
    for (const std::string& kind : kinds) {
      const std::string name = owner + separator + kind;
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

// Rebuilds the output chains into their stand-ins. The modules do not change.
void restore_outputs(const Checkpoint& checkpoint, OutputChains& outputs, const TransformKinds& kinds) {
  Checkpoint chains;
  chains.metadata = checkpoint.metadata;
  for (const std::string& name : outputs.names) {
    chains.tensors[name] = StoredTensor::from(Tensor::zeros({1}));
    for (const std::string& stored : names_below(checkpoint.tensors, name + ".")) {
      chains.tensors[respelt(stored, name.size(), '/')] = checkpoint.tensors.at(stored);
    }
  }
  restore_parameters(chains, outputs.named(), kinds);
}

}  // namespace

void restore_model(const Checkpoint& checkpoint, Module& model, const TransformKinds& kinds,
                   const RestoreOptions& options) {
  OutputChains outputs(model);
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
  restore_outputs(checkpoint, outputs, kinds);
  restore_parameters(checkpoint, model.parameters(), kinds);  // the first change, and all or nothing

  for (auto& [state, loaded] : states) {
    *state = std::move(loaded);
  }
  for (const auto& [values, loaded] : integers) {
    std::ranges::copy(loaded, values.begin());
  }
  for (size_t i = 0; i < outputs.modules.size(); ++i) {
    Module& module = *outputs.modules[i];
    module.output = std::move(outputs.stand_ins[i].chain);
    module.output.train(module.training());  // new transforms, the model's mode
    for (const NamedParameter& named : module.own_parameters()) {
      named.parameter->chain.train(module.training());
    }
  }
}

}  // namespace whittle::inline WHITTLE_PRECISION
