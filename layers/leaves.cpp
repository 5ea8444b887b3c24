#include "layers/leaves.h"

#include <cmath>
#include <sstream>

#include "core/error.h"
#include "layers/batch_norm.h"

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

}  // namespace

std::string MaxPool::details() const { return window_text(options_); }
std::string AvgPool::details() const { return window_text(options_); }

std::string Add::details() const { return std::string(act_name(options_.act)); }

Variable Add::forward(std::span<const Variable> inputs) {
  require(inputs[0].shape() == inputs[1].shape(), "add", "the inputs have shapes ", inputs[0].shape(), " and ",
          inputs[1].shape());
  return add(inputs[0], inputs[1], options_.act);
}

Activation::Activation(const Options& options) : options_(options) {
  require(std::isfinite(options.slope), "activation", "slope ", options.slope, " is not a finite number");
}

Variable Activation::forward(std::span<const Variable> inputs) {
  const Variable& x = inputs[0];
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
