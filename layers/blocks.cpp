#include "layers/blocks.h"

#include "core/error.h"
#include "layers/leaves.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

std::shared_ptr<Conv2d> conv(const Conv2dOptions& options) { return std::make_shared<Conv2d>(options); }

Conv2dOptions pointwise(int64_t in, int64_t out, Act act) {
  return {.in = in, .out = out, .kernel = {1, 1}, .norm = true, .act = act};
}

Conv2dOptions spatial(int64_t in, int64_t out, Size2 stride, Act act) {
  return {.in = in, .out = out, .stride = stride, .padding = Padding::all(1), .norm = true, .act = act};
}

Conv2dOptions depthwise(int64_t channels, Size2 stride, Act act) {
  Conv2dOptions options = spatial(channels, channels, stride, act);
  options.groups = channels;
  return options;
}

Conv2dOptions with_norm_bias(Conv2dOptions options, bool norm_bias) {
  options.norm_bias = norm_bias;
  return options;
}

// What makes [N,H,W,in] fit to be added to the chain's result, or null where it already does.
std::shared_ptr<Module> make_shortcut(int64_t in, int64_t out, int64_t stride, bool norm) {
  if (stride == 1 && in == out) {
    return nullptr;
  }
  return conv({.in = in, .out = out, .kernel = {1, 1}, .stride = {stride, stride}, .norm = norm});
}

}  // namespace

void Block::then(std::string name, std::shared_ptr<Module> layer) {
  chain_.push_back(add_module(std::move(name), std::move(layer)));
}

void Block::close(std::shared_ptr<Module> shortcut, Act act) {
  if (shortcut != nullptr) {
    shortcut_ = add_module("shortcut", std::move(shortcut));
  }
  add_ = add_module("add", std::make_shared<Add>(AddOptions{.act = act}));
}

Variable Block::forward(std::span<const Variable> inputs) {
  Variable x = inputs[0];
  for (const auto& layer : chain_) {
    x = (*layer)(x);
  }
  if (add_ == nullptr) {
    return x;
  }
  return (*add_)(x, shortcut_ == nullptr ? inputs[0] : (*shortcut_)(inputs[0]));
}

ResidualBlock::ResidualBlock(const Options& o) : options_(o) {
  then("conv1", conv(with_norm_bias(spatial(o.in, o.out, {o.stride, o.stride}, Act::kRelu), o.norm_bias)));
  then("conv2", conv(with_norm_bias(spatial(o.out, o.out, {1, 1}, o.branch_act), o.norm_bias)));
  close(make_shortcut(o.in, o.out, o.stride, o.shortcut_norm), o.act);
}

BottleneckBlock::BottleneckBlock(const Options& o) : options_(o) {
  then("conv1", conv(pointwise(o.in, o.middle, Act::kRelu)));
  then("conv2", conv(spatial(o.middle, o.middle, {o.stride, o.stride}, Act::kRelu)));
  then("conv3", conv(pointwise(o.middle, o.out, Act::kNone)));
  close(make_shortcut(o.in, o.out, o.stride, true), Act::kRelu);
}

SeparableBlock::SeparableBlock(const Options& o) : options_(o) {
  then("depthwise", conv(with_norm_bias(depthwise(o.in, o.stride, o.act), o.norm_bias)));
  then("pointwise", conv(with_norm_bias(pointwise(o.in, o.out, o.act), o.norm_bias)));
}

InvertedResidual::InvertedResidual(const Options& o) : options_(o) {
  require(o.expansion >= 1, "inverted_residual", "expansion ", o.expansion, " is not positive");
  const int64_t wide = o.in * o.expansion;
  if (o.expansion > 1) {
    then("expand", conv(pointwise(o.in, wide, Act::kRelu6)));
  }
  then("depthwise", conv(depthwise(wide, {o.stride, o.stride}, Act::kRelu6)));
  then("project", conv(pointwise(wide, o.out, Act::kNone)));
  if (o.stride == 1 && o.in == o.out) {
    close(nullptr, Act::kNone);
  }
}

}  // namespace whittle::inline WHITTLE_PRECISION
