// Times training steps of a zoo model: forward, cross-entropy, backward, SGD with
// momentum. A script drives it over a pipe, so that it can take turns with others:
//
//   bench_train_step '{"name":"resnet8","options":{"norm_bias":false}}' BATCH THREADS
//
// It trains on one batch of random inputs and labels, which any net can learn by
// heart: the loss falls, or the steps are not worth timing. It writes a line of
// JSON when it is ready and one per line it reads:
//
//   dump FILE      writes the parameters in the model's order, the inputs and the labels
//                  (float32, float32, int32), so that another framework starts from the same
//   run WARM N     WARM steps unmeasured, then N measured one by one
#include <chrono>
#include <cstdint>
#include <ctime>
#include <fstream>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/json.h"
#include "core/ops.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "layers/zoo/zoo.h"
#include "optim/sgd.h"

using namespace whittle;

namespace {

struct Memory {
  double now = 0;   // megabytes of this process in RAM
  double peak = 0;  // the most so far
};

Memory memory() {
  Memory found;
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    if (word == "VmRSS:" || word == "VmHWM:") {
      double kilobytes = 0;
      status >> kilobytes;
      (word == "VmRSS:" ? found.now : found.peak) = kilobytes / 1024;
    }
  }
  return found;
}

std::vector<int64_t> to_vector(const Shape& shape) { return {shape.dims().begin(), shape.dims().end()}; }

double cpu_seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

class Bench {
 public:
  Bench(const zoo::Description& description, int64_t batch)
      : model_(zoo::make(description)), sgd_(model_->parameters(), {.rate = 0.001, .momentum = 0.9}) {
    const RngKey key = RngKey{.seed = 1}.child("bench");
    std::vector<int64_t> dims = to_vector(*description.options.input);
    dims.insert(dims.begin(), batch);
    inputs_ = Tensor::uniform(Shape(dims), key.child("inputs"), -1, 1);
    Rng rng(key.child("labels"));
    for (int64_t i = 0; i < batch; ++i) {
      labels_.push_back(static_cast<int32_t>(rng.between(0, *description.options.classes - 1)));
    }
  }

  int64_t parameters() const {
    int64_t count = 0;
    for (const NamedParameter& named : sgd_.parameters()) {
      count += named.parameter->raw.shape().elements();
    }
    return count;
  }

  double step() {
    const Variable loss = cross_entropy((*model_)(inputs_), labels_);
    sgd_.zero_grad();
    backward(loss);
    sgd_.step();
    return static_cast<double>(loss.value().item());
  }

  void dump(const std::string& path) const {
    std::ofstream file(path, std::ios::binary);
    const auto write = [&file](const auto& values) {
      file.write(reinterpret_cast<const char*>(values.data()),
                 static_cast<std::streamsize>(values.size() * sizeof(values[0])));
    };
    for (const NamedParameter& named : sgd_.parameters()) {
      write(named.parameter->raw.value().values());
    }
    write(inputs_.values());
    write(labels_);
    file.close();
    require(file.good(), "bench", "cannot write '", path, "'");
  }

 private:
  std::shared_ptr<Module> model_;
  optim::Sgd sgd_;
  Tensor inputs_;
  std::vector<int32_t> labels_;
};

void answer(const Json& json) { std::cout << json.dump() << std::endl; }

Json run(Bench& bench, int64_t warm, int64_t steps, double baseline) {
  using Clock = std::chrono::steady_clock;
  std::vector<double> milliseconds;
  std::vector<double> losses;
  for (int64_t i = 0; i < warm; ++i) {
    losses.push_back(bench.step());
  }
  const double cpu = cpu_seconds();
  const auto begin = Clock::now();
  for (int64_t i = 0; i < steps; ++i) {
    const auto start = Clock::now();
    losses.push_back(bench.step());
    milliseconds.push_back(std::chrono::duration<double, std::milli>(Clock::now() - start).count());
  }
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  const Memory used = memory();
  return {{"milliseconds", milliseconds},    {"first_loss", losses.front()},
          {"last_loss", losses.back()},      {"cpus", (cpu_seconds() - cpu) / seconds},
          {"grown_mb", used.now - baseline}, {"peak_grown_mb", used.peak - baseline}};
}

int serve(const std::string& text, int64_t batch, int threads) {
  std::ofstream("/proc/self/clear_refs") << 5;  // the peak counts from here on
  const double baseline = memory().now;
  set_num_threads(threads);
  const zoo::Description description = zoo::from_text(text);
  Bench bench(description, batch);
  answer({{"parameters", bench.parameters()},
          {"input", to_vector(*description.options.input)},
          {"parallel", parallel_backend()},
          {"threads", num_threads()}});
  for (std::string command; std::cin >> command;) {
    if (command == "dump") {
      std::string path;
      std::cin >> std::ws;
      std::getline(std::cin, path);
      bench.dump(path);
      answer({{"dumped", path}});
    } else if (int64_t warm = 0, steps = 0; command == "run" && std::cin >> warm >> steps && warm >= 0 && steps > 0) {
      answer(run(bench, warm, steps, baseline));
    } else {
      fail("bench", "'", command, "' is neither 'dump FILE' nor 'run WARM N'");
    }
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: bench_train_step DESCRIPTION BATCH THREADS\n";
    return 2;
  }
  try {
    return serve(argv[1], std::stoll(argv[2]), std::stoi(argv[3]));
  } catch (const std::exception& error) {
    std::cerr << "bench_train_step: " << error.what() << '\n';
    return 1;
  }
}
