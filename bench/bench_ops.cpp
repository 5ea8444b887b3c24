// The ops of a training step that move memory rather than multiply: how many bytes per
// second, forward and backward, as a user calls them.
//
//   bench_ops --benchmark_filter=batch_norm        threads: OMP_NUM_THREADS or taskset
//
// Bytes are those that must move: each tensor an op reads or writes, once per pass that
// cannot be saved (a batch norm reads x twice each way). Compare with the copies of
// bench_train_kernels, which measures this machine's peaks.

#include <benchmark/benchmark.h>

#include "core/ops.h"
#include "optim/adam.h"
#include "optim/sgd.h"

namespace whittle {

namespace {

using Op = std::function<Variable(const Variable& x)>;

// Runs an op forward, and backward with the same gradient, apart. `streams` are the tensors
// of x's size that each way moves.
void measure(const std::string& name, const Shape& shape, double forward_streams, double backward_streams,
             const std::function<Op()>& make) {
  const double bytes = static_cast<double>(shape.elements()) * sizeof(real);
  const auto add = [&](const char* way, double streams, auto loop) {
    benchmark::RegisterBenchmark((name + "/" + shape.str() + "/" + way).c_str(),
                                 [=](benchmark::State& state) {
                                   const Op op = make();
                                   const Variable x = Variable::leaf(Tensor::normal(shape, {.seed = 1}));
                                   loop(state, op, x);
                                   state.counters["GB/s"] = benchmark::Counter(
                                       streams * bytes * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
                                 })
        ->Unit(benchmark::kMicrosecond)
        ->MeasureProcessCPUTime()
        ->UseRealTime();
  };
  add("forward", forward_streams, [](benchmark::State& state, const Op& op, const Variable& x) {
    for (auto _ : state) {
      benchmark::DoNotOptimize(op(x));
    }
  });
  add("backward", backward_streams, [](benchmark::State& state, const Op& op, const Variable& x) {
    const Variable y = op(x);
    const Tensor g = Tensor::normal(y.shape(), {.seed = 2});
    for (auto _ : state) {
      benchmark::DoNotOptimize(y.node()->backward(g));
    }
  });
}

Variable some_leaf(const Shape& shape) { return Variable::leaf(Tensor::uniform(shape, {.seed = 3}, real(0.5), 1)); }

void add_ops() {
  for (const Shape& shape : {Shape{64, 25, 5, 64}, Shape{32, 48, 48, 8}, Shape{32, 48, 48, 16}, Shape{32, 32, 32, 64},
                             Shape{32, 6, 6, 128}, Shape{32, 16, 16, 24}}) {
    measure("batch_norm_relu", shape, 3, 5, [c = shape[-1]]() -> Op {
      return [gamma = some_leaf({c}), beta = some_leaf({c})](const Variable& x) {
        return batch_norm_train(x, gamma, beta, real(1e-5), Act::kRelu).y;
      };
    });
  }
  const auto depthwise = [](const Shape& shape, int64_t stride) {
    const double out = 1.0 / static_cast<double>(stride * stride);
    measure("depthwise_s" + std::to_string(stride), shape, 1 + out, 2 + 2 * out, [c = shape[-1], stride]() -> Op {
      return [filter = some_leaf({c, 3, 3, 1}), c, stride](const Variable& x) {
        return conv2d(x, filter, {}, {.stride = {stride, stride}, .padding = Padding::all(1), .groups = c});
      };
    });
  };
  depthwise({64, 25, 5, 64}, 1);
  for (const auto& [extent, channels, stride] : std::initializer_list<std::array<int64_t, 3>>{
           {48, 8, 1}, {48, 16, 2}, {24, 32, 1}, {24, 32, 2}, {12, 64, 1}, {12, 64, 2}, {6, 128, 1}, {3, 256, 1}}) {
    depthwise({32, extent, extent, channels}, stride);
  }
  for (const Shape& shape : {Shape{64, 28, 28, 32}, Shape{32, 32, 32, 64}}) {
    measure("relu", shape, 2, 3, [] { return [](const Variable& x) { return relu(x); }; });
    measure("add_relu", shape, 3, 3, [shape]() -> Op {
      return [other = some_leaf(shape)](const Variable& x) { return add(x, other, Act::kRelu); };
    });
    measure("max_pool", shape, 1.3125, 1.3125, [] { return [](const Variable& x) { return max_pool(x); }; });
    measure("avg_pool", shape, 1.25, 1.25, [] { return [](const Variable& x) { return avg_pool(x); }; });
    measure("global_avg_pool", shape, 1, 1, [] { return [](const Variable& x) { return global_avg_pool(x); }; });
  }
  measure("cross_entropy", {64, 10}, 2, 2, [] {
    return [labels = std::vector<int32_t>(64, 3)](const Variable& x) { return cross_entropy(x, labels); };
  });
}

// A step of an optimizer over a few large parameters, or over as many numbers in many small ones.
template <class Optimizer, class Options>
void add_optimizer(const char* name, double streams, const Options& options) {
  for (const int64_t count : {4, 400}) {
    for (const int64_t total : {int64_t{24000}, int64_t{235000}, int64_t{11200000}}) {
      const std::string full = std::string(name) + "/" + std::to_string(total) + "_in_" + std::to_string(count);
      benchmark::RegisterBenchmark(full.c_str(),
                                   [=](benchmark::State& state) {
                                     std::vector<Parameter> parameters(static_cast<size_t>(count));
                                     std::vector<NamedParameter> named;
                                     for (Parameter& p : parameters) {
                                       p.raw = some_leaf({total / count / 5, 5});
                                       p.raw.set_grad(Tensor::normal(p.raw.shape(), {.seed = 4}));
                                       named.push_back({"p" + std::to_string(named.size()), &p});
                                     }
                                     Optimizer optimizer(named, options);
                                     for (auto _ : state) {
                                       optimizer.step();
                                     }
                                     state.counters["GB/s"] =
                                         benchmark::Counter(streams * static_cast<double>(total) * sizeof(real) * 1e-9,
                                                            benchmark::Counter::kIsIterationInvariantRate);
                                   })
          ->Unit(benchmark::kMicrosecond)
          ->MeasureProcessCPUTime()
          ->UseRealTime();
    }
  }
}

}  // namespace

}  // namespace whittle

int main(int argc, char** argv) {
  whittle::add_ops();
  whittle::add_optimizer<whittle::optim::Sgd>(
      "sgd", 5, whittle::optim::SgdOptions{.rate = 1e-6, .momentum = 0.9, .weight_decay = 1e-4});
  whittle::add_optimizer<whittle::optim::Adam>("adam", 7, whittle::optim::AdamOptions{.rate = 1e-6});
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
