#include "core/parameter.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "core/json.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

constexpr const char* kSpecsKey = "whittle.transforms";

std::string prefix_of(const std::string& parameter) { return parameter + "/"; }

// "conv1.weight/fake_quant.scale", or "conv1.weight/mask" for an unnamed state.
std::string key_of(const std::string& prefix, const Transform& transform, std::string_view state) {
  std::string key = prefix + std::string(transform.kind());
  return state.empty() ? key : key + "." + std::string(state);
}

template <class F>
void for_each_transform(const TransformChain& chain, F f) {
  for (int stage = 0; stage < kStages; ++stage) {
    if (Transform* transform = chain.at(static_cast<Stage>(stage)); transform != nullptr) {
      f(*transform);
    }
  }
}

}  // namespace

std::string_view stage_name(Stage stage) {
  switch (stage) {
    case Stage::kMask:
      return "mask";
    case Stage::kFold:
      return "fold";
    case Stage::kFakeQuant:
      return "fake-quant";
  }
  return "?";
}

void TransformChain::attach(std::shared_ptr<Transform> transform) {
  require(transform != nullptr, "attach", "the transform is null");
  auto& slot = slots_[static_cast<size_t>(transform->stage())];
  require(slot == nullptr, "attach", "cannot attach '", transform->kind(), "': the ", stage_name(transform->stage()),
          " stage is taken by '", slot == nullptr ? "" : slot->kind(), "'");
  // The kind keys the checkpoint, so it can stand in a chain once.
  for (const auto& other : slots_) {
    require(other == nullptr || other->kind() != transform->kind(), "attach", "the chain already has a '",
            transform->kind(), "'");
  }
  slot = std::move(transform);
}

std::shared_ptr<Transform> TransformChain::detach(Stage stage) {
  return std::exchange(slots_[static_cast<size_t>(stage)], nullptr);
}

bool TransformChain::empty() const {
  return std::ranges::all_of(slots_, [](const auto& slot) { return slot == nullptr; });
}

Variable TransformChain::operator()(Variable x) const {
  for_each_transform(*this, [&x](Transform& transform) { x = transform.apply(x); });
  return x;
}

Variable TransformChain::before(Stage stage, Variable x) const {
  for_each_transform(*this, [&x, stage](Transform& transform) {
    if (transform.stage() < stage) {
      x = transform.apply(x);
    }
  });
  return x;
}

GridsPtr TransformChain::grids() const {
  GridsPtr last;
  for_each_transform(*this, [&last](const Transform& transform) { last = transform.grids(); });
  return last;
}

void TransformChain::set_factor(const Variable& factor) const {
  for (const auto& slot : slots_) {
    if (slot != nullptr) {
      slot->set_factor(factor);
    }
  }
}

void TransformChain::train(bool on) const {
  for_each_transform(*this, [on](Transform& transform) { transform.train(on); });
}

void append_transform_parameters(const TransformChain& chain, const std::string& prefix,
                                 std::vector<NamedParameter>& parameters) {
  for_each_transform(chain, [&](Transform& transform) {
    transform.visit_parameters([&](std::string_view name, Parameter& parameter) {
      parameters.push_back({key_of(prefix, transform, name), &parameter});
    });
  });
}

std::vector<NamedParameter> with_transform_parameters(std::span<const NamedParameter> parameters) {
  std::vector<NamedParameter> all;
  for (const NamedParameter& named : parameters) {
    all.push_back(named);
    append_transform_parameters(named.parameter->chain, prefix_of(named.name), all);
  }
  return all;
}

void TransformKinds::add(std::string kind, Factory factory) {
  const bool added = factories_.emplace(kind, std::move(factory)).second;
  require(added, "transform_kinds", "kind '", kind, "' is already known");
}

std::shared_ptr<Transform> TransformKinds::make(std::string_view kind, const Json& spec, const Shape& shape) const {
  const auto found = factories_.find(kind);
  require(found != factories_.end(), "transform_kinds", "kind '", kind, "' is not known to this program");
  return found->second(spec, shape);
}

namespace {

Json parsed_specs(const Checkpoint& checkpoint) {
  const auto text = checkpoint.metadata.find(kSpecsKey);
  if (text == checkpoint.metadata.end()) {
    return Json::object();  // a foreign file: plain weights
  }
  Json specs = Json::parse(text->second, nullptr, /*allow_exceptions=*/false);
  require(specs.is_object(), "restore_parameters", "the metadata '", kSpecsKey, "' is not a JSON object");
  return specs;
}

bool has_kind(const Json& entry) { return entry.is_object() && entry.contains("kind") && entry["kind"].is_string(); }

std::vector<NamedChain> chains_of(std::span<const NamedParameter> parameters) {
  std::vector<NamedChain> chains;
  for (const auto& [name, parameter] : parameters) {
    chains.push_back({name, prefix_of(name), &parameter->chain, parameter->shape()});
  }
  return chains;
}

// The chain that a list of specs describes, with its states and parameters
// loaded. Nothing outside the new chain is touched.
TransformChain rebuilt_chain(const Checkpoint& checkpoint, const NamedChain& named, const Json& specs,
                             const TransformKinds& kinds) {
  TransformChain chain;
  require(specs.is_array(), "restore_parameters", "the transforms of '", named.name, "' are not a list");
  for (const Json& entry : specs) {
    require(has_kind(entry) && entry.contains("spec"), "restore_parameters", "a transform of '", named.name,
            "' lacks its kind or spec");
    std::shared_ptr<Transform> transform;
    try {
      transform = kinds.make(entry["kind"].get<std::string>(), entry["spec"], named.shape);
    } catch (const Json::exception& e) {
      fail("restore_parameters", "the spec of '", named.name, "' does not fit its kind: ", e.what());
    }
    transform->visit_state([&](std::string_view state_name, Tensor& state) {
      const std::string key = key_of(named.prefix, *transform, state_name);
      if (!checkpoint.tensors.contains(key)) {
        require(!state.defined(), "restore_parameters", "the checkpoint has no tensor '", key, "'");
        return;
      }
      Tensor loaded = checkpoint.at(key).to_tensor();
      require(!state.defined() || state.shape() == loaded.shape(), "restore_parameters", "'", key, "' has shape ",
              loaded.shape(), ", expected ", state.shape());
      state = std::move(loaded);
    });
    transform->visit_parameters([&](std::string_view parameter_name, Parameter& parameter) {
      const std::string key = key_of(named.prefix, *transform, parameter_name);
      const Tensor loaded = checkpoint.at(key).to_tensor();
      require(parameter.shape() == loaded.shape(), "restore_parameters", "'", key, "' has shape ", loaded.shape(),
              ", expected ", parameter.shape());
      parameter.raw.assign(loaded);
    });
    chain.attach(std::move(transform));
  }
  return chain;
}

}  // namespace

void store_chains(Checkpoint& checkpoint, std::span<const NamedChain> chains) {
  Json specs = parsed_specs(checkpoint);
  for (const NamedChain& named : chains) {
    specs.erase(named.name);
    for_each_transform(*named.chain, [&](Transform& transform) {
      specs[named.name].push_back({{"kind", transform.kind()}, {"spec", transform.spec()}});
      transform.visit_state([&](std::string_view name, Tensor& state) {
        if (state.defined()) {
          checkpoint.tensors[key_of(named.prefix, transform, name)] = transform.stored(state);
        }
      });
      transform.visit_parameters([&](std::string_view name, Parameter& parameter) {
        checkpoint.tensors[key_of(named.prefix, transform, name)] = StoredTensor::from(parameter.raw.value());
      });
    });
  }
  checkpoint.metadata[kSpecsKey] = specs.dump();
}

std::vector<TransformChain> rebuilt_chains(const Checkpoint& checkpoint, std::span<const NamedChain> chains,
                                           const TransformKinds& kinds) {
  const Json specs = parsed_specs(checkpoint);
  std::vector<TransformChain> rebuilt;
  for (const NamedChain& named : chains) {
    rebuilt.push_back(specs.contains(named.name) ? rebuilt_chain(checkpoint, named, specs[named.name], kinds)
                                                 : TransformChain());
  }
  return rebuilt;
}

std::map<std::string, std::vector<std::string>> stored_transforms(const Checkpoint& checkpoint) {
  std::map<std::string, std::vector<std::string>> kinds;
  const Json specs = parsed_specs(checkpoint);
  for (const auto& [name, chain] : specs.items()) {
    kinds[name];
    for (const Json& entry : chain) {  // anything malformed is refused when it is rebuilt
      if (has_kind(entry)) {
        kinds[name].push_back(entry["kind"].get<std::string>());
      }
    }
  }
  return kinds;
}

void store_parameters(Checkpoint& checkpoint, std::span<const NamedParameter> parameters) {
  for (const auto& [name, parameter] : parameters) {
    checkpoint.tensors[name] = StoredTensor::from(parameter->raw.value());
  }
  store_chains(checkpoint, chains_of(parameters));
}

void restore_parameters(const Checkpoint& checkpoint, std::span<const NamedParameter> parameters,
                        const TransformKinds& kinds) {
  std::vector<Tensor> values;
  for (const auto& [name, parameter] : parameters) {
    values.push_back(checkpoint.at(name).to_tensor());
    require(values.back().shape() == parameter->shape(), "restore_parameters", "'", name, "' has shape ",
            values.back().shape(), " in the checkpoint and ", parameter->shape(), " in the model");
  }
  std::vector<TransformChain> chains = rebuilt_chains(checkpoint, chains_of(parameters), kinds);
  for (size_t i = 0; i < parameters.size(); ++i) {
    parameters[i].parameter->raw.assign(values[i]);
    parameters[i].parameter->chain = std::move(chains[i]);
  }
}

}  // namespace whittle::inline WHITTLE_PRECISION
