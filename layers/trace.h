// What a model computes, as a list of leaf calls.
//
// trace() runs the model once on zeros, in evaluation mode, and writes down which
// leaf was called on which values with which result. It is the one view of the
// network as a graph: summaries, the placing of quantizers, channel pruning and
// export all read it, so a model needs no description beside its forward().
//
// The price is one rule: between leaves nothing is computed outside a module.
// `a + b` in a forward() is refused; an Add leaf is welcome, because its result
// has a name, and a place where a quantizer can sit.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "layers/module.h"

namespace whittle::inline WHITTLE_PRECISION {

// One call of a leaf. Values are numbered: positions in Trace::values.
struct TracedCall {
  Module* module = nullptr;
  std::string path;
  std::vector<int> inputs;
  int output = 0;
};

// A tensor that flows between leaves.
struct TracedValue {
  Shape shape;
  int producer = kInput;     // position in Trace::calls; kInput for the model's input
  std::vector<int> readers;  // calls that read it, once per use
  GridsPtr grids;            // that it lies on, in evaluation; or null

  static constexpr int kInput = -1;
};

// Calls stand in the order of execution, so every value is produced before it is
// read. A leaf that was called twice is here twice. Valid as long as the model.
struct Trace {
  std::vector<TracedCall> calls;
  std::vector<TracedValue> values;  // values[0] is the model's input
  int output = 0;                   // the value that is the model's result

  // Static shapes of a call's inputs and of its result.
  std::vector<Shape> input_shapes(const TracedCall& call) const;
  const Shape& output_shape(const TracedCall& call) const { return values[static_cast<size_t>(call.output)].shape; }
};

// `input` is the shape of a whole batch, usually of one sample: {1, 32, 32, 3}.
// Nothing about the model changes: not its mode, statistics or random state.
Trace trace(Module& model, const Shape& input);

// The recorder behind trace(); Module::call reports to the one active on its thread.
class Tracer {
 public:
  Tracer(Module& model, const Variable& input);
  ~Tracer();
  Tracer(const Tracer&) = delete;
  Tracer& operator=(const Tracer&) = delete;

  static Tracer* active();

  // Notes the call and returns the result under a new identity: a leaf may well
  // return its input, and yet its result is another value.
  Variable record(Module& leaf, std::span<const Variable> inputs, const Variable& result);
  Trace finish(const Variable& result);

 private:
  int value_of(const Variable& x, const std::string& what);
  Variable add_value(const Variable& x, int producer);
  void refuse(const std::string& reason);

  Tracer* previous_;
  Trace trace_;
  std::string refusal_;  // the first one
  std::unordered_map<const Module*, std::string> paths_;
  std::unordered_map<const Node*, int> numbers_;  // a value's identity is its node
  std::vector<NodePtr> alive_;                    // so that no address is used twice
};

}  // namespace whittle::inline WHITTLE_PRECISION
