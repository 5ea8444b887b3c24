// Writes the programs that `./run bench infer` times: a net of the zoo with random weights, in float and quantized to
// 8 bits on random data, for each batch asked for.
//
//   bench_infer_nets '{"name":"resnet8"}' STEM BATCH...      writes STEM.f32.b1.wtl, STEM.int8.b1.wtl, ...
//
// How fast a dense net is does not depend on its numbers. But ranges must be those of a net that computes something, or
// every code of a deep layer is 0 and nobody could see a peer compute something else: so norms see some batches first.
#include <cstddef>
#include <cstdint>
#include <iostream>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/file.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "deploy/lower.h"
#include "layers/zoo/zoo.h"
#include "quant/post_training.h"

using namespace whittle;

namespace {

constexpr RngKey kKey{.seed = 1};
constexpr int64_t kSamples = 8;  // in a batch of random data

Tensor random_batch(const Shape& sample, int number) {
  std::vector<int64_t> dims{kSamples};
  dims.insert(dims.end(), sample.dims().begin(), sample.dims().end());
  return Tensor::normal(Shape(dims), kKey.child("batch " + std::to_string(number)));
}

void settle_norms(Module& model, const Shape& sample) {
  const NoGrad no_grad;
  model.train(true);
  for (int i = 0; i < 20; ++i) {
    model(random_batch(sample, i));
  }
  model.train(false);
}

void quantize(Module& model, const Shape& sample) {
  std::vector<int64_t> one{1};
  one.insert(one.end(), sample.dims().begin(), sample.dims().end());
  quant::quantize(model, Shape(one), {.spec = quant::usual_spec(8, 8)}, [sample] {
    return [sample, number = 100]() mutable { return number < 104 ? random_batch(sample, number++) : Tensor(); };
  });
}

void write(Module& model, const Shape& sample, const std::string& stem, const std::vector<int64_t>& batches) {
  for (const int64_t batch : batches) {
    const std::vector<uint8_t> file = deploy::program_of(model, sample, {.batch = batch});
    replace_file(stem + ".b" + std::to_string(batch) + ".wtl", std::as_bytes(std::span(file)));
  }
}

void make(const std::string& text, const std::string& stem, const std::vector<int64_t>& batches) {
  const zoo::Description description = zoo::from_text(text);
  const std::shared_ptr<Module> model = zoo::make(description);
  const Shape sample = *description.options.input;
  settle_norms(*model, sample);
  write(*model, sample, stem + ".f32", batches);
  quantize(*model, sample);
  write(*model, sample, stem + ".int8", batches);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::cerr << "usage: bench_infer_nets DESCRIPTION STEM BATCH...\n";
    return 2;
  }
  try {
    std::vector<int64_t> batches;
    for (int i = 3; i < argc; ++i) {
      batches.push_back(std::stoll(argv[i]));
    }
    make(argv[1], argv[2], batches);
  } catch (const std::exception& error) {
    std::cerr << "bench_infer_nets: " << error.what() << '\n';
    return 1;
  }
  return 0;
}
