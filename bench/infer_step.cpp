// Times a program on the Engine. A script drives it over a pipe, so that it can take turns with others:
//
//   bench_infer PROGRAM.wtl THREADS SAMPLES
//
// One step computes SAMPLES samples, a multiple of those that the program computes in one run: the runs of a step are
// handed to THREADS threads, or the work of the only one. Bytes are copied in and out, which is part of the step. It
// writes a line of JSON when it is ready and one per line it reads:
//
//   check IN OUT   steps on the input bytes of the file IN, output bytes to the file OUT
//   run WARM N     WARM steps unmeasured, then N measured one by one
//
// It links the runtime alone, so its memory and its size are those of a program that only runs nets.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "kernels/f32/table.h"
#include "runtime/hosted/engine.h"

using namespace whittle::runtime;

namespace {

using Clock = std::chrono::steady_clock;

double milliseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

double megabytes(const std::string& field) {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    if (word == field) {
      double kilobytes = 0;
      status >> kilobytes;
      return kilobytes / 1024;
    }
  }
  return 0;
}

std::vector<uint8_t> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::vector<uint8_t> bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (!file) {
    throw std::runtime_error("cannot read '" + path + "'");
  }
  return bytes;
}

// Threads that share the runs of a step or, if it is one run, the work of that. Waiting ones look for work for a while
// before they sleep: a step can be shorter than waking up.
class Team {
 public:
  explicit Team(int threads) {
    for (int i = 1; i < threads; ++i) {
      helpers_.emplace_back([this] { help(); });
    }
  }
  ~Team() {
    ending_ = true;
    announce();
  }
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  Threads threads() {
    return {.count = static_cast<int32_t>(helpers_.size()) + 1,
            .run = [](void* team, int32_t count, void (*body)(void*, int32_t),
                      void* work) { static_cast<Team*>(team)->share(count, body, work); },
            .pool = this};
  }

  void share(int32_t count, void (*body)(void* work, int32_t i), void* work) {
    if (inside_) {  // a run among several: the threads have enough to do
      for (int32_t i = 0; i < count; ++i) {
        body(work, i);
      }
      return;
    }
    body_ = body;
    work_ = work;
    count_ = count;
    busy_ = helpers_.size();
    next_ = 0;
    announce();
    take();
    while (busy_ != 0) {
    }
  }

 private:
  void announce() {
    ++steps_;
    steps_.notify_all();
  }
  void take() {
    inside_ = true;
    for (int32_t i = next_++; i < count_; i = next_++) {
      body_(work_, i);
    }
    inside_ = false;
  }
  void help() {
    for (uint64_t seen = 0;;) {
      const auto start = Clock::now();
      while (steps_ == seen && milliseconds_since(start) < 1) {
      }
      steps_.wait(seen);
      seen = steps_;
      if (ending_) {
        return;
      }
      take();
      --busy_;
    }
  }

  static inline thread_local bool inside_ = false;
  void (*body_)(void* work, int32_t i) = nullptr;
  void* work_ = nullptr;
  int32_t count_ = 0;
  std::atomic<int32_t> next_ = 0;
  std::atomic<size_t> busy_ = 0;
  std::atomic<uint64_t> steps_ = 0;
  std::atomic<bool> ending_ = false;
  std::vector<std::jthread> helpers_;
};

class Bench {
 public:
  Bench(Team& team, const Engine& engine, size_t samples)
      : team_(team),
        engine_(engine),
        in_bytes_(bytes_of(engine_.program().value(engine_.program().input(0)))),
        out_bytes_(bytes_of(engine_.program().value(engine_.program().output(0)))),
        runs_(samples / batch()) {
    if (runs_ == 0 || samples % batch() != 0) {
      throw std::runtime_error("a run computes " + std::to_string(batch()) + " samples, which do not divide " +
                               std::to_string(samples));
    }
    input_.resize(runs_ * in_bytes_);
    output_.resize(runs_ * out_bytes_);
    // Numbers between 0 and 1, or any codes.
    std::minstd_rand random(1);
    if (engine_.program().value(engine_.program().input(0)).type == Type::kF32) {
      for (size_t at = 0; at < input_.size(); at += sizeof(float)) {
        const float x = std::uniform_real_distribution<float>()(random);
        std::copy_n(reinterpret_cast<const uint8_t*>(&x), sizeof x, &input_[at]);
      }
    } else {
      std::ranges::generate(input_, [&] { return static_cast<uint8_t>(random() >> 8); });
    }
  }

  // Those of a run: the first extent.
  size_t batch() const { return engine_.program().value(engine_.program().input(0)).dims[0]; }
  std::string kernels() const {
    const Kernels& tables = engine_.kernels();
    const bool integers = (engine_.program().features() & ~kIntegerFeatures) == 0;
    return integers || tables.f32 == nullptr ? tables.int8->name : tables.f32->name;
  }

  void step() {
    if (runs_ == 1) {
      engine_.run(input_, output_);
      return;
    }
    team_.share(
        static_cast<int32_t>(runs_),
        [](void* self, int32_t i) { static_cast<Bench*>(self)->run(static_cast<size_t>(i)); }, this);
  }

  void run(size_t i) {
    engine_.run(std::span(input_).subspan(i * in_bytes_, in_bytes_),
                std::span(output_).subspan(i * out_bytes_, out_bytes_));
  }

  void check(const std::string& from, const std::string& to) {
    const std::vector<uint8_t> given = read_file(from);
    if (given.empty() || given.size() % input_.size() != 0) {
      throw std::runtime_error("'" + from + "' has " + std::to_string(given.size()) + " bytes, a step reads " +
                               std::to_string(input_.size()));
    }
    std::ofstream file(to, std::ios::binary);
    for (size_t at = 0; at < given.size(); at += input_.size()) {
      std::copy_n(&given[at], input_.size(), input_.begin());
      step();
      file.write(reinterpret_cast<const char*>(output_.data()), static_cast<std::streamsize>(output_.size()));
    }
    file.close();
    if (!file) {
      throw std::runtime_error("cannot write '" + to + "'");
    }
  }

 private:
  Team& team_;
  const Engine& engine_;
  size_t in_bytes_, out_bytes_;
  size_t runs_;
  std::vector<uint8_t> input_, output_;
};

void run(Bench& bench, int64_t warm, int64_t steps, double baseline) {
  for (int64_t i = 0; i < warm; ++i) {
    bench.step();
  }
  std::vector<double> times(static_cast<size_t>(steps));
  for (double& time : times) {
    const auto start = Clock::now();
    bench.step();
    time = milliseconds_since(start);
  }
  std::printf("{\"peak_mb\":%.2f,\"peak_grown_mb\":%.2f,\"milliseconds\":[", megabytes("VmHWM:"),
              megabytes("VmHWM:") - baseline);
  const char* separator = "";
  for (const double time : times) {
    std::printf("%s%.6f", separator, time);
    separator = ",";
  }
  std::printf("]}\n");
}

int serve(const std::string& path, int threads, size_t samples) {
  const double baseline = megabytes("VmRSS:");
  Team team(threads);
  const auto start = Clock::now();
  const Engine engine(path, {.threads = team.threads()});
  const double load = milliseconds_since(start);
  Bench bench(team, engine, samples);
  const auto first = Clock::now();
  bench.step();
  const double first_run = milliseconds_since(first);
  std::printf(
      "{\"load_ms\":%.4f,\"first_ms\":%.4f,\"threads\":%d,\"kernels\":\"%s\",\"file_bytes\":%ju,\"library_bytes\":%ju}"
      "\n",
      load, first_run, threads, bench.kernels().c_str(), std::filesystem::file_size(path),
      std::filesystem::file_size("/proc/self/exe"));
  for (std::string command; std::fflush(stdout), std::cin >> command;) {
    std::string from;
    std::string to;
    int64_t warm = 0;
    int64_t steps = 0;
    if (command == "check" && std::cin >> from >> to) {
      bench.check(from, to);
      std::printf("{}\n");
    } else if (command == "run" && std::cin >> warm >> steps && warm >= 0 && steps > 0) {
      run(bench, warm, steps, baseline);
    } else {
      throw std::runtime_error("'" + command + "' is neither 'check IN OUT' nor 'run WARM N'");
    }
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: bench_infer PROGRAM.wtl THREADS SAMPLES\n";
    return 2;
  }
  try {
    return serve(argv[1], std::stoi(argv[2]), std::stoul(argv[3]));
  } catch (const std::exception& error) {
    std::cerr << "bench_infer: " << error.what() << '\n';
    return 1;
  }
}
