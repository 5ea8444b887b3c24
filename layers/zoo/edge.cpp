// The two image nets of the Edge project (2020), as its code has them: every
// convolution 3x3 with padding 1 and a bias, also where a batch norm follows.

#include "layers/blocks.h"
#include "layers/conv2d.h"
#include "layers/dropout.h"
#include "layers/linear.h"
#include "layers/zoo/families.h"

namespace whittle::inline WHITTLE_PRECISION::zoo {

namespace {

Conv2dOptions conv3x3(int64_t in, int64_t out, const Options& o) {
  return {.in = in, .out = out, .padding = Padding::all(1), .norm = true, .norm_bias = *o.norm_bias, .act = Act::kRelu};
}

}  // namespace

// conv 32 | conv 64, pool, dropout | conv 128, dropout | conv 128, pool |
// conv 256 | conv 256, pool, dropout | fc 512 | fc classes
//
// The second convolution has no norm; nobody says why.
Model edge_cnn(const Options& o) {
  const Size2 left = halved("edge-cnn", *o.input, 3);
  auto net = begin();
  net->add<Conv2d>("conv1", conv3x3((*o.input)[2], 32, o));
  net->add<Conv2d>("conv2", {.in = 32, .out = 64, .padding = Padding::all(1), .act = Act::kRelu});
  net->add<MaxPool>("pool2", {.kernel = {2, 2}});
  net->add<Dropout>("drop2", {.p = 0.2});
  net->add<Conv2d>("conv3", conv3x3(64, 128, o));
  net->add<Dropout>("drop3", {.p = 0.3});
  net->add<Conv2d>("conv4", conv3x3(128, 128, o));
  net->add<MaxPool>("pool4", {.kernel = {2, 2}});
  net->add<Conv2d>("conv5", conv3x3(128, 256, o));
  net->add<Conv2d>("conv6", conv3x3(256, 256, o));
  net->add<MaxPool>("pool6", {.kernel = {2, 2}});
  net->add<Dropout>("drop6", {.p = 0.3});
  net->add<Flatten>("flatten");
  net->add<Linear>("fc1", {.in = left.h * left.w * 256, .out = 512, .act = Act::kRelu});
  net->add<Linear>("fc2", {.in = 512, .out = *o.classes});
  return net;
}

// conv 64 | conv 128, pool | residual 128 | conv 256, pool | conv 512, pool |
// residual 512 | pool 4 | fc classes
//
// A residual is two convolutions with ReLU each, and none behind the sum.
Model resnet9(const Options& o) {
  const Size2 left = halved("resnet9", *o.input, 5);  // the last pool is two halvings in one
  const auto residual = [&o](int64_t channels) {
    return ResidualOptions{
        .in = channels, .out = channels, .act = Act::kNone, .branch_act = Act::kRelu, .norm_bias = *o.norm_bias};
  };
  auto net = begin();
  net->add<Conv2d>("conv1", conv3x3((*o.input)[2], 64, o));
  net->add<Conv2d>("conv2", conv3x3(64, 128, o));
  net->add<MaxPool>("pool2", {.kernel = {2, 2}});
  net->add<ResidualBlock>("res1", residual(128));
  net->add<Conv2d>("conv3", conv3x3(128, 256, o));
  net->add<MaxPool>("pool3", {.kernel = {2, 2}});
  net->add<Conv2d>("conv4", conv3x3(256, 512, o));
  net->add<MaxPool>("pool4", {.kernel = {2, 2}});
  net->add<ResidualBlock>("res2", residual(512));
  net->add<MaxPool>("pool", {.kernel = {4, 4}});
  net->add<Flatten>("flatten");
  net->add<Linear>("fc", {.in = left.h * left.w * 512, .out = *o.classes});
  return net;
}

}  // namespace whittle::inline WHITTLE_PRECISION::zoo
