// A trainable tensor and the chain of transforms between it and its layer.
//
// A layer never reads the raw weight; it reads value():
//
//   raw -> mask -> fold -> fake-quant -> value()
//
// This is the socket compression plugs into. core/ defines the socket; prune/
// and quant/ each bring a plug and never see one another. A transform is made
// of ordinary differentiable ops, so gradients reach `raw` (and the transform's
// own Parameters: learned steps, clips, scores) by the chain rule alone.
// Optimizers own `raw` and nothing else. Checkpoint names never change: a
// pruned, quantized "conv1.weight" is still "conv1.weight", with
// "conv1.weight/mask" and "conv1.weight/fake_quant.scale" beside it.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/checkpoint.h"
#include "core/json_fwd.h"
#include "core/variable.h"

namespace whittle::inline WHITTLE_PRECISION {

class Parameter;

// The one legal order, whatever the order of attaching: observers must see
// masked weights, and a quantizer must map the mask's exact zeros to exact zeros.
enum class Stage : uint8_t { kMask, kFold, kFakeQuant };
inline constexpr int kStages = 3;
std::string_view stage_name(Stage stage);

class Transform {
 public:
  virtual ~Transform() = default;

  virtual std::string_view kind() const = 0;  // "mask"; keys the checkpoint and TransformKinds
  virtual Stage stage() const = 0;
  virtual Variable apply(const Variable& x) = 0;

  // The grids that results of apply() lie on, or null. Known before a value is: an integer
  // kernel rounds straight to the grid of its result.
  virtual GridsPtr grids() const { return nullptr; }

  // What a fold multiplies the rows of the weight by, [C]: said before the weight is read.
  virtual void set_factor(const Variable& /*factor*/) {}

  // Statistics are learned in training mode only.
  virtual void train(bool /*on*/) {}

  // What rebuilds this object before its state is loaded: plain settings.
  virtual Json spec() const = 0;

  // Tensors that are saved but not trained (a mask, a frozen scale), and
  // trainable Parameters. Names are local ("scale"); a single unnamed tensor may
  // use "". Loading assigns to the tensor through the reference.
  virtual void visit_state(const std::function<void(std::string_view name, Tensor& state)>& /*visit*/) {}
  // How a state goes into a file; loading takes any dtype.
  virtual StoredTensor stored(const Tensor& state) const { return StoredTensor::from(state); }
  virtual void visit_parameters(const std::function<void(std::string_view name, Parameter& parameter)>& /*visit*/) {}
};

class TransformChain {
 public:
  // Throws if the stage is taken or the chain has a transform of this kind.
  void attach(std::shared_ptr<Transform> transform);
  std::shared_ptr<Transform> detach(Stage stage);  // null if the stage is free
  Transform* at(Stage stage) const { return slots_[static_cast<size_t>(stage)].get(); }
  bool empty() const;

  template <class T>
  T* find() const {
    for (const auto& slot : slots_) {
      if (auto* match = dynamic_cast<T*>(slot.get())) {
        return match;
      }
    }
    return nullptr;
  }

  Variable operator()(Variable x) const;           // an empty chain returns x itself
  Variable before(Stage stage, Variable x) const;  // through earlier stages alone
  GridsPtr grids() const;                          // of the last transform
  void set_factor(const Variable& factor) const;   // to each
  void train(bool on) const;

 private:
  std::array<std::shared_ptr<Transform>, kStages> slots_{};
};

// What a layer holds. Copying is disabled so that a weight has one owner.
class Parameter {
 public:
  Parameter() = default;
  explicit Parameter(Tensor initial) : raw(Variable::leaf(std::move(initial))) {}
  Parameter(const Parameter&) = delete;
  Parameter& operator=(const Parameter&) = delete;
  Parameter(Parameter&&) = default;
  Parameter& operator=(Parameter&&) = default;

  Variable raw;          // the leaf optimizers update and rewinding restores
  TransformChain chain;  // what stands between raw and the layer

  bool defined() const { return raw.defined(); }
  const Shape& shape() const { return raw.shape(); }
  Variable value() const { return chain(raw); }  // what layers read
};

struct NamedParameter {
  std::string name;  // "layer1.0.conv.weight"
  Parameter* parameter;
};

// `parameters` and, after each, the Parameters its transforms own, named
// "conv1.weight/fake_quant.step": everything an optimizer may train.
std::vector<NamedParameter> with_transform_parameters(std::span<const NamedParameter> parameters);
// Those of one chain, whose tensors' names begin with `prefix`.
void append_transform_parameters(const TransformChain& chain, const std::string& prefix,
                                 std::vector<NamedParameter>& parameters);

// Makes transforms by kind when a checkpoint is loaded. Passed in, never global:
// a program knows the plugs it links.
class TransformKinds {
 public:
  using Factory = std::function<std::shared_ptr<Transform>(const Json& spec, const Shape& shape)>;
  void add(std::string kind, Factory factory);  // throws if the kind is taken
  std::shared_ptr<Transform> make(std::string_view kind, const Json& spec, const Shape& shape) const;

 private:
  std::map<std::string, Factory, std::less<>> factories_;
};

// A chain with its place in a checkpoint. A parameter's chain is called as the
// parameter is, and its tensors begin with "conv1.weight/"; a chain that belongs to no
// parameter has a name and a prefix of its owner's choice.
struct NamedChain {
  std::string name;    // the key of its specs
  std::string prefix;  // of its tensors' names
  TransformChain* chain;
  Shape shape;  // of what it transforms, for TransformKinds
};

// Adds specs, states and transform parameters of the chains.
void store_chains(Checkpoint& checkpoint, std::span<const NamedChain> chains);

// The chains as the checkpoint has them, rebuilt from their specs; empty ones where it
// has none. Nothing else changes, and the chains that stand there are not looked at.
std::vector<TransformChain> rebuilt_chains(const Checkpoint& checkpoint, std::span<const NamedChain> chains,
                                           const TransformKinds& kinds);

// The kinds of the transforms that a checkpoint has specs of, by name of the chain.
std::map<std::string, std::vector<std::string>> stored_transforms(const Checkpoint& checkpoint);

// Adds raw values, chain specs and chain states to a checkpoint.
void store_parameters(Checkpoint& checkpoint, std::span<const NamedParameter> parameters);

// The reverse: rebuilds each chain from its spec, then loads states and raw
// values. All or nothing: every name, shape and spec is checked before the first
// parameter changes. Tensors of the checkpoint that belong to no parameter are
// left to the caller.
void restore_parameters(const Checkpoint& checkpoint, std::span<const NamedParameter> parameters,
                        const TransformKinds& kinds);

}  // namespace whittle::inline WHITTLE_PRECISION
