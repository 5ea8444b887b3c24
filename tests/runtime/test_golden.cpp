// Programs that were committed with what they must give: by ONNX Runtime, which nobody here
// wrote, and by the oracle. Whatever compiles this test compiles it to the same bytes.
//
// `./run bench golden` writes the files again.

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>

#include "tests/runtime/net.h"

namespace whittle {

namespace {

using runtime::OpKind;
using runtime::Program;
using runtime::Status;
using runtime::Type;
using Bytes = std::vector<uint8_t>;

Bytes bytes_in(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  REQUIRE(file.good());
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

size_t bytes_of_values(const Program& p, uint32_t first, uint32_t count) {
  size_t bytes = 0;
  for (uint32_t i = 0; i < count; ++i) {
    bytes += static_cast<size_t>(runtime::bytes_of(p.value(p.list(first + i))));
  }
  return bytes;
}

// Runs every program of the folder on its samples, with every table; what the programs are made of goes to `kinds` and
// `weights`.
int64_t check_folder(const std::string& name, std::set<OpKind>& kinds, std::set<Type>& weights) {
  int64_t codes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(std::filesystem::path(WHITTLE_GOLDEN) / name)) {
    std::filesystem::path path = entry.path();
    if (path.extension() != ".wtl") {
      continue;
    }
    CAPTURE(path.string());
    const Bytes file = bytes_in(path);
    const Bytes inputs = bytes_in(path.replace_extension(".in"));
    const Bytes text = bytes_in(path.replace_extension(".out"));
    std::istringstream expected(std::string(text.begin(), text.end()));
    Program p;
    REQUIRE(load(file.data(), file.size(), {}, p) == Status::kOk);
    const size_t in = bytes_of_values(p, 0, p.input_count());
    const Type type = p.value(p.output(0)).type;
    REQUIRE(inputs.size() % in == 0);
    for (size_t at = 0; at < inputs.size(); at += in) {
      const Bytes sample(inputs.begin() + static_cast<std::ptrdiff_t>(at),
                         inputs.begin() + static_cast<std::ptrdiff_t>(at + in));
      Bytes wanted;
      for (size_t i = 0; i < bytes_of_values(p, p.input_count(), p.output_count()); i += runtime::width_of(type) / 8) {
        int code = 0;
        REQUIRE((expected >> code).good());
        wanted.push_back(static_cast<uint8_t>(code & 255));
        if (type == Type::kS16) {
          wanted.push_back(static_cast<uint8_t>(code >> 8 & 255));
        }
        ++codes;
      }
      const kernels::Int8Tables tables = kernels::int8_tables();
      for (int t = 0; t < tables.count; ++t) {
        if (tables.tables[t]->runs_here()) {
          CAPTURE(std::string(tables.tables[t]->name));
          CHECK(run_program(file, sample, {.int8 = tables.tables[t]}, Weights::kPacked) == wanted);
          CHECK(run_program(file, sample, {.int8 = tables.tables[t]}, Weights::kAsStored) == wanted);
        }
      }
    }
    std::string more;
    CHECK_FALSE((expected >> more));
    for (uint32_t i = 0; i < p.op_count(); ++i) {
      kinds.insert(p.op(i).kind);
      if (p.op(i).weights != runtime::kNone) {
        weights.insert(p.value(p.op(i).weights).type);
      }
    }
  }
  return codes;
}

}  // namespace

TEST_SUITE("golden") {
  TEST_CASE("what ONNX Runtime gives, to the byte") {
    std::set<OpKind> kinds;
    std::set<Type> weights;
    const int64_t codes = check_folder("onnxruntime", kinds, weights);
    MESSAGE(codes << " codes of " << kinds.size() << " kinds of op");
    CHECK(codes >= 1000);
    CHECK(weights == std::set{Type::kS8, Type::kS4, Type::kS2});
    for (const OpKind kind : {OpKind::kConv, OpKind::kFullyConnected, OpKind::kAdd, OpKind::kMaxPool,
                              OpKind::kAveragePool, OpKind::kConcat}) {
      CHECK(kinds.contains(kind));
    }
  }

  TEST_CASE("what the oracle gives, to the byte") {
    std::set<OpKind> kinds;
    std::set<Type> weights;
    const int64_t codes = check_folder("oracle", kinds, weights);
    MESSAGE(codes << " codes of " << kinds.size() << " kinds of op");
    CHECK(codes >= 500);
    CHECK(kinds.size() == 10);  // all that integer programs have
    CHECK(weights == std::set{Type::kS8, Type::kS4, Type::kS2});
  }
}

}  // namespace whittle
