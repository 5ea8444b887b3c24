// Residual networks (He et al. 2016): a stem, stages of blocks, a global pool, one
// linear layer. A stage after the first halves the image and doubles the channels.

#include <vector>

#include "layers/blocks.h"
#include "layers/conv2d.h"
#include "layers/linear.h"
#include "layers/zoo/families.h"

namespace whittle::inline WHITTLE_PRECISION::zoo {

namespace {

// The CIFAR nets and the 3x3-stem variant begin with one 3x3 convolution, the ImageNet
// nets with a 7x7 one and a pool, both of stride 2.
void add_3x3_stem(Sequential& net, int64_t in, int64_t out, bool norm_bias = false) {
  net.add<Conv2d>(
      "conv1",
      {.in = in, .out = out, .padding = Padding::all(1), .norm = true, .norm_bias = norm_bias, .act = Act::kRelu});
}

void add_7x7_stem(Sequential& net, int64_t in, int64_t out) {
  net.add<Conv2d>("conv1", {.in = in,
                            .out = out,
                            .kernel = {7, 7},
                            .stride = {2, 2},
                            .padding = Padding::all(3),
                            .norm = true,
                            .act = Act::kRelu});
  net.add<MaxPool>("pool1", {.kernel = {3, 3}, .stride = {2, 2}, .padding = Padding::all(1)});
}

struct Stage {
  int64_t channels;
  int blocks;
};

// "layer1.0", "layer1.1", ... Strides and channels change in the first block of a stage.
void add_basic_stages(Sequential& net, const std::vector<Stage>& stages, const ResidualOptions& style = {}) {
  int64_t in = stages.front().channels;
  for (size_t s = 0; s < stages.size(); ++s) {
    auto layer = std::make_shared<Sequential>();
    for (int block = 0; block < stages[s].blocks; ++block) {
      ResidualOptions options = style;
      options.in = in;
      options.out = stages[s].channels;
      options.stride = s > 0 && block == 0 ? 2 : 1;
      layer->add<ResidualBlock>(options);
      in = options.out;
    }
    net.add("layer" + std::to_string(s + 1), layer);
  }
}

void add_head(Sequential& net, int64_t in, int64_t classes) {
  net.add<GlobalAvgPool>("pool");
  net.add<Linear>("fc", {.in = in, .out = classes});
}

}  // namespace

// MLPerf Tiny's image classifier (Banbury et al. 2021): three stages of one block.
// Published with biases in front of the norms and shortcuts that have a bias in place
// of a norm: 78,186 parameters, 78,666 numbers with the running statistics.
Model resnet8(const Options& o) {
  auto net = begin();
  add_3x3_stem(*net, (*o.input)[2], 16, *o.norm_bias);
  add_basic_stages(*net, {{16, 1}, {32, 1}, {64, 1}}, {.norm_bias = *o.norm_bias, .shortcut_norm = false});
  add_head(*net, 64, *o.classes);
  return net;
}

// He's CIFAR net with three stages of three blocks, 269,722 parameters with shortcuts that
// pad with zeros; ours are 1x1 convolutions (the paper's option B), 272,474.
Model resnet20(const Options& o) {
  auto net = begin();
  add_3x3_stem(*net, (*o.input)[2], 16);
  add_basic_stages(*net, {{16, 3}, {32, 3}, {64, 3}});
  add_head(*net, 64, *o.classes);
  return net;
}

namespace {

std::vector<Stage> resnet18_stages() { return {{64, 2}, {128, 2}, {256, 2}, {512, 2}}; }

}  // namespace

Model resnet18(const Options& o) {
  auto net = begin();
  add_7x7_stem(*net, (*o.input)[2], 64);
  add_basic_stages(*net, resnet18_stages());
  add_head(*net, 512, *o.classes);
  return net;
}

// For small images: the 7x7 stem leaves 8x8 of a 32x32 image before the first block.
Model resnet18_3x3(const Options& o) {
  auto net = begin();
  add_3x3_stem(*net, (*o.input)[2], 64);
  add_basic_stages(*net, resnet18_stages());
  add_head(*net, 512, *o.classes);
  return net;
}

Model resnet50(const Options& o) {
  auto net = begin();
  add_7x7_stem(*net, (*o.input)[2], 64);
  int64_t in = 64;
  int number = 0;
  for (const auto& [middle, blocks] : {Stage{64, 3}, Stage{128, 4}, Stage{256, 6}, Stage{512, 3}}) {
    auto layer = std::make_shared<Sequential>();
    for (int block = 0; block < blocks; ++block) {
      layer->add<BottleneckBlock>(
          {.in = in, .middle = middle, .out = 4 * middle, .stride = number > 0 && block == 0 ? 2 : 1});
      in = 4 * middle;
    }
    net->add("layer" + std::to_string(++number), layer);
  }
  add_head(*net, in, *o.classes);
  return net;
}

}  // namespace whittle::inline WHITTLE_PRECISION::zoo
