// No table reads or writes outside of the operands: each lies against a page that may not be touched, once behind and
// once in front of it. The results are compared with those of the reference, too.

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <span>
#include <string>
#include <vector>

#include "kernels/int8/table.h"
#include "tests/kernels/conv_problem.h"
#include "tests/kernels/draw.h"
#include "tests/kernels/guarded.h"
#include "tests/kernels/kernels_of.h"
#include "tests/support/full.h"
#include "tests/support/sanitized.h"
#include "tests/support/seed.h"

namespace whittle {

namespace {

using kernels::Int8Table;
using At = Guarded::At;

int64_t problems() { return kSanitized ? 60 : full_test() ? 3000 : 300; }  // per table and op

// Places for the operands of one op.
class Places {
 public:
  void begin(At at) {
    at_ = at;
    next_ = 0;
  }
  template <class T>
  T* room(int64_t count) {
    return memory_.at(next_++).place<T>(count, at_);
  }
  template <class T>
  const T* copy(const std::vector<T>& from) {
    T* const to = room<T>(static_cast<int64_t>(from.size()));
    std::copy(from.begin(), from.end(), to);
    return to;
  }

 private:
  std::array<Guarded, 7> memory_;
  At at_ = At::kEnd;
  size_t next_ = 0;
};

// Calls problem(draw, table, run) for every table, which calls run(count, op): op(table, places) fills the result of
// `count` codes that places.room gives it. The result must be that of the reference.
template <class Code, class Problem>
void guard(const char* name, Problem problem) {
  CAPTURE(test_seed());
  CAPTURE(std::string(name));
  Places places;
  const kernels::Int8Tables all = kernels::int8_tables();
  for (const Int8Table* table : std::span(all.tables, static_cast<size_t>(all.count))) {
    if (!table->runs_here()) {
      continue;
    }
    CAPTURE(std::string(table->name));
    Draw draw(RngKey{.seed = test_seed()}.child("guard").child(name));
    int64_t wrong = 0;
    for (int64_t i = 0; i < problems(); ++i) {
      problem(draw, [&](int64_t count, auto op) {
        std::vector<Code> expected(static_cast<size_t>(count));
        places.begin(At::kEnd);
        op(kernels::kInt8Reference, places, expected.data());
        for (const At at : {At::kEnd, At::kBegin}) {
          places.begin(at);
          Code* const y = places.room<Code>(count);
          std::fill_n(y, count, Code{77});
          op(*table, places, y);
          wrong += std::equal(expected.begin(), expected.end(), y) ? 0 : 1;
        }
      });
    }
    CHECK(wrong == 0);
  }
}

template <class Code>
std::vector<Code> codes(Draw& draw, int64_t count) {
  std::vector<Code> result(static_cast<size_t>(count));
  for (Code& code : result) {
    code = static_cast<Code>(draw.in(-128, 127));
  }
  return result;
}

kernels::CodeRange range(Draw& draw) {
  const auto lo = static_cast<int32_t>(draw.in(-128, 0));
  return {
      .zero_point = static_cast<int32_t>(draw.in(-128, 127)), .lo = lo, .hi = static_cast<int32_t>(draw.in(lo, 127))};
}

kernels::PoolShape pool_shape(Draw& draw) {
  const auto in = [&](int64_t low, int64_t high) { return static_cast<int32_t>(draw.in(low, high)); };
  kernels::PoolShape s{.batch = in(1, 3), .channels = draw.once_in(3) ? in(1, 4) * 32 : in(1, 140), .window = {}};
  kernels::Window& w = s.window;
  const auto extent = [&](int32_t& size, int32_t& out, int32_t& kernel, int32_t& stride, int32_t& before) {
    kernel = in(1, 3);
    stride = in(1, 3);
    before = in(0, kernel - 1);
    size = in(kernel, 9);
    out = (size + before - kernel) / stride + 1;
  };
  extent(w.in_h, w.out_h, w.kernel_h, w.stride_h, w.top);
  extent(w.in_w, w.out_w, w.kernel_w, w.stride_w, w.left);
  w.dilation_h = w.dilation_w = 1;
  return s;
}

template <class Code>
void guard_all(const char* kind) {
  const std::string prefix = kind;
  guard<Code>((prefix + " products").c_str(), [](Draw& draw, auto run) {
    const ConvProblem problem(draw);
    const auto x = converted<Code>(problem.x);
    run(problem.outputs(), [&](const Int8Table& table, Places& places, Code* y) {
      const kernels::Conv<Code> op{.shape = problem.shape,
                                   .x = places.copy(x),
                                   .x_zero_point = problem.op.x_zero_point,
                                   .weights = {places.copy(problem.weights), problem.bits},
                                   .bias = places.copy(problem.bias),
                                   .multipliers = places.copy(problem.multipliers),
                                   .range = problem.op.range,
                                   .y = y};
      const bool depthwise = op.shape.groups > 1;
      (depthwise ? kernels_of<Code>(table).depthwise : kernels_of<Code>(table).conv)(op);
    });
  });
  guard<Code>((prefix + " fully connected").c_str(), [](Draw& draw, auto run) {
    const auto batch = static_cast<int32_t>(draw.in(1, 3));
    const auto in = static_cast<int32_t>(draw.in(1, 150));
    const auto out = static_cast<int32_t>(draw.in(1, 150));
    const ConvProblem problem(draw, kernels::fully_connected_shape(batch, in, out), draw_bits(draw));
    const auto x = converted<Code>(problem.x);
    run(problem.outputs(), [&](const Int8Table& table, Places& places, Code* y) {
      kernels_of<Code>(table).fully_connected({.batch = batch,
                                               .in = in,
                                               .out = out,
                                               .x = places.copy(x),
                                               .x_zero_point = problem.op.x_zero_point,
                                               .weights = {places.copy(problem.weights), problem.bits},
                                               .bias = places.copy(problem.bias),
                                               .multipliers = places.copy(problem.multipliers),
                                               .range = problem.op.range,
                                               .y = y});
    });
  });
  guard<Code>((prefix + " add").c_str(), [](Draw& draw, auto run) {
    const int64_t count = draw.in(1, 200);
    const auto a = codes<Code>(draw, count);
    const auto b = codes<Code>(draw, count);
    const kernels::AddConstants constants{.offset = oracle::bits(draw.scale(0, 5)),
                                          .ratio_a = oracle::bits(draw.scale(-5, 1)),
                                          .ratio_b = oracle::bits(draw.scale(-5, 1))};
    const kernels::CodeRange limits = range(draw);
    run(count, [&](const Int8Table& table, Places& places, Code* y) {
      kernels_of<Code>(table).add({.count = static_cast<int32_t>(count),
                                   .a = places.copy(a),
                                   .b = places.copy(b),
                                   .constants = constants,
                                   .range = limits,
                                   .y = y});
    });
  });
  for (const bool average : {false, true}) {
    guard<Code>((prefix + (average ? " average pool" : " max pool")).c_str(), [average](Draw& draw, auto run) {
      const kernels::PoolShape shape = pool_shape(draw);
      const kernels::Window& w = shape.window;
      const auto x = codes<Code>(draw, int64_t{shape.batch} * w.in_h * w.in_w * shape.channels);
      const bool padded = w.top > 0 || w.left > 0;
      std::vector<uint32_t> multipliers;
      for (int32_t n = padded ? 1 : w.kernel_h * w.kernel_w; n <= w.kernel_h * w.kernel_w; ++n) {
        multipliers.push_back(oracle::bits(draw.scale(-1, 0) / static_cast<float>(n)));
      }
      const auto zero_point = static_cast<int32_t>(draw.in(-128, 127));
      const kernels::CodeRange limits = range(draw);
      run(int64_t{shape.batch} * w.out_h * w.out_w * shape.channels,
          [&](const Int8Table& table, Places& places, Code* y) {
            if (average) {
              kernels_of<Code>(table).average_pool({.shape = shape,
                                                    .x = places.copy(x),
                                                    .x_zero_point = zero_point,
                                                    .multipliers = places.copy(multipliers),
                                                    .padded = padded,
                                                    .range = limits,
                                                    .y = y});
            } else {
              kernels_of<Code>(table).max_pool({.shape = shape, .x = places.copy(x), .range = limits, .y = y});
            }
          });
    });
  }
  guard<Code>((prefix + " rescale").c_str(), [](Draw& draw, auto run) {
    const int64_t count = draw.in(1, 200);
    const auto x = codes<Code>(draw, count);
    const auto zero_point = static_cast<int32_t>(draw.in(-128, 127));
    const uint32_t multiplier = oracle::bits(draw.scale(-3, 2));
    const kernels::CodeRange limits = range(draw);
    run(count, [&](const Int8Table& table, Places& places, Code* y) {
      kernels_of<Code>(table).rescale({.count = static_cast<int32_t>(count),
                                       .x = places.copy(x),
                                       .x_zero_point = zero_point,
                                       .multiplier = multiplier,
                                       .range = limits,
                                       .y = y});
    });
  });
}

}  // namespace

TEST_SUITE("guard") {
  TEST_CASE("8-bit ops stay inside their operands") { guard_all<int8_t>("s8"); }

  TEST_CASE("16-bit ops stay inside their operands") { guard_all<int16_t>("s16"); }

  TEST_CASE("packed products stay inside their operands, their packed weights and their scratch") {
    guard<int8_t>("packed", [](Draw& draw, auto run) {
      const ConvProblem problem(draw);
      const auto parts = static_cast<int32_t>(draw.once_in(2) ? 1 : draw.in(2, 4));
      run(problem.outputs(), [&](const Int8Table& table, Places& places, int8_t* y) {
        kernels::Conv<int8_t> op = problem.op;
        op.x = places.copy(problem.x);
        op.weights = {places.copy(problem.weights), problem.bits};
        op.bias = places.copy(problem.bias);
        op.multipliers = places.copy(problem.multipliers);
        op.y = y;
        const kernels::PackedNeeds needs =
            table.packed == nullptr ? kernels::PackedNeeds{} : table.packed->conv_needs(op);
        if (needs.packed_bytes == 0) {
          return table.s8.conv(op);
        }
        auto* const packed = places.room<uint8_t>(needs.packed_bytes);
        auto* const scratch = places.room<uint8_t>(needs.scratch_bytes);
        table.packed->pack_conv(op, packed);
        for (int32_t part = 0; part < parts; ++part) {
          std::fill_n(scratch, needs.scratch_bytes, uint8_t{0x5a});
          table.packed->conv(op, packed, scratch, {part, parts});
        }
      });
    });
  }

  TEST_CASE("tables of 256 and softmax stay inside their operands") {
    guard<int8_t>("lookup", [](Draw& draw, auto run) {
      const int64_t count = draw.in(1, 200);
      const auto x = codes<int8_t>(draw, count);
      const auto entries = codes<int8_t>(draw, 256);
      run(count, [&](const Int8Table& table, Places& places, int8_t* y) {
        table.lookup(
            {.count = static_cast<int32_t>(count), .x = places.copy(x), .table = places.copy(entries), .y = y});
      });
    });
    guard<int8_t>("softmax", [](Draw& draw, auto run) {
      const auto rows = static_cast<int32_t>(draw.in(1, 4));
      const auto count = static_cast<int32_t>(draw.in(1, 60));
      const auto x = codes<int8_t>(draw, int64_t{rows} * count);
      std::vector<uint32_t> exponentials;
      for (int d = 0; d < 256; ++d) {
        exponentials.push_back(static_cast<uint32_t>(std::exp(-0.05 * d) * (1 << 23)));
      }
      run(int64_t{rows} * count, [&](const Int8Table& table, Places& places, int8_t* y) {
        table.softmax({.rows = rows,
                       .count = count,
                       .x = places.copy(x),
                       .exponentials = places.copy(exponentials),
                       .log2_steps = 8,
                       .range = {.zero_point = -128, .lo = -128, .hi = 127},
                       .y = y});
      });
    });
  }
}

}  // namespace whittle
