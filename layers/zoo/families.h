// The builders behind zoo.h, one file per family. They get complete, checked options.
#pragma once

#include <memory>
#include <string_view>

#include "layers/sequential.h"
#include "layers/zoo/zoo.h"

namespace whittle::inline WHITTLE_PRECISION::zoo {

using Model = std::shared_ptr<Module>;

// dense.cpp
Model mlp(const Options& o);
Model edge_complex(const Options& o);
// small_cnn.cpp
Model lenet5(const Options& o);
Model small_cnn(const Options& o);
// edge.cpp
Model edge_cnn(const Options& o);
Model resnet9(const Options& o);
// resnet.cpp
Model resnet8(const Options& o);
Model resnet20(const Options& o);
Model resnet18(const Options& o);
Model resnet18_3x3(const Options& o);
Model resnet50(const Options& o);
// vgg.cpp
Model vgg16(const Options& o);
Model conv2(const Options& o);
Model conv4(const Options& o);
Model conv6(const Options& o);
// mobilenet.cpp
Model mobilenet_v1(const Options& o);
Model mobilenet_v2(const Options& o);
// ds_cnn.cpp
Model ds_cnn(const Options& o);
Model ds_cnn_l(const Options& o);

// An empty net with its Input leaf.
std::shared_ptr<Sequential> begin();

// How much is left of an image after pools or strides of 2, `times` of them in a row;
// throws if that is nothing, naming the model.
Size2 halved(std::string_view model, const Shape& input, int times);

}  // namespace whittle::inline WHITTLE_PRECISION::zoo
