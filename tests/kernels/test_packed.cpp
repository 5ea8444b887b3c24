// Products with packed weights against the plain function of the reference table, 0
// differences allowed, in one part and in several, with nothing around the operands touched.
//
// A million numbers per table, and all ten where WHITTLE_TEST_FULL is set.

#include <doctest/doctest.h>

#include <algorithm>
#include <span>
#include <string>
#include <vector>

#include "kernels/int8/table.h"
#include "tests/kernels/conv_problem.h"
#include "tests/kernels/draw.h"
#include "tests/support/aligned_bytes.h"
#include "tests/support/full.h"
#include "tests/support/sanitized.h"
#include "tests/support/seed.h"

namespace whittle {

namespace {

using kernels::Conv;
using kernels::ConvShape;
using kernels::Int8Table;
using kernels::Window;

int64_t wanted_outputs() { return kSanitized ? 100'000 : full_test() ? 10'000'000 : 1'000'000; }

std::vector<const Int8Table*> packed_tables() {
  const kernels::Int8Tables all = kernels::int8_tables();
  std::vector<const Int8Table*> result;
  for (const Int8Table* table : std::span(all.tables, static_cast<size_t>(all.count))) {
    if (table->packed != nullptr && table->runs_here()) {
      result.push_back(table);
    }
  }
  return result;
}

// How many numbers differ when the op is done in so many parts.
int64_t differing(const Int8Table& table, const ConvProblem& problem, int32_t parts) {
  Conv<int8_t> op = problem.op;
  const auto count = static_cast<size_t>(problem.outputs());
  std::vector<int8_t> expected(count);
  op.y = expected.data();
  kernels::kInt8Reference.s8.conv(op);

  const kernels::PackedNeeds needs = table.packed->conv_needs(op);
  REQUIRE(needs.packed_bytes > 0);
  const AlignedBytes packed(static_cast<uint64_t>(needs.packed_bytes));
  table.packed->pack_conv(op, packed.data);
  std::vector<int8_t> got(count + 2, 77);
  op.y = got.data() + 1;
  for (int32_t part = parts - 1; part >= 0; --part) {  // what a part wrote too much, no later one would repair
    const AlignedBytes scratch(static_cast<uint64_t>(needs.scratch_bytes));
    table.packed->conv(op, packed.data, scratch.data, {part, parts});
  }
  REQUIRE(got.front() == 77);
  REQUIRE(got.back() == 77);
  int64_t result = 0;
  for (size_t i = 0; i < count; ++i) {
    result += expected[i] != got[i + 1] ? 1 : 0;
  }
  return result;
}

ConvShape conv(int32_t batch, int32_t size, int32_t in, int32_t out, int32_t kernel, int32_t stride, int32_t pad,
               int32_t groups = 1) {
  const int32_t out_size = (size + 2 * pad - kernel) / stride + 1;
  return {.batch = batch,
          .in_channels = in,
          .out_channels = out,
          .groups = groups,
          .window = {.in_h = size,
                     .in_w = size,
                     .out_h = out_size,
                     .out_w = out_size,
                     .kernel_h = kernel,
                     .kernel_w = kernel,
                     .stride_h = stride,
                     .stride_w = stride,
                     .dilation_h = 1,
                     .dilation_w = 1,
                     .top = pad,
                     .left = pad}};
}

}  // namespace

TEST_SUITE("packed") {
  TEST_CASE("packed products are those of the reference, whole and in parts") {
    CAPTURE(test_seed());
    for (const Int8Table* table : packed_tables()) {
      CAPTURE(std::string(table->name));
      Draw draw(RngKey{.seed = test_seed()}.child("packed"));
      int64_t wrong = 0;
      int64_t outputs = 0;
      while (outputs < wanted_outputs()) {
        const ConvProblem problem(draw);
        wrong += differing(*table, problem, draw.once_in(2) ? 1 : static_cast<int32_t>(draw.in(2, 5)));
        outputs += problem.outputs();
      }
      MESSAGE(std::string(table->name) << ": " << outputs << " numbers");
      CHECK(wrong == 0);
    }
  }

  TEST_CASE("shapes that fit nothing") {
    CAPTURE(test_seed());
    std::vector<ConvShape> shapes;
    for (const int32_t channels : {1, 2, 3, 5, 8, 9, 15, 16, 17, 24, 31, 40, 65, 112}) {
      for (const int32_t batch : {1, 3}) {
        shapes.push_back(conv(batch, 7, channels, 1, 3, 1, 1));                       // one output channel
        shapes.push_back(conv(batch, 7, channels, channels, 3, 2, 1));                // few or no whole vectors
        shapes.push_back(conv(batch, 7, channels, channels, 3, 1, 0));                // no frame
        shapes.push_back(conv(batch, 5, channels, 24, 1, 1, 0));                      // a line of pixels
        shapes.push_back(conv(batch, 1, channels, 40, 3, 1, 1));                      // images of one pixel
        shapes.push_back(conv(batch, 9, 3, channels, 3, 2, 1));                       // pictures
        shapes.push_back(conv(batch, 13, channels, channels, 5, 3, 2));               // a large filter
        shapes.push_back(kernels::fully_connected_shape(batch, channels, channels));  // no image
        shapes.push_back(kernels::fully_connected_shape(batch, 1027, channels));      // K is no multiple of 4
        if (channels > 1) {
          for (const int32_t stride : {1, 2, 3}) {
            shapes.push_back(conv(batch, 7, channels, channels, 3, stride, 1, channels));  // depthwise
            shapes.push_back(conv(batch, 1, channels, channels, 3, stride, 1, channels));
          }
        }
      }
    }
    shapes.push_back(conv(2, 20, 112, 24, 1, 1, 0));  // lines that are copied in pieces
    shapes.push_back(conv(1, 64, 24, 40, 3, 1, 1));
    shapes.push_back(conv(3, 64, 3, 8, 3, 2, 1));
    shapes.push_back(conv(1, 64, 40, 112, 1, 2, 0));
    shapes.push_back(conv(7, 4, 130, 300, 3, 1, 1));   // many weights: all images are copied at once
    shapes.push_back(conv(5, 13, 200, 160, 3, 2, 1));  // or some of them
    for (const int32_t channels : {1, 2, 4}) {         // pixels that share a vector
      shapes.push_back(conv(2, 16, 5, channels, 3, 1, 1));
      shapes.push_back(conv(1, 64, 3, channels, 5, 2, 2));
    }
    for (const int32_t channels : {8, 16, 32, 24, 40, 112}) {
      shapes.push_back(conv(1, 64, channels, channels, 3, 1, 1, channels));
      shapes.push_back(conv(3, 64, channels, channels, 3, 2, 1, channels));
    }
    shapes.push_back(kernels::fully_connected_shape(29, 1027, 40));
    shapes.push_back(kernels::fully_connected_shape(1, 9001, 120));  // weights enough for a second thread
    shapes.push_back(kernels::fully_connected_shape(1, 30001, 40));
    Draw draw(RngKey{.seed = test_seed()}.child("odd"));
    for (const Int8Table* table : packed_tables()) {
      CAPTURE(std::string(table->name));
      for (const ConvShape& shape : shapes) {
        CAPTURE(shape.batch);
        CAPTURE(shape.in_channels);
        CAPTURE(shape.out_channels);
        CAPTURE(shape.groups);
        CAPTURE(shape.window.in_h);
        CAPTURE(shape.window.kernel_h);
        CAPTURE(shape.window.stride_h);
        const ConvProblem problem(draw, shape, draw_bits(draw));
        CAPTURE(problem.bits);
        CHECK(differing(*table, problem, 1) == 0);
        CHECK(differing(*table, problem, 3) == 0);
      }
    }
  }

  // What would saturate in 16 bits, or wrap around: every product as large as it can be, all of one sign.
  TEST_CASE("padding without end is left to the plain function") {
    Conv<int8_t> op = {};
    op.shape = kernels::fully_connected_shape(1, 64, 64);
    op.shape.window.top = op.shape.window.left = 1 << 20;
    op.shape.window.stride_h = op.shape.window.stride_w = 1 << 20;
    op.shape.window.out_h = op.shape.window.out_w = 2;
    for (const Int8Table* table : packed_tables()) {
      CHECK(table->packed->conv_needs(op).packed_bytes == 0);
    }
  }

  TEST_CASE("the largest sums there are") {
    Draw draw(RngKey{.seed = test_seed()}.child("largest"));
    for (const Int8Table* table : packed_tables()) {
      CAPTURE(std::string(table->name));
      for (const ConvShape& shape : {conv(1, 4, 64, 24, 3, 1, 1), conv(1, 4, 24, 24, 3, 1, 1, 24),
                                     kernels::fully_connected_shape(1, 60'000, 17)}) {
        for (const int8_t code : {int8_t{-128}, int8_t{127}}) {
          for (const int8_t weight : {int8_t{-127}, int8_t{127}}) {
            for (const int32_t zero_point : {-128, 0, 127}) {
              CAPTURE(shape.in_channels);
              CAPTURE(int{code});
              CAPTURE(int{weight});
              CAPTURE(zero_point);
              ConvProblem problem(draw, shape);
              std::fill(problem.x.begin(), problem.x.end(), code);
              std::fill(problem.weights.begin(), problem.weights.end(), weight);
              const auto scale = 100 / (32385.0F * static_cast<float>(shape.in_channels));
              std::fill(problem.multipliers.begin(), problem.multipliers.end(), oracle::bits(scale));
              problem.op.x_zero_point = zero_point;
              problem.op.range = {.zero_point = 0, .lo = -128, .hi = 127};
              CHECK(differing(*table, problem, 1) == 0);
            }
          }
        }
      }
    }
  }
}

}  // namespace whittle
