// Kills a process again and again while it saves a checkpoint.
//
//   fuzz_kill [kills = 1000] [seed = 1]
//
// A child saves a 400 kB checkpoint over and over to one path, each with the
// next step number, and acknowledges every finished save through a pipe. The
// parent kills it with SIGKILL after a random delay and loads the file: it must
// load, be one whole step, and be no older than the last acknowledged one.
//
// SIGKILL leaves the kernel and its cache alive, so this cannot show a missing
// fsync; the model of losing power in test_file.cpp does.

#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "core/checkpoint.h"
#include "core/rng.h"
#include "tests/support/temp_folder.h"

namespace whittle {

namespace {

namespace fs = std::filesystem;

constexpr int64_t kValues = 50'000;

// Every value names the step, so that a mixture of two steps would show.
Checkpoint checkpoint_of(int64_t step) {
  Checkpoint checkpoint;
  checkpoint.tensors["values"] = StoredTensor::from({kValues}, std::vector<int64_t>(kValues, step));
  checkpoint.metadata["step"] = std::to_string(step);
  return checkpoint;
}

int64_t load_step(const fs::path& path) {
  const Checkpoint loaded = load_checkpoint(path);
  const int64_t step = std::stoll(loaded.metadata.at("step"));
  require(loaded == checkpoint_of(step), "fuzz_kill", path.string(), " is not the checkpoint of step ", step);
  return step;
}

[[noreturn]] void save_for_ever(const fs::path& path, int64_t step, int acknowledge) {
  try {
    for (;; ++step) {
      save_checkpoint(path, checkpoint_of(step));
      if (::write(acknowledge, &step, sizeof step) != sizeof step) {
        break;
      }
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "fuzz_kill: %s\n", error.what());
  }
  ::_exit(1);
}

int run(int64_t kills, uint64_t seed) {
  const TempFolder folder;
  const fs::path path = folder / "model.safetensors";
  Rng rng(seed);
  int64_t acknowledged = 0;
  int64_t saves = 0;
  int64_t lost = 0;
  int64_t missing = 0;
  int64_t leftovers = 0;
  int64_t unexpected_ends = 0;
  save_checkpoint(path, checkpoint_of(acknowledged));

  for (int64_t kill = 0; kill < kills; ++kill) {
    int pipe[2];
    require(::pipe(pipe) == 0, "fuzz_kill", "no pipe");
    const pid_t child = ::fork();
    require(child >= 0, "fuzz_kill", "no process");
    if (child == 0) {
      ::close(pipe[0]);
      save_for_ever(path, acknowledged + 1, pipe[1]);
    }
    ::close(pipe[1]);
    ::usleep(static_cast<useconds_t>(rng.below(40'000)));
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    unexpected_ends += WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL ? 0 : 1;
    // The pipe outlives the child; eight bytes are written whole or not at all.
    int64_t step = 0;
    while (::read(pipe[0], &step, sizeof step) == sizeof step) {
      ++saves;
      acknowledged = step;
    }
    ::close(pipe[0]);

    try {
      const int64_t found = load_step(path);
      missing += found < acknowledged ? 1 : 0;
      acknowledged = std::max(acknowledged, found);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "fuzz_kill: after kill %lld: %s\n", static_cast<long long>(kill), error.what());
      ++lost;
      save_checkpoint(path, checkpoint_of(acknowledged));
    }
    // replace_file() removes these after an hour; here they would fill the disk.
    for (const auto& entry : fs::directory_iterator(folder.path())) {
      if (entry.path() != path) {
        ++leftovers;
        fs::remove(entry.path());
      }
    }
  }
  std::printf("kills=%lld saves=%lld lost=%lld acknowledged_missing=%lld stale_temporaries=%lld\n",
              static_cast<long long>(kills), static_cast<long long>(saves), static_cast<long long>(lost),
              static_cast<long long>(missing), static_cast<long long>(leftovers));
  return lost == 0 && missing == 0 && unexpected_ends == 0 ? 0 : 1;
}

}  // namespace

}  // namespace whittle

int main(int argc, char** argv) {
  try {
    const int64_t kills = argc > 1 ? std::stoll(argv[1]) : 1000;
    const uint64_t seed = argc > 2 ? std::stoull(argv[2]) : 1;
    return whittle::run(kills, seed);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "fuzz_kill: %s\n", error.what());
    return 1;
  }
}
