// What it costs to start threads and wait for them: parallel loops of empty tiles.
//
//   bench_regions [THREADS]
//
// A training step is some hundred such loops, with serial code between them. So each
// row has its own gap before a loop, in which the caller works alone; it decides
// whether the other threads still watch or sleep already.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "core/parallel.h"

using namespace whittle;

namespace {

using Clock = std::chrono::steady_clock;

double microseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

void work_alone(double microseconds) {
  for (const auto start = Clock::now(); microseconds_since(start) < microseconds;) {
  }
}

// Microseconds per loop, of many short runs, sorted.
std::vector<double> measure(int64_t tiles, double gap) {
  const int loops = gap > 0 ? 100 : 2000;
  std::vector<double> costs;
  for (int run = 0; run < 101; ++run) {
    double spent = 0;
    const auto start = Clock::now();
    for (int i = 0; i < loops; ++i) {
      if (gap > 0) {
        work_alone(gap);
      }
      const auto begin = gap > 0 ? Clock::now() : start;
      parallel_for(tiles, [](int64_t) {});
      spent += gap > 0 ? microseconds_since(begin) : 0;
    }
    costs.push_back((gap > 0 ? spent : microseconds_since(start)) / loops);
  }
  std::ranges::sort(costs);
  return costs;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc > 1) {
      set_num_threads(std::stoi(argv[1]));
    }
  } catch (const std::exception&) {
    std::fprintf(stderr, "bench_regions: '%s' is not a number of threads\n", argv[1]);
    return 2;
  }
  std::printf("%s, %d threads; microseconds per parallel loop of empty tiles, 101 runs\n", parallel_backend(),
              num_threads());
  std::printf("%6s %8s %9s %9s %9s\n", "tiles", "gap us", "fastest", "median", "p90");
  for (const int64_t tiles : {2, 8, 64}) {
    for (const double gap : {0.0, 5.0, 100.0}) {
      const std::vector<double> costs = measure(tiles, gap);
      std::printf("%6lld %8.0f %9.3f %9.3f %9.3f\n", static_cast<long long>(tiles), gap, costs.front(),
                  costs[costs.size() / 2], costs[costs.size() * 9 / 10]);
    }
  }
  return 0;
}
