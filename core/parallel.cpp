#include "core/parallel.h"

#include <atomic>
#include <exception>
#include <mutex>

#include "core/error.h"

#if defined(WHITTLE_PARALLEL_OPENMP)
#include <omp.h>
#elif defined(WHITTLE_PARALLEL_THREADS)
#include <pthread.h>

#include <chrono>
#include <thread>
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

// What this process may use.
int default_threads() {
  static const int allowed = allowed_cpus();
  return allowed;
}

std::atomic<int> chosen_threads{0};  // 0: the default
thread_local bool inside_tile = false;

// One parallel region: hands out tiles and keeps the exception of the lowest one. A
// cache line holds what every tile needs.
class alignas(64) Region {
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
  std::atomic<int64_t> next_{0};
  const int64_t tiles_;
  void (*const run_)(void*, int64_t);
  void* const work_;
  std::mutex mutex_;
  std::exception_ptr failure_;
  int64_t failed_tile_ = 0;
};

#if defined(WHITTLE_PARALLEL_THREADS)

// ---- Threads of our own ---------------------------------------------------------
//
// Workers wait for a region, help with it, and wait for the next. None of them can
// hold up a caller: the caller takes tiles like everyone else, and when none are left
// it waits only for workers that are inside, each of which is busy with its last tile.
// A worker that comes late, because it slept or its core had other work, finds the
// region closed.
//
// All of this is one atomic word, `state_`: the number of the region, how many workers
// may still enter (seats), and how many are inside. To enter is to exchange a state
// with a seat for one with a seat less and one more inside; nothing of a region is
// touched before. So a region may live on its caller's stack.
//
// Who waits spins for a moment and then sleeps, so that an idle process takes no time
// from others, and one that starts regions every few microseconds wakes nobody.
class Workers {
 public:
  // Drains the region with up to `helpers` workers. False, with nothing done, if
  // another thread's region has the workers.
  bool drain(Region& region, int helpers) {
    if (taken_.exchange(true, std::memory_order_acquire)) {
      return false;
    }
    helpers = std::min(helpers, hire(helpers));
    region_ = &region;
    const uint64_t number = (state_.load(std::memory_order_relaxed) & kNumber) + kNextNumber;
    state_.store(number + static_cast<uint64_t>(helpers) * kSeat);  // open; see sleep() for the order
    wake(helpers);
    region.drain();
    if ((state_.fetch_and(~kSeats) & kInside) != 0) {  // closed
      wait_for_those_inside();
    }
    taken_.store(false, std::memory_order_release);
    return true;
  }

 private:
  static constexpr uint64_t kInside = 0xffff;
  static constexpr uint64_t kSeat = uint64_t{1} << 16;
  static constexpr uint64_t kSeats = 0x7fff * kSeat;
  static constexpr uint64_t kCallerSleeps = uint64_t{1} << 31;
  static constexpr uint64_t kNextNumber = uint64_t{1} << 32;
  static constexpr uint64_t kNumber = ~(kNextNumber - 1);

  // Longer than the gaps between the loops of a training step, shorter than anyone
  // who waits for the core would notice.
  static constexpr std::chrono::microseconds kSpin{50};

  static void pause() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }

  // Waits for ready(), but not for long; returns whether it came true.
  template <class Ready>
  static bool spin_until(Ready ready) {
    std::chrono::steady_clock::time_point end{};
    for (;;) {
      for (int i = 0; i < 64; ++i) {
        if (ready()) {
          return true;
        }
        pause();
      }
      const auto now = std::chrono::steady_clock::now();
      if (end == std::chrono::steady_clock::time_point{}) {
        end = now + kSpin;
      } else if (now >= end) {
        return false;
      }
    }
  }

  // ---- The caller's side; it has taken_ ----

  // Makes sure that there are `wanted` workers, if the system has threads to give.
  int hire(int wanted) {
    if (hired_ >= wanted) {
      return hired_;
    }
    static const int registered = pthread_atfork(nullptr, nullptr, forget_workers);
    (void)registered;
    for (; hired_ < std::min(wanted, limit_); ++hired_) {
      try {
        std::thread(&Workers::work, this, hired_ + 1).detach();
      } catch (const std::exception&) {
        limit_ = hired_;  // fewer threads, same result
      }
    }
    return hired_;
  }

  // Wakes as many sleepers as are needed beside those awake.
  void wake(int helpers) {
    int asleep = asleep_.load();
    int wanted = 0;
    do {
      wanted = std::min(asleep, helpers - (hired_ - asleep));
      if (wanted <= 0) {
        return;
      }
    } while (!asleep_.compare_exchange_weak(asleep, asleep - wanted));
#if defined(__linux__)
    caller_cpu_.store(sched_getcpu(), std::memory_order_relaxed);
#endif
    calls_.fetch_add(wanted);
    for (int i = 0; i < wanted; ++i) {
      calls_.notify_one();
    }
  }

  void wait_for_those_inside() {
    const auto empty = [this] { return (state_.load() & kInside) == 0; };
    if (spin_until(empty)) {
      return;
    }
    while (!empty()) {
      const int seen = departures_.load();
      if ((state_.fetch_or(kCallerSleeps) & kInside) != 0) {
        departures_.wait(seen);
      }
    }
  }

  // ---- The workers' side ----

  [[noreturn]] void work(int index) {
    const bool may_spin = index < default_threads();  // more threads than CPUs: spinning is in the way
    uint64_t state = 0;
    uint64_t last = 0;  // the region we were in
    const auto may_enter = [&] {
      state = state_.load();
      return (state & kSeats) != 0 && (state & kNumber) != last;
    };
    for (;;) {
      while (!(may_spin ? spin_until(may_enter) : may_enter())) {
        sleep(may_enter);
        if (may_spin) {
          leave_callers_cpu();
        }
      }
      if (state_.compare_exchange_strong(state, state - kSeat + 1)) {
        last = state & kNumber;
        region_->drain();
        const uint64_t before = state_.fetch_sub(1);
        if ((before & kInside) == 1 && (before & kCallerSleeps) != 0) {
          departures_.fetch_add(1);
          departures_.notify_one();
        }
      }
    }
  }

  // Sleeps until called by wake(), which takes us off asleep_. A caller opens its
  // region and then looks for sleepers; we say that we sleep and then look for an open
  // region. One of the two sees the other.
  template <class MayEnter>
  void sleep(MayEnter may_enter) {
    asleep_.fetch_add(1);
    if (may_enter()) {
      int asleep = asleep_.load();
      while (asleep > 0) {
        if (asleep_.compare_exchange_weak(asleep, asleep - 1)) {
          return;
        }
      }  // 0: we have been called already
    }
    for (int calls = calls_.load(); calls == 0 || !calls_.compare_exchange_strong(calls, calls - 1);
         calls = calls_.load()) {
      calls_.wait(0);
    }
  }

  // Where no CPU is idle, the kernel wakes a thread on the CPU of who woke it, and leaves
  // it there as long as it sleeps often: caller and worker would share one CPU for ever.
  void leave_callers_cpu() {
#if defined(__linux__)
    const int cpu = sched_getcpu();
    cpu_set_t mask;
    if (cpu < 0 || cpu != caller_cpu_.load(std::memory_order_relaxed) ||
        sched_getaffinity(0, sizeof(mask), &mask) != 0) {
      return;
    }
    cpu_set_t others = mask;
    CPU_CLR(static_cast<size_t>(cpu), &others);
    if (CPU_COUNT(&others) > 0 && sched_setaffinity(0, sizeof(others), &others) == 0) {
      sched_setaffinity(0, sizeof(mask), &mask);
    }
#endif
  }

  // fork() copies one thread: a child has no workers and hires its own.
  static void forget_workers();

  // Callers and spinning workers share the first line; the others are rarely written.
  alignas(64) std::atomic<uint64_t> state_{0};
  Region* region_ = nullptr;
  alignas(64) std::atomic<bool> taken_{false};
  int hired_ = 0;
  int limit_ = kMaxThreads;
  alignas(64) std::atomic<int> asleep_{0};  // who will answer a call
  std::atomic<int> calls_{0};               // not answered yet
  std::atomic<int> caller_cpu_{-1};         // who called
  std::atomic<int> departures_{0};          // counts up, to wake a caller
};

// Workers outlive main(): nothing here has a destructor.
constinit Workers workers;
static_assert(std::is_trivially_destructible_v<Workers>);

void Workers::forget_workers() {
  workers.state_ = workers.state_ & kNumber;
  workers.hired_ = 0;
  workers.limit_ = kMaxThreads;
  workers.asleep_ = 0;
  workers.calls_ = 0;
  workers.taken_ = false;
}

#endif

// Runs region.drain() on up to `threads` threads, this one among them.
void drain_on_threads(Region& region, int threads) {
#if defined(WHITTLE_PARALLEL_OPENMP)
#pragma omp parallel num_threads(threads)
  region.drain();
#elif defined(WHITTLE_PARALLEL_THREADS)
  if (!workers.drain(region, threads - 1)) {
    region.drain();
  }
#else
  (void)threads;
  region.drain();
#endif
}

}  // namespace

int num_threads() {
  const int chosen = chosen_threads.load(std::memory_order_relaxed);
  return chosen > 0 ? chosen : default_threads();
}

void set_num_threads(int threads) {
  require(threads >= 0 && threads <= kMaxThreads, "set_num_threads", threads, " is not between 0 and ", kMaxThreads);
  chosen_threads.store(threads, std::memory_order_relaxed);
}

const char* parallel_backend() {
#if defined(WHITTLE_PARALLEL_OPENMP)
  return "openmp";
#elif defined(WHITTLE_PARALLEL_THREADS)
  return "threads";
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
