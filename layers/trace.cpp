#include "layers/trace.h"

#include <utility>

#include "core/error.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

thread_local Tracer* active_tracer = nullptr;

}  // namespace

std::vector<Shape> Trace::input_shapes(const TracedCall& call) const {
  std::vector<Shape> shapes;
  for (const int input : call.inputs) {
    shapes.push_back(values[static_cast<size_t>(input)].shape);
  }
  return shapes;
}

Tracer* Tracer::active() { return active_tracer; }

Tracer::Tracer(Module& model, const Variable& input) : previous_(std::exchange(active_tracer, this)) {
  for (const auto& [path, module] : model.modules()) {
    paths_.emplace(module, path);
  }
  numbers_.emplace(input.node().get(), 0);
  alive_.push_back(input.node());
  trace_.values.push_back({.shape = input.shape(), .producer = TracedValue::kInput, .readers = {}, .grids = nullptr});
}

Tracer::~Tracer() { active_tracer = previous_; }

// Refusals wait until the forward pass is over: thrown from inside, they would collect a path in front.
void Tracer::refuse(const std::string& reason) {
  if (refusal_.empty()) {
    refusal_ = reason;
  }
}

int Tracer::value_of(const Variable& x, const std::string& what) {
  const auto found = numbers_.find(x.node().get());
  if (found != numbers_.end()) {
    return found->second;
  }
  refuse(what + (x.node() == nullptr   ? " is a constant, or was computed outside any module"
                 : x.node()->is_leaf() ? " is a parameter, not the result of a module"
                                       : std::string(" was produced by op '") + x.node()->op + "' outside any module"));
  return 0;
}

Variable Tracer::add_value(const Variable& x, int producer) {
  // A leaf of the tape: it has a node also under NoGrad, and what the layers before kept for backward is let go.
  Variable fresh = Variable::leaf(x.value()).on(x.grids());
  numbers_.emplace(fresh.node().get(), static_cast<int>(trace_.values.size()));
  alive_.push_back(fresh.node());
  trace_.values.push_back({.shape = x.shape(), .producer = producer, .readers = {}, .grids = x.grids()});
  return fresh;
}

Variable Tracer::record(Module& leaf, std::span<const Variable> inputs, const Variable& result) {
  const auto known = paths_.find(&leaf);
  if (known == paths_.end()) {
    refuse("a leaf of kind '" + std::string(leaf.kind()) + "' is called that no add_module() has made known");
    return result;
  }
  const auto number = static_cast<int>(trace_.calls.size());
  TracedCall call{.module = &leaf, .path = known->second, .inputs = {}, .output = 0};
  for (const Variable& input : inputs) {
    call.inputs.push_back(value_of(input, "the input of '" + call.path + "'"));
    trace_.values[static_cast<size_t>(call.inputs.back())].readers.push_back(number);
  }
  Variable fresh = add_value(result, number);
  call.output = static_cast<int>(trace_.values.size()) - 1;
  trace_.calls.push_back(std::move(call));
  return fresh;
}

Trace Tracer::finish(const Variable& result) {
  trace_.output = value_of(result, "the result of the model");
  if (trace_.output == 0) {
    refuse("the result of the model is its input: no module was called");
  }
  require(refusal_.empty(), "trace", refusal_);
  return std::move(trace_);
}

Trace trace(Module& model, const Shape& input) {
  for (const auto& [path, module] : model.modules()) {
    require(module->is_leaf() || module->output.empty(), "trace", "'", path,
            "' has children and a transform on its output; attach it to the leaf that produces the value");
  }
  const EvaluationMode evaluation(model);
  const Variable zeros = Variable::leaf(Tensor::zeros(input));
  Tracer tracer(model, zeros);
  return tracer.finish(model(zeros));
}

}  // namespace whittle::inline WHITTLE_PRECISION
