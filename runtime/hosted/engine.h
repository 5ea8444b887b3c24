// A program that any number of threads may run at once.
//
//   const Engine engine("net.wtl");                // or from bytes that are in memory, which it copies
//   engine.run(image, scores);                     // copies in and out
//
//   Engine::Lease lease = engine.acquire();        // or without copies
//   fill(lease.input(0)); lease.run(); use(lease.output(0));
//
// The Engine owns the bytes and the arenas. Each run borrows an arena from a list that only
// grows, to as many as were ever in use at once; borrowing and returning are one atomic
// exchange each, so there is no lock, and no allocation once the list is long enough. All
// runs of one input give the same bytes.
//
// Hosted. Refuses by throwing std::invalid_argument.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "runtime/program.h"

namespace whittle::runtime {

struct EngineOptions {
  std::string kernels{};  // name of a kernel table; empty: see choose.h
  uint64_t max_arena_bytes = kMaxValueBytes;
  Threads threads{};  // that share the work of one run, where that pays; they outlive the Engine
};

class Engine {
  struct Context;

 public:
  explicit Engine(std::span<const uint8_t> file, const EngineOptions& options = {});
  explicit Engine(const std::filesystem::path& file, const EngineOptions& options = {});
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // An arena, for as long as it lives.
  class Lease {
   public:
    Lease(Lease&& other) noexcept;
    Lease& operator=(Lease&&) = delete;
    ~Lease();

    std::span<uint8_t> input(uint32_t number);  // where the input is written
    void run();
    void run_op(uint32_t number);  // for those who time ops; all must run, in their order
    std::span<const uint8_t> output(uint32_t number) const;

   private:
    friend class Engine;
    Lease(const Engine& engine, Context& context) : engine_(&engine), context_(&context) {}
    const Engine* engine_;
    Context* context_;
  };
  Lease acquire() const;

  // For programs of one input and one output; the sizes must be those of the program.
  void run(std::span<const uint8_t> input, std::span<uint8_t> output) const;

  const Program& program() const { return program_; }
  const Kernels& kernels() const { return kernels_; }

 private:
  struct Free {
    void operator()(uint8_t* block) const;
  };
  using Block = std::unique_ptr<uint8_t, Free>;
  struct File {
    std::string name;  // in front of what is wrong with it; of bytes in memory: empty
    Block bytes;
    size_t size;
  };
  static Block make_block(uint64_t bytes);
  static File copy_of(std::span<const uint8_t> file);
  static File contents_of(const std::filesystem::path& path);

  Engine(File file, const EngineOptions& options);

  Context* make_context() const;
  Kernels kernels_of(Context& context) const;

  Block file_;
  Program program_;
  Kernels kernels_;
  Block packed_;
  mutable std::atomic<Context*> contexts_{nullptr};
};

}  // namespace whittle::runtime
