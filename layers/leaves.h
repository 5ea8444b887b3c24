// The leaves without parameters: input, shape, pooling, sums, activations.
#pragma once

#include <cstdint>
#include <functional>

#include "layers/module.h"

namespace whittle::inline WHITTLE_PRECISION {

// The identity at the front door of a model. Its output chain is where the fixed
// quantization of the input image sits, so that a device can feed pixel - 128 and
// never touch a float.
class Input : public Module {
 public:
  std::string_view kind() const override { return "input"; }

 protected:
  Variable forward(std::span<const Variable> inputs) override { return inputs[0]; }
};

// [N, ...] -> [N, rest]
class Flatten : public Module {
 public:
  std::string_view kind() const override { return "flatten"; }

 protected:
  Variable forward(std::span<const Variable> inputs) override { return flatten(inputs[0]); }
};

// ---- Pooling ------------------------------------------------------------------

class MaxPool : public Module {
 public:
  using Options = PoolGeometry;
  explicit MaxPool(const Options& options = {}) : options_(options) {}
  std::string_view kind() const override { return "max_pool"; }
  std::string details() const override;
  const Options& options() const { return options_; }

 protected:
  Variable forward(std::span<const Variable> inputs) override { return max_pool(inputs[0], options_); }

 private:
  Options options_;
};

// The mean over the part of each window that lies inside the image.
class AvgPool : public Module {
 public:
  using Options = PoolGeometry;
  explicit AvgPool(const Options& options = {}) : options_(options) {}
  std::string_view kind() const override { return "avg_pool"; }
  std::string details() const override;
  const Options& options() const { return options_; }

 protected:
  Variable forward(std::span<const Variable> inputs) override;

 private:
  Options options_;
};

// [N,H,W,C] -> [N,C]
class GlobalAvgPool : public Module {
 public:
  std::string_view kind() const override { return "global_avg_pool"; }

 protected:
  Variable forward(std::span<const Variable> inputs) override;
};

// ---- More than one input --------------------------------------------------------

struct AddOptions {
  Act act = Act::kNone;
};

// act(a + b) of two tensors of one shape: what closes a residual block. No
// broadcasting: an integer kernel adds codes one by one.
class Add : public Module {
 public:
  using Options = AddOptions;
  explicit Add(const Options& options = {}) : options_(options) {}
  std::string_view kind() const override { return "add"; }
  std::string details() const override;
  InputCount input_count() const override { return {2, 2}; }
  const Options& options() const { return options_; }

 protected:
  Variable forward(std::span<const Variable> inputs) override;

 private:
  Options options_;
};

struct ConcatOptions {
  int axis = -1;  // the channels
};

class Concat : public Module {
 public:
  using Options = ConcatOptions;
  explicit Concat(const Options& options = {}) : options_(options) {}
  std::string_view kind() const override { return "concat"; }
  std::string details() const override { return "axis " + std::to_string(options_.axis); }
  InputCount input_count() const override { return {2, SIZE_MAX}; }
  const Options& options() const { return options_; }

 protected:
  Variable forward(std::span<const Variable> inputs) override;

 private:
  Options options_;
};

// ---- Activations that stand alone -------------------------------------------------

enum class Function : uint8_t { kRelu, kRelu6, kLeakyRelu, kSigmoid, kTanh, kHardSwish, kGelu, kSoftmax, kLogSoftmax };
std::string_view function_name(Function function);  // "relu", "hard_swish", ...

struct ActivationOptions {
  Function function = Function::kRelu;
  double slope = 0.01;  // of kLeakyRelu below 0
};

// For functions that are no clamp (a table in integer arithmetic), and for
// teaching. ReLU and ReLU6 are free inside Conv2d, Linear and Add.
class Activation : public Module {
 public:
  using Options = ActivationOptions;
  explicit Activation(const Options& options);
  std::string_view kind() const override { return "activation"; }
  std::string details() const override { return std::string(function_name(options_.function)); }
  const Options& options() const { return options_; }
  // The function in binary64, of which 8-bit tables are made (A21); null where a result depends on a whole row.
  std::function<double(double)> of_one_number() const;

 protected:
  Variable forward(std::span<const Variable> inputs) override;

 private:
  Variable apply(const Variable& x) const;
  Options options_;
};

}  // namespace whittle::inline WHITTLE_PRECISION
