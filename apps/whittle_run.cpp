// whittle-run: runs a program on raw bytes, tells what is in it, measures it.
//
// Links the runtime and the C library and nothing else, so it is also the example of how a
// program is run: read bytes to an aligned place, load, run, look at the output.

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>

#include "kernels/hosted/forced.h"
#include "kernels/names.h"
#include "runtime/best.h"
#include "runtime/hosted/names.h"
#include "runtime/program.h"

namespace {

using namespace whittle::runtime;  // NOLINT(google-build-using-namespace): this file is about nothing else
using whittle::runtime::kFeatureNames;
using whittle::runtime::name_of;

constexpr const char* kUsage = R"(whittle-run PROGRAM.wtl [INPUT] [options]

Runs the program on INPUT ("-": standard input): the bytes of its inputs one after the other, as often
as you like. 8-bit inputs are signed codes, float inputs are binary32. What code stands for a pixel or a
number is each program's own: `whittle inspect PROGRAM.wtl` says it, and `whittle predict PROGRAM.wtl FILE
--save-codes NAME` writes NAME.in. Prints a line of outputs for each sample.

  --real           outputs as real numbers instead of codes
  --info           what is in the program: inputs, outputs, ops, and where its bytes go
  --bench [RUNS]   median, 10th and 90th percentile of the time of one run (default: 200 runs)
  --kernels NAME   use the kernel tables called NAME (default: $WHITTLE_KERNELS, or else the best)
  --help           this text

Example: whittle-run resnet8.wtl image.in
)";

[[noreturn]] void stop(const char* what, const char* why) {
  std::fprintf(stderr, "whittle-run: %s: %s\n", what, why);
  std::exit(1);
}

struct Free {
  void operator()(uint8_t* block) const { std::free(block); }
};
using Block = std::unique_ptr<uint8_t, Free>;

// At a multiple of 64.
Block allocate(size_t size) {
  Block block(static_cast<uint8_t*>(std::aligned_alloc(64, (size + 63) / 64 * 64 + 64)));
  if (block == nullptr) {
    stop("memory", "there is not enough");
  }
  return block;
}

// Of a file.
struct Bytes {
  Block data;
  size_t size;
};

Bytes read_file(const char* path) {
  std::FILE* file = std::strcmp(path, "-") == 0 ? stdin : std::fopen(path, "rb");
  if (file == nullptr) {
    stop(path, std::strerror(errno));
  }
  size_t room = 1 << 16;
  Bytes bytes{allocate(room), 0};
  for (;;) {
    bytes.size += std::fread(bytes.data.get() + bytes.size, 1, room - bytes.size, file);
    if (std::ferror(file) != 0) {
      stop(path, std::strerror(errno));
    }
    if (bytes.size < room) {
      break;
    }
    Block larger = allocate(2 * room);
    std::memcpy(larger.get(), bytes.data.get(), bytes.size);
    bytes.data = std::move(larger);
    room *= 2;
  }
  if (file != stdin) {
    std::fclose(file);
  }
  return bytes;
}

void print_shape(const ValueRecord& v) {
  std::printf("%s[", name_of(v.type));
  for (uint32_t i = 0; i < v.rank; ++i) {
    std::printf(i == 0 ? "%u" : ",%u", v.dims[i]);
  }
  std::printf("]");
}

#if !defined(WHITTLE_NO_FPU)
float number(uint32_t bits) { return __builtin_bit_cast(float, bits); }
#endif

void print_value(const Program& p, const char* title, uint32_t value) {
  const ValueRecord v = p.value(value);
  std::printf("%-8s %s ", title, p.name(v.name));
  print_shape(v);
  if (v.type != Type::kF32) {
#if defined(WHITTLE_NO_FPU)
    std::printf("  scale bits 0x%08x, zero-point %d", v.scale, v.zero_point);
#else
    std::printf("  real = %.9g (code - %d)", static_cast<double>(number(v.scale)), v.zero_point);
#endif
  }
  std::printf("\n");
}

// ---- What is in it --------------------------------------------------------------------

void print_info(const Program& p) {
  std::printf("needs   ");
  for (uint32_t i = 0; i < 6; ++i) {
    if ((p.features() >> i & 1) != 0) {
      std::printf(" %s", kFeatureNames[i]);
    }
  }
  std::printf("%s\n", (p.features() & ~kIntegerFeatures) == 0 ? "  (integer-only)" : "");
  std::printf("arena    %llu bytes\n", static_cast<unsigned long long>(p.arena_bytes()));
  for (uint32_t i = 0; i < p.input_count(); ++i) {
    print_value(p, "input", p.input(i));
  }
  for (uint32_t i = 0; i < p.output_count(); ++i) {
    print_value(p, "output", p.output(i));
  }

  uint64_t weights = 0;
  uint64_t constants = 0;
  std::printf("\n%4s %-16s %-28s %7s %12s  result\n", "op", "kind", "name", "weights", "constants");
  for (uint32_t i = 0; i < p.op_count(); ++i) {
    const OpRecord op = p.op(i);
    uint64_t bytes = 0;
    for (const uint32_t v : {op.weights, op.bias, op.multipliers, op.table}) {
      bytes += v == kNone ? 0 : bytes_of(p.value(v));
    }
    std::printf("%4u %-16s %-28s %7s %12llu  ", i, name_of(op.kind), p.name(op.name),
                op.weights == kNone ? "" : name_of(p.value(op.weights).type), static_cast<unsigned long long>(bytes));
    print_shape(p.value(op.output));
    std::printf("\n");
  }
  for (uint32_t i = 0; i < p.value_count(); ++i) {
    const ValueRecord v = p.value(i);
    if (v.place == Place::kConstant) {
      constants += bytes_of(v);
      weights += v.rank > 1 ? bytes_of(v) : 0;
    }
  }
  const FileHeader& h = p.header();
  uint64_t sections = 0;
  for (const Section& s : h.sections) {
    sections += s.bytes;
  }
  const uint64_t fixed = sizeof(FileHeader) + sizeof(FileTrailer);
  std::printf("\nbytes of the file\n");
  const auto line = [](const char* what, uint64_t bytes) {
    std::printf("  %-34s %12llu\n", what, static_cast<unsigned long long>(bytes));
  };
  line("weights", weights);
  line("biases, multipliers, bounds, tables", constants - weights);
  line("value records", h.sections[kValues].bytes);
  line("op records and lists", h.sections[kOps].bytes + h.sections[kLists].bytes);
  line("names", h.sections[kNames].bytes);
  line("metadata", h.sections[kMetadata].bytes);
  line("header and trailer", fixed);
  line("padding", h.file_bytes - fixed - sections + h.sections[kConstants].bytes - constants);
  line("sum = length", h.file_bytes);
}

// ---- Running --------------------------------------------------------------------------

void print_output(const Program& p, uint8_t* arena, bool real) {
  const char* separator = "";
  for (uint32_t o = 0; o < p.output_count(); ++o) {
    const ValueRecord v = p.value(p.output(o));
    const uint8_t* data = p.data(p.output(o), arena);
    for (uint64_t i = 0; i < elements(v); ++i, separator = " ") {
      int code = 0;
      switch (v.type) {
        case Type::kS8:
          code = read<int8_t>(data + i);
          break;
        case Type::kS16:
          code = read<int16_t>(data + 2 * i);
          break;
        default:
#if !defined(WHITTLE_NO_FPU)
          std::printf("%s%.9g", separator, static_cast<double>(read<float>(data + 4 * i)));
#endif
          continue;
      }
#if !defined(WHITTLE_NO_FPU)
      if (real) {
        std::printf("%s%.9g", separator,
                    static_cast<double>(number(v.scale) * static_cast<float>(code - v.zero_point)));
        continue;
      }
#endif
      std::printf("%s%d", separator, code);
    }
  }
  static_cast<void>(real);
  std::printf("\n");
}

uint64_t input_bytes(const Program& p) {
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < p.input_count(); ++i) {
    bytes += bytes_of(p.value(p.input(i)));
  }
  return bytes;
}

void run_once(const Program& p, const Kernels& kernels, uint8_t* arena) {
  if (const Status status = run(p, kernels, arena, p.arena_bytes()); status != Status::kOk) {
    stop("run", status_text(status));
  }
}

void run_samples(const Program& p, const Kernels& kernels, uint8_t* arena, const char* path, bool real) {
  const Bytes input = read_file(path);
  const uint64_t sample = input_bytes(p);
  if (input.size == 0 || input.size % sample != 0) {
    std::fprintf(stderr, "whittle-run: %s has %zu bytes, which is no multiple of the %llu of one sample\n", path,
                 input.size, static_cast<unsigned long long>(sample));
    std::exit(1);
  }
  const uint8_t* from = input.data.get();
  for (uint64_t n = 0; n < input.size / sample; ++n) {
    for (uint32_t i = 0; i < p.input_count(); ++i) {
      const auto bytes = static_cast<size_t>(bytes_of(p.value(p.input(i))));
      std::memcpy(p.data(p.input(i), arena), from, bytes);
      from += bytes;
    }
    run_once(p, kernels, arena);
    print_output(p, arena, real);
  }
}

void measure(const Program& p, const Kernels& kernels, uint8_t* arena, long runs) {
  const Block block = allocate(static_cast<size_t>(runs) * sizeof(int64_t));
  auto* times = reinterpret_cast<int64_t*>(block.get());
  for (uint32_t i = 0; i < p.input_count(); ++i) {
    std::memset(p.data(p.input(i), arena), 0, static_cast<size_t>(bytes_of(p.value(p.input(i)))));
  }
  run_once(p, kernels, arena);  // warm
  for (long i = 0; i < runs; ++i) {
    const auto start = std::chrono::steady_clock::now();
    run_once(p, kernels, arena);
    times[i] = std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - start).count();
  }
  std::sort(times, times + runs);
  const auto print = [&](const char* name, long at) {  // in integers: this tool exists without an FPU, too
    std::printf("%s %lld.%03lld us  ", name, static_cast<long long>(times[at] / 1000),
                static_cast<long long>(times[at] % 1000));
  };
  print("median", runs / 2);
  print("p10", runs / 10);
  print("p90", runs * 9 / 10);
  std::printf("runs %ld  kernels %s\n", runs, kernels.int8 != nullptr ? kernels.int8->name : "none");
}

}  // namespace

int main(int argc, char** argv) {
  const char* program_path = nullptr;
  const char* input_path = nullptr;
  bool info = false;
  bool real = false;
  long runs = 0;
  const char* wanted = whittle::kernels::forced_name();
  for (int i = 1; i < argc; ++i) {
    const char* arg = argv[i];
    if (std::strcmp(arg, "--help") == 0 || std::strcmp(arg, "-h") == 0) {
      std::fputs(kUsage, stdout);
      return 0;
    }
    if (std::strcmp(arg, "--info") == 0) {
      info = true;
    } else if (std::strcmp(arg, "--real") == 0) {
      real = true;
    } else if (std::strcmp(arg, "--bench") == 0) {
      char* end = nullptr;
      runs = i + 1 < argc ? std::strtol(argv[i + 1], &end, 10) : 0;
      if (end != nullptr && end != argv[i + 1] && *end == 0) {
        ++i;
        if (runs < 1 || runs > 10000000) {
          stop("--bench", "the number of runs is not between 1 and 10000000");
        }
      } else {
        runs = 200;
      }
    } else if (std::strcmp(arg, "--kernels") == 0) {
      if (++i == argc) {
        stop("--kernels", "no name follows");
      }
      wanted = argv[i];
    } else if (arg[0] == '-' && arg[1] != 0) {
      stop(arg, "is no option; --help lists them");
    } else if (program_path == nullptr) {
      program_path = arg;
    } else if (input_path == nullptr) {
      input_path = arg;
    } else {
      stop(arg, "is one argument too many; --help tells what is wanted");
    }
  }
  if (program_path == nullptr) {
    std::fputs(kUsage, stderr);
    return 2;
  }

  Kernels kernels = wanted != nullptr ? kernels_named(wanted) : best_kernels();
  if (kernels.features() == 0) {
    std::fprintf(stderr, "whittle-run: no kernel table called '%s' runs here, only %s\n", wanted,
                 whittle::kernels::names_that_run_here().text);
    return 1;
  }
  const Bytes bytes = read_file(program_path);
  Program program;
  const Status status = load(bytes.data.get(), bytes.size, {.features = kernels.features()}, program);
  if (status != Status::kOk) {
    stop(program_path, status_text(status));
  }
  const Block block = allocate(program.arena_bytes());
  uint8_t* const arena = block.get();
  const PackSize size = pack_size(program, kernels);  // weights in the tables' own order
  const Block packed = allocate(size.packed_bytes);
  const Block scratch = allocate(size.scratch_bytes);
  pack(program, kernels, packed.get());
  kernels.packed = packed.get();
  kernels.scratch = scratch.get();
  if (info || (input_path == nullptr && runs == 0)) {
    print_info(program);
  }
  if (input_path != nullptr) {
    run_samples(program, kernels, arena, input_path, real);
  }
  if (runs > 0) {
    measure(program, kernels, arena, runs);
  }
  return 0;
}
