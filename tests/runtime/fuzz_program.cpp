// libFuzzer target: loads a program from anyone and, if it loads, runs one inference.
//
// Build with clang, -fsanitize=fuzzer,address,undefined and -DFUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION,
// which compiles the comparison of checksums out.
//
//   fuzz_program -max_len=16384 -mutate_depth=1 -rss_limit_mb=512 -malloc_limit_mb=64 -timeout=5 CORPUS
//
// Needs no seeds: mutations start from random valid programs made here, and mostly change
// one word of a record or constant, since blind mutation rarely gets past the layout.
// Properties: what loads runs inside its arena, which has exactly the promised size, and an
// integer-only program gives the same bytes in binary32 and with integers alone. At the
// end it prints how often ops of each kind ran.
//
// An execution should take microseconds, so programs, their arenas and the work they may
// ask for are small, and the programs to start from are made once.

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>

#include "kernels/f32/table.h"
#include "runtime/hosted/names.h"
#include "tests/runtime/damage.h"
#include "tests/runtime/net.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace whittle {

namespace {

using runtime::OpKind;
using runtime::OpRecord;
using runtime::Program;
using runtime::Status;
using runtime::Type;

constexpr uint64_t kMaxArena = 1 << 14;
constexpr uint64_t kMaxWork = 1 << 14;  // products of one inference
constexpr unsigned kSeeds = 1024;

struct Runs {
  std::array<uint64_t, runtime::kOpKinds> of_kind{};
  uint64_t loaded = 0;
  uint64_t tried = 0;
  ~Runs() {
    std::fprintf(stderr, "programs: %llu of %llu loaded and ran. Ops in them:", static_cast<unsigned long long>(loaded),
                 static_cast<unsigned long long>(tried));
    for (uint32_t kind = 1; kind < runtime::kOpKinds; ++kind) {
      std::fprintf(stderr, " %s %llu", name_of(static_cast<OpKind>(kind)),
                   static_cast<unsigned long long>(of_kind[kind]));
    }
    std::fprintf(stderr, "\n");
  }
};
Runs runs;

void expect(bool condition) {
  if (!condition) {
    std::abort();
  }
}

// ---- Seeds ----------------------------------------------------------------------------

// Float ops that random_net() has none of.
Net float_net(const RngKey& key) {
  Net net(key);
  const NetValue x = net.input({1, 4, 4, 2}, Type::kF32);
  const auto floats = [&](uint32_t count) { return net.numbers(Type::kF32, std::vector<float>(count, 0.25f)); };
  const auto limited = [](runtime::OpSpec op) {
    op.lo = runtime::bits_of(0.0f);
    op.hi = runtime::bits_of(6.0f);
    return op;
  };
  runtime::OpSpec op = limited({.kind = OpKind::kConv,
                                .groups = 1,
                                .kernel = {3, 3},
                                .stride = {1, 1},
                                .dilation = {1, 1},
                                .padding = {1, 1, 1, 1}});
  const int64_t form = net.draw.in(0, 3);
  if (form == 0) {
    const std::vector<float> w(36, 0.5f);
    op.weights = net.spec.add_constant<float>("w", Type::kF32, {2, 3, 3, 2}, std::span(w));
  } else if (form == 1) {
    const std::vector<uint16_t> w(36, 0x3800);
    op.weights = net.spec.add_constant<uint16_t>("w", Type::kF16, {2, 3, 3, 2}, std::span(w));
  } else {
    const std::vector<int8_t> w(36, std::array<int8_t, 3>{64, 5, 1}[static_cast<size_t>(net.draw.in(0, 2))]);
    op.weights = net.spec.add_weights("w", {2, 3, 3, 2}, w);
    op.multipliers = floats(2);
    if (form == 3) {
      op.scratch = net.value("scratch", {4, 4, 2}, Type::kS8, {1.0f, 0, -128, 127}).id;
    }
  }
  op.bias = floats(2);
  const NetValue a = net.add(op, {x}, net.value("a", {1, 4, 4, 2}, Type::kF32, {}));
  const NetValue b = net.add(limited({.kind = OpKind::kAdd}), {a, x}, net.value("b", {1, 4, 4, 2}, Type::kF32, {}));
  const NetValue c =
      net.add({.kind = OpKind::kActivation, .parameters = {static_cast<uint32_t>(net.draw.in(0, 6)), 0x3f000000}}, {b},
              net.value("c", {1, 4, 4, 2}, Type::kF32, {}));
  const NetValue d = net.add(
      limited(
          {.kind = net.draw.once_in(2) ? OpKind::kMaxPool : OpKind::kAveragePool, .kernel = {2, 2}, .stride = {2, 2}}),
      {c}, net.value("d", {1, 2, 2, 2}, Type::kF32, {}));
  const NetValue e = net.add({.kind = net.draw.once_in(2) ? OpKind::kSoftmax : OpKind::kLogSoftmax}, {d},
                             net.value("e", {1, 2, 2, 2}, Type::kF32, {}));
  const NetValue f =
      net.add({.kind = OpKind::kQuantize}, {e}, net.value("f", {1, 2, 2, 2}, Type::kS8, net.draw_grid(Type::kS8)));
  net.output(net.add({.kind = OpKind::kDequantize}, {f}, net.value("g", {1, 2, 2, 2}, Type::kF32, {})));
  return net;
}

Bytes make_seed(unsigned choice) {
  const RngKey key = RngKey{.seed = 77}.child(uint64_t{choice / 4});
  Net net = choice % 16 == 0  ? small_net(key, std::array{127, 7, 1}[choice / 16 % 3])
            : choice % 4 == 1 ? float_net(key)
                              : random_net(key, choice % 4 == 2 ? Type::kS16 : Type::kS8, 3);
  return net.finish(choice % 3 != 0);
}

const Bytes& seed_file(unsigned choice) {
  static std::array<Bytes, kSeeds> files;
  Bytes& file = files[choice % kSeeds];
  if (file.empty()) {
    file = make_seed(choice % kSeeds);
  }
  return file;
}

// ---- Mutation -------------------------------------------------------------------------

// Fields whose change many a program survives: of values scale, zero-point and limits, of ops limits and parameters.
constexpr std::array<size_t, 4> kValueNumbers{
    offsetof(runtime::ValueRecord, scale), offsetof(runtime::ValueRecord, zero_point),
    offsetof(runtime::ValueRecord, qmin), offsetof(runtime::ValueRecord, qmax)};
constexpr std::array<size_t, 4> kOpNumbers{offsetof(OpRecord, lo), offsetof(OpRecord, hi),
                                           offsetof(OpRecord, parameters), offsetof(OpRecord, parameters) + 4};

void mutate_word(uint8_t* data, size_t size, Draw& draw) {
  const auto header = runtime::read<runtime::FileHeader>(data);
  const auto number = static_cast<size_t>(draw.in(0, 3));  // values, ops, lists, constants
  const runtime::Section& section = header.sections[number];
  if (section.bytes < 4 || section.offset > size || section.bytes > size - section.offset) {
    return;
  }
  const auto anywhere = [&](uint64_t step) {
    return static_cast<uint64_t>(draw.in(0, static_cast<int64_t>(section.bytes / step) - 1)) * step;
  };
  uint64_t at = anywhere(4);
  const uint64_t record = number == runtime::kValues ? sizeof(runtime::ValueRecord) : sizeof(OpRecord);
  if (number <= runtime::kOps && section.bytes >= record && draw.once_in(2)) {
    const auto& fields = number == runtime::kValues ? kValueNumbers : kOpNumbers;
    at = anywhere(record) + fields[static_cast<size_t>(draw.in(0, 3))];
  }
  uint8_t* word = data + section.offset + at;
  const auto old = runtime::read<uint32_t>(word);
  const std::array<uint32_t, 16> words{0,       1,       2,       3,          7,        16,       old + 1, old - 1,
                                       old * 2, old / 2, old ^ 1, 0x7fffffff, old + 16, old - 16, 0 - old, 0xffffffff};
  const auto changed =
      draw.once_in(8) ? static_cast<uint32_t>(draw.in(0, 0xffffffff)) : words[static_cast<size_t>(draw.in(0, 15))];
  std::memcpy(word, &changed, sizeof changed);
}

// ---- The test -------------------------------------------------------------------------

uint64_t work_of(const Program& p) {
  uint64_t work = 0;
  for (uint32_t i = 0; i < p.op_count(); ++i) {
    const OpRecord op = p.op(i);
    const uint64_t out = elements(p.value(op.output));
    uint64_t each = 1;
    if (op.weights != runtime::kNone) {
      const runtime::ValueRecord w = p.value(op.weights);
      each = elements(w) / w.dims[0];
    } else if (op.kernel[0] != 0) {
      each = uint64_t{op.kernel[0]} * op.kernel[1];
    }
    work += out * each;
  }
  return work;
}

struct AlignedDelete {
  void operator()(uint8_t* block) const { ::operator delete (block, std::align_val_t{64}); }
};
using Block = std::unique_ptr<uint8_t, AlignedDelete>;
Block make_block(uint64_t bytes) { return Block(static_cast<uint8_t*>(::operator new (bytes, std::align_val_t{64}))); }

Bytes outputs_of(const Program& p, const runtime::Kernels& kernels) {
  const Block arena = make_block(p.arena_bytes());
  uint32_t noise = 1;
  for (uint64_t i = 0; i < p.arena_bytes(); i += sizeof noise) {  // a multiple of 16
    noise = noise * 1664525 + 1013904223;
    std::memcpy(arena.get() + i, &noise, sizeof noise);
  }
  expect(run(p, kernels, arena.get(), p.arena_bytes()) == Status::kOk);
  Bytes outputs;
  for (uint32_t i = 0; i < p.output_count(); ++i) {
    const uint8_t* data = p.data(p.output(i), arena.get());
    outputs.insert(outputs.end(), data, data + runtime::bytes_of(p.value(p.output(i))));
  }
  return outputs;
}

void check(const uint8_t* data, size_t size) {
  ++runs.tried;
  const Block bytes = make_block(size);  // its exact size, so that reading past its end is seen
  std::memcpy(bytes.get(), data, size);
  Program p;
  if (load(bytes.get(), size, {.max_arena_bytes = kMaxArena}, p) != Status::kOk || work_of(p) > kMaxWork) {
    return;
  }
  ++runs.loaded;
  for (uint32_t i = 0; i < p.op_count(); ++i) {
    ++runs.of_kind[static_cast<uint32_t>(p.op(i).kind)];
  }
  const Bytes first = outputs_of(p, {.int8 = &kernels::kInt8Reference, .f32 = &kernels::kF32Reference});
  const Bytes second = outputs_of(p, {.int8 = &kernels::kInt8Integer, .f32 = &kernels::kF32Reference});
  expect((p.features() & runtime::kFloat32) != 0 || first == second);
}

}  // namespace

}  // namespace whittle

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  using namespace whittle;  // NOLINT(google-build-using-namespace): a function of C
  if (seed % 8 == 0 || size < sizeof(runtime::FileHeader)) {
    const Bytes& file = seed_file(seed / 8);
    if (file.size() <= max_size) {
      std::memcpy(data, file.data(), file.size());
      size = file.size();
    }
  }
  if (seed % 16 == 1 || size < sizeof(runtime::FileHeader)) {
    return LLVMFuzzerMutate(data, size, max_size);
  }
  Draw draw(RngKey{.seed = seed});
  for (int64_t i = draw.in(1, 2); i > 0; --i) {
    mutate_word(data, size, draw);
  }
  return size;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  whittle::check(data, size);
  return 0;
}
