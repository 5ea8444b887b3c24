// Products with packed weights against the plain function of the reference table, 0
// differences allowed, in one part and in several, with nothing around the operands touched.

#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <span>
#include <vector>

#include "kernels/int8/table.h"
#include "tests/kernels/draw.h"
#include "tests/kernels/oracle.h"
#include "tests/support/sanitized.h"
#include "tests/support/seed.h"

namespace whittle {

namespace {

using kernels::Conv;
using kernels::Int8Table;
using kernels::Window;

constexpr int64_t kOutputs = kSanitized ? 100'000 : 10'000'000;

// Exactly so many bytes, at a multiple of 64: the address sanitizer sees a byte more.
struct Block {
  explicit Block(int64_t bytes)
      : data(static_cast<uint8_t*>(::operator new (static_cast<size_t>(bytes), std::align_val_t{64}))) {
    std::fill_n(data, bytes, uint8_t{0xa5});
  }
  ~Block() { ::operator delete (data, std::align_val_t{64}); }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  uint8_t* data;
};

struct Problem {
  explicit Problem(Draw& draw) {
    const auto in = [&](int64_t low, int64_t high) { return static_cast<int32_t>(draw.in(low, high)); };
    const bool pointwise = draw.once_in(4);
    const bool line = draw.once_in(5);  // what fully connected layers are
    Window& w = shape.window;
    w.kernel_h = pointwise || line ? 1 : in(1, 4);
    w.kernel_w = pointwise || line ? 1 : in(1, 4);
    w.stride_h = line ? 1 : in(1, 3);
    w.stride_w = line ? 1 : in(1, 3);
    w.dilation_h = draw.once_in(4) ? in(1, 3) : 1;
    w.dilation_w = draw.once_in(4) ? in(1, 3) : 1;
    const auto extent = [&](int32_t kernel, int32_t stride, int32_t dilation, int32_t& size, int32_t& before,
                            int32_t& out) {
      const int32_t reach = (kernel - 1) * dilation + 1;
      before = draw.once_in(3) || line ? 0 : in(0, reach);
      const int32_t after = draw.once_in(3) || line ? 0 : in(0, reach);
      size = in(std::max(1, reach - before - after), 20);
      out = (size + before + after - reach) / stride + 1;
    };
    extent(w.kernel_h, w.stride_h, w.dilation_h, w.in_h, w.top, w.out_h);
    extent(w.kernel_w, w.stride_w, w.dilation_w, w.in_w, w.left, w.out_w);
    if (line) {
      w.in_h = w.out_h = 1;
    }
    shape.batch = draw.once_in(3) ? in(1, 4) : 1;
    shape.in_channels = draw.once_in(4) ? in(1, 4) * 16 : draw.once_in(3) ? 3 : in(1, 70);
    shape.out_channels = draw.once_in(4) ? in(1, 5) * 32 : in(1, 150);
    shape.groups = 1;
    if (!line && draw.once_in(3)) {  // depthwise
      shape.in_channels = draw.once_in(2) ? in(1, 6) * 16 : in(2, 90);
      shape.groups = shape.out_channels = shape.in_channels;
    }
    const int64_t depth = int64_t{w.kernel_h} * w.kernel_w * shape.in_channels / shape.groups;
    const bool extreme = draw.once_in(8);
    const auto codes = [&](int64_t count, int64_t low, int64_t high) {
      std::vector<int8_t> result(static_cast<size_t>(count));
      for (int8_t& code : result) {
        code = static_cast<int8_t>(extreme ? (draw.once_in(2) ? low : high) : draw.in(low, high));
      }
      return result;
    };
    x = codes(int64_t{shape.batch} * w.in_h * w.in_w * shape.in_channels, -128, 127);
    weights = codes(depth * shape.out_channels, -127, 127);
    for (int32_t o = 0; o < shape.out_channels; ++o) {
      bias.push_back(in(-30000, 30000));
      multipliers.push_back(oracle::bits(draw.scale(-12, -5)));
    }
    op = {.shape = shape,
          .x = x.data(),
          .x_zero_point = in(-128, 127),
          .weights = weights.data(),
          .bias = bias.data(),
          .multipliers = multipliers.data(),
          .range = {.zero_point = in(-128, 127), .lo = -128, .hi = 127},
          .y = nullptr};
    if (draw.once_in(2)) {
      op.range.lo = op.range.zero_point;
      op.range.hi = in(op.range.lo, 127);
    }
  }

  int64_t outputs() const {
    return int64_t{shape.batch} * shape.window.out_h * shape.window.out_w * shape.out_channels;
  }

  kernels::ConvShape shape{};
  std::vector<int8_t> x, weights;
  std::vector<int32_t> bias;
  std::vector<uint32_t> multipliers;
  Conv<int8_t> op{};
};

}  // namespace

TEST_SUITE("packed") {
  TEST_CASE("packed products are those of the reference, whole and in parts") {
    CAPTURE(test_seed());
    const kernels::Int8Tables all = kernels::int8_tables();
    for (const Int8Table* table : std::span(all.tables, static_cast<size_t>(all.count))) {
      if (table->packed == nullptr || !table->runs_here()) {
        continue;
      }
      CAPTURE(table->name);
      Draw draw(RngKey{.seed = test_seed()}.child("packed"));
      int64_t differing = 0;
      for (int64_t outputs = 0; outputs < kOutputs;) {
        Problem problem(draw);
        Conv<int8_t> op = problem.op;
        const auto count = static_cast<size_t>(problem.outputs());
        std::vector<int8_t> expected(count);
        op.y = expected.data();
        kernels::kInt8Reference.s8.conv(op);

        const kernels::PackedNeeds needs = table->packed->conv_needs(op);
        REQUIRE(needs.packed_bytes > 0);
        const Block packed(needs.packed_bytes);
        table->packed->pack_conv(op, packed.data);
        std::vector<int8_t> got(count + 2, 77);
        op.y = got.data() + 1;
        const int32_t parts = draw.once_in(2) ? 1 : static_cast<int32_t>(draw.in(2, 5));
        for (int32_t part = 0; part < parts; ++part) {
          const Block scratch(needs.scratch_bytes);
          table->packed->conv(op, packed.data, scratch.data, {part, parts});
        }
        REQUIRE(got.front() == 77);
        REQUIRE(got.back() == 77);
        for (size_t i = 0; i < count; ++i) {
          differing += expected[i] != got[i + 1] ? 1 : 0;
        }
        outputs += problem.outputs();
      }
      CHECK(differing == 0);
    }
  }
}

}  // namespace whittle
