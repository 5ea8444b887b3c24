// The list of models, with the options each takes and its parameters at the defaults:
// trainable, and with running statistics.

#include <algorithm>

#include "core/error.h"
#include "layers/zoo/families.h"
#include "layers/zoo/zoo.h"

namespace whittle::inline WHITTLE_PRECISION::zoo {

const std::vector<Entry>& list() {
  using Widths = std::vector<int64_t>;
  const Shape digits{28, 28, 1};
  const Shape cifar{32, 32, 3};
  const Shape imagenet{224, 224, 3};
  const Shape speech{49, 10, 1};  // windows of 40 ms, coefficients
  // clang-format off
  static const std::vector<Entry> entries{
      {"mlp", "dense net of any widths; the default is the benchmarks'", "benchmarks",
       {.classes = 10, .input = digits, .hidden = Widths{256, 128}, .dropout = 0}, 235146, 235146, mlp},
      {"edge-simple", "dense net with one hidden layer, for tables", "Edge project 2020",
       {.classes = 2, .input = Shape{10}, .hidden = Widths{10}, .dropout = 0}, 132, 132, mlp},
      {"edge-complex", "dense net with four hidden layers: 20-40-60-30, or 50-100-100-50 for one output",
       "Edge project 2020", {.classes = 2, .input = Shape{10}, .hidden = Widths{}, .dropout = 0.1}, 5412, 5412,
       edge_complex},
      {"lenet-300-100", "dense net for digits", "LeCun et al. 1998",
       {.classes = 10, .input = digits, .hidden = Widths{300, 100}, .dropout = 0}, 266610, 266610, mlp},
      {"lenet5", "two convolutions, two dense layers, Caffe's widths", "LeCun et al. 1998, Han et al. 2015",
       {.classes = 10, .input = digits}, 431080, 431080, lenet5},
      {"small-cnn", "two convolutions, two dense layers, the benchmarks' net", "benchmarks",
       {.classes = 10, .input = digits}, 1199882, 1199882, small_cnn},
      {"edge-cnn", "six convolutions, two dense layers (\"vanilla CNN\")", "Edge project 2020",
       {.classes = 10, .input = cifar, .norm_bias = true}, 3230474, 3232074, edge_cnn},
      {"resnet9", "six convolutions and two residuals of 128 and 512 channels", "Edge project 2020",
       {.classes = 10, .input = cifar, .norm_bias = true}, 6575370, 6579850, resnet9},
      {"resnet8", "MLPerf Tiny's image classifier", "Banbury et al. 2021",
       {.classes = 10, .input = cifar, .norm_bias = true}, 78186, 78666, resnet8},
      {"resnet20", "CIFAR ResNet of three stages, shortcuts by 1x1 convolutions", "He et al. 2016",
       {.classes = 10, .input = cifar}, 272474, 274042, resnet20},
      {"resnet18", "ImageNet ResNet with its 7x7 stem and a small head", "He et al. 2016",
       {.classes = 10, .input = cifar}, 11181642, 11191242, resnet18},
      {"resnet18-3x3", "the same with a 3x3 stem, for small images", "He et al. 2016",
       {.classes = 10, .input = cifar}, 11173962, 11183562, resnet18_3x3},
      {"resnet50", "ImageNet ResNet of bottleneck blocks", "He et al. 2016",
       {.classes = 1000, .input = imagenet}, 25557032, 25610152, resnet50},
      {"vgg16", "thirteen convolutions, three dense layers", "Simonyan and Zisserman 2015",
       {.classes = 1000, .input = imagenet, .dropout = 0.5, .norm = false}, 138357544, 138357544, vgg16},
      {"conv2", "lottery-ticket net of two convolutions, 4.3 M weights", "Frankle and Carbin 2019",
       {.classes = 10, .input = cifar, .norm = false}, 4301642, 4301642, conv2},
      {"conv4", "lottery-ticket net of four convolutions, 2.4 M weights", "Frankle and Carbin 2019",
       {.classes = 10, .input = cifar, .norm = false}, 2425930, 2425930, conv4},
      {"conv6", "lottery-ticket net of six convolutions, 2.3 M weights (printed as 1.7 M)", "Frankle and Carbin 2019",
       {.classes = 10, .input = cifar, .norm = false}, 2262602, 2262602, conv6},
      {"mobilenet-v1", "depthwise-separable net; width and resolution are free", "Howard et al. 2017",
       {.classes = 1000, .input = imagenet, .width = 1}, 4231976, 4253864, mobilenet_v1},
      {"mobilenet-v2", "inverted residuals; width and resolution are free", "Sandler et al. 2018",
       {.classes = 1000, .input = imagenet, .width = 1, .dropout = 0.2}, 3504872, 3538984, mobilenet_v2},
      {"ds-cnn", "keyword spotter, size S; MLPerf Tiny's", "Zhang et al. 2017, Banbury et al. 2021",
       {.classes = 12, .input = speech, .norm_bias = true}, 23756, 24908, ds_cnn},
      {"ds-cnn-l", "keyword spotter, size L", "Zhang et al. 2017",
       {.classes = 12, .input = speech, .norm_bias = true}, 416772, 422844, ds_cnn_l},
  };
  // clang-format on
  return entries;
}

const Entry& entry(std::string_view name) {
  const auto found = std::ranges::find(list(), name, &Entry::name);
  if (found == list().end()) {
    std::string known;
    for (const Entry& e : list()) {
      known += (known.empty() ? "" : ", ") + e.name;
    }
    fail("zoo", "there is no model '", name, "'; there are ", known);
  }
  return *found;
}

}  // namespace whittle::inline WHITTLE_PRECISION::zoo
