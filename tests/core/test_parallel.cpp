// Parallel loops: every tile once, whatever threads do, come and go.

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <numeric>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"
#include "tests/support/message.h"

namespace whittle {

namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

// A loop whose result shows whether each tile ran exactly once: plain memory, so
// that the thread sanitizer sees whether the caller may read what workers wrote.
bool counts_right(int64_t tiles) {
  std::vector<int64_t> runs(static_cast<size_t>(tiles), 0);
  parallel_for(tiles, [&](int64_t tile) { runs[static_cast<size_t>(tile)] += tile + 1; });
  for (int64_t tile = 0; tile < tiles; ++tile) {
    if (runs[static_cast<size_t>(tile)] != tile + 1) {
      return false;
    }
  }
  return true;
}

// Runs `body` in a child process, which fails if it takes 30 seconds. Returns "" or
// how it ended.
std::string in_child(const std::function<void()>& body) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(30);
    body();
    _exit(1);  // bodies end the process themselves
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child) {
    return "no child";
  }
  if (WIFSIGNALED(status)) {
    return "signal " + std::to_string(WTERMSIG(status));
  }
  return WEXITSTATUS(status) == 0 ? "" : "exit code " + std::to_string(WEXITSTATUS(status));
}

// GNU's OpenMP hangs in a forked child; the thread sanitizer forbids threads there.
bool can_fork() {
#if defined(__SANITIZE_THREAD__)
  return false;
#else
  return std::string_view(parallel_backend()) != "openmp";
#endif
}

// Restores the number of threads.
struct Threads {
  explicit Threads(int threads) { set_num_threads(threads); }
  ~Threads() { set_num_threads(0); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;
};

}  // namespace

TEST_SUITE("parallel") {
  TEST_CASE("every tile runs once, for any thread count") {
    for (const int threads : {1, 2, 3, 8}) {
      set_num_threads(threads);
      for (const int64_t tiles : {0, 1, 2, 7, 1000}) {
        std::vector<std::atomic<int>> runs(static_cast<size_t>(tiles));
        parallel_for(tiles, [&](int64_t tile) { ++runs[static_cast<size_t>(tile)]; });
        for (const auto& count : runs) {
          CHECK(count == 1);
        }
      }
    }
    set_num_threads(0);
  }

  TEST_CASE("ranges cover everything, and their borders do not depend on threads") {
    const auto borders = [](int threads) {
      set_num_threads(threads);
      std::vector<int64_t> end_of(100, -1);
      parallel_ranges(100, 7, [&](int64_t begin, int64_t end) { end_of[static_cast<size_t>(begin)] = end; });
      return end_of;
    };
    const auto serial = borders(1);
    CHECK(serial == borders(5));
    set_num_threads(0);
    int64_t at = 0;
    while (at < 100) {
      REQUIRE(serial[static_cast<size_t>(at)] > at);
      at = serial[static_cast<size_t>(at)];
    }
    CHECK(at == 100);
  }

  TEST_CASE("the exception of the lowest failing tile arrives, after all tiles ran") {
    for (const int threads : {1, 2, 8}) {
      set_num_threads(threads);
      std::atomic<int> ran{0};
      const std::string message = message_of([&] {
        parallel_for(100, [&](int64_t tile) {
          ++ran;
          require(tile % 10 != 3, "tile", tile);
        });
      });
      CHECK(message == "[tile] 3");
      CHECK(ran == 100);
    }
    set_num_threads(0);
  }

  TEST_CASE("nested loops run serially inside a tile") {
    set_num_threads(4);
    std::atomic<int> total{0};
    parallel_for(8, [&](int64_t) {
      const auto me = std::this_thread::get_id();
      parallel_for(8, [&](int64_t) { total += std::this_thread::get_id() == me ? 1 : 0; });
    });
    CHECK(total == 64);
    set_num_threads(0);
  }

  TEST_CASE("thread counts out of range are refused") {
    CHECK_THROWS_AS(set_num_threads(-1), Error);
    CHECK_THROWS_AS(set_num_threads(257), Error);
    CHECK(num_threads() >= 1);
  }

  TEST_CASE("loops begin right when workers sleep, spin or still are about to sleep") {
    for (const int threads : {2, 3, 8}) {
      const Threads now(threads);
      for (int i = 0; i < 300; ++i) {
        CHECK(counts_right(1 + i % 17));
        if (i % 3 == 0) {
          std::this_thread::sleep_for(microseconds(i));
        }
      }
    }
  }

  TEST_CASE("a caller waits for tiles that others still run") {
    const Threads now(4);
    const auto me = std::this_thread::get_id();
    for (int i = 0; i < 20; ++i) {
      std::array<int, 4> done{};
      parallel_for(4, [&](int64_t tile) {
        if (std::this_thread::get_id() != me) {
          std::this_thread::sleep_for(milliseconds(2));  // longer than anyone spins
        }
        done[static_cast<size_t>(tile)] = 1;
      });
      CHECK(std::accumulate(done.begin(), done.end(), 0) == 4);
    }
  }

  TEST_CASE("far more threads than CPUs, and counts that go up and down") {
    for (const int threads : {64, 2, 256, 1, 5, 64}) {
      const Threads now(threads);
      for (int i = 0; i < 5; ++i) {
        CHECK(counts_right(3000));
      }
    }
  }

  TEST_CASE("the number of threads may change while loops run") {
    std::atomic<bool> stop{false};
    std::jthread changer([&stop] {
      for (int i = 0; !stop; ++i) {
        set_num_threads(1 + i % 6);
        std::this_thread::sleep_for(microseconds(50));
      }
    });
    for (int i = 0; i < 2000; ++i) {
      CHECK(counts_right(40));
    }
    stop = true;
    changer.join();
    set_num_threads(0);
  }

  TEST_CASE("many threads may start loops at once") {
    const Threads now(3);
    std::atomic<int> wrong{0};
    std::vector<std::jthread> callers;
    for (int caller = 0; caller < 5; ++caller) {
      callers.emplace_back([caller, &wrong] {
        for (int i = 0; i < 400; ++i) {
          wrong += counts_right(1 + (i + caller) % 50) ? 0 : 1;
          try {
            parallel_for(20, [&](int64_t tile) { require(tile != caller, "caller", caller); });
            ++wrong;
          } catch (const Error& error) {
            wrong += error.what() == "[caller] " + std::to_string(caller) ? 0 : 1;
          }
        }
      });
    }
    callers.clear();
    CHECK(wrong == 0);
  }

  TEST_CASE("a loop does not wait for another thread's loop") {
    const Threads now(2);
    std::atomic<bool> may_end{false};
    std::atomic<int> begun{0};
    std::jthread first([&] {
      parallel_for(2, [&](int64_t) {
        ++begun;
        begun.notify_all();
        may_end.wait(false);
      });
    });
    begun.wait(0);
    CHECK(counts_right(100));
    may_end = true;
    may_end.notify_all();
  }

  TEST_CASE("a forked child has loops of its own") {
    if (!can_fork()) {
      return;
    }
    const Threads now(4);
    const auto child = [] { _exit(counts_right(100) && counts_right(100) ? 0 : 2); };
    CHECK(counts_right(100));
    CHECK(in_child(child) == "");  // workers spin
    std::this_thread::sleep_for(milliseconds(5));
    CHECK(in_child(child) == "");  // workers sleep

    // Another thread's loop is under way, and is not in the child.
    std::atomic<bool> stop{false};
    std::jthread other([&stop] {
      while (!stop) {
        parallel_for(8, [](int64_t) { std::this_thread::sleep_for(microseconds(100)); });
      }
    });
    for (int i = 0; i < 20; ++i) {
      CHECK(in_child(child) == "");
    }
    stop = true;
    other.join();
    CHECK(counts_right(100));
  }

  TEST_CASE("a process may end whatever workers do") {
    if (!can_fork()) {
      return;
    }
    const Threads now(4);
    CHECK(in_child([] {
            counts_right(100);
            std::exit(0);  // they spin
          }) == "");
    CHECK(in_child([] {
            counts_right(100);
            std::this_thread::sleep_for(milliseconds(5));
            std::exit(0);  // they sleep
          }) == "");
    CHECK(in_child([] {
            std::thread([] {
              for (;;) {
                parallel_for(8, [](int64_t) { std::this_thread::sleep_for(microseconds(100)); });
              }
            }).detach();
            std::this_thread::sleep_for(milliseconds(5));
            std::exit(0);  // they work
          }) == "");
  }
}

}  // namespace whittle
