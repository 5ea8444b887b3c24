#include "apps/latency.h"

#include <algorithm>
#include <cstring>

#include "core/ops.h"
#include "core/parallel.h"
#include "core/rng.h"

namespace whittle::apps {

std::vector<int64_t> times_of(Module& model, const Shape& input, int64_t runs) {
  const EvaluationMode evaluation(model);
  const NoGrad no_grad;
  const Tensor x = Tensor::normal(input, {.seed = 1});
  return whittle::times_of(runs, [&] { model(x); });
}

void write_any_input(const runtime::Program& program, std::span<uint8_t> to) {
  if (static_cast<runtime::Type>(program.value(program.input(0)).type) == runtime::Type::kF32) {
    const Tensor x = Tensor::normal({static_cast<int64_t>(to.size() / sizeof(float))}, {.seed = 1});
    std::memcpy(to.data(), x.data(), to.size());
  } else {
    Rng rng(RngKey{.seed = 1});
    std::ranges::generate(to, [&] { return static_cast<uint8_t>(rng.below(256)); });
  }
}

std::vector<int64_t> times_of(const ProgramFile& program, int64_t runs, int at_once) {
  std::vector<std::vector<int64_t>> of_thread(static_cast<size_t>(at_once));
  parallel_for(at_once, [&](int64_t t) {
    runtime::Engine::Lease lease = program.engine().acquire();
    const std::span<uint8_t> input = lease.input(0);
    write_any_input(program.engine().program(), input);
    const std::vector<uint8_t> sample(input.begin(), input.end());  // the plan may reuse its place
    of_thread[static_cast<size_t>(t)] = whittle::times_of(runs, [&] {
      std::ranges::copy(sample, input.begin());
      lease.run();
    });
  });
  std::vector<int64_t> all;
  for (const std::vector<int64_t>& times : of_thread) {
    all.insert(all.end(), times.begin(), times.end());
  }
  return all;
}

}  // namespace whittle::apps
