// Where an inference spends its time: each op of a program beside what its multiply-adds, of codes or of floats, take
// at the peak of this CPU, on one thread.
//
//   bench_infer_ops PROGRAM.wtl [SECONDS]
//
// Ops run in their order, so that each finds the caches as in a real inference, and are timed one by one; the cost of
// looking at the clock is taken off. Medians over as many inferences as fit into SECONDS (1). The last lines have the
// sum, and an inference without clocks in it.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iterator>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "bench/peaks.h"
#include "kernels/f32/table.h"
#include "kernels/hosted/forced.h"
#include "runtime/best.h"
#include "runtime/hosted/names.h"
#include "runtime/program.h"

using namespace whittle::runtime;

namespace {

using Clock = std::chrono::steady_clock;

double microseconds(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double, std::micro>(to - from).count();
}

struct Free {
  void operator()(uint8_t* block) const { ::operator delete (block, std::align_val_t{64}); }
};
using Block = std::unique_ptr<uint8_t, Free>;
Block make_block(uint64_t bytes) {
  return Block(static_cast<uint8_t*>(::operator new (static_cast<size_t>(bytes), std::align_val_t{64})));
}

double median(std::vector<double>& times) {
  const auto middle = times.begin() + static_cast<int64_t>(times.size() / 2);
  std::ranges::nth_element(times, middle);
  return *middle;
}

double multiply_adds(const Program& p, const OpRecord& op) {
  if (op.weights == kNone) {
    return 0;
  }
  const ValueRecord y = p.value(op.output);
  return static_cast<double>(elements(p.value(op.weights))) * static_cast<double>(elements(y)) / y.dims[y.rank - 1];
}

std::string shape_of(const ValueRecord& v) {
  std::string text;
  for (uint32_t i = 0; i < v.rank; ++i) {
    text += (i == 0 ? "" : "x") + std::to_string(v.dims[i]);
  }
  return text;
}

void measure(const std::string& path, double seconds) {
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> read{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  const Block bytes = make_block(read.size());
  std::ranges::copy(read, reinterpret_cast<char*>(bytes.get()));

  const char* const wanted = whittle::kernels::forced_name();
  Kernels kernels = wanted != nullptr ? kernels_named(wanted) : best_kernels();
  Program program;
  if (const Status status = load(bytes.get(), read.size(), {.features = kernels.features()}, program);
      status != Status::kOk) {
    throw std::runtime_error(path + ": " + status_text(status));
  }
  const PackSize size = pack_size(program, kernels);
  const Block arena = make_block(program.arena_bytes());
  const Block packed = make_block(size.packed_bytes);
  const Block scratch = make_block(size.scratch_bytes);
  std::fill_n(arena.get(), program.arena_bytes(), uint8_t{0});
  pack(program, kernels, packed.get());
  kernels.packed = packed.get();
  kernels.scratch = scratch.get();

  const uint32_t ops = program.op_count();
  std::vector<std::vector<double>> of_op(ops);
  std::vector<double> whole;
  std::vector<double> empty;
  const auto begin = Clock::now();
  while (whole.empty() || microseconds(begin, Clock::now()) < seconds * 1e6) {
    const auto start = Clock::now();
    const Status status = run(program, kernels, arena.get(), program.arena_bytes());
    whole.push_back(microseconds(start, Clock::now()));
    if (status != Status::kOk) {
      throw std::runtime_error(path + ": " + status_text(status));
    }
    for (uint32_t i = 0; i < ops; ++i) {
      const auto before = Clock::now();
      static_cast<void>(run_ops(program, kernels, arena.get(), program.arena_bytes(), i, i + 1));
      of_op[i].push_back(microseconds(before, Clock::now()));
    }
    const auto before = Clock::now();
    empty.push_back(microseconds(before, Clock::now()));
  }

  const double clock = median(empty);
  const double of_codes = whittle::bench::peak_products(kernels.int8->name);
  const double of_floats = whittle::bench::peak_gflops(kernels.f32->name) / 2;
  double sum = 0;
  double least = 0;
  std::printf(
      "| op | kind | result | multiply-adds | limit, us | measured, us | of the limit "
      "|\n|---|---|---|---|---|---|---|\n");
  for (uint32_t i = 0; i < ops; ++i) {
    const OpRecord op = program.op(i);
    const double time = std::max(0.0, median(of_op[i]) - clock);
    const double peak = program.value(op.output).type == Type::kF32 ? of_floats : of_codes;
    const double limit = multiply_adds(program, op) / peak * 1e-3;
    const bool depthwise = op.kind == OpKind::kConv && op.groups > 1;
    std::printf(
        "| %u | %s%s%s | %s | %.0f | %.3f | %.3f | %.0f %% |\n", i, depthwise ? "depthwise " : "", name_of(op.kind),
        op.kind == OpKind::kConv ? (" " + std::to_string(op.kernel[0]) + "x" + std::to_string(op.kernel[1])).c_str()
                                 : "",
        shape_of(program.value(op.output)).c_str(), multiply_adds(program, op), limit, time,
        time > 0 ? 100 * limit / time : 0);
    sum += time;
    least += limit;
  }
  std::printf("| | sum | | | %.3f | %.3f | %.0f %% |\n\n", least, sum, 100 * least / sum);
  std::printf(
      "%s: %.3f us without clocks between ops, %zu runs, kernels %s and %s, peak %.0f and %.0f billion multiply-adds a "
      "second\n",
      path.c_str(), median(whole) - clock, whole.size(), kernels.int8->name, kernels.f32->name, of_codes, of_floats);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2 && argc != 3) {
    std::fputs("usage: bench_infer_ops PROGRAM.wtl [SECONDS]\n", stderr);
    return 2;
  }
  try {
    measure(argv[1], argc > 2 ? std::stod(argv[2]) : 1);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_infer_ops: %s\n", error.what());
    return 1;
  }
  return 0;
}
