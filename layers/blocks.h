// The building blocks of the networks in the zoo. Each is a module made of leaves.
//
//   ResidualBlock       act(conv2(conv1(x)) + shortcut(x))           ResNet-18 and smaller
//   BottleneckBlock     act(conv3(conv2(conv1(x))) + shortcut(x))    ResNet-50
//   SeparableBlock      pointwise(depthwise(x))                      MobileNet v1, DS-CNN
//   InvertedResidual    project(depthwise(expand(x))) + x            MobileNet v2
#pragma once

#include "layers/conv2d.h"
#include "layers/module.h"

namespace whittle::inline WHITTLE_PRECISION {

// A chain of layers and, if close() was called, a sum with the block's input
// behind it. The input may pass through a layer of its own, the shortcut.
class Block : public Module {
 protected:
  void then(std::string name, std::shared_ptr<Module> layer);
  void close(std::shared_ptr<Module> shortcut, Act act);  // shortcut null: the input as it is
  Variable forward(std::span<const Variable> inputs) override;

 private:
  std::vector<std::shared_ptr<Module>> chain_;
  std::shared_ptr<Module> shortcut_;
  std::shared_ptr<Module> add_;
};

// He et al. 2016. The shortcut is a 1x1 convolution where stride or channels change,
// else the identity.
struct ResidualOptions {
  int64_t in = 0;
  int64_t out = 0;
  int64_t stride = 1;
  Act act = Act::kRelu;         // after the sum
  Act branch_act = Act::kNone;  // of conv2, before the sum
  bool norm_bias = false;       // biases before norms, see Conv2dOptions
  bool shortcut_norm = true;    // false: the shortcut has a bias instead
};

class ResidualBlock : public Block {  // conv1, conv2, [shortcut], add
 public:
  using Options = ResidualOptions;
  explicit ResidualBlock(const Options& options);
  std::string_view kind() const override { return "residual_block"; }
  const Options& options() const { return options_; }

 private:
  Options options_;
};

struct BottleneckOptions {
  int64_t in = 0;
  int64_t middle = 0;  // channels of the 3x3 convolution
  int64_t out = 0;
  int64_t stride = 1;  // of the 3x3 convolution, as in every implementation since 2016
};

class BottleneckBlock : public Block {  // conv1 1x1, conv2 3x3, conv3 1x1, [shortcut], add
 public:
  using Options = BottleneckOptions;
  explicit BottleneckBlock(const Options& options);
  std::string_view kind() const override { return "bottleneck_block"; }
  const Options& options() const { return options_; }

 private:
  Options options_;
};

struct SeparableOptions {
  int64_t in = 0;
  int64_t out = 0;
  Size2 stride{1, 1};
  Act act = Act::kRelu;  // of both convolutions
  bool norm_bias = false;
};

class SeparableBlock : public Block {  // depthwise 3x3, pointwise 1x1
 public:
  using Options = SeparableOptions;
  explicit SeparableBlock(const Options& options);
  std::string_view kind() const override { return "separable_block"; }
  const Options& options() const { return options_; }

 private:
  Options options_;
};

// Sandler et al. 2018: wide inside, narrow outside, no activation at the narrow end.
// The sum is there where the shapes allow it.
struct InvertedOptions {
  int64_t in = 0;
  int64_t out = 0;
  int64_t stride = 1;
  int64_t expansion = 6;  // 1: no expanding convolution
};

class InvertedResidual : public Block {  // [expand 1x1], depthwise 3x3, project 1x1, [add]
 public:
  using Options = InvertedOptions;
  explicit InvertedResidual(const Options& options);
  std::string_view kind() const override { return "inverted_residual"; }
  const Options& options() const { return options_; }

 private:
  Options options_;
};

}  // namespace whittle::inline WHITTLE_PRECISION
