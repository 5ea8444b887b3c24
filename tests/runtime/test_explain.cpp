// What is told about a number leads to the number.

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <set>
#include <stdexcept>

#include "runtime/hosted/explain.h"
#include "tests/runtime/net.h"
#include "tests/support/sanitized.h"
#include "tests/support/seed.h"

namespace whittle {

namespace {

using runtime::Explanation;
using runtime::OpKind;
using runtime::Program;
using runtime::Status;
using runtime::Type;

template <class Call>
std::string reason(Call call) {
  try {
    static_cast<void>(call());
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "none";
}

// A7, from the operands of one number: they hold each weight of the channel once.
uint64_t bound_of(const Explanation& e, Type type) {
  if (e.kind != OpKind::kConv && e.kind != OpKind::kFullyConnected) {
    return 0;
  }
  const int64_t largest = type == Type::kS8 ? 127 : 32767;
  int64_t bound = std::abs(e.bias);
  for (const Explanation::Term& term : e.terms) {
    bound += std::abs(term.weight) * std::max(largest - term.zero_point, term.zero_point + largest + 1);
  }
  return static_cast<uint64_t>(bound);
}

}  // namespace

TEST_SUITE("explain") {
  TEST_CASE("every number of every op: the chain ends in the code, and replaying it gives the code again") {
    CAPTURE(test_seed());
    std::set<OpKind> kinds;
    int64_t explained = 0;
    for (uint64_t seed = 0; seed < (kSanitized ? 10 : 120); ++seed) {
      const RngKey key = RngKey{.seed = test_seed()}.child("explain").child(seed);
      Net net = seed % 4 == 0 ? small_net(key) : random_net(key, seed % 4 == 1 ? Type::kS16 : Type::kS8);
      const auto file = net.finish();
      Program p;
      REQUIRE(load(file.data(), file.size(), {}, p) == Status::kOk);
      std::vector<uint8_t> arena(static_cast<size_t>(p.arena_bytes()));
      const uint8_t* from = net.input_bytes.data();
      for (uint32_t i = 0; i < p.input_count(); ++i) {
        const auto bytes = static_cast<size_t>(runtime::bytes_of(p.value(p.input(i))));
        std::memcpy(p.data(p.input(i), arena.data()), from, bytes);
        from += bytes;
      }
      for (uint32_t i = 0; i < p.op_count(); ++i) {
        const runtime::ValueRecord y = p.value(p.op(i).output);
        std::vector<Explanation> told;
        for (uint64_t element = 0; element < elements(y); element += 1 + elements(y) / 40) {
          told.push_back(explain(p, arena.data(), i, element));
        }
        REQUIRE(run_ops(p, runtime::choose_kernels(), arena.data(), arena.size(), i, i + 1) == Status::kOk);
        const uint8_t* result = p.data(p.op(i).output, arena.data());
        uint64_t element = 0;
        for (const Explanation& e : told) {
          const int32_t code = y.type == Type::kS8 ? runtime::read<int8_t>(result + element)
                                                   : runtime::read<int16_t>(result + 2 * element);
          REQUIRE(e.code == code);
          REQUIRE(replay(e) == code);
          REQUIRE(e.bound == bound_of(e, y.type));
          REQUIRE((e.bound == 0 || static_cast<uint64_t>(std::abs(e.accumulator)) <= e.bound));
          REQUIRE(e.text().find("code " + std::to_string(code) + "\n") != std::string::npos);
          element += 1 + elements(y) / 40;
          ++explained;
        }
        kinds.insert(p.op(i).kind);
      }
    }
    MESSAGE(explained << " numbers of " << kinds.size() << " kinds of op");
    CHECK(kinds.size() == 10);
  }

  TEST_CASE("what there is not is refused") {
    Net net(RngKey{.seed = 8});
    net.output(net.dequantize(net.input({1, 4})));
    const auto file = net.finish();
    Program p;
    REQUIRE(load(file.data(), file.size(), {}, p) == Status::kOk);
    std::vector<uint8_t> arena(static_cast<size_t>(p.arena_bytes()));
    CHECK(reason([&] { return explain(p, arena.data(), 1, 0); }) == "[explain] there is no op 1, the program has 1");
    CHECK(reason([&] { return explain(p, arena.data(), 0, 4); }) == "[explain] there is no number 4, op 0 makes 4");
    CHECK(reason([&] { return explain(p, arena.data(), 0, 0); }) ==
          "[explain] op 0 touches floats; only codes are explained");
  }
}

}  // namespace whittle
