// MobileNets: convolutions split into a depthwise and a pointwise part.
//
// `width` multiplies all channels; the resolution is the input's.

#include <algorithm>

#include "layers/blocks.h"
#include "layers/conv2d.h"
#include "layers/dropout.h"
#include "layers/linear.h"
#include "layers/zoo/families.h"

namespace whittle::inline WHITTLE_PRECISION::zoo {

namespace {

Conv2dOptions stem(int64_t in, int64_t out, Act act) {
  return {.in = in, .out = out, .stride = {2, 2}, .padding = Padding::all(1), .norm = true, .act = act};
}

}  // namespace

// Version 1 (Howard et al. 2017): ReLU throughout. MLPerf Tiny's person detector is this
// with width 0.25, input 96x96 and two classes.
Model mobilenet_v1(const Options& o) {
  const auto channels = [&o](int64_t n) {
    return std::max<int64_t>(8, static_cast<int64_t>(static_cast<double>(n) * *o.width));
  };
  struct Row {
    int64_t out;
    int64_t stride;
  };
  auto net = begin();
  int64_t in = channels(32);
  net->add<Conv2d>("conv1", stem((*o.input)[2], in, Act::kRelu));
  int number = 0;
  for (const auto& [out, stride] :
       {Row{64, 1}, Row{128, 2}, Row{128, 1}, Row{256, 2}, Row{256, 1}, Row{512, 2}, Row{512, 1}, Row{512, 1},
        Row{512, 1}, Row{512, 1}, Row{512, 1}, Row{1024, 2}, Row{1024, 1}}) {
    net->add<SeparableBlock>("block" + std::to_string(++number),
                             {.in = in, .out = channels(out), .stride = {stride, stride}});
    in = channels(out);
  }
  net->add<GlobalAvgPool>("pool");
  net->add<Linear>("fc", {.in = in, .out = *o.classes});
  return net;
}

// Version 2 (Sandler et al. 2018), its table 2; ReLU6. Channels are rounded to multiples
// of 8, and never down by more than a tenth, as its authors' code does.
Model mobilenet_v2(const Options& o) {
  const auto channels = [](double wanted) {
    const int64_t rounded = std::max<int64_t>(8, static_cast<int64_t>(wanted + 4) / 8 * 8);
    return static_cast<double>(rounded) < 0.9 * wanted ? rounded + 8 : rounded;
  };
  struct Row {
    int64_t expansion;
    double out;
    int repeats;
    int64_t stride;  // of the first
  };
  auto net = begin();
  int64_t in = channels(32 * *o.width);
  net->add<Conv2d>("conv1", stem((*o.input)[2], in, Act::kRelu6));
  int number = 0;
  for (const auto& [expansion, wanted, repeats, stride] :
       {Row{1, 16, 1, 1}, Row{6, 24, 2, 2}, Row{6, 32, 3, 2}, Row{6, 64, 4, 2}, Row{6, 96, 3, 1}, Row{6, 160, 3, 2},
        Row{6, 320, 1, 1}}) {
    for (int repeat = 0; repeat < repeats; ++repeat) {
      const int64_t out = channels(wanted * *o.width);
      net->add<InvertedResidual>("block" + std::to_string(++number),
                                 {.in = in, .out = out, .stride = repeat == 0 ? stride : 1, .expansion = expansion});
      in = out;
    }
  }
  const int64_t last = channels(1280 * std::max(1.0, *o.width));
  net->add<Conv2d>("conv2", {.in = in, .out = last, .kernel = {1, 1}, .norm = true, .act = Act::kRelu6});
  net->add<GlobalAvgPool>("pool");
  if (*o.dropout > 0) {
    net->add<Dropout>("drop", {.p = *o.dropout});
  }
  net->add<Linear>("fc", {.in = last, .out = *o.classes});
  return net;
}

}  // namespace whittle::inline WHITTLE_PRECISION::zoo
