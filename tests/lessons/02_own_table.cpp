// Lesson 2: from a table of your own to a program: read, train, save, quantize, export, run.
#include <cstdio>
#include <fstream>
#include <vector>

#include "compress/quantizing.h"
#include "core/checkpoint.h"
#include "core/rng.h"
#include "datasets/registry.h"
#include "deploy/lower.h"
#include "layers/leaves.h"
#include "layers/linear.h"
#include "layers/model_checkpoint.h"
#include "layers/sequential.h"
#include "quant/post_training.h"
#include "runtime/hosted/engine.h"
#include "train/evaluate.h"
#include "train/fit.h"

using namespace whittle;

namespace {

// Points in the plane: which of them lie in a ring?
void write_table(const char* path) {
  std::ofstream file(path);
  file << "x,y,inside\n";
  for (uint64_t i = 0; i < 2000; ++i) {
    const double x = 4 * uniform(RngKey{.seed = 1}, 2 * i) - 2, y = 4 * uniform(RngKey{.seed = 1}, 2 * i + 1) - 2;
    const double distance = x * x + y * y;
    file << x << ',' << y << ',' << (distance > 0.5 && distance < 2 ? "yes" : "no") << '\n';
  }
}

void build(Sequential& model, int64_t inputs, int64_t classes) {
  model.add<Input>("input");  // where the program's input gets its codes
  model.add<Linear>("hidden1", {.in = inputs, .out = 32, .act = Act::kRelu});
  model.add<Linear>("hidden2", {.in = 32, .out = 32, .act = Act::kRelu});
  model.add<Linear>("scores", {.in = 32, .out = classes});
}

}  // namespace

int main() {
  write_table("ring.csv");
  const data::Splits splits = data::load("ring.csv", {.seed = 1, .own = {.target = "inside"}});
  const Shape sample = splits.train.sample_shape();

  Sequential model;
  build(model, sample[0], splits.train.classes());
  initialize(model, {.seed = 1});
  fit(model, splits, {.epochs = 40, .batch = 32, .optimizer = "adam", .rate = 0.01, .schedule = "cosine"});
  std::printf("float:     %.1f %% right\n", 100 * evaluate(model, splits.test).accuracy);

  Checkpoint saved;
  store_model(saved, model);
  save_checkpoint("ring.safetensors", saved);
  Sequential loaded;
  build(loaded, sample[0], splits.train.classes());
  restore_model(load_checkpoint("ring.safetensors"), loaded, {});

  quant::quantize(loaded, Shape{1, sample[0]}, {.method = quant::Method::kStatic, .spec = quant::usual_spec(8, 8)},
                  compress::calibration_batches(splits.train, 256));
  std::printf("quantized: %.1f %% right\n", 100 * evaluate(loaded, splits.test).accuracy);

  // A program reads and writes codes: real = scale * (code - zero point).
  const std::vector<uint8_t> file = deploy::program_of(loaded, sample);
  const runtime::Engine engine(file);
  const runtime::ValueRecord in = engine.program().value(engine.program().input(0));
  const Grid grid{__builtin_bit_cast(float, in.scale), in.zero_point, in.qmin, in.qmax};
  int64_t right = 0;
  for (int64_t i = 0; i < splits.test.size(); ++i) {
    const Tensor row = splits.test.batch(std::vector<int64_t>{i}).inputs;
    std::vector<uint8_t> codes, scores(static_cast<size_t>(splits.test.classes()));
    for (const real x : row.values()) {
      codes.push_back(static_cast<uint8_t>(arithmetic::quantize(x, grid)));
    }
    engine.run(codes, scores);
    const bool yes = static_cast<int8_t>(scores[1]) > static_cast<int8_t>(scores[0]);
    right += yes == (splits.test.label(i) == 1) ? 1 : 0;
  }
  const double share = static_cast<double>(right) / static_cast<double>(splits.test.size());
  std::printf("program:   %.1f %% right, %zu bytes, integers only\n", 100 * share, file.size());
  return share >= 0.95 ? 0 : 1;
}
