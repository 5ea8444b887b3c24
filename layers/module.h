// A network as a tree of named modules.
//
// A Module owns Parameters (trained), states (saved but not trained, such as
// running statistics) and child modules, each under a name; "block1.conv.weight"
// is the path from the root. Calling a module computes its result and passes it
// through the output chain, the socket where activation fake-quant plugs in. No
// module knows of masks or quantizers: it reads Parameter::value() and that is
// all.
//
// A module without children is a leaf: one step of the computation, and what one
// integer kernel does. Modules are held by shared_ptr, never copied, and have one
// parent. Options are structs with named fields.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/ops.h"
#include "core/parameter.h"

namespace whittle::inline WHITTLE_PRECISION {

class Module;

struct NamedModule {
  std::string name;  // "" for the root
  Module* module;
};

struct NamedState {
  std::string name;
  Tensor* state;
};

// Integers that are saved but not trained, such as the position in a random sequence.
struct NamedIntegers {
  std::string name;
  std::span<int64_t> values;
};

// How many inputs a module takes.
struct InputCount {
  size_t least = 1;
  size_t most = 1;
};

// What a leaf with parameters reads and makes: channels, or features.
struct LayerWidths {
  int64_t in = 0;
  int64_t out = 0;
  friend bool operator==(const LayerWidths&, const LayerWidths&) = default;
};

class Module {
 public:
  Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;
  virtual ~Module();

  // An Error thrown below is passed on with the path of the module that raised it:
  // "layer1.0.conv1: [conv2d] input has 3 channels, ...".
  Variable operator()(const Variable& x) { return call({&x, 1}); }
  Variable operator()(const Variable& a, const Variable& b) {
    const Variable both[] = {a, b};
    return call(both);
  }
  Variable call(std::span<const Variable> inputs);

  // Applied to every result. Empty in a float network.
  TransformChain output;
  // Applied to every input. Empty too where the results before are on grids already; quantizers
  // that find the range of each input at run time sit here.
  TransformChain input;

  // "conv2d", "add", ...: what an exporter looks up.
  virtual std::string_view kind() const = 0;
  // The options that matter, in a few words, for tables: "3x3 16->32 stride 2 relu".
  virtual std::string details() const { return {}; }
  virtual InputCount input_count() const { return {}; }
  // Multiply-accumulates of one call; 0 for what does not multiply by weights.
  virtual int64_t macs(std::span<const Shape> /*inputs*/, const Shape& /*result*/) const { return 0; }

  // {0, 0} where no parameter depends on it.
  virtual LayerWidths widths() const { return {}; }
  // Other widths from now on, as if the layer had been made with them: parameters and
  // statistics get new shapes and begin as those of a new layer, but weights as zeros. For
  // channel pruning, which fills in what is left. Throws, and changes nothing, if the kind has no
  // widths, cannot have these, or a parameter has transforms.
  virtual void resize(const LayerWidths& widths);

  bool is_leaf() const { return children_.empty(); }

  // Training mode decides whether norms use batch statistics, dropout drops and
  // observers learn. It is set for the whole subtree. New modules train.
  void train(bool on = true);
  bool training() const { return training_; }

  // The subtree in order of registration, parents before children.
  std::vector<NamedModule> modules();
  std::vector<NamedParameter> parameters();
  std::vector<NamedState> states();
  std::vector<NamedIntegers> integers();

  // The input and output chains of the subtree: "conv1/output" with tensors "conv1/output.fake_quant.scale". The
  // shape of what passes depends on the model's input, so transforms there are rebuilt for a single element.
  std::vector<NamedChain> activation_chains();

  // parameters() and the Parameters that transforms own, those in parameters'
  // chains ("conv1.weight/fake_quant.step") and those in output chains
  // ("conv1/output.fake_quant.step"): everything an optimizer may train.
  std::vector<NamedParameter> all_parameters();

  // Of this module alone, without its children; names are local.
  std::vector<NamedParameter> own_parameters() const;
  const std::vector<NamedState>& own_states() const { return states_; }

  // Draws new initial values for the parameters this module owns itself (not its
  // children's). `key` is already this module's own.
  virtual void reset(RngKey /*key*/) {}

 protected:
  virtual Variable forward(std::span<const Variable> inputs) = 0;

  // A parameter left undefined (an absent bias) is not listed.
  void add_parameter(std::string name, Parameter& parameter) { parameters_.push_back({std::move(name), &parameter}); }
  void add_state(std::string name, Tensor& state) { states_.push_back({std::move(name), &state}); }
  void add_integers(std::string name, std::span<int64_t> values) { integers_.push_back({std::move(name), values}); }
  template <class M>
  std::shared_ptr<M> add_module(std::string name, std::shared_ptr<M> module) {
    adopt(name, module.get());
    children_.emplace_back(std::move(name), module);
    return module;
  }

 private:
  friend class EvaluationMode;
  void adopt(const std::string& name, Module* module) const;
  void collect(const std::string& path, std::vector<NamedModule>& found);
  void train_alone(bool on);

  bool training_ = true;
  std::string name_;  // given by the parent; empty for a root
  std::vector<NamedParameter> parameters_;
  std::vector<NamedState> states_;
  std::vector<NamedIntegers> integers_;
  std::vector<std::pair<std::string, std::shared_ptr<Module>>> children_;
};

// "layer1.0" + "conv1" -> "layer1.0.conv1"; the root's path is empty.
std::string join_path(const std::string& path, const std::string& name);

// While one lives, a model is in evaluation mode. Afterwards each module has the
// mode it had before, also when an exception is on its way.
class EvaluationMode {
 public:
  explicit EvaluationMode(Module& model);
  ~EvaluationMode();
  EvaluationMode(const EvaluationMode&) = delete;
  EvaluationMode& operator=(const EvaluationMode&) = delete;

 private:
  std::vector<std::pair<Module*, bool>> modes_;
};

// New initial values for the whole tree. Each module draws from a key derived
// from `key` and its path, so the values of one layer do not depend on what
// other layers exist or in which order they were made.
void initialize(Module& model, RngKey key);

// He initialisation for weights followed by a ReLU: normal with deviation
// sqrt(2 / fan_in) (He et al. 2015).
Tensor he_normal(const Shape& shape, int64_t fan_in, RngKey key);

}  // namespace whittle::inline WHITTLE_PRECISION
