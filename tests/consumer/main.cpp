// Differentiates sum(w * w), and takes w to a file and back.

#include <cstdio>
#include <exception>
#include <filesystem>

#include "core/checkpoint.h"
#include "core/ops.h"

namespace {

int failed(const char* what) {
  std::fprintf(stderr, "consumer: %s\n", what);
  return 1;
}

int run() {
  using namespace whittle;

  const Variable w = Variable::leaf(Tensor::of({2, 2}, {1, -2, 3, 0.5}));
  backward(sum(mul(w, w)));
  for (int64_t i = 0; i < w.value().elements(); ++i) {
    if (w.grad().data()[i] != 2 * w.value().data()[i]) {
      return failed("the gradient of w * w is not 2 w");
    }
  }

  const std::filesystem::path file = "consumer.safetensors";
  Checkpoint checkpoint;
  checkpoint.tensors["w"] = StoredTensor::from(w.value());
  checkpoint.metadata["made by"] = "consumer";
  save_checkpoint(file, checkpoint);
  const Checkpoint loaded = load_checkpoint(file);
  std::filesystem::remove(file);
  const Tensor copy = loaded.at("w").to_tensor();
  for (int64_t i = 0; i < copy.elements(); ++i) {
    if (copy.data()[i] != w.value().data()[i]) {
      return failed("the checkpoint changed a number");
    }
  }
  std::puts("consumer: gradient and checkpoint are right");
  return 0;
}

}  // namespace

int main() {
  try {
    return run();
  } catch (const std::exception& error) {
    return failed(error.what());
  }
}
