// Two small convolutional nets for 28x28 images.

#include "core/error.h"
#include "layers/conv2d.h"
#include "layers/linear.h"
#include "layers/zoo/families.h"

namespace whittle::inline WHITTLE_PRECISION::zoo {

// LeNet-5 as Caffe and the pruning literature have it (Han et al. 2015), which is wider
// than LeCun's: 431,080 parameters for 28x28 digits. Convolutions without padding. Caffe has
// no ReLU behind them; it changes no count, and we put it in.
//
//   conv 5x5 20, pool | conv 5x5 50, pool | fc 500 | fc classes
Model lenet5(const Options& o) {
  const Shape& input = *o.input;
  const auto after = [](int64_t n) { return (n - 4) / 2; };  // a convolution and a pool
  const int64_t h = after(after(input[0]));
  const int64_t w = after(after(input[1]));
  require(input[0] >= 16 && input[1] >= 16, "zoo", "'lenet5' needs images of at least 16x16, the input is ", input);
  auto net = begin();
  net->add<Conv2d>("conv1", {.in = input[2], .out = 20, .kernel = {5, 5}, .act = Act::kRelu});
  net->add<MaxPool>("pool1", {.kernel = {2, 2}});
  net->add<Conv2d>("conv2", {.in = 20, .out = 50, .kernel = {5, 5}, .act = Act::kRelu});
  net->add<MaxPool>("pool2", {.kernel = {2, 2}});
  net->add<Flatten>("flatten");
  net->add<Linear>("fc1", {.in = h * w * 50, .out = 500, .act = Act::kRelu});
  net->add<Linear>("fc2", {.in = 500, .out = *o.classes});
  return net;
}

// The small CNN of many tutorials and of our benchmarks against other frameworks.
//
//   conv 3x3 32 | conv 3x3 64, pool | fc 128 | fc classes
Model small_cnn(const Options& o) {
  const Shape& input = *o.input;
  require(input[0] >= 6 && input[1] >= 6, "zoo", "'small-cnn' needs images of at least 6x6, the input is ", input);
  auto net = begin();
  net->add<Conv2d>("conv1", {.in = input[2], .out = 32, .act = Act::kRelu});
  net->add<Conv2d>("conv2", {.in = 32, .out = 64, .act = Act::kRelu});
  net->add<MaxPool>("pool", {.kernel = {2, 2}});
  net->add<Flatten>("flatten");
  net->add<Linear>("fc1", {.in = (input[0] - 4) / 2 * ((input[1] - 4) / 2) * 64, .out = 128, .act = Act::kRelu});
  net->add<Linear>("fc2", {.in = 128, .out = *o.classes});
  return net;
}

}  // namespace whittle::inline WHITTLE_PRECISION::zoo
