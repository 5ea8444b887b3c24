// Checkpoints: what is written comes back; what is damaged or hostile does not.

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <locale>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include "core/checkpoint.h"
#include "core/crc.h"
#include "core/json.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "tests/support/message.h"
#include "tests/support/seed.h"
#include "tests/support/temp_folder.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__OPTIMIZE__)
#define WHITTLE_SLOW_BUILD 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define WHITTLE_SLOW_BUILD 1
#endif
#endif

namespace whittle {

namespace {

namespace fs = std::filesystem;
using Bytes = std::vector<std::byte>;

// Every bit of a file this size is flipped. Under a sanitizer or without
// optimisation, where that would take minutes, of a smaller one.
#ifdef WHITTLE_SLOW_BUILD
constexpr size_t kFlippedFile = 6'000;
#else
constexpr size_t kFlippedFile = 100'000;
#endif

constexpr LoadOptions kForeign = {.allow_foreign = true};
constexpr std::string_view kPrefix = R"({"__metadata__":{"whittle.crc":")";

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::string decode_message(std::span<const std::byte> bytes, const LoadOptions& options = {}) {
  return message_of([&] { return decode_checkpoint(bytes, "m.safetensors", options); });
}

Bytes bytes_of(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

// A file with this header and `data` bytes of zeros, whatever they are worth.
Bytes raw_file(const std::string& header, size_t data = 0) {
  Bytes file(8);
  const uint64_t length = header.size();
  std::memcpy(file.data(), &length, 8);
  const Bytes text = bytes_of(header);
  file.insert(file.end(), text.begin(), text.end());
  file.resize(file.size() + data);
  return file;
}

// The same with a right header checksum: what someone who means harm would send.
// `metadata` and `entries` are JSON, each beginning with a comma or empty.
Bytes sealed_file(const std::string& metadata, const std::string& entries, size_t data = 0) {
  Bytes file = raw_file(std::string(kPrefix) + "00000000\"" + metadata + '}' + entries + '}', data);
  char digits[9];
  std::snprintf(digits, sizeof digits, "%08x", crc32c(std::span(file).first(file.size() - data)));
  std::memcpy(file.data() + 8 + kPrefix.size(), digits, 8);
  return file;
}

std::string random_text(Rng& rng, bool name) {
  static const std::vector<std::string> kPieces = {"conv1",
                                                   ".weight",
                                                   "/mask",
                                                   "\"",
                                                   "\\",
                                                   "\xc3\xa9",
                                                   "\xe6\x9c\xa8",
                                                   "\xf0\x9f\xaa\xb5",
                                                   " ",
                                                   "whittle.crc",
                                                   ":",
                                                   "{",
                                                   "}",
                                                   ",",
                                                   "0",
                                                   "'",
                                                   "__metadata__x",
                                                   "\\\"",
                                                   "\\u0000",
                                                   "[",
                                                   "]",
                                                   "\xe2\x80\xa8",
                                                   "a",
                                                   "Z",
                                                   "~",
                                                   "/",
                                                   "null",
                                                   R"("whittle.crc":"00000000")",
                                                   R"({"__metadata__":{"whittle.crc":"00000000")"};
  static const std::vector<std::string> kUnnameable = {"\n", "\t", std::string(1, '\0'), "\x1b[2J", "\x7f", "\xc2\x85"};
  std::string text;
  const int64_t pieces = rng.between(name ? 1 : 0, 6);
  for (int64_t i = 0; i < pieces; ++i) {
    const bool odd = !name && rng.below(4) == 0;
    const auto& from = odd ? kUnnameable : kPieces;
    text += from[static_cast<size_t>(rng.below(static_cast<int64_t>(from.size())))];
  }
  return text;
}

StoredTensor random_tensor(Rng& rng, Dtype dtype, const Shape& shape) {
  StoredTensor stored{.dtype = dtype, .shape = shape, .bytes = {}};
  stored.bytes.resize(static_cast<size_t>(shape.elements() * dtype_bytes(dtype)));
  for (std::byte& byte : stored.bytes) {
    byte = static_cast<std::byte>(rng.bits());
  }
  return stored;
}

Checkpoint random_checkpoint(Rng& rng) {
  Checkpoint checkpoint;
  const int64_t tensors = rng.between(0, 40);
  for (int64_t i = 0; i < tensors; ++i) {
    std::vector<int64_t> dims(static_cast<size_t>(rng.between(0, Shape::kMaxRank)));
    for (int64_t& dim : dims) {
      dim = rng.between(1, dims.size() > 4 ? 2 : 5);
    }
    const auto dtype = static_cast<Dtype>(rng.below(10));
    checkpoint.tensors[random_text(rng, true)] = random_tensor(rng, dtype, Shape(std::span<const int64_t>(dims)));
  }
  const int64_t texts = rng.between(0, 10);
  for (int64_t i = 0; i < texts; ++i) {
    const std::string key = random_text(rng, false);
    if (!reserved_metadata(key)) {
      checkpoint.metadata[key] = random_text(rng, false);
    }
  }
  return checkpoint;
}

// About `bytes` long, with tensors of several sizes and a header worth damaging.
Checkpoint typical_checkpoint(Rng& rng, size_t bytes) {
  Checkpoint checkpoint;
  checkpoint.metadata = {{"model", R"({"kind":"resnet","width":16})"}, {"note", R"(a "quoted" \ text)"}};
  const auto unit = static_cast<int64_t>(bytes / 100);
  checkpoint.tensors["conv1.weight"] = random_tensor(rng, Dtype::kF32, {unit, 3, 3});
  checkpoint.tensors["conv1.weight/mask"] = random_tensor(rng, Dtype::kU8, {unit, 3, 3});
  checkpoint.tensors["conv2.weight"] = random_tensor(rng, Dtype::kF16, {unit, 19});
  checkpoint.tensors["optimizer/step"] = random_tensor(rng, Dtype::kI64, {});
  checkpoint.tensors["head.bias"] = random_tensor(rng, Dtype::kF64, {unit * 2});
  return checkpoint;
}

// Flips every bit, loads with and without allow_foreign, and returns what went
// wrong first ("" if nothing). Where the header is intact only the more tolerant
// load is tried: it takes the same path.
std::string flip_every_bit(const Bytes& file) {
  uint64_t length = 0;
  std::memcpy(&length, file.data(), 8);
  const size_t data_at = 8 + length;
  const int64_t tiles = 512;
  std::vector<std::string> wrong(static_cast<size_t>(tiles));
  parallel_for(tiles, [&](int64_t tile) {
    Bytes damaged = file;
    const size_t begin = file.size() * static_cast<size_t>(tile) / tiles;
    const size_t end = file.size() * static_cast<size_t>(tile + 1) / tiles;
    for (size_t at = begin; at < end; ++at) {
      for (int bit = 0; bit < 8; ++bit) {
        damaged[at] ^= static_cast<std::byte>(1 << bit);
        for (const bool foreign : {true, false}) {
          if (at >= data_at && !foreign) {
            continue;
          }
          const std::string message = decode_message(damaged, {.allow_foreign = foreign});
          const bool named = message.starts_with("[checkpoint] m.safetensors: ");
          const bool placed = at < data_at || contains(message, ": checksum differs, stored 0x");
          if (!named || !placed) {
            wrong[static_cast<size_t>(tile)] = "bit " + std::to_string(bit) + " of byte " + std::to_string(at) +
                                               (foreign ? " (foreign)" : "") + ": " + message;
          }
        }
        damaged[at] ^= static_cast<std::byte>(1 << bit);
      }
    }
  });
  return std::accumulate(
      wrong.begin(), wrong.end(), std::string(),
      [](const std::string& first, const std::string& next) { return first.empty() ? next : first; });
}

double seconds_of(const auto& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

TEST_SUITE("checkpoint") {
  TEST_CASE("the file of docs/checkpoint.md, byte for byte") {
    Checkpoint checkpoint;
    checkpoint.metadata["epoch"] = "3";
    checkpoint.tensors["bias"] = StoredTensor::from({2}, std::vector<uint8_t>{1, 2});
    checkpoint.tensors["step"] = StoredTensor::from({}, std::vector<int64_t>{1000});
    const std::string header = R"({"__metadata__":{"whittle.crc":"de14fec6","epoch":"3","whittle.crc.bias":"03f89f52",)"
                               R"("whittle.crc.step":"5517fbc7","whittle.format":"1"},)"
                               R"("bias":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                               R"("step":{"dtype":"I64","shape":[],"data_offsets":[2,10]}})";
    std::string expected = std::string("\xf8\0\0\0\0\0\0\0", 8) + header;
    expected.resize(8 + 0xf8, ' ');
    expected += std::string("\x01\x02\xe8\x03\0\0\0\0\0\0", 10);
    const Bytes file = encode_checkpoint(checkpoint);
    CHECK(std::string(reinterpret_cast<const char*>(file.data()), file.size()) == expected);
    CHECK(decode_checkpoint(bytes_of(expected), "golden") == checkpoint);
  }

  TEST_CASE("what is encoded decodes to the same, bytes and names") {
    CAPTURE(test_seed());
    Rng rng(RngKey{.seed = test_seed()}.child("round trip"));
    for (int round = 0; round < 300; ++round) {
      CAPTURE(round);
      const Checkpoint checkpoint = random_checkpoint(rng);
      const Bytes file = encode_checkpoint(checkpoint);
      uint64_t length = 0;
      std::memcpy(&length, file.data(), 8);
      CHECK((8 + length) % 64 == 0);
      const Checkpoint decoded = decode_checkpoint(file, "round trip");
      CHECK(decoded == checkpoint);
      CHECK(encode_checkpoint(decoded) == file);  // one content, one file
    }
  }

  TEST_CASE("every flipped bit, every truncation and every appended byte is refused") {
    CAPTURE(test_seed());
    Rng rng(RngKey{.seed = test_seed()}.child("damage"));
    Bytes file = encode_checkpoint(typical_checkpoint(rng, kFlippedFile));
    REQUIRE(decode_message(file) == "no error");

    std::string wrong;
    const double seconds = seconds_of([&] { wrong = flip_every_bit(file); });
    CHECK(wrong == "");
    MESSAGE("flipped the " << file.size() * 8 << " bits of a file in " << seconds << " s");

    std::vector<std::string> short_messages(file.size());
    parallel_for(static_cast<int64_t>(file.size()), [&](int64_t size) {
      for (const bool foreign : {true, false}) {
        const std::string message =
            decode_message(std::span(file).first(static_cast<size_t>(size)), {.allow_foreign = foreign});
        const std::string phrase = "m.safetensors: the file ends after " + std::to_string(size) + " bytes, ";
        if (!contains(message, phrase)) {
          short_messages[static_cast<size_t>(size)] = message;
        }
      }
    });
    CHECK(std::all_of(short_messages.begin(), short_messages.end(), [](const auto& text) { return text.empty(); }));

    for (const size_t more : std::vector<size_t>{1, 2, 63, 64, 4096}) {
      for (const int byte : {0, 0x20, 0xff}) {
        Bytes longer = file;
        longer.resize(file.size() + more, static_cast<std::byte>(byte));
        CHECK(contains(decode_message(longer), std::to_string(more) + " bytes follow the last tensor"));
      }
    }
  }

  TEST_CASE("every flipped bit is refused in files chosen to confuse") {
    std::vector<Checkpoint> checkpoints(6);
    checkpoints[1].metadata["whittle.cr"] = "x";
    checkpoints[1].metadata["whittle.crb"] = "6ff5b2f2";  // one bit from the reserved key
    checkpoints[2].metadata[R"(x"whittle.crc)"] = "00000000";
    checkpoints[2].metadata["y"] = R"({"__metadata__":{"whittle.crc":"00000000")";
    checkpoints[3].tensors["whittle.crc"] = StoredTensor::from({64}, std::vector<uint8_t>(64, 0x20));
    checkpoints[4].tensors["a"] = StoredTensor::from({3}, std::vector<uint8_t>{0, 0, 0});
    checkpoints[4].tensors["b"] = StoredTensor::from({3}, std::vector<uint8_t>{0, 0, 0});
    checkpoints[4].tensors["__metadata_"] = StoredTensor::from({1}, std::vector<uint8_t>{0});
    // Data that continues the header as JSON would: spaces, and closing braces.
    checkpoints[5].tensors["spaces"] = StoredTensor::from({4096}, std::vector<uint8_t>(4096, 0x20));
    for (const Checkpoint& checkpoint : checkpoints) {
      const Bytes file = encode_checkpoint(checkpoint);
      CHECK(decode_checkpoint(file, "m.safetensors") == checkpoint);
      CHECK(flip_every_bit(file) == "");
    }
  }

  TEST_CASE("errors name the place") {
    Rng rng(1);
    const Bytes file = encode_checkpoint(typical_checkpoint(rng, 10'000));
    Bytes damaged = file;
    damaged[file.size() - 1] ^= std::byte{1};  // the last tensor by name is the I64 scalar
    const std::string where = " (bytes " + std::to_string(file.size() - 8) + "-" + std::to_string(file.size()) + ")";
    CHECK(contains(decode_message(damaged), "tensor 'optimizer/step'" + where + ": checksum differs, stored 0x"));
    damaged = file;
    damaged[100] ^= std::byte{1};
    CHECK(contains(decode_message(damaged), "m.safetensors: header (bytes 0-"));
    CHECK(contains(decode_message(damaged), "): checksum differs, stored 0x"));
    damaged = file;
    std::transform(damaged.begin() + 39, damaged.begin() + 47, damaged.begin() + 39,
                   [](std::byte b) { return static_cast<std::byte>(std::toupper(static_cast<int>(b))); });
    REQUIRE(damaged != file);
    CHECK(contains(decode_message(damaged), "the header checksum is not 8 lowercase hexadecimal digits"));
    CHECK(contains(decode_message(raw_file("{}")), "there are no checksums"));
    CHECK(decode_message(raw_file("{}"), kForeign) == "no error");
  }

  TEST_CASE("hostile headers are refused, each for its reason") {
    const std::string ok = R"("data_offsets":[0,4]})";
    const auto one = [](const std::string& dtype, const std::string& shape, const std::string& offsets) {
      return R"({"t":{"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
    };
    const auto two = [](const std::string& a, const std::string& b) {
      return R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)" + a +
             R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)" + b + "}}";
    };
    struct Case {
      std::string header;
      size_t data;
      std::string phrase;
    };
    const std::string bomb(1'000'000, '[');
    const std::vector<Case> cases = {
        // Not the JSON of a header at all.
        {"", 0, "does not begin with '{'"},
        {" {}", 0, "does not begin with '{'"},
        {"[]", 0, "does not begin with '{'"},
        {"\"a\"", 0, "does not begin with '{'"},
        {"{", 0, "not valid JSON near file byte"},
        {"{}x", 0, "not valid JSON"},
        {"{}{}", 0, "not valid JSON"},
        {"{},", 0, "not valid JSON"},
        {"{/**/}", 0, "not valid JSON"},
        {"{'a':1}", 0, "not valid JSON"},
        {"{\"a\":{},}", 0, "tensor 'a' has no 'dtype'"},
        {std::string("{}\0", 3), 0, "holds a zero byte"},
        {std::string("{}\0{\"a\":1}", 10), 0, "holds a zero byte"},
        {"{\"\xff\":{}}", 0, "not valid JSON"},
        {"{\"\xc0\x80\":{}}", 0, "not valid JSON"},      // overlong
        {"{\"\xed\xa0\x80\":{}}", 0, "not valid JSON"},  // a surrogate
        {R"({"\ud800":{}})", 0, "not valid JSON"},
        {"{\"a\nb\":{}}", 0, "not valid JSON"},
        // Nesting.
        {"{\"a\":" + bomb, 0, "tensor 'a' is not a JSON object"},
        {R"({"a":{"shape":)" + bomb, 0, "tensor 'a' has a shape that is not a list"},
        {R"({"__metadata__":{"a":)" + bomb, 0, "metadata 'a' is not a string"},
        {R"({"a":{"dtype":{"x":1}}})", 0, "dtype that is not a string"},
        {R"({"a":{"shape":{"x":1}}})", 0, "shape that is not a list"},
        {R"({"a":{"x":{"x":1}}})", 0, "has the unknown field 'x'"},
        // Things of the wrong kind.
        {R"({"a":null})", 0, "tensor 'a' is not a JSON object"},
        {R"({"a":true})", 0, "tensor 'a' is not a JSON object"},
        {R"({"a":"F32"})", 0, "tensor 'a' is not a JSON object"},
        {R"({"a":1})", 0, "tensor 'a' is not a JSON object"},
        {R"({"a":-1})", 0, "tensor 'a' is not a JSON object"},
        {R"({"a":1.5})", 0, "tensor 'a' is not a JSON object"},
        {R"({"__metadata__":[]})", 0, "entry '__metadata__' is not a JSON object"},
        {R"({"__metadata__":null})", 0, "entry '__metadata__' is not a JSON object"},
        {R"({"__metadata__":{"a":1}})", 0, "metadata 'a' is not a string"},
        {R"({"__metadata__":{"a":null}})", 0, "metadata 'a' is not a string"},
        {R"({"__metadata__":{"a":false}})", 0, "metadata 'a' is not a string"},
        {R"({"__metadata__":{"a":{}}})", 0, "metadata 'a' is not a string"},
        {R"({"__metadata__":{"a":[]}})", 0, "metadata 'a' is not a string"},
        {R"({"__metadata__":{"a":-1}})", 0, "metadata 'a' is not a string"},
        {R"({"__metadata__":{"a":1e9}})", 0, "metadata 'a' is not a string"},
        // Duplicates: a careless reader keeps the first or the last, in silence.
        {R"({"__metadata__":{},"__metadata__":{}})", 0, "entry '__metadata__' appears twice"},
        {R"({"__metadata__":{"a":"1","\u0061":"2"}})", 0, "metadata has 'a' twice"},
        {two("[0,4]", "[4,8]").replace(two("[0,4]", "[4,8]").find("\"b\""), 3, "\"a\""), 8, "tensor 'a' appears twice"},
        {R"({"t":{"dtype":"U8","dtype":"F32","shape":[4],)" + ok + "}", 4, "tensor 't' has 'dtype' twice"},
        {R"({"t":{"dtype":"U8","shape":[4],"shape":[4],)" + ok + "}", 4, "tensor 't' has 'shape' twice"},
        {R"({"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4],)" + ok + "}", 4, "has 'data_offsets' twice"},
        // Names.
        {R"({"":{"dtype":"U8","shape":[4],)" + ok + "}", 4, "an empty name or one with control characters"},
        {R"({"a\nb":{"dtype":"U8","shape":[4],)" + ok + "}", 4, "tensor 'a?b' has an empty name or one with control"},
        {R"({"\u0000":{"dtype":"U8","shape":[4],)" + ok + "}", 4, "control characters"},
        {R"({"\u009b2J":{"dtype":"U8","shape":[4],)" + ok + "}", 4, "control characters"},
        // Missing and unknown fields.
        {R"({"t":{}})", 0, "tensor 't' has no 'dtype'"},
        {R"({"t":{"shape":[4],)" + ok + "}", 4, "tensor 't' has no 'dtype'"},
        {R"({"t":{"dtype":"U8",)" + ok + "}", 4, "tensor 't' has no 'shape'"},
        {R"({"t":{"dtype":"U8","shape":[4]}})", 4, "tensor 't' has no 'data_offsets'"},
        {R"({"t":{"dtype":"U8","shape":[4],"strides":[1],)" + ok + "}", 4,
         "tensor 't' has the unknown field 'strides'"},
        {R"({"t":{"dtype":"U8","shape":[4],"":0,)" + ok + "}", 4, "tensor 't' has the unknown field ''"},
        {R"({"t":{"DTYPE":"U8","shape":[4],)" + ok + "}", 4, "tensor 't' has the unknown field 'DTYPE'"},
        // dtype.
        {one("\"U16\"", "[2]", "[0,4]"), 4, "tensor 't' has the unsupported dtype 'U16'"},
        {one("\"f32\"", "[1]", "[0,4]"), 4, "tensor 't' has the unsupported dtype 'f32'"},
        {one("\"\"", "[1]", "[0,4]"), 4, "tensor 't' has the unsupported dtype ''"},
        {one("5", "[1]", "[0,4]"), 4, "tensor 't' has a dtype that is not a string"},
        {one("null", "[1]", "[0,4]"), 4, "tensor 't' has a dtype that is not a string"},
        {one("[\"F32\"]", "[1]", "[0,4]"), 4, "tensor 't' has a dtype that is not a string"},
        // Shapes, with the products that wrapped in other programs.
        {one("\"U8\"", "4", "[0,4]"), 4, "tensor 't' has a shape that is not a list of positive integers"},
        {one("\"U8\"", "\"4\"", "[0,4]"), 4, "shape that is not a list of positive integers"},
        {one("\"U8\"", "[\"4\"]", "[0,4]"), 4, "shape that is not a list of positive integers"},
        {one("\"U8\"", "[[4]]", "[0,4]"), 4, "shape that is not a list of positive integers"},
        {one("\"U8\"", "[-4]", "[0,4]"), 4, "shape that is not a list of positive integers"},
        {one("\"U8\"", "[-0]", "[0,0]"), 0, "shape that is not a list of positive integers"},
        {one("\"U8\"", "[4.0]", "[0,4]"), 4, "shape that is not a list of positive integers"},
        {one("\"U8\"", "[4e0]", "[0,4]"), 4, "shape that is not a list of positive integers"},
        {one("\"U8\"", "[null]", "[0,4]"), 4, "shape that is not a list of positive integers"},
        {one("\"U8\"", "[18446744073709551616]", "[0,4]"), 4, "shape that is not a list of positive integers"},
        {one("\"U8\"", "[0]", "[0,0]"), 0, "a dimension of 0"},
        {one("\"U8\"", "[0,4]", "[0,4]"), 4, "a dimension of 0"},
        {one("\"U8\"", "[18446744073709551615]", "[0,4]"), 4, "more than 2^48 elements"},
        {one("\"U8\"", "[4294967296,4294967296]", "[0,0]"), 0, "more than 2^48 elements"},
        {one("\"U8\"", "[4398046511105,4194304]", "[0,4194304]"), 64, "more than 2^48 elements"},
        {one("\"U8\"", "[281474976710656,65536,4]", "[0,4]"), 4, "more than 2^48 elements"},
        {one("\"U8\"", "[65537,65536]", "[0,65536]"), 65536, "but U8 [65537,65536] needs 4295032832"},
        {one("\"F64\"", "[281474976710656]", "[0,0]"), 0, "needs 2251799813685248"},
        {one("\"U8\"", "[1,1,1,1,1,1,1,1,4]", "[0,4]"), 4, "rank above the limit of 8"},
        // Offsets.
        {one("\"U8\"", "[4]", "4"), 4, "data_offsets that are not two non-negative integers"},
        {one("\"U8\"", "[4]", "[]"), 4, "data_offsets that are not two non-negative integers"},
        {one("\"U8\"", "[4]", "[4]"), 4, "data_offsets that are not two non-negative integers"},
        {one("\"U8\"", "[4]", "[0,4,4]"), 4, "data_offsets that are not two non-negative integers"},
        {one("\"U8\"", "[4]", "[-1,3]"), 4, "data_offsets that are not two non-negative integers"},
        {one("\"U8\"", "[4]", "[0.0,4.0]"), 4, "data_offsets that are not two non-negative integers"},
        {one("\"U8\"", "[4]", "[0,\"4\"]"), 4, "data_offsets that are not two non-negative integers"},
        {one("\"U8\"", "[4]", "{\"begin\":0}"), 4, "data_offsets that are not two non-negative integers"},
        {one("\"U8\"", "[4]", "[0,[4]]"), 4, "data_offsets that are not two non-negative integers"},
        {one("\"U8\"", "[4]", "[18446744073709551616,18446744073709551620]"), 4, "not two non-negative integers"},
        {one("\"U8\"", "[4]", "[4,0]"), 4, "begins at 4, after its end at 0"},
        {one("\"U8\"", "[4]", "[18446744073709551615,3]"), 4, "begins at 18446744073709551615, after its end at 3"},
        {one("\"U8\"", "[4]", "[0,5]"), 5, "tensor 't' has 5 bytes, but U8 [4] needs 4"},
        {one("\"F32\"", "[4]", "[0,4]"), 4, "tensor 't' has 4 bytes, but F32 [4] needs 16"},
        {one("\"F32\"", "[]", "[0,8]"), 8, "tensor 't' has 8 bytes, but F32 [] needs 4"},
        {one("\"U8\"", "[4]", "[4,8]"), 8, "tensor 't' begins at data byte 4, leaving a hole"},
        {one("\"U8\"", "[4]", "[18446744073709551611,18446744073709551615]"), 4, "leaving a hole"},
        {two("[0,4]", "[2,6]"), 6, "tensor 'b' begins at data byte 2, overlapping the tensor before it"},
        {two("[0,4]", "[0,4]"), 4, "begins at data byte 0, overlapping the tensor before it"},
        {two("[0,4]", "[5,9]"), 9, "tensor 'b' begins at data byte 5, leaving a hole after the tensor before it"},
        {two("[4,8]", "[5,9]"), 9, "tensor 'a' begins at data byte 4, leaving a hole"},
        {two("[0,4]", "[4,8]"), 7, "the file ends after"},
        {two("[0,4]", "[4,8]"), 9, "1 bytes follow the last tensor"},
        {"{}", 1, "1 bytes follow the last tensor"},
        {one("\"U8\"", "[1099511627776]", "[0,1099511627776]"), 4, "the file ends after"},
        // A file that looks like ours and lost its checksum.
        {R"({"__metadata__":{"whittle.crd":"00000000","whittle.format":"1"}})", 0, "damaged, or rewritten by another"},
        {R"({"__metadata__":{"whittle.x":""}})", 0, "metadata 'whittle.x' appears without the header checksum"},
        {R"({"__metadata__":{"a":"","whittle.crc":"00000000"}})", 0,
         "'whittle.crc' appears without the header checksum"},
        {R"({"__metadata__":{"whittle.crc":""}})", 0, "checksum"},
        {std::string(kPrefix) + "0000000", 0, "not valid JSON"},
        {std::string(kPrefix), 0, "not valid JSON"},
    };
    for (const Case& c : cases) {
      const std::string shown = c.header.substr(0, 120);
      const std::string message = decode_message(raw_file(c.header, c.data), kForeign);
      CAPTURE(shown);
      CAPTURE(message);
      CHECK(contains(message, c.phrase));
      CHECK(message.starts_with("[checkpoint] m.safetensors: "));
      CHECK(message.size() < 400);
      CHECK(
          std::none_of(message.begin(), message.end(), [](char ch) { return static_cast<unsigned char>(ch) < 0x20; }));
      CHECK(decode_message(raw_file(c.header, c.data)).starts_with("[checkpoint] m.safetensors: "));
    }
    CHECK(decode_message(raw_file(one("\"U8\"", "[2,2]", "[0,4]"), 4), kForeign) == "no error");
    CHECK(decode_message(raw_file(two("[4,8]", "[0,4]") + " \n\t\r", 8), kForeign) == "no error");
  }

  TEST_CASE("hostile header lengths are refused") {
    for (const uint64_t length : {uint64_t{3}, uint64_t{100}, uint64_t{1} << 24, (uint64_t{1} << 24) + 1,
                                  uint64_t{1} << 32, uint64_t{1} << 63, ~uint64_t{0}, ~uint64_t{0} - 7}) {
      Bytes file = raw_file("{}");
      std::memcpy(file.data(), &length, 8);
      CAPTURE(length);
      const std::string message = decode_message(file, kForeign);
      CHECK(contains(message, length > (1 << 24) ? "is above the limit of 16777216" : "inside a header of"));
    }
    Checkpoint large;
    large.metadata["history"] = std::string(17 << 20, 'x');
    CHECK(contains(message_of([&] { return encode_checkpoint(large); }), "above the limit of 16777216"));
  }

  TEST_CASE("hostile files with right checksums are refused") {
    struct Case {
      std::string metadata;
      std::string entries;
      std::string phrase;
    };
    const std::string t = R"(,"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4]})";
    const std::string format = R"(,"whittle.format":"1")";
    const std::string crc = R"(,"whittle.crc.t":"48674bc7")";
    CHECK(decode_message(sealed_file(crc + format, t, 4)) == "no error");
    const std::vector<Case> cases = {
        {crc, t, "this is format '', and this program reads only '1'"},
        {crc + R"(,"whittle.format":"2")", t, "this is format '2', and this program reads only '1'"},
        {format, t, "tensor 't' has no checksum"},
        {format + R"(,"whittle.crc.t":"48674BC7")", t, "checksum of tensor 't' is not 8 lowercase digits"},
        {format + R"(,"whittle.crc.t":"48674bc")", t, "checksum of tensor 't' is not 8 lowercase digits"},
        {format + R"(,"whittle.crc.t":"048674bc7")", t, "checksum of tensor 't' is not 8 lowercase digits"},
        {format + R"(,"whittle.crc.t":"0x48674b")", t, "checksum of tensor 't' is not 8 lowercase digits"},
        {format + R"(,"whittle.crc.t":"48674bc6")", t, "tensor 't' (bytes "},
        {format + crc + R"(,"whittle.crc.u":"48674bc7")", t, "metadata 'whittle.crc.u' belongs to no tensor"},
        {format + crc + R"(,"whittle.crc.":"48674bc7")", t, "metadata 'whittle.crc.' belongs to no tensor"},
        {format + crc + crc, t, "metadata has 'whittle.crc.t' twice"},
        {format + crc + R"(,"whittle.crc":"00000000")", t, "metadata has 'whittle.crc' twice"},
        {format + crc, t + t, "tensor 't' appears twice"},
    };
    for (const Case& c : cases) {
      for (const LoadOptions& options : {LoadOptions{}, kForeign}) {
        const std::string message = decode_message(sealed_file(c.metadata, c.entries, 4), options);
        CAPTURE(c.metadata);
        CAPTURE(message);
        CHECK(contains(message, c.phrase));
      }
    }
  }

  TEST_CASE("names and texts that cannot be stored are refused") {
    const auto refused = [](const std::string& name, const std::string& key, const std::string& value) {
      Checkpoint checkpoint;
      checkpoint.tensors[name] = StoredTensor::from({1}, std::vector<uint8_t>{1});
      checkpoint.metadata[key] = value;
      return message_of([&] { return encode_checkpoint(checkpoint); });
    };
    CHECK(refused("ok", "ok", "ok") == "no error");
    for (const char* name : {"", "__metadata__", "a\nb", "\x7f", "\xc2\x80"}) {
      CHECK(contains(refused(name, "ok", "ok"), "cannot name a tensor"));
    }
    CHECK(contains(refused("\xff", "ok", "ok"), "is not valid UTF-8"));
    CHECK(contains(refused("ok", "\xff", "ok"), "is not valid UTF-8"));
    CHECK(contains(refused("ok", "ok", "\xed\xa0\x80"), "is not valid UTF-8"));
    for (const char* key : {"whittle.crc", "whittle.crc.ok", "whittle.crc.", "whittle.format"}) {
      CHECK(contains(refused("ok", key, "ok"), "belongs to the format"));
    }
    for (const char* key : {"whittle.crcs", "whittle.model", "whittle", ""}) {
      CHECK(refused("ok", key, "ok") == "no error");
    }
    Checkpoint short_bytes;
    short_bytes.tensors["t"] = {.dtype = Dtype::kF32, .shape = {2, 3}, .bytes = Bytes(23)};
    CHECK(contains(message_of([&] { return encode_checkpoint(short_bytes); }),
                   "tensor 't': F32 [2,3] does not take 23 bytes"));
    CHECK(contains(message_of([&] { return short_bytes.at("t").to_tensor(); }), "F32 [2,3] needs 24 bytes and has 23"));
  }

  TEST_CASE("numbers are written alike in every locale") {
    struct Grouping : std::numpunct<char> {
      char do_thousands_sep() const override { return '.'; }
      std::string do_grouping() const override { return "\3"; }
    };
    Checkpoint checkpoint;
    checkpoint.tensors["t"] = StoredTensor::from({1234, 5}, std::vector<uint8_t>(6170));
    const Bytes expected = encode_checkpoint(checkpoint);
    const std::locale before = std::locale::global(std::locale(std::locale(), new Grouping));
    const Bytes file = encode_checkpoint(checkpoint);
    const bool same = decode_checkpoint(file, "locale") == checkpoint;
    std::locale::global(before);
    CHECK(file == expected);
    CHECK(same);
  }

  TEST_CASE("halves become floats exactly, all 65536 of both kinds") {
    std::vector<uint16_t> patterns(65536);
    std::iota(patterns.begin(), patterns.end(), uint16_t{0});
    const auto raw = std::as_bytes(std::span(patterns));
    const auto tensor_of = [&](Dtype dtype) {
      return StoredTensor{.dtype = dtype, .shape = {65536}, .bytes = {raw.begin(), raw.end()}}.to_tensor();
    };
    const Tensor halves = tensor_of(Dtype::kF16);
    const Tensor brains = tensor_of(Dtype::kBF16);
    int wrong = 0;
    const auto compare = [&](uint32_t pattern, int exponent_bits, int fraction_bits, float value) {
      const auto fraction = static_cast<int>(pattern & ((1U << fraction_bits) - 1));
      const int top = (1 << exponent_bits) - 1;
      const auto exponent = static_cast<int>(pattern >> fraction_bits) & top;
      const int bias = top / 2;
      double magnitude = std::ldexp(fraction, 1 - bias - fraction_bits);
      if (exponent == top) {
        magnitude = fraction == 0 ? HUGE_VAL : std::numeric_limits<double>::quiet_NaN();
      } else if (exponent > 0) {
        magnitude = std::ldexp((1 << fraction_bits) + fraction, exponent - bias - fraction_bits);
      }
      const bool same = std::isnan(magnitude) ? std::isnan(value) : std::fabs(double{value}) == magnitude;
      wrong += same && std::signbit(value) == (pattern >> 15 != 0) ? 0 : 1;
    };
    for (uint32_t pattern = 0; pattern < 65536; ++pattern) {
      compare(pattern, 5, 10, halves.data()[pattern]);
      compare(pattern, 8, 7, brains.data()[pattern]);
    }
    CHECK(wrong == 0);
  }

  TEST_CASE("values convert from every dtype") {
    const auto stored = [](Dtype dtype, const auto& values) {
      const auto raw = std::as_bytes(std::span(values));
      return StoredTensor{
          .dtype = dtype, .shape = {static_cast<int64_t>(values.size())}, .bytes = {raw.begin(), raw.end()}};
    };
    const auto floats = [](const StoredTensor& s) {
      const Tensor tensor = s.to_tensor();
      return std::vector<float>(tensor.values().begin(), tensor.values().end());
    };
    using Floats = std::vector<float>;
    using Integers = std::vector<int64_t>;

    const std::vector<double> doubles = {1.5, -0.1, 1e300, -1e-300};
    CHECK(floats(stored(Dtype::kF64, doubles)) == Floats{1.5F, -0.1F, HUGE_VALF, -0.0F});
    const std::vector<int64_t> longs = {INT64_MIN, -1, 0, (1 << 24) + 1, INT64_MAX};
    CHECK(floats(stored(Dtype::kI64, longs)) == Floats{-0x1p63F, -1, 0, 0x1p24F, 0x1p63F});
    CHECK(stored(Dtype::kI64, longs).to_integers() == longs);
    const std::vector<int32_t> ints = {INT32_MIN, -7, INT32_MAX};
    CHECK(floats(stored(Dtype::kI32, ints)) == Floats{-0x1p31F, -7, 0x1p31F});
    CHECK(stored(Dtype::kI32, ints).to_integers() == Integers{INT32_MIN, -7, INT32_MAX});
    const std::vector<int16_t> shorts = {-32768, 32767};
    CHECK(floats(stored(Dtype::kI16, shorts)) == Floats{-32768, 32767});
    CHECK(stored(Dtype::kI16, shorts).to_integers() == Integers{-32768, 32767});
    const std::vector<uint8_t> bytes = {0, 1, 2, 127, 128, 255};
    CHECK(floats(stored(Dtype::kI8, bytes)) == Floats{0, 1, 2, 127, -128, -1});
    CHECK(stored(Dtype::kI8, bytes).to_integers() == Integers{0, 1, 2, 127, -128, -1});
    CHECK(floats(stored(Dtype::kU8, bytes)) == Floats{0, 1, 2, 127, 128, 255});
    CHECK(stored(Dtype::kU8, bytes).to_integers() == Integers{0, 1, 2, 127, 128, 255});
    CHECK(floats(stored(Dtype::kBool, bytes)) == Floats{0, 1, 1, 1, 1, 1});
    CHECK(stored(Dtype::kBool, bytes).to_integers() == Integers{0, 1, 1, 1, 1, 1});
    for (const Dtype dtype : {Dtype::kF64, Dtype::kF32, Dtype::kF16, Dtype::kBF16}) {
      const StoredTensor s{.dtype = dtype, .shape = {}, .bytes = Bytes(static_cast<size_t>(dtype_bytes(dtype)))};
      CHECK(contains(message_of([&] { return s.to_integers(); }),
                     std::string(dtype_name(dtype)) + " [] holds no integers"));
    }
    CHECK(contains(message_of([] {
                     return StoredTensor::from({3}, std::vector<uint8_t>{1, 2});
                   }),
                   "needs 3 bytes and has 2"));
    CHECK(contains(message_of([] { return StoredTensor::from(Tensor()); }), "an undefined tensor cannot be stored"));
  }

  TEST_CASE("float tensors keep every bit, NaN and infinity included") {
    const std::vector<uint32_t> patterns = {0,          0x80000000, 1,          0x7f7fffff, 0x7f800000,
                                            0xff800000, 0x7fc00000, 0x7fc12345, 0xffffffff, 0x3f800000};
    std::vector<float> values;
    for (const uint32_t pattern : patterns) {
      values.push_back(std::bit_cast<float>(pattern));
    }
    Checkpoint checkpoint;
    checkpoint.tensors["t"] = StoredTensor::from(Tensor::from({2, 5}, values));
    const Tensor back = decode_checkpoint(encode_checkpoint(checkpoint), "bits").at("t").to_tensor();
    CHECK(back.shape() == Shape{2, 5});
    for (size_t i = 0; i < patterns.size(); ++i) {
      CHECK(std::bit_cast<uint32_t>(back.data()[i]) == patterns[i]);
    }
  }

  TEST_CASE("a missing tensor is named, with what is there") {
    Checkpoint checkpoint;
    CHECK(message_of([&] { return checkpoint.at("w"); }) ==
          "[checkpoint] there is no tensor 'w' among the 0 of this checkpoint");
    for (const char* name : {"a", "b", "c", "d", "e", "f"}) {
      checkpoint.tensors[name] = StoredTensor::from({}, std::vector<uint8_t>{1});
    }
    CHECK(message_of([&] { return checkpoint.at("w"); }) ==
          "[checkpoint] there is no tensor 'w' among the 6 of this checkpoint: 'a', 'b', 'c', 'd', 'e', ...");
    CHECK(&checkpoint.at("a") == &checkpoint.tensors["a"]);
  }

  TEST_CASE("saving over the file that was loaded, and loading what is no checkpoint") {
    const TempFolder folder;
    const fs::path path = folder / "m.safetensors";
    Rng rng(2);
    const Checkpoint first = typical_checkpoint(rng, 20'000);
    save_checkpoint(path, first);
    Checkpoint loaded = load_checkpoint(path);
    CHECK(loaded == first);
    loaded.metadata["epoch"] = "4";
    save_checkpoint(path, loaded);
    CHECK(load_checkpoint(path) == loaded);

    struct : FileSystem {
      int sync(int) override { return -EIO; }
    } failing;
    CHECK(contains(message_of([&] { return save_checkpoint(path, first, failing), 0; }),
                   "cannot sync: Input/output error"));
    CHECK(load_checkpoint(path) == loaded);

    CHECK(contains(message_of([&] { return load_checkpoint(path, {.max_bytes = 1000}); }), "above the limit of 1000"));
    CHECK(contains(message_of([&] { return load_checkpoint(folder / "none"); }), "none: No such file or directory"));
    for (const char* text : {"", "hello", "PK\3\4 a zip file, for example a .pt", "{\"json\": \"and nothing else\"}"}) {
      replace_file(path, bytes_of(text));
      CHECK(contains(message_of([&] { return load_checkpoint(path, kForeign); }), path.string()));
    }
  }

  // Opt-in, because it needs the Python packages numpy and safetensors.
  TEST_CASE("the safetensors package reads our files and we read its files") {
    if (std::getenv("WHITTLE_TEST_PYTHON") == nullptr) {
      MESSAGE("skipped: set WHITTLE_TEST_PYTHON=1");
      return;
    }
    CAPTURE(test_seed());
    const TempFolder folder;
    Rng rng(RngKey{.seed = test_seed()}.child("python"));
    Checkpoint checkpoint = typical_checkpoint(rng, 5'000);
    for (int dtype = 0; dtype < 10; ++dtype) {
      const std::string name = "dtype " + std::string(dtype_name(static_cast<Dtype>(dtype)));
      checkpoint.tensors[name] = random_tensor(rng, static_cast<Dtype>(dtype), {2, 1, 3});
    }
    for (std::byte& byte : checkpoint.tensors["dtype BOOL"].bytes) {
      byte &= std::byte{1};
    }
    checkpoint.tensors["\xe6\x9c\xa8 \"quoted\" \\"] = StoredTensor::from({1}, std::vector<uint8_t>{42});
    save_checkpoint(folder / "ours.safetensors", checkpoint);

    // What the script must find, by a way that shares no code with the format.
    Json expected;
    expected["metadata"] = checkpoint.metadata;
    for (const auto& [name, stored] : checkpoint.tensors) {
      std::string hex;
      for (const std::byte byte : stored.bytes) {
        char digits[3];
        std::snprintf(digits, sizeof digits, "%02x", static_cast<unsigned>(byte));
        hex += digits;
      }
      expected["tensors"][name] = {
          {"dtype", std::string(dtype_name(stored.dtype))},
          {"shape", std::vector<int64_t>(stored.shape.dims().begin(), stored.shape.dims().end())},
          {"hex", hex}};
    }
    replace_file(folder / "expected.json", bytes_of(expected.dump()));

    const fs::path script = fs::path(__FILE__).parent_path() / "check_safetensors.py";
    const std::string command = "python3 '" + script.string() + "' '" + folder.path().string() + "'";
    REQUIRE(std::system(command.c_str()) == 0);

    Checkpoint theirs = load_checkpoint(folder / "theirs.safetensors", kForeign);
    CHECK(theirs.metadata == std::map<std::string, std::string>{{"made by", "python \xe6\x9c\xa8"}});
    REQUIRE(theirs.tensors.size() == 4);
    CHECK(theirs.at("f32").shape == Shape{2, 3});
    CHECK(theirs.at("f32").to_tensor().at({1, 2}) == 2.5F);
    CHECK(theirs.at("f16").to_tensor().at({1}) == -65504.0F);
    CHECK(theirs.at("i64").to_integers() == std::vector<int64_t>{-1, 1'000'000'000'000});
    CHECK(theirs.at("scalar").shape == Shape{});
    CHECK(
        contains(message_of([&] { return load_checkpoint(folder / "theirs.safetensors"); }), "there are no checksums"));
    // Rewritten by a program that keeps metadata it does not know.
    CHECK(contains(message_of([&] { return load_checkpoint(folder / "rewritten.safetensors", kForeign); }),
                   "rewritten by another program"));
  }
}

}  // namespace whittle
