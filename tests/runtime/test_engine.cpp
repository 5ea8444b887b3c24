// One Engine, many threads; nothing allocated on the way.

#include <doctest/doctest.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include "kernels/names.h"
#include "runtime/hosted/engine.h"
#include "tests/runtime/net.h"
#include "tests/support/message.h"
#include "tests/support/news.h"
#include "tests/support/seed.h"
#include "tests/support/temp_folder.h"

namespace whittle {

namespace {

using runtime::Engine;

template <class Call>
std::string reason(Call call) {
  try {
    call();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "none";
}

}  // namespace

TEST_SUITE("engine") {
  // The net is tiny: it is the Engine that could go wrong.
  TEST_CASE("64 threads on one Engine all get the oracle's bytes") {
    Net net(RngKey{.seed = test_seed()}.child("engine"));
    net.output(net.fully_connected(net.input({1, 8}), 4));
    const Engine engine(net.finish());
    constexpr int kThreads = 64;
    constexpr int kRuns = 10'000;
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&] {
        std::vector<uint8_t> output(net.expected_bytes.size());
        for (int i = 0; i < kRuns; ++i) {
          engine.run(net.input_bytes, output);
          wrong.fetch_add(output != net.expected_bytes ? 1 : 0, std::memory_order_relaxed);
          std::fill(output.begin(), output.end(), uint8_t{0});
        }
      });
    }
    for (std::thread& thread : threads) {
      thread.join();
    }
    CHECK(wrong.load() == 0);
  }

  TEST_CASE("a file is read as its bytes are; what is wrong with one is said with its name") {
    Net net = small_net(RngKey{.seed = 4});
    const std::vector<uint8_t> file = net.finish();
    const TempFolder folder;
    const std::filesystem::path path = folder / "net.wtl";
    const auto write = [&](std::span<const uint8_t> bytes) {
      std::ofstream(path, std::ios::binary)
          .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    };
    write(file);
    const Engine engine(path);
    std::vector<uint8_t> output(net.expected_bytes.size());
    engine.run(net.input_bytes, output);
    CHECK(output == net.expected_bytes);

    write(std::span(file).first(file.size() - 1));
    CHECK(reason([&] { const Engine refused(path); }) ==
          "[engine] " + path.string() + ": " + runtime::status_text(runtime::Status::kTruncated));
    write({});
    CHECK(reason([&] { const Engine refused(path); }) ==
          "[engine] " + path.string() + ": " + runtime::status_text(runtime::Status::kTruncated));
    CHECK(reason([&] { const Engine refused(folder / "none.wtl"); }).starts_with("[engine] cannot read '"));
    CHECK(reason([&] { const Engine refused(folder.path()); }).starts_with("[engine] cannot read '"));
  }

  TEST_CASE("a run allocates nothing; an arena more only where one more is in use") {
    Net net = small_net(RngKey{.seed = 3});
    const Engine engine(net.finish());
    std::vector<uint8_t> output(net.expected_bytes.size());
    const uint64_t before = news();
    for (int i = 0; i < 100; ++i) {
      engine.run(net.input_bytes, output);
    }
    CHECK(news() == before);
    {
      const Engine::Lease first = engine.acquire();
      CHECK(news() == before);
      Engine::Lease second = engine.acquire();
      CHECK(news() == before + 1);
      const Engine::Lease moved(std::move(second));
    }
    const uint64_t grown = news();
    const Engine::Lease third = engine.acquire();
    const Engine::Lease fourth = engine.acquire();
    CHECK(news() == grown);
    CHECK(output == net.expected_bytes);
  }

  TEST_CASE("threads that share a run: the same bytes for any number of them, codes and floats") {
    struct Pool {  // hands out every part, in an order that is not theirs, each on a thread of its own
      int calls = 0;
      static void run(void* pool, int32_t count, void (*body)(void* work, int32_t i), void* work) {
        ++static_cast<Pool*>(pool)->calls;
        std::vector<std::thread> threads;
        for (int32_t i = count - 1; i >= 0; --i) {
          threads.emplace_back(body, work, i);
        }
        for (std::thread& thread : threads) {
          thread.join();
        }
      }
    };
    // Enough work to share: rows of an image, channels of a small one, a fully connected layer.
    struct Case {
      std::vector<int64_t> input;
      int64_t out;
    };
    for (const Case& c : {Case{{1, 40, 40, 40}, 40}, Case{{1, 4, 4, 200}, 300}, Case{{3, 11, 11, 130}, 65}}) {
      Net net(RngKey{.seed = test_seed()}.child("threads"));
      const oracle::Geometry same{0, 0, 0, 0, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1};
      net.output(net.conv(net.input(c.input), c.out, 1, same, true));
      Pool pool;
      for (const int count : {1, 2, 3, 7}) {
        const Engine engine(net.finish(), {.threads = {.count = count, .run = Pool::run, .pool = &pool}});
        std::vector<uint8_t> output(net.expected_bytes.size());
        engine.run(net.input_bytes, output);
        CHECK(output == net.expected_bytes);
      }
      const Engine engine(net.finish());
      MESSAGE(pool.calls << " runs were shared, kernels " << std::string(engine.kernels().int8->name));
      CHECK((engine.kernels().int8->packed == nullptr || pool.calls == 3));
    }
    Net net = small_net(RngKey{.seed = 4});
    CHECK(reason([&] { Engine engine(net.finish(), {.threads = {.count = 2}}); }) ==
          "[engine] there are 2 threads, or nothing to run them; at least 1 is wanted");
    CHECK(reason([&] { Engine engine(net.finish(), {.threads = {.count = 0}}); }) ==
          "[engine] there are 0 threads, or nothing to run them; at least 1 is wanted");
  }

  TEST_CASE("leases: inputs and outputs where they lie; kernels by name") {
    Net net = small_net(RngKey{.seed = 4});
    for (const char* name : {"", "integer", "reference"}) {
      const Engine engine(net.finish(), {.kernels = name});
      if (*name != 0) {
        CHECK(std::string(engine.kernels().int8->name) == name);
      }
      Engine::Lease lease = engine.acquire();
      const std::span<uint8_t> input = lease.input(0);
      REQUIRE(input.size() == net.input_bytes.size());
      std::copy(net.input_bytes.begin(), net.input_bytes.end(), input.begin());
      lease.run();
      const std::span<const uint8_t> output = lease.output(0);
      CHECK(std::vector<uint8_t>(output.begin(), output.end()) == net.expected_bytes);
      CHECK(reason([&] { lease.input(1); }) == "[engine] the program has no input 1");
      CHECK(reason([&] { lease.output(7); }) == "[engine] the program has no output 7");
      std::vector<uint8_t> few(3);
      CHECK(reason([&] { engine.run(few, few); }) == "[engine] the input has 3 bytes, the program wants 108");
      CHECK(reason([&] { engine.run(net.input_bytes, few); }) ==
            "[engine] the output has room for 3 bytes, the program makes 5");
    }
    CHECK(reason([&] { Engine engine(net.finish(), {.kernels = "none such"}); }) ==
          "[kernels] no kernel table called 'none such' runs here, only " +
              std::string(kernels::names_that_run_here().text));
    CHECK(reason([&] { Engine engine(std::vector<uint8_t>{}); }) == "[engine] the program is cut off");
    CHECK(reason([&] { Engine engine(net.finish(), {.max_arena_bytes = 16}); }) ==
          "[engine] the program has too many records or needs more arena than allowed");
  }
}

}  // namespace whittle
