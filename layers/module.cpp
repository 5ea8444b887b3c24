#include "layers/module.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "layers/trace.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

// An Error that has passed a named module on its way up; the next one puts its own name in front of the path.
class ErrorInModule : public Error {
 public:
  ErrorInModule(std::string path, std::string message)
      : Error(path + ": " + message), path_(std::move(path)), message_(std::move(message)) {}
  ErrorInModule in(const std::string& parent) const { return {parent + "." + path_, message_}; }

 private:
  std::string path_;
  std::string message_;
};

}  // namespace

Module::~Module() {
  for (const auto& [name, child] : children_) {
    child->name_.clear();  // whoever still holds the child may give it a new parent
  }
}

Variable Module::call(std::span<const Variable> inputs) {
  try {
    const auto [least, most] = input_count();
    require(inputs.size() >= least && inputs.size() <= most, kind(), "called with ", inputs.size(),
            inputs.size() == 1 ? " input, expected " : " inputs, expected ", least, least == most ? "" : " or more");
    std::vector<Variable> transformed;
    if (!input.empty()) {
      std::ranges::transform(inputs, std::back_inserter(transformed), input);
    }
    Variable result = output(forward(input.empty() ? inputs : transformed));
    Tracer* const tracer = is_leaf() ? Tracer::active() : nullptr;
    return tracer == nullptr ? result : tracer->record(*this, inputs, result);
  } catch (const ErrorInModule& error) {
    if (name_.empty()) {
      throw;
    }
    throw error.in(name_);
  } catch (const Error& error) {
    if (name_.empty()) {
      throw;
    }
    throw ErrorInModule(name_, error.what());
  }
}

void Module::resize(const LayerWidths& /*widths*/) { fail(kind(), "has no width to change"); }

void Module::train_alone(bool on) {
  training_ = on;
  input.train(on);
  output.train(on);
  for (const NamedParameter& named : parameters_) {
    named.parameter->chain.train(on);
  }
}

void Module::train(bool on) {
  for (const auto& [path, module] : modules()) {
    module->train_alone(on);
  }
}

EvaluationMode::EvaluationMode(Module& model) {
  for (const auto& [path, module] : model.modules()) {
    modes_.emplace_back(module, module->training());
  }
  model.train(false);
}

EvaluationMode::~EvaluationMode() {
  for (const auto& [module, training] : modes_) {
    module->train_alone(training);
  }
}

void Module::adopt(const std::string& name, Module* module) const {
  require(module != nullptr, "add_module", "child '", name, "' is null");
  require(!name.empty() && name.find_first_of("./") == std::string::npos, "add_module", "'", name,
          "' is not a name: it must be non-empty and without '.' and '/'");
  require(std::ranges::none_of(children_, [&](const auto& child) { return child.first == name; }), "add_module",
          "there already is a child called '", name, "'");
  require(module->name_.empty(), "add_module", "'", name, "' already is the child '", module->name_,
          "' of a module; to use its weights twice, call it twice");
  module->name_ = name;
}

void Module::collect(const std::string& path, std::vector<NamedModule>& found) {
  found.push_back({path, this});
  for (const auto& [name, child] : children_) {
    child->collect(join_path(path, name), found);
  }
}

std::vector<NamedModule> Module::modules() {
  std::vector<NamedModule> found;
  collect("", found);
  return found;
}

std::string join_path(const std::string& path, const std::string& name) {
  return path.empty() ? name : path + "." + name;
}

std::vector<NamedParameter> Module::own_parameters() const {
  std::vector<NamedParameter> own = parameters_;
  std::erase_if(own, [](const NamedParameter& named) { return !named.parameter->defined(); });
  return own;
}

std::vector<NamedParameter> Module::parameters() {
  std::vector<NamedParameter> all;
  for (const auto& [path, module] : modules()) {
    for (const auto& [name, parameter] : module->own_parameters()) {
      all.push_back({join_path(path, name), parameter});
    }
  }
  return all;
}

std::vector<NamedState> Module::states() {
  std::vector<NamedState> all;
  for (const auto& [path, module] : modules()) {
    for (const auto& [name, state] : module->states_) {
      all.push_back({join_path(path, name), state});
    }
  }
  return all;
}

std::vector<NamedIntegers> Module::integers() {
  std::vector<NamedIntegers> all;
  for (const auto& [path, module] : modules()) {
    for (const auto& [name, values] : module->integers_) {
      all.push_back({join_path(path, name), values});
    }
  }
  return all;
}

std::vector<NamedChain> Module::activation_chains() {
  std::vector<NamedChain> chains;
  for (const auto& [path, module] : modules()) {
    for (const auto& [name, chain] : {std::pair("/input", &module->input), std::pair("/output", &module->output)}) {
      chains.push_back({path + name, path + name + ".", chain, Shape{1}});
    }
  }
  return chains;
}

std::vector<NamedParameter> Module::all_parameters() {
  std::vector<NamedParameter> all = with_transform_parameters(parameters());
  for (const NamedChain& named : activation_chains()) {
    append_transform_parameters(*named.chain, named.prefix, all);
  }
  return all;
}

void initialize(Module& model, RngKey key) {
  for (const auto& [path, module] : model.modules()) {
    module->reset(key.child(path));
  }
}

Tensor he_normal(const Shape& shape, int64_t fan_in, RngKey key) {
  return Tensor::normal(shape, key, 0, static_cast<real>(std::sqrt(2.0 / static_cast<double>(fan_in))));
}

}  // namespace whittle::inline WHITTLE_PRECISION
