// Stacks of 3x3 convolutions with pools between them, and three dense layers.
//
// VGG-16 (Simonyan and Zisserman 2015), configuration D, and its miniatures
// Conv-2, Conv-4 and Conv-6 (Frankle and Carbin 2019), on which lottery tickets are
// drawn. All were published without batch norm; `norm` adds it.

#include <vector>

#include "layers/conv2d.h"
#include "layers/dropout.h"
#include "layers/linear.h"
#include "layers/zoo/families.h"

namespace whittle::inline WHITTLE_PRECISION::zoo {

namespace {

// Convolutions with these output channels, and a pool behind each group.
using Groups = std::vector<std::vector<int64_t>>;

Model stack(std::string_view name, const Options& o, const Groups& groups, int64_t dense) {
  const Size2 left = halved(name, *o.input, static_cast<int>(groups.size()));
  auto net = begin();
  int64_t in = (*o.input)[2];
  int number = 0;
  for (size_t g = 0; g < groups.size(); ++g) {
    for (const int64_t out : groups[g]) {
      net->add<Conv2d>("conv" + std::to_string(++number),
                       {.in = in, .out = out, .padding = Padding::all(1), .norm = *o.norm, .act = Act::kRelu});
      in = out;
    }
    net->add<MaxPool>("pool" + std::to_string(g + 1), {.kernel = {2, 2}});
  }
  net->add<Flatten>("flatten");
  in *= left.h * left.w;
  for (const char* layer : {"1", "2"}) {
    net->add<Linear>(std::string("fc") + layer, {.in = in, .out = dense, .act = Act::kRelu});
    if (o.dropout.value_or(0) > 0) {
      net->add<Dropout>(std::string("drop") + layer, {.p = *o.dropout});
    }
    in = dense;
  }
  net->add<Linear>("fc3", {.in = in, .out = *o.classes});
  return net;
}

}  // namespace

Model vgg16(const Options& o) {
  return stack("vgg16", o, {{64, 64}, {128, 128}, {256, 256, 256}, {512, 512, 512}, {512, 512, 512}}, 4096);
}

Model conv2(const Options& o) { return stack("conv2", o, {{64, 64}}, 256); }

Model conv4(const Options& o) { return stack("conv4", o, {{64, 64}, {128, 128}}, 256); }

// The paper prints 1.7 M weights; the layers it describes have 2,261,184, and its counts for
// the other two fit the description. Later papers count 2.3 M.
Model conv6(const Options& o) { return stack("conv6", o, {{64, 64}, {128, 128}, {256, 256}}, 256); }

}  // namespace whittle::inline WHITTLE_PRECISION::zoo
