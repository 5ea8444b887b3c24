// libFuzzer target: decode_checkpoint() on bytes from anyone.
//
// Build with clang, -fsanitize=fuzzer,address,undefined and, for the library
// too, -DFUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION: it compiles the comparison of
// checksums out, so that the fuzzer reaches what stands behind it.
//
//   fuzz_checkpoint -max_len=4096 -rss_limit_mb=512 -malloc_limit_mb=64 -timeout=5 CORPUS
//
// Needs no seeds: half of the mutations start from a valid file made here.
// Properties: the input is refused with an Error, or what it decodes to encodes
// and decodes to itself, converts to tensors, and fits in a multiple of the input.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "core/checkpoint.h"
#include "core/error.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace whittle {

namespace {

void expect(bool condition) {
  if (!condition) {
    std::abort();
  }
}

// A valid file of a few tensors, chosen by the bits of `choice`.
std::vector<std::byte> seed_file(unsigned choice) {
  Checkpoint checkpoint;
  for (unsigned i = 0; i < choice % 4; ++i) {
    const auto dtype = static_cast<Dtype>((choice / 4 + i) % 10);
    const Shape shape = i == 0 ? Shape{} : i == 1 ? Shape{3} : Shape{1, 2, 1, 2};
    const auto size = static_cast<size_t>(shape.elements() * dtype_bytes(dtype));
    checkpoint.tensors[std::string("t") + static_cast<char>('0' + i)] = {
        .dtype = dtype, .shape = shape, .bytes = std::vector<std::byte>(size, std::byte{1})};
  }
  if ((choice & 1) != 0) {
    checkpoint.metadata["key"] = "a \"quoted\" \\ \xc3\xa9\n";
  }
  std::vector<std::byte> file = encode_checkpoint(checkpoint);
  if ((choice & 2) != 0) {  // as foreign: without our metadata, which names no tensor then
    const std::string_view text(reinterpret_cast<const char*>(file.data()) + 8, file.size() - 8);
    const size_t end = text.find("},");
    const uint64_t length = end == text.npos ? 2 : text.rfind("}}") + 2 - (end + 2) + 1;
    std::string foreign(8, '\0');
    std::memcpy(foreign.data(), &length, 8);
    foreign += '{';
    foreign += end == text.npos ? std::string_view("}") : text.substr(end + 2, length - 1);
    for (const auto& [name, stored] : checkpoint.tensors) {
      foreign.append(stored.bytes.size(), '\1');
    }
    const auto bytes = std::as_bytes(std::span(foreign));
    file.assign(bytes.begin(), bytes.end());
  }
  return file;
}

// Keeps the header length in step with the text, which blind mutation would not.
void fix_length(uint8_t* data, size_t size) {
  if (size < 8) {
    return;
  }
  size_t depth = 0;
  for (size_t i = 8; i < size; ++i) {
    depth += data[i] == '{' ? 1 : 0;
    depth -= data[i] == '}' && depth > 0 ? 1 : 0;
    if (depth == 0) {
      const uint64_t length = i + 1 - 8;
      std::memcpy(data, &length, 8);
      return;
    }
  }
}

void check(std::span<const std::byte> bytes, const LoadOptions& options) {
  Checkpoint checkpoint;
  try {
    checkpoint = decode_checkpoint(bytes, "input", options);
  } catch (const Error& error) {
    expect(std::string_view(error.what()).starts_with("[checkpoint] input: "));
    return;
  }
  size_t data = 0;
  for (const auto& [name, stored] : checkpoint.tensors) {
    data += stored.bytes.size();
    const Tensor tensor = stored.to_tensor();
    expect(tensor.shape() == stored.shape);
    expect(&checkpoint.at(name) == &stored);
  }
  expect(data <= bytes.size());
  const std::vector<std::byte> encoded = encode_checkpoint(checkpoint);
  expect(decode_checkpoint(encoded, "encoded") == checkpoint);
}

}  // namespace

}  // namespace whittle

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  if (seed % 8 == 0) {
    const std::vector<std::byte> file = whittle::seed_file(seed / 8);
    if (file.size() <= max_size) {
      std::memcpy(data, file.data(), file.size());
      size = file.size();
    }
  }
  size = LLVMFuzzerMutate(data, size, max_size);
  if (seed % 3 != 0) {
    whittle::fix_length(data, size);
  }
  return size;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  whittle::check(bytes, {});
  whittle::check(bytes, {.allow_foreign = true});
  return 0;
}
