// Dense networks: linear layers with ReLU between them.
//
// mlp with hidden = {256, 128} is the peers' benchmark net, with {300, 100} it is
// LeNet-300-100 (LeCun et al. 1998), with one or four hidden layers it is the simple
// and the complex net of the Edge project (2020), which puts dropout behind each
// hidden layer of the complex one.

#include "layers/dropout.h"
#include "layers/linear.h"
#include "layers/zoo/families.h"

namespace whittle::inline WHITTLE_PRECISION::zoo {

Model mlp(const Options& o) {
  auto net = begin();
  if (o.input->rank() > 1) {
    net->add<Flatten>("flatten");
  }
  int64_t in = o.input->elements();
  int layer = 0;
  for (const int64_t out : *o.hidden) {
    const std::string number = std::to_string(++layer);
    net->add<Linear>("fc" + number, {.in = in, .out = out, .act = Act::kRelu});
    if (*o.dropout > 0) {
      net->add<Dropout>("drop" + number, {.p = *o.dropout});
    }
    in = out;
  }
  net->add<Linear>("fc" + std::to_string(++layer), {.in = in, .out = *o.classes});
  return net;
}

// Edge has wider layers where there is one output, a number to be regressed.
Model edge_complex(const Options& o) {
  Options widths = o;
  if (o.hidden->empty()) {
    widths.hidden = *o.classes == 1 ? std::vector<int64_t>{50, 100, 100, 50} : std::vector<int64_t>{20, 40, 60, 30};
  }
  return mlp(widths);
}

}  // namespace whittle::inline WHITTLE_PRECISION::zoo
