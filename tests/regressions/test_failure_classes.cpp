// How loaders of models and pictures elsewhere were broken, class by class, each with where it
// was seen; and what our own fuzzing found. None of it may come back.

#include <doctest/doctest.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "core/checkpoint.h"
#include "core/file.h"
#include "datasets/picture.h"
#include "runtime/best.h"
#include "runtime/hosted/engine.h"
#include "tests/runtime/damage.h"
#include "tests/runtime/net.h"
#include "tests/support/message.h"
#include "tests/support/temp_folder.h"

namespace whittle {

namespace {

using runtime::FileHeader;
using runtime::OpRecord;
using runtime::Status;
using runtime::ValueRecord;

// A program of every integer op, to be damaged; checksums fit again after each edit.
struct Victim {
  Net net = small_net(RngKey{.seed = 11});
  Bytes file = net.finish(false);

  // Ops of small_net.
  static constexpr uint32_t kConv = 0, kDepthwise = 1, kMaxPool = 3, kAverage = 7;

  OpRecord op(uint32_t i) const {
    return record_at<OpRecord>(file, section_at(file, runtime::kOps) + i * sizeof(OpRecord));
  }
  Status with_input(const std::function<void(ValueRecord&)>& edit) const {
    return status(edit_value(file, net.spec.inputs[0], edit));
  }
  Status with_value(uint32_t v, const std::function<void(ValueRecord&)>& edit) const {
    return status(edit_value(file, v, edit));
  }
  Status with_op(uint32_t i, const std::function<void(OpRecord&)>& edit) const {
    return status(edit_op(file, i, edit));
  }
  Status with_header(const std::function<void(FileHeader&)>& edit) const { return status(edit_header(file, edit)); }

  static Status status(const Bytes& bytes) {
    runtime::Program p;
    return load(bytes.data(), bytes.size(), {}, p);
  }
};

// A checkpoint that someone else wrote: length, header, `data` bytes of zeros.
std::string checkpoint_refusal(const std::string& header, size_t data) {
  std::vector<std::byte> file(8 + header.size() + data);
  const uint64_t length = header.size();
  std::memcpy(file.data(), &length, sizeof length);
  std::memcpy(file.data() + 8, header.data(), header.size());
  return message_of([&] { return decode_checkpoint(file, "m.safetensors", {.allow_foreign = true}); });
}
std::string one_tensor(const std::string& shape, const std::string& offsets) {
  return R"({"w":{"dtype":"F32","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
}

// A BMP header that claims an image of this size, and no pixels.
std::vector<std::byte> bmp(uint32_t width, uint32_t height, uint16_t bits, uint32_t compression) {
  std::vector<std::byte> file(54);
  const auto put = [&](size_t at, const auto& number) { std::memcpy(file.data() + at, &number, sizeof number); };
  file[0] = std::byte{'B'};
  file[1] = std::byte{'M'};
  put(10, uint32_t{54});
  put(14, uint32_t{40});
  put(18, width);
  put(22, height);
  put(26, uint16_t{1});
  put(28, bits);
  put(30, compression);
  return file;
}

}  // namespace

TEST_SUITE("failure classes") {
  TEST_CASE("a product of extents that wraps: ggml#709, llama.cpp#14595, tensorflow#111637, CVE-2022-23558") {
    const Victim victim;
    const auto extents = [&](std::vector<uint32_t> dims) {
      return victim.with_input([&](ValueRecord& v) {
        v.rank = static_cast<uint8_t>(dims.size());
        std::fill(std::begin(v.dims), std::end(v.dims), 0);
        std::copy(dims.begin(), dims.end(), v.dims);
      });
    };
    CHECK(extents({1, 65537, 65536, 1}) == Status::kValue);               // 65,536 in 32 bits
    CHECK(extents({0x80000001, 2, 1, 1}) == Status::kValue);              // 2
    CHECK(extents({1u << 31, 1u << 31, 4, 1}) == Status::kValue);         // 0 in 64 bits
    CHECK(extents({0xffffffff, 0xffffffff, 1, 1}) == Status::kValue);     // -1 * -1
    CHECK(extents(std::vector<uint32_t>(8, 1u << 8)) == Status::kValue);  // 2^64
    CHECK(victim.with_header([](FileHeader& h) { h.sections[runtime::kConstants].bytes = ~uint64_t{0} - 100; }) ==
          Status::kLayout);
    CHECK(victim.with_header([](FileHeader& h) { h.sections[runtime::kOps].offset = ~uint64_t{0} - 63; }) ==
          Status::kLayout);
    // The same in checkpoints: 65537 * 65536 * 4 bytes are 262,144 in 32 bits.
    CHECK(checkpoint_refusal(one_tensor("[65537,65536]", "[0,262144]"), 262144).starts_with("[checkpoint]"));
    CHECK(checkpoint_refusal(one_tensor("[4398046511105,4194304]", "[0,16777216]"), 16777216)
              .starts_with("[checkpoint]"));
    CHECK(checkpoint_refusal(one_tensor("[4611686018427387905]", "[0,4]"), 4).starts_with("[checkpoint]"));
  }

  TEST_CASE("more extents than there is room for: gguf-tools#25, tensorflow#124982, onnxruntime#28731") {
    const Victim victim;
    for (const int rank : {0, 9, 64, 255}) {
      CHECK(victim.with_input([&](ValueRecord& v) { v.rank = static_cast<uint8_t>(rank); }) == Status::kValue);
    }
    // Fewer extents than the op that reads them looks at.
    CHECK(victim.with_input([](ValueRecord& v) {
      v.rank = 1;
      v.dims[0] *= v.dims[1] * v.dims[2] * v.dims[3];
      v.dims[1] = v.dims[2] = v.dims[3] = 0;
    }) == Status::kShape);
    CHECK(victim.with_value(victim.op(Victim::kConv).weights, [](ValueRecord& v) {
      v.rank = 2;
      v.dims[1] *= v.dims[2] * v.dims[3];
      v.dims[2] = v.dims[3] = 0;
    }) == Status::kShape);
    std::string extents = "[1";
    for (int i = 0; i < 1000; ++i) {
      extents += ",1";
    }
    CHECK(checkpoint_refusal(one_tensor(extents + "]", "[0,4]"), 4).starts_with("[checkpoint]"));
  }

  TEST_CASE("a size that is not that of the data: CVE-2026-7482, GHSA-63cw-57p8-fm3p") {
    const Victim victim;
    const uint32_t weights = victim.op(Victim::kConv).weights, bias = victim.op(Victim::kConv).bias;
    CHECK(victim.with_value(weights, [](ValueRecord& v) { v.dims[0] *= 1000; }) != Status::kOk);
    CHECK(victim.with_value(bias, [](ValueRecord& v) { v.dims[0] += 1; }) != Status::kOk);
    CHECK(victim.with_value(bias, [](ValueRecord& v) { v.offset = 1 << 20; }) == Status::kConstant);
    CHECK(victim.with_value(bias, [](ValueRecord& v) { v.offset = ~uint64_t{0} - 15; }) == Status::kConstant);
    CHECK(victim.with_header([](FileHeader& h) { h.file_bytes += 64; }) == Status::kTruncated);
    CHECK(victim.with_header([](FileHeader& h) { h.sections[runtime::kNames].bytes += 1 << 16; }) == Status::kLayout);
    CHECK(victim.with_header([](FileHeader& h) { h.arena_bytes = 16; }) == Status::kPlan);
    CHECK(victim.with_input([](ValueRecord& v) { v.offset = 1 << 20; }) == Status::kPlan);
    CHECK(checkpoint_refusal(one_tensor("[4]", "[0,16]"), 12).starts_with("[checkpoint]"));
    CHECK(checkpoint_refusal(one_tensor("[4]", "[0,12]"), 12).starts_with("[checkpoint]"));
    CHECK(checkpoint_refusal(one_tensor("[4]", "[16,0]"), 16).starts_with("[checkpoint]"));
    CHECK(checkpoint_refusal(one_tensor("[4]", "[0,16]"), 17).starts_with("[checkpoint]"));
  }

  TEST_CASE("division by zero: CVE-2022-23557, CVE-2022-21741, CVE-2023-27579, CVE-2022-21726") {
    const Victim victim;
    CHECK(victim.with_op(Victim::kConv, [](OpRecord& op) { op.stride[0] = 0; }) == Status::kOp);
    CHECK(victim.with_op(Victim::kDepthwise, [](OpRecord& op) { op.stride[1] = 0; }) == Status::kOp);
    CHECK(victim.with_op(Victim::kConv, [](OpRecord& op) { op.groups = 0; }) == Status::kOp);
    CHECK(victim.with_op(Victim::kConv, [](OpRecord& op) { op.dilation[0] = 0; }) == Status::kOp);
    CHECK(victim.with_op(Victim::kMaxPool, [](OpRecord& op) { op.kernel[0] = 0; }) == Status::kOp);
    CHECK(victim.with_op(Victim::kAverage, [](OpRecord& op) { op.stride[0] = 0; }) == Status::kOp);
    CHECK(victim.with_value(victim.op(Victim::kConv).bias, [](ValueRecord& v) { v.dims[0] = 0; }) == Status::kValue);
    CHECK(victim.with_input([](ValueRecord& v) { v.dims[3] = 0; }) == Status::kValue);
    CHECK(victim.with_input([](ValueRecord& v) { v.scale = 0; }) == Status::kGrid);
    // An average of no tap: a window that lies in the padding alone.
    CHECK(victim.with_op(Victim::kAverage, [](OpRecord& op) { op.padding[0] = op.kernel[0]; }) == Status::kShape);
  }

  TEST_CASE("work without end: CVE-2021-37686, stb#1843") {
    const Victim victim;
    const auto reads = [&](uint32_t i, uint32_t value) {
      return Victim::status(edit_list(victim.file, victim.op(i).inputs_at, value));
    };
    CHECK(reads(Victim::kConv, victim.op(Victim::kConv).output) == Status::kPlan);          // itself
    CHECK(reads(Victim::kDepthwise, victim.op(Victim::kMaxPool).output) == Status::kPlan);  // what comes later
    CHECK(victim.with_op(Victim::kAverage, [](OpRecord& op) { op.kernel[0] = op.kernel[1] = 1u << 24; }) ==
          Status::kShape);
    CHECK(victim.with_op(Victim::kConv, [](OpRecord& op) { op.inputs = 0xffffffff; }) == Status::kOp);
    CHECK(message_of([] { return data::decode_png_or_bmp(bmp(1, 0x80000000, 24, 0), 3, "x"); }).starts_with("[image]"));
  }

  TEST_CASE("paths out of a file: CVE-2022-25882, CVE-2024-27318, CVE-2025-51480, CVE-2026-34445") {
    // A program has names and text for tools, and no field that is opened: with paths in both it runs as before.
    const TempFolder folder;
    const std::string path = folder / "stolen";
    Net net = small_net(RngKey{.seed = 11});
    for (auto& value : net.spec.values) {
      value.name = "../../" + path;
    }
    net.spec.metadata = R"({"external_data":")" + path + "\"}";
    CHECK(run_program(net.finish(), net.input_bytes, runtime::choose_kernels()) == net.expected_bytes);
    CHECK(std::filesystem::is_empty(folder.path()));
    // A checkpoint's tensor is in the file or nowhere.
    CHECK(
        checkpoint_refusal(R"({"w":{"dtype":"F32","shape":[1],"location":")" + path + R"(","data_offsets":[0,4]}})", 4)
            .starts_with("[checkpoint]"));
  }

  TEST_CASE("pictures: stb#656, #1108, #1437, #1438, #1838") {
    for (const uint16_t bits : {uint16_t{1}, uint16_t{4}, uint16_t{8}, uint16_t{24}, uint16_t{32}}) {
      for (const uint32_t compression : {0u, 1u, 2u, 3u}) {
        for (const uint32_t width : {0u, 1u, 4096u, 0x10000u, 0x7fffffffu, 0xffffffffu}) {
          for (const uint32_t height : {0u, 1u, 4096u, 0x80000000u, 0xffffffffu}) {
            const std::string message =
                message_of([&] { return data::decode_png_or_bmp(bmp(width, height, bits, compression), 3, "x.bmp"); });
            CHECK((message == "no error" || message.starts_with("[image] x.bmp: ")));
          }
        }
      }
    }
    // Of JPEG files the packaged stb reads wild; they go to another library.
    std::vector<std::byte> jpeg{std::byte{0xff}, std::byte{0xd8}, std::byte{0xff}, std::byte{0xc4}};
    jpeg.resize(600, std::byte{0xff});
    CHECK(message_of([&] { return data::decode_png_or_bmp(jpeg, 3, "x.jpg"); }).starts_with("[image] x.jpg: "));
    CHECK(message_of([&] { return data::decode_jpeg(jpeg, 3, "x.jpg"); }).starts_with("[image] x.jpg: "));
  }

  TEST_CASE("saving over the file one reads from: safetensors#764") {
    const TempFolder folder;
    const std::filesystem::path path = folder / "net";
    Net net = small_net(RngKey{.seed = 12});
    const std::vector<uint8_t> file = net.finish();
    replace_file(path, std::as_bytes(std::span(file)));
    const std::vector<std::byte> read = read_file(path);
    const runtime::Engine engine({reinterpret_cast<const uint8_t*>(read.data()), read.size()});
    replace_file(path, read);
    CHECK(read_file(path) ==
          std::vector<std::byte>(std::as_bytes(std::span(file)).begin(), std::as_bytes(std::span(file)).end()));
    replace_file(path, {});
    std::vector<uint8_t> output(net.expected_bytes.size());
    engine.run(net.input_bytes, output);
    CHECK(output == net.expected_bytes);
    // For checkpoints: core.checkpoint, "saving over the file that was loaded".
  }
}

TEST_SUITE("found by fuzzing") {
  // A product below 2^-63 was shifted by more bits than a number has.
  TEST_CASE("the integer twin takes the smallest and the largest multipliers") {
    for (const uint32_t multiplier : {0x00800000u, 0x00ffffffu, 0x10000000u, 0x20000000u, 0x7f7fffffu}) {
      Net net(RngKey{.seed = 13});
      const NetValue x = net.input({1, 64});
      NetValue y = net.value("y", {1, 64}, runtime::Type::kS8, {0.5f, 3, -128, 127});
      const float m = __builtin_bit_cast(float, multiplier);
      for (const int64_t code : x.codes) {
        y.codes.push_back(oracle::requantize(code - x.grid.zero_point, m, {3, -128, 127}));
      }
      net.output(net.add({.kind = runtime::OpKind::kRescale,
                          .multipliers = net.numbers(runtime::Type::kU32, {m}),
                          .lo = runtime::code(-128),
                          .hi = runtime::code(127)},
                         {x}, y));
      for (const char* table : {"reference", "integer"}) {
        CHECK(run_program(net.finish(), net.input_bytes, runtime::kernels_named(table)) == net.expected_bytes);
      }
    }
  }
}

}  // namespace whittle
