#include "core/parallel.h"

#include <atomic>
#include <exception>
#include <mutex>

#include "core/error.h"

#if defined(WHITTLE_PARALLEL_OPENMP)
#include <omp.h>
#elif defined(WHITTLE_PARALLEL_THREADS)
#include <thread>
#include <vector>
#endif

#if defined(__linux__)
#include <sched.h>

#include <fstream>
#include <sstream>
#include <string>
#endif

namespace whittle {

namespace {

constexpr int kMaxThreads = 256;

#if defined(__linux__)
// CPUs' worth of time the control group allows, rounded up; 0 if it sets no limit.
int cgroup_cpus() {
  double quota = 0;
  double period = 0;
  if (std::ifstream v2("/sys/fs/cgroup/cpu.max"); v2 >> quota >> period) {  // "max" fails to parse: no limit
  } else {
    std::ifstream("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") >> quota;  // -1: no limit
    std::ifstream("/sys/fs/cgroup/cpu/cpu.cfs_period_us") >> period;
  }
  return quota > 0 && period > 0 ? static_cast<int>((quota + period - 1) / period) : 0;
}

int allowed_cpus() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  const int cpus = sched_getaffinity(0, sizeof(mask), &mask) == 0 ? CPU_COUNT(&mask) : 1;
  const int quota = cgroup_cpus();
  return std::clamp(quota > 0 ? std::min(cpus, quota) : cpus, 1, kMaxThreads);
}
#else
int allowed_cpus() { return 1; }
#endif

std::atomic<int> chosen_threads{0};  // 0: the default
thread_local bool inside_tile = false;

// One parallel region: hands out tiles and keeps the exception of the lowest one.
class Region {
 public:
  Region(int64_t tiles, void (*run)(void*, int64_t), void* work) : tiles_(tiles), run_(run), work_(work) {}

  // What each thread does.
  void drain() {
    const bool nested = inside_tile;
    inside_tile = true;
    for (int64_t tile = next_.fetch_add(1, std::memory_order_relaxed); tile < tiles_;
         tile = next_.fetch_add(1, std::memory_order_relaxed)) {
      try {
        run_(work_, tile);
      } catch (...) {
        const std::lock_guard lock(mutex_);
        if (failure_ == nullptr || tile < failed_tile_) {
          failure_ = std::current_exception();
          failed_tile_ = tile;
        }
      }
    }
    inside_tile = nested;
  }

  void rethrow() const {
    if (failure_ != nullptr) {
      std::rethrow_exception(failure_);
    }
  }

 private:
  const int64_t tiles_;
  void (*const run_)(void*, int64_t);
  void* const work_;
  std::atomic<int64_t> next_{0};
  std::mutex mutex_;
  std::exception_ptr failure_;
  int64_t failed_tile_ = 0;
};

// Runs region.drain() on `threads` threads, this one among them.
void drain_on_threads(Region& region, int threads) {
#if defined(WHITTLE_PARALLEL_OPENMP)
#pragma omp parallel num_threads(threads)
  region.drain();
#elif defined(WHITTLE_PARALLEL_THREADS)
  std::vector<std::jthread> helpers;
  for (int i = 1; i < threads; ++i) {
    helpers.emplace_back([&region] { region.drain(); });
  }
  region.drain();
#else
  (void)threads;
  region.drain();
#endif
}

}  // namespace

int num_threads() {
  static const int allowed = allowed_cpus();
  const int chosen = chosen_threads.load(std::memory_order_relaxed);
  return chosen > 0 ? chosen : allowed;
}

void set_num_threads(int threads) {
  require(threads >= 0 && threads <= kMaxThreads, "set_num_threads", threads, " is not between 0 and ", kMaxThreads);
  chosen_threads.store(threads, std::memory_order_relaxed);
}

const char* parallel_backend() {
#if defined(WHITTLE_PARALLEL_OPENMP)
  return "openmp";
#elif defined(WHITTLE_PARALLEL_THREADS)
  return "std::thread";
#else
  return "serial";
#endif
}

void detail::parallel_run(int64_t tiles, void (*run)(void*, int64_t), void* work) {
  if (tiles <= 0) {
    return;
  }
  Region region(tiles, run, work);
  const int threads = inside_tile ? 1 : static_cast<int>(std::min<int64_t>(num_threads(), tiles));
  if (threads > 1) {
    drain_on_threads(region, threads);
  } else {
    region.drain();
  }
  region.rethrow();
}

}  // namespace whittle
