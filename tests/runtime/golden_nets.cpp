// Writes the programs of tests/golden/ and their inputs; `./run bench golden` calls it.
//
//   golden_nets FOLDER [NETS]
//
// FOLDER/onnxruntime: random nets of ops that ONNX Runtime has, three samples each;
// bench/peers/ort.py adds the outputs. FOLDER/oracle: nets of all integer ops, 8 and 16
// bits, one sample each, with the outputs of the tests' oracle.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "tests/runtime/net.h"

namespace whittle {

namespace {

using runtime::OpKind;
using runtime::Type;

constexpr size_t kMaxBytes = 1 << 12;  // of a program

void write(const std::filesystem::path& path, const void* data, size_t size) {
  std::ofstream file(path, std::ios::binary);
  file.write(static_cast<const char*>(data), static_cast<std::streamsize>(size));
  if (!file.flush()) {
    std::fprintf(stderr, "golden_nets: cannot write %s\n", path.c_str());
    std::exit(1);
  }
}

// One of the ops that ort.py knows how to write?
bool in_onnx_runtime(const runtime::OpSpec& op) {
  const bool padded = std::ranges::any_of(op.padding, [](uint32_t p) { return p != 0; });
  return op.kind != OpKind::kSoftmax && !(op.kind == OpKind::kAveragePool && padded);
}

std::string codes_text(const std::vector<uint8_t>& bytes, Type type) {
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += runtime::width_of(type) / 8) {
    const int code =
        type == Type::kS8 ? runtime::read<int8_t>(bytes.data() + i) : runtime::read<int16_t>(bytes.data() + i);
    text += (i == 0 ? "" : " ") + std::to_string(code);
  }
  return text + "\n";
}

void write_for_onnx_runtime(const std::filesystem::path& folder, int nets) {
  int written = 0;
  for (uint64_t seed = 0; written < nets; ++seed) {
    Net net = random_net(RngKey{.seed = 2026}.child("onnxruntime").child(seed), Type::kS8);
    const std::vector<uint8_t> file = net.finish();
    if (net.spec.ops.size() < 3 || file.size() > kMaxBytes || !std::ranges::all_of(net.spec.ops, in_onnx_runtime)) {
      continue;
    }
    std::vector<uint8_t> inputs = net.input_bytes;
    while (inputs.size() < 3 * net.input_bytes.size()) {
      inputs.push_back(static_cast<uint8_t>(net.draw.in(0, 255)));
    }
    const std::string name = "net" + std::to_string(written++);
    write(folder / (name + ".wtl"), file.data(), file.size());
    write(folder / (name + ".in"), inputs.data(), inputs.size());
  }
}

void write_by_oracle(const std::filesystem::path& folder, int nets) {
  int written = 0;
  for (uint64_t seed = 0; written < nets; ++seed) {
    const RngKey key = RngKey{.seed = 2026}.child("oracle").child(seed);
    const Type type = seed % 3 == 2 ? Type::kS16 : Type::kS8;
    Net net = seed == 0 ? small_net(key) : random_net(key, type);
    const std::vector<uint8_t> file = net.finish();
    if (seed > 0 && (net.spec.ops.size() < 3 || file.size() > kMaxBytes)) {
      continue;
    }
    const std::string name = "net" + std::to_string(written++);
    const std::string text = codes_text(net.expected_bytes, type);
    write(folder / (name + ".wtl"), file.data(), file.size());
    write(folder / (name + ".in"), net.input_bytes.data(), net.input_bytes.size());
    write(folder / (name + ".out"), text.data(), text.size());
  }
}

}  // namespace

}  // namespace whittle

int main(int argc, char** argv) {
  const int nets = argc == 3 ? std::atoi(argv[2]) : 16;  // of each kind
  if (argc < 2 || argc > 3 || nets < 1) {
    std::fputs("golden_nets FOLDER [NETS]\n", stderr);
    return 2;
  }
  const std::filesystem::path folder = argv[1];
  std::filesystem::create_directories(folder / "onnxruntime");
  std::filesystem::create_directories(folder / "oracle");
  whittle::write_for_onnx_runtime(folder / "onnxruntime", nets);
  whittle::write_by_oracle(folder / "oracle", nets);
  return 0;
}
