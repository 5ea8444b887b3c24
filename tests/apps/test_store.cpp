// The experiment store as a library: what goes in comes out, many may write, and no other file is touched.

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "apps/runs/store.h"
#include "core/error.h"
#include "tests/apps/command.h"

namespace whittle::apps {

namespace {

Run example() {
  Run run;
  run.verb = "train";
  run.begun = "2026-11-22T04:08:57Z";
  run.version = "0.1.0";
  run.revision = "abc";
  run.cpu = "a \"CPU\"; DROP TABLE runs";
  run.threads = 2;
  run.model = "lenet5";
  run.data = "glyphs";
  run.config = R"({"epochs":5})";
  run.given = {"epochs", "seed"};
  run.config_hash = "0123456789abcdef";
  run.seed = std::numeric_limits<uint64_t>::max();
  return run;
}

std::string error_of(const std::filesystem::path& file, RunStore::Mode mode) {
  try {
    const RunStore store(file, mode);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

// SQL by way of the command-line shell of SQLite would need that shell; bytes of the header do not.
void set_header_number(const std::filesystem::path& file, std::streamoff at, unsigned char value) {
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  stream.seekp(at + 3);  // big-endian, the last of four bytes
  stream.put(static_cast<char>(value));
}
constexpr std::streamoff kUserVersion = 60;  // https://sqlite.org/fileformat2.html, the database header
constexpr std::streamoff kApplicationId = 68;

}  // namespace

TEST_SUITE("store") {
  // A check that is skipped cannot fail, so what CI builds must have SQLite.
  TEST_CASE("CI builds with SQLite") { CHECK((RunStore::available() || std::getenv("CI") == nullptr)); }

  // Skipped in a build without SQLite, which has no store to look at; CI must have it (above).
  TEST_CASE("what goes in comes out" * doctest::skip(!RunStore::available())) {
    const TempFolder folder;
    const std::filesystem::path file = folder / "runs.db";
    Run run = example();
    {
      RunStore store(file, RunStore::Mode::kWrite);
      run.id = store.begin(run);
      CHECK(store.read(run.id).status == "running");
      store.add_points(run.id, {{.part = 1, .epoch = 1, .name = "train_loss", .value = 9}});
      run.status = "finished";
      run.ended = "2026-11-22T04:09:57Z";
      run.results = R"({"test":1})";
      run.metrics = {{.stage = "", .split = "test", .name = "accuracy", .value = 0.1 + 0.2, .samples = 1000},
                     {.stage = "", .split = "test", .name = "loss", .value = 1e-300, .samples = 1000}};
      run.files = {{.role = "out", .path = "m.safetensors", .bytes = uint64_t{1} << 40, .sha256 = "ab"}};
      run.latency =
          RunLatency{.median_us = 1.5, .p10_us = 1, .p90_us = 2, .repeats = 200, .threads = 1, .kernels = "avx2"};
      run.points = {{.part = 1, .epoch = 1, .name = "train_loss", .value = 2},
                    {.part = 1, .epoch = 2, .name = "train_loss", .value = 1},
                    {.part = 2, .epoch = 1, .name = "train_loss", .value = 0.5}};
      run.answers = RunAnswers{.split = "test", .samples = "name of these samples", .right = {}};
      for (int i = 0; i < 1003; ++i) {
        run.answers->right.push_back(i % 7 == 0 || i % 5 == 1);
      }
      store.end(run);
    }
    const RunStore store(file, RunStore::Mode::kRead);
    const Run read = store.read(run.id);
    CHECK(read.verb == run.verb);
    CHECK(read.status == "finished");
    CHECK(read.begun == run.begun);
    CHECK(read.ended == run.ended);
    CHECK(read.cpu == run.cpu);
    CHECK(read.given == run.given);
    CHECK(read.config == run.config);
    CHECK(read.results == run.results);
    CHECK(read.seed == run.seed);
    CHECK_FALSE(read.parent.has_value());
    CHECK(read.metrics == run.metrics);
    CHECK(read.files == run.files);
    CHECK(read.latency == run.latency);
    CHECK(read.points == run.points);
    CHECK(read.answers == run.answers);
    const std::vector<Run> all = store.list();
    REQUIRE(all.size() == 1);
    CHECK(all[0].metrics == run.metrics);
    CHECK(all[0].files == run.files);
    CHECK(all[0].latency == run.latency);
    CHECK(store.maker_of("ab") == run.id);
    CHECK_FALSE(store.maker_of("cd").has_value());
    CHECK_THROWS_WITH_AS((void)store.read(7), doctest::Contains("has no run 7"), Error);
  }

  // Skipped in a build without SQLite, which has no store to look at; CI must have it (above).
  TEST_CASE("numbers that are none stay so; a half-written end leaves nothing" *
            doctest::skip(!RunStore::available())) {
    const TempFolder folder;
    RunStore store(folder / "runs.db", RunStore::Mode::kWrite);
    Run run = example();
    run.id = store.begin(run);
    run.status = "failed";
    run.metrics = {{.stage = "", .split = "test", .name = "loss", .value = std::nan(""), .samples = 1}};
    run.files = {{.role = "neither", .path = "x", .bytes = 0, .sha256 = ""}};  // the table refuses it
    CHECK_THROWS_AS(store.end(run), Error);
    CHECK(store.read(run.id).status == "running");
    CHECK(store.read(run.id).metrics.empty());
    run.files.clear();
    store.end(run);
    CHECK(store.read(run.id).status == "failed");
    CHECK(std::isnan(store.read(run.id).metrics.at(0).value));
    run.parent = 99;
    CHECK_THROWS_AS((void)store.begin(run), Error);  // nobody's child
  }

  // Skipped in a build without SQLite, which has no store to look at; CI must have it (above).
  TEST_CASE("eight processes write a hundred runs each, and none is lost" * doctest::skip(!RunStore::available())) {
    constexpr int kProcesses = 8;
    constexpr int kRuns = 100;
    const TempFolder folder;
    const std::filesystem::path file = folder / "runs.db";
    std::vector<pid_t> children;
    for (int p = 0; p < kProcesses; ++p) {
      const pid_t child = ::fork();
      REQUIRE(child >= 0);
      if (child == 0) {
        int code = 0;
        try {
          for (int i = 0; i < kRuns; ++i) {
            // Each opens the file anew, as each run of the command does; the first ones make it.
            RunStore store(file, RunStore::Mode::kWrite);
            Run run = example();
            run.seed = static_cast<uint64_t>(p * kRuns + i);
            run.id = store.begin(run);
            store.add_points(run.id, {{.part = 1, .epoch = 1, .name = "rate", .value = 0.1}});
            run.status = "finished";
            run.metrics = {{.stage = "", .split = "test", .name = "accuracy", .value = 1, .samples = 1}};
            store.end(run);
          }
        } catch (const std::exception& error) {
          std::fprintf(stderr, "%s\n", error.what());
          code = 1;
        }
        ::_exit(code);
      }
      children.push_back(child);
    }
    for (const pid_t child : children) {
      int status = -1;
      REQUIRE(::waitpid(child, &status, 0) == child);
      CHECK(status == 0);
    }
    const RunStore store(file, RunStore::Mode::kRead);
    std::set<uint64_t> seeds;
    for (const Run& run : store.list()) {
      CHECK(run.status == "finished");
      CHECK(run.metrics.size() == 1);
      seeds.insert(run.seed.value_or(0));
    }
    CHECK(seeds.size() == kProcesses * kRuns);
  }

  // Skipped in a build without SQLite, which has no store to look at; CI must have it (above).
  TEST_CASE("other files are refused and left alone" * doctest::skip(!RunStore::available())) {
    const TempFolder folder;
    const std::string text(5000, 'x');
    std::ofstream(folder / "text") << text;
    for (const RunStore::Mode mode : {RunStore::Mode::kRead, RunStore::Mode::kWrite}) {
      CHECK(contains(error_of(folder / "text", mode), "text is not a store of runs"));
      CHECK(contains(error_of(folder.path(), mode), "is a folder"));
    }
    CHECK(contents(folder / "text") == text);
    CHECK(contains(error_of(folder / "missing", RunStore::Mode::kRead), "there is no file"));
    CHECK_FALSE(std::filesystem::exists(folder / "missing"));
    CHECK(contains(error_of(folder / "no" / "runs.db", RunStore::Mode::kWrite), "a folder that does not exist"));
    std::ofstream(folder / "empty") << "";
    CHECK(contains(error_of(folder / "empty", RunStore::Mode::kRead), "is not a store of runs"));
    CHECK(error_of(folder / "empty", RunStore::Mode::kWrite).empty());  // becomes one
    CHECK(error_of(folder / "empty", RunStore::Mode::kRead).empty());
  }

  // Skipped in a build without SQLite, which has no store to look at; CI must have it (above).
  TEST_CASE("a database of someone else and a later version are refused" * doctest::skip(!RunStore::available())) {
    const TempFolder folder;
    const std::filesystem::path file = folder / "runs.db";
    { const RunStore store(file, RunStore::Mode::kWrite); }
    set_header_number(file, kUserVersion, RunStore::kVersion + 1);
    CHECK(contains(error_of(file, RunStore::Mode::kRead), "is a store of version 2, and this program knows"));
    CHECK(contains(error_of(file, RunStore::Mode::kWrite), "is a store of version 2, and this program knows"));
    set_header_number(file, kUserVersion, RunStore::kVersion);
    CHECK(error_of(file, RunStore::Mode::kWrite).empty());
    set_header_number(file, kApplicationId, 'x');
    const std::string before = contents(file);
    CHECK(contains(error_of(file, RunStore::Mode::kWrite), "is not a store of runs"));
    CHECK(contents(file) == before);
  }

  // The other half: there is nothing to refuse where SQLite is built in.
  TEST_CASE("a build without SQLite says so" * doctest::skip(RunStore::available())) {
    const TempFolder folder;
    CHECK(contains(error_of(folder / "runs.db", RunStore::Mode::kWrite), "this build has no SQLite"));
  }
}

}  // namespace whittle::apps
