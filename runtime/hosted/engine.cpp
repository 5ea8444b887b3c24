#include "runtime/hosted/engine.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <new>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "runtime/hosted/choose.h"

namespace whittle::runtime {

namespace {

constexpr size_t kSmallAlignment = 64;

[[noreturn]] void refuse(const std::string& reason) { throw std::invalid_argument("[engine] " + reason); }

void require_ok(Status status, const std::string& file = {}) {
  if (status != Status::kOk) {
    refuse(file + status_text(status));
  }
}

void require_size(const char* what, size_t got, const char* program, size_t expected) {
  if (got != expected) {
    refuse(what + std::to_string(got) + " bytes, the program " + program + std::to_string(expected));
  }
}

}  // namespace

void Engine::Free::operator()(uint8_t* block) const { std::free(block); }

// Large blocks ask for large pages: some megabytes of weights, read once from end to end in every run, are otherwise a
// thousand entries of the address cache, which in a virtual machine are dear.
Engine::Block Engine::make_block(uint64_t bytes) {
  constexpr size_t kLargePage = size_t{2} << 20;
  if (bytes > SIZE_MAX - kLargePage) {
    throw std::bad_alloc();
  }
  const auto size = static_cast<size_t>(bytes);
  const size_t alignment = size < kLargePage ? kSmallAlignment : kLargePage;
  void* const block = std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
  if (block == nullptr && size != 0) {
    throw std::bad_alloc();
  }
#if defined(__linux__)
  if (size >= kLargePage) {
    madvise(block, size / kLargePage * kLargePage, MADV_HUGEPAGE);  // a wish; no matter if it is refused
  }
#endif
  return Block(static_cast<uint8_t*>(block));
}

// Contexts form a list to which new ones are pushed in front; none leaves it before the end.
struct Engine::Context {
  Block arena;
  Block scratch;
  std::atomic<bool> busy;
  Context* next = nullptr;
};

Engine::File Engine::copy_of(std::span<const uint8_t> file) {
  File copy{.name = {}, .bytes = make_block(file.size()), .size = file.size()};
  if (!file.empty()) {
    std::memcpy(copy.bytes.get(), file.data(), file.size());
  }
  return copy;
}

Engine::File Engine::contents_of(const std::filesystem::path& path) {
  std::error_code failure;
  const uintmax_t size = std::filesystem::file_size(path, failure);
  std::ifstream stream(path, std::ios::binary);
  if (failure || !stream) {
    refuse("cannot read '" + path.string() + "'" + (failure ? ": " + failure.message() : ""));
  }
  File file{.name = path.string() + ": ", .bytes = make_block(size), .size = static_cast<size_t>(size)};
  if (!stream.read(reinterpret_cast<char*>(file.bytes.get()), static_cast<std::streamsize>(size))) {
    refuse("cannot read '" + path.string() + "'");
  }
  return file;
}

Engine::Engine(std::span<const uint8_t> file, const EngineOptions& options) : Engine(copy_of(file), options) {}

Engine::Engine(const std::filesystem::path& file, const EngineOptions& options) : Engine(contents_of(file), options) {}

Engine::Engine(File file, const EngineOptions& options)
    : file_(std::move(file.bytes)), kernels_(choose_kernels(options.kernels)) {
  if (options.threads.count < 1 || (options.threads.count > 1 && options.threads.run == nullptr)) {
    refuse("there are " + std::to_string(options.threads.count) +
           " threads, or nothing to run them; at least 1 is wanted");
  }
  const LoadOptions load_options{.features = kernels_.features(), .max_arena_bytes = options.max_arena_bytes};
  require_ok(load(file_.get(), file.size, load_options, program_), file.name);
  const PackSize size = pack_size(program_, kernels_);
  packed_ = make_block(size.packed_bytes);
  pack(program_, kernels_, packed_.get());
  kernels_.scratch_bytes = size.scratch_bytes;
  kernels_.threads = options.threads;
  contexts_.store(make_context(), std::memory_order_release);
}

Engine::~Engine() {
  for (Context* context = contexts_.load(); context != nullptr;) {
    delete std::exchange(context, context->next);
  }
}

Engine::Context* Engine::make_context() const {
  auto context = std::make_unique<Context>();
  context->arena = make_block(program_.arena_bytes());
  context->scratch = make_block(kernels_.scratch_bytes * static_cast<uint64_t>(kernels_.threads.count));
  // What a lease shows before anything was written to it is the same every time.
  std::memset(context->arena.get(), 0, static_cast<size_t>(program_.arena_bytes()));
  return context.release();
}

Engine::Lease Engine::acquire() const {
  for (Context* context = contexts_.load(std::memory_order_acquire); context != nullptr; context = context->next) {
    if (!context->busy.load(std::memory_order_relaxed) && !context->busy.exchange(true, std::memory_order_acquire)) {
      return {*this, *context};
    }
  }
  Context* fresh = make_context();
  fresh->busy.store(true, std::memory_order_relaxed);
  fresh->next = contexts_.load(std::memory_order_relaxed);
  while (!contexts_.compare_exchange_weak(fresh->next, fresh, std::memory_order_release, std::memory_order_relaxed)) {
  }
  return {*this, *fresh};
}

Engine::Lease::Lease(Lease&& other) noexcept
    : engine_(other.engine_), context_(std::exchange(other.context_, nullptr)) {}

Engine::Lease::~Lease() {
  if (context_ != nullptr) {
    context_->busy.store(false, std::memory_order_release);
  }
}

std::span<uint8_t> Engine::Lease::input(uint32_t number) {
  const Program& p = engine_->program_;
  if (number >= p.input_count()) {
    refuse("the program has no input " + std::to_string(number));
  }
  const uint32_t v = p.input(number);
  return {p.data(v, context_->arena.get()), static_cast<size_t>(bytes_of(p.value(v)))};
}

std::span<const uint8_t> Engine::Lease::output(uint32_t number) const {
  const Program& p = engine_->program_;
  if (number >= p.output_count()) {
    refuse("the program has no output " + std::to_string(number));
  }
  const uint32_t v = p.output(number);
  return {p.data(v, context_->arena.get()), static_cast<size_t>(bytes_of(p.value(v)))};
}

Kernels Engine::kernels_of(Context& context) const {
  Kernels kernels = kernels_;
  kernels.packed = packed_.get();
  kernels.scratch = context.scratch.get();
  return kernels;
}

void Engine::Lease::run() {
  const Program& p = engine_->program_;
  require_ok(
      runtime::run(p, engine_->kernels_of(*context_), context_->arena.get(), static_cast<size_t>(p.arena_bytes())));
}

void Engine::Lease::run_op(uint32_t number) {
  const Program& p = engine_->program_;
  if (number >= p.op_count()) {
    refuse("the program has no op " + std::to_string(number));
  }
  require_ok(run_ops(p, engine_->kernels_of(*context_), context_->arena.get(), static_cast<size_t>(p.arena_bytes()),
                     number, number + 1));
}

void Engine::run(std::span<const uint8_t> input, std::span<uint8_t> output) const {
  if (program_.input_count() != 1 || program_.output_count() != 1) {
    refuse("the program has several inputs or outputs: use acquire()");
  }
  Lease lease = acquire();
  const std::span<uint8_t> to = lease.input(0);
  const std::span<const uint8_t> from = lease.output(0);
  require_size("the input has ", input.size(), "wants ", to.size());
  require_size("the output has room for ", output.size(), "makes ", from.size());
  std::memcpy(to.data(), input.data(), to.size());
  lease.run();
  std::memcpy(output.data(), from.data(), from.size());
}

}  // namespace whittle::runtime
