// The two Telescope nets of the Edge project, where they are found beside the data sets.
#pragma once

#include <doctest/doctest.h>

#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/checkpoint.h"
#include "layers/weighted.h"
#include "layers/zoo/zoo.h"

namespace whittle {

// "simple" or "complex".
inline std::shared_ptr<Module> stored_telescope_net(const std::filesystem::path& data, const std::string& name) {
  const Checkpoint file =
      load_checkpoint(data / "edge-weights" / ("telescope_" + name + ".safetensors"), {.allow_foreign = true});
  const auto net = zoo::build(zoo::describe("edge-" + name));
  std::vector<WeightedLayer*> layers;
  for (const auto& [path, module] : net->modules()) {
    if (auto* layer = dynamic_cast<WeightedLayer*>(module); layer != nullptr) {
      layers.push_back(layer);
    }
  }
  std::set<std::pair<int, std::string>> names;  // "net.<i>.weight", in the order of i
  for (const auto& [tensor, value] : file.tensors) {
    if (tensor.ends_with(".weight")) {
      names.emplace(std::stoi(tensor.substr(4)), tensor.substr(0, tensor.size() - 7));
    }
  }
  REQUIRE(names.size() == layers.size());
  size_t i = 0;
  for (const auto& [number, prefix] : names) {
    layers[i]->weight.raw.assign(file.at(prefix + ".weight").to_tensor());
    layers[i++]->bias.raw.assign(file.at(prefix + ".bias").to_tensor());
  }
  return net;
}

}  // namespace whittle
