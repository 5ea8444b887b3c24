// The one door to threads.
//
// Work is cut into tiles whose number and borders depend on the work alone,
// never on the number of threads; any thread may run any tile. Sums over tiles
// are added in a fixed tree. So every result has the same bits for 1 thread and
// for 64. Callers must keep to two rules: a tile writes only what is its own,
// and a partial result is stored per tile, never per thread.
//
// Behind it stand threads of our own, or OpenMP, or nothing, as WHITTLE_PARALLEL
// chose when this was built. It is a port: no other file of the library names a
// threading API.
//
// Our own threads are workers that serve one caller at a time. They are hired when
// a loop first wants them and live as long as the process. A loop costs a fraction
// of a microsecond if another has just ended, and never waits for a worker that is
// asleep or whose core is busy: the caller does all tiles that nobody else took.
// If another thread's loop has the workers, a loop runs serially. A child made by
// fork() outside of a loop hires workers of its own.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <type_traits>

namespace whittle {

// Threads used by parallel_for. The default is what this process may use: the
// smaller of its affinity mask and its cgroup's CPU quota.
int num_threads();
void set_num_threads(int threads);  // 0 restores the default; above 256 is refused

// "threads", "openmp" or "serial".
const char* parallel_backend();

namespace detail {
void parallel_run(int64_t tiles, void (*run)(void* work, int64_t tile), void* work);
}

// Runs work(tile) for every tile in [0, tiles), in any order, on up to
// num_threads() threads, and returns when all are done. Inside a tile, nested
// calls run serially. If tiles throw, all tiles are still run, and the
// exception of the lowest tile is thrown here.
template <class Work>
void parallel_for(int64_t tiles, Work&& work) {
  using Target = std::remove_reference_t<Work>;
  detail::parallel_run(
      tiles, [](void* target, int64_t tile) { (*static_cast<Target*>(target))(tile); },
      const_cast<void*>(static_cast<const void*>(std::addressof(work))));
}

// Cuts [0, n) into tiles of `grain` elements (the last may be shorter) and runs
// work(begin, end) for each. `grain` must not depend on the thread count.
template <class Work>
void parallel_ranges(int64_t n, int64_t grain, Work&& work) {
  const int64_t tiles = (n + grain - 1) / grain;
  parallel_for(tiles, [&](int64_t tile) { work(tile * grain, std::min(n, (tile + 1) * grain)); });
}

// Elements per tile for loops that do a few operations per element: large
// enough to hide the cost of a parallel region, small enough to stay in L1/L2.
inline constexpr int64_t kElementGrain = 16384;

}  // namespace whittle
