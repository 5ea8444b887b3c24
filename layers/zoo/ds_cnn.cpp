// Keyword spotting on 49 windows of 10 sound coefficients (Zhang et al. 2017, "Hello
// Edge"): a 10x4 convolution, depthwise-separable blocks of equal width, a global pool.

#include "layers/blocks.h"
#include "layers/conv2d.h"
#include "layers/linear.h"
#include "layers/zoo/families.h"

namespace whittle::inline WHITTLE_PRECISION::zoo {

namespace {

Model keyword_net(const Options& o, int64_t channels, Size2 stem_stride, Size2 first_stride, int blocks) {
  auto net = begin();
  net->add<Conv2d>("conv1", {.in = (*o.input)[2],
                             .out = channels,
                             .kernel = {10, 4},
                             .stride = stem_stride,
                             .padding = {.top = 5, .left = 1, .bottom = 5, .right = 1},
                             .norm = true,
                             .norm_bias = *o.norm_bias,
                             .act = Act::kRelu});
  for (int block = 1; block <= blocks; ++block) {
    net->add<SeparableBlock>("block" + std::to_string(block), {.in = channels,
                                                               .out = channels,
                                                               .stride = block == 1 ? first_stride : Size2{1, 1},
                                                               .norm_bias = *o.norm_bias});
  }
  net->add<GlobalAvgPool>("pool");
  net->add<Linear>("fc", {.in = channels, .out = *o.classes});
  return net;
}

}  // namespace

// Size S, also MLPerf Tiny's keyword spotter, which has biases in front of the norms.
Model ds_cnn(const Options& o) { return keyword_net(o, 64, {2, 2}, {1, 1}, 4); }

Model ds_cnn_l(const Options& o) { return keyword_net(o, 276, {2, 1}, {2, 2}, 5); }

}  // namespace whittle::inline WHITTLE_PRECISION::zoo
