#include "layers/leaves.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <sstream>
#include <utility>
#include <vector>

#include "core/error.h"
#include "kernels/functions.h"
#include "layers/batch_norm.h"
#include "layers/exact.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

std::string window_text(const PoolGeometry& geometry) {
  std::ostringstream text;
  text << geometry.kernel.h << 'x' << geometry.kernel.w;
  if (geometry.stride != Size2{0, 0} && geometry.stride != geometry.kernel) {
    text << " stride " << geometry.stride.h;
  }
  return text.str();
}

// The exact value, with the gradient of what is computed in training.
template <class Op>
Variable exactly(Tensor value, Op op) {
  return grad_enabled() ? with_value(op(), std::move(value)) : Variable(std::move(value));
}

template <class Op>
Variable pooled(const Module& leaf, std::span<const Variable> inputs, const PoolGeometry& geometry, Op op) {
  const GridsPtr to = leaf.output.grids();
  if (leaf.training() || !is_exact(inputs, to)) {
    return op();
  }
  Variable y = op();
  return exactly(exact_avg_pool(inputs[0], geometry, y.shape(), (*to)[0]), [&] { return y; });
}

}  // namespace

std::string MaxPool::details() const { return window_text(options_); }
std::string AvgPool::details() const { return window_text(options_); }

std::string Add::details() const { return std::string(act_name(options_.act)); }

Variable Add::forward(std::span<const Variable> inputs) {
  require(inputs[0].shape() == inputs[1].shape(), "add", "the inputs have shapes ", inputs[0].shape(), " and ",
          inputs[1].shape());
  const GridsPtr to = output.grids();
  if (training() || !is_exact(inputs, to)) {
    return add(inputs[0], inputs[1], options_.act);
  }
  return exactly(exact_add(inputs[0], inputs[1], (*to)[0], options_.act),
                 [&] { return add(inputs[0], inputs[1], options_.act); });
}

Variable Concat::forward(std::span<const Variable> inputs) {
  const GridsPtr to = output.grids();
  const auto join = [&] { return concat(inputs, options_.axis); };
  if (training() || !is_exact(inputs, to)) {
    return join();
  }
  std::vector<Variable> parts;
  std::ranges::transform(inputs, std::back_inserter(parts),
                         [&](const Variable& x) { return Variable(exact_rescale(x, (*to)[0])); });
  return exactly(concat(parts, options_.axis).value(), join);
}

Variable AvgPool::forward(std::span<const Variable> inputs) {
  const auto pool = [&] { return avg_pool(inputs[0], options_); };
  return pooled(*this, inputs, options_, pool);
}

Variable GlobalAvgPool::forward(std::span<const Variable> inputs) {
  const Shape& x = inputs[0].shape();
  const PoolGeometry all{.kernel = x.rank() == 4 ? Size2{x[1], x[2]} : Size2{}};
  return pooled(*this, inputs, all, [&] { return global_avg_pool(inputs[0]); });
}

Activation::Activation(const Options& options) : options_(options) {
  require(std::isfinite(options.slope), "activation", "slope ", options.slope, " is not a finite number");
}

std::function<double(double)> Activation::of_one_number() const {
  switch (options_.function) {
    case Function::kRelu:
      return functions::relu;
    case Function::kRelu6:
      return functions::relu6;
    case Function::kLeakyRelu:
      // A program holds the slope in binary32.
      return [slope = static_cast<double>(static_cast<float>(options_.slope))](double r) {
        return functions::leaky_relu(r, slope);
      };
    case Function::kSigmoid:
      return functions::sigmoid;
    case Function::kTanh:
      return functions::tanh;
    case Function::kHardSwish:
      return functions::hard_swish;
    case Function::kGelu:
      return functions::gelu;
    case Function::kSoftmax:
    case Function::kLogSoftmax:
      break;
  }
  return nullptr;
}

Variable Activation::forward(std::span<const Variable> inputs) {
  const GridsPtr to = output.grids();
  const auto f = of_one_number();
  if (training() || f == nullptr || !is_exact(inputs, to)) {
    return apply(inputs[0]);
  }
  return exactly(exact_function(inputs[0], f, (*to)[0]), [&] { return apply(inputs[0]); });
}

Variable Activation::apply(const Variable& x) const {
  switch (options_.function) {
    case Function::kRelu:
      return relu(x);
    case Function::kRelu6:
      return relu6(x);
    case Function::kLeakyRelu:
      return leaky_relu(x, static_cast<real>(options_.slope));
    case Function::kSigmoid:
      return sigmoid(x);
    case Function::kTanh:
      return tanh(x);
    case Function::kHardSwish:
      return hard_swish(x);
    case Function::kGelu:
      return gelu(x);
    case Function::kSoftmax:
      return softmax(x);
    case Function::kLogSoftmax:
      return log_softmax(x);
  }
  fail("activation", "unknown function");
}

std::string_view function_name(Function function) {
  switch (function) {
    case Function::kRelu:
      return "relu";
    case Function::kRelu6:
      return "relu6";
    case Function::kLeakyRelu:
      return "leaky_relu";
    case Function::kSigmoid:
      return "sigmoid";
    case Function::kTanh:
      return "tanh";
    case Function::kHardSwish:
      return "hard_swish";
    case Function::kGelu:
      return "gelu";
    case Function::kSoftmax:
      return "softmax";
    case Function::kLogSoftmax:
      return "log_softmax";
  }
  return "?";
}

}  // namespace whittle::inline WHITTLE_PRECISION
