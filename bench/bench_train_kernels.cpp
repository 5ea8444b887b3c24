// The float kernels of every table this CPU can use (kernels/train/), on one core and data
// that stay in a second-level cache: GFLOP/s or GB/s, and how much that is of the peak of
// the same vectors, or of reading or copying as many bytes.
//
//   bench_train_kernels --benchmark_filter=avx512
//
// Flops and bytes are those of the definition: a product is 2 m n k, a depthwise filter
// two per tap, padding or not; bytes are what is read and written once.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "bench/peaks.h"
#include "core/tensor.h"
#include "core/train_kernels.h"

namespace whittle::bench {

namespace {

using kernels::DepthwiseRow;

real* numbers(int64_t n) {  // for the life of the program
  static std::vector<Tensor> all;
  all.push_back(Tensor::uniform({n}, {.seed = all.size()}, real(0.5), 1));
  return all.back().mutable_data();
}

void report(const std::string& name, const char* unit, double amount, double peak, const std::function<void()>& work) {
  benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) {
    for (auto _ : state) {
      work();
      benchmark::ClobberMemory();
    }
    state.counters[unit] = benchmark::Counter(amount * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
    state.counters["%peak"] =
        benchmark::Counter(amount * 1e-9 / peak * 100, benchmark::Counter::kIsIterationInvariantRate);
  })->Unit(benchmark::kMicrosecond);
}

void flops(const TrainKernels& table, const std::string& name, double amount, const std::function<void()>& work) {
  report(std::string(table.name) + "/" + name, "GFLOP/s", amount, peak_gflops(table.name), work);
}
// `reads` and `writes` arrays of n numbers.
void bytes(const TrainKernels& table, const std::string& name, int64_t n, double reads, double writes,
           const std::function<void()>& work) {
  const double amount = (reads + writes) * static_cast<double>(n) * sizeof(real);
  const auto size = static_cast<int64_t>(amount);
  report(std::string(table.name) + "/" + name, "GB/s", amount, writes > 0 ? peak_copy(size) : peak_read(size), work);
}

void add_products(const TrainKernels& table) {
  for (const auto& [m, n, k] : std::initializer_list<std::array<int64_t, 3>>{
           {192, 64, 64}, {192, 64, 576}, {192, 32, 288}, {192, 16, 144}, {192, 10, 256}, {64, 256, 784}}) {
    const std::string shape = std::to_string(m) + "x" + std::to_string(n) + "x" + std::to_string(k);
    const double amount = 2.0 * static_cast<double>(m * n * k);
    const real* a = numbers(m * k);
    const real* b = numbers(k * n);
    const real* g = numbers(m * n);
    real* c = numbers(m * n);
    real* gb = numbers(k * n);
    real* packed = numbers(table.product.packed_size(k, n));
    table.product.pack(b, n, 1, 0, k, k, n, packed);
    std::vector<const real*> a_rows;
    std::vector<real*> c_rows;
    for (int64_t r = 0; r < m; ++r) {
      a_rows.push_back(a + r * k);
      c_rows.push_back(c + r * n);
    }
    flops(table, "row_product/" + shape, amount, [=, &table] {
      const int64_t offset = 0;
      table.product.row_product({.rows = m,
                                 .a = a_rows.data(),
                                 .offsets = &offset,
                                 .segments = 1,
                                 .depth = k,
                                 .b = packed,
                                 .columns = n,
                                 .c = c_rows.data(),
                                 .bias = nullptr,
                                 .add = false});
    });
    flops(table, "outer_product/" + shape, amount, [=, &table] {
      table.product.outer_product({.points = m,
                                   .a = g,
                                   .a_stride = n,
                                   .b = a_rows.data(),
                                   .offset = 0,
                                   .rows = n,
                                   .columns = k,
                                   .c = gb,
                                   .c_stride = k,
                                   .add = false});
    });
    bytes(table, "pack/" + shape, k * n, 1, 1, [=, &table] { table.product.pack(b, n, 1, 0, k, k, n, packed); });
  }
}

// Tiles of an image of 64 channels. Between a tile's transforms are products, which are measured above.
void add_winograd(const TrainKernels& table) {
  constexpr int64_t kChannels = 64;
  for (const kernels::WinogradKernels<real>* form : {&table.winograd2, &table.winograd4}) {
    const int64_t m = form->outputs;
    const int64_t tiles = 32 / m;
    const int64_t row = (32 + 2) * kChannels;
    const real* x = numbers((m + 2) * row);
    real* y = numbers((m + 2) * row);
    real* points = numbers(form->points * tiles * kChannels);
    const int64_t stride = tiles * kChannels;
    const std::string name = "winograd" + std::to_string(m);
    const auto patch = static_cast<double>(form->points);
    const auto result = static_cast<double>(m * m);
    const kernels::WinogradInside all{0, 0, m + 2, m + 2};
    bytes(table, name + "_input", stride, patch, patch, [=] {
      for (int64_t t = 0; t < tiles; ++t) {
        form->input({x + t * m * kChannels, row, kChannels}, all, kChannels, points + t * kChannels, stride);
      }
    });
    bytes(table, name + "_output", stride, patch, result, [=] {
      for (int64_t t = 0; t < tiles; ++t) {
        form->output(points + t * kChannels, stride, kChannels, nullptr, {y + t * m * kChannels, row, kChannels}, m, m);
      }
    });
    bytes(table, name + "_output_gradient", stride, result, patch, [=] {
      for (int64_t t = 0; t < tiles; ++t) {
        form->output_gradient({x + t * m * kChannels, row, kChannels}, m, m, kChannels, points + t * kChannels, stride);
      }
    });
  }
}

// 3x3 with padding, a few rows of an image.
void add_depthwise(const TrainKernels& table) {
  for (const auto& [width, channels, stride] : std::initializer_list<std::array<int64_t, 3>>{
           {5, 64, 1}, {48, 8, 1}, {48, 16, 2}, {24, 32, 1}, {24, 32, 2}, {12, 64, 1}, {6, 128, 1}, {3, 256, 1}}) {
    constexpr int64_t kRows = 8;
    const int64_t windows = (width - 1) / stride + 1;
    const real* x = numbers((kRows + 2) * width * channels);
    const real* filter = numbers(9 * channels);
    real* y = numbers(kRows * windows * channels);
    const int64_t packed_channels = table.depthwise.packed_channels(channels);
    real* packed = numbers(9 * packed_channels);
    real* sums = numbers(9 * packed_channels);
    table.depthwise.pack(filter, channels, 9, packed);
    const auto row = [=](int64_t i) {
      return DepthwiseRow<real>{.channels = channels,
                                .in = width,
                                .windows = windows,
                                .taps = 3,
                                .stride = stride,
                                .dilation = 1,
                                .before = 1,
                                .whole_begin = 1,
                                .whole_end = std::max<int64_t>(1, (width - 2) / stride + 1),
                                .rows = 3,
                                .source = x + i * width * channels,
                                .source_step = width * channels};
    };
    const std::string shape = std::to_string(width) + "x" + std::to_string(channels) + "_s" + std::to_string(stride);
    const double amount = 18.0 * static_cast<double>(kRows * windows * channels);
    flops(table, "depthwise/" + shape, amount, [=, &table] {
      for (int64_t i = 0; i < kRows; ++i) {
        table.depthwise.correlate(row(i), {packed, 3 * packed_channels, packed_channels}, nullptr,
                                  y + i * windows * channels, channels);
      }
    });
    flops(table, "depthwise_filter_gradient/" + shape, amount, [=, &table] {
      for (int64_t i = 0; i < kRows; ++i) {
        table.depthwise.filter_gradient(row(i), y + i * windows * channels, sums);
      }
    });
  }
}

void add_norm(const TrainKernels& table) {
  constexpr int64_t kNumbers = 32768;
  const real* x = numbers(kNumbers);
  const real* g = numbers(kNumbers);
  const real* r = numbers(kNumbers);
  real* y = numbers(kNumbers);
  real* passed = numbers(kNumbers);
  for (const int64_t channels : {8, 16, 24, 64, 256}) {
    const std::string shape = "/" + std::to_string(channels);
    const int64_t rows = kNumbers / channels;
    const int64_t n = rows * channels;
    real* c = numbers(8 * channels);
    const kernels::Norm<real> norm{channels, c, c + channels, c + 2 * channels, {0, 6}};
    bytes(table, "norm_statistics" + shape, n, 1, 0, [=, &table] {
      table.norm.statistics(x, rows, channels, c + 3 * channels, c + 4 * channels, c + 5 * channels);
    });
    bytes(table, "norm" + shape, n, 1, 1, [=, &table] { table.norm.normalise(norm, x, nullptr, rows, y); });
    bytes(table, "norm_add" + shape, n, 2, 1, [=, &table] { table.norm.normalise(norm, x, r, rows, y); });
    bytes(table, "norm_gradient_sums" + shape, n, 2, 0, [=, &table] {
      table.norm.gradient_sums(norm, x, g, nullptr, rows, nullptr, c + 4 * channels, c + 5 * channels);
    });
    bytes(table, "norm_add_gradient_sums" + shape, n, 3, 1,
          [=, &table] { table.norm.gradient_sums(norm, x, g, r, rows, passed, c + 4 * channels, c + 5 * channels); });
    bytes(table, "norm_input_gradient" + shape, n, 2, 1,
          [=, &table] { table.norm.input_gradient(norm, x, g, c + 6 * channels, c + 7 * channels, rows, y); });
    bytes(table, "column_sums" + shape, n, 1, 0, [=, &table] { table.loops.column_sums(x, rows, channels, c); });
  }
}

void add_loops(const TrainKernels& table) {
  constexpr int64_t kNumbers = 32768;
  const real* x = numbers(kNumbers);
  const real* g = numbers(kNumbers);
  real* y = numbers(kNumbers);
  real* v = numbers(kNumbers);
  real* w = numbers(kNumbers);
  const kernels::Clamp<real> limits{0, 6};
  bytes(table, "clamp", kNumbers, 1, 1, [=, &table] { table.loops.clamp(x, kNumbers, limits, y); });
  bytes(table, "add", kNumbers, 2, 1, [=, &table] { table.loops.add(x, g, kNumbers, limits, y); });
  bytes(table, "clamp_gradient", kNumbers, 2, 1,
        [=, &table] { table.loops.clamp_gradient(g, x, kNumbers, limits, y); });
  bytes(table, "sgd", kNumbers, 3, 2, [=, &table] {
    table.loops.sgd({.rate = real(1e-6), .momentum = real(0.9), .coupled = real(1e-4), .kept = 1, .nesterov = false},
                    kNumbers, g, y, v);
  });
  bytes(table, "adam", kNumbers, 4, 3, [=, &table] {
    table.loops.adam({.rate = real(1e-6),
                      .scale = 1,
                      .beta1 = real(0.9),
                      .beta2 = real(0.999),
                      .fresh1 = real(0.1),
                      .fresh2 = real(0.001),
                      .epsilon = real(1e-8),
                      .coupled = 0,
                      .kept = 1},
                     kNumbers, g, y, v, w);
  });
  // 2x2 pools of two rows of pixels.
  for (const int64_t channels : {16, 64}) {
    const int64_t pixels = 16384 / channels;
    const kernels::PoolRow row{channels, pixels, pixels / 2, 2, 2, 0};
    const int64_t step = pixels * channels;
    auto* const winners = reinterpret_cast<uint8_t*>(w);
    const std::string shape = "/" + std::to_string(channels);
    const auto pooled = static_cast<double>(step) / 2 / static_cast<double>(kNumbers);
    bytes(table, "max_pool" + shape, kNumbers, 1, 1.25 * pooled,
          [=, &table] { table.pool.largest(row, {.data = x, .step = step, .u = 0, .rows = 2}, y, winners); });
    bytes(table, "max_pool_gradient" + shape, kNumbers, 1.25 * pooled, 1, [=, &table] {
      table.pool.largest_gradient(row, {.g = g, .u = 0, .add = false, .gx = y}, winners);
      table.pool.largest_gradient(row, {.g = g, .u = 1, .add = false, .gx = y + step}, winners);
    });
    bytes(table, "avg_pool" + shape, kNumbers, 1, pooled,
          [=, &table] { table.pool.mean(row, {.data = x, .step = step, .u = 0, .rows = 2}, y); });
  }
}

}  // namespace

}  // namespace whittle::bench

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  for (const auto* table : whittle::available_train_kernels()) {
    whittle::bench::add_products(*table);
    whittle::bench::add_winograd(*table);
    whittle::bench::add_depthwise(*table);
    whittle::bench::add_norm(*table);
    whittle::bench::add_loops(*table);
  }
  benchmark::RunSpecifiedBenchmarks();
}
