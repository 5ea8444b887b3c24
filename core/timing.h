// How long something takes here.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace whittle {

// Nanoseconds of so many runs, after some that nobody measures.
template <class Run>
std::vector<int64_t> times_of(int64_t runs, Run run) {
  for (int64_t i = 0; i < std::max<int64_t>(1, runs / 10); ++i) {
    run();
  }
  std::vector<int64_t> times(static_cast<size_t>(runs));
  for (int64_t& time : times) {
    const auto start = std::chrono::steady_clock::now();
    run();
    time = std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - start).count();
  }
  return times;
}

// Microseconds that `percent` of the runs do not exceed.
inline double microseconds_at(std::vector<int64_t> times, size_t percent) {
  std::ranges::sort(times);
  return static_cast<double>(times[(times.size() - 1) * percent / 100]) / 1000;
}

}  // namespace whittle
