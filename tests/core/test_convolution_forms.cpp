// Every way of computing a convolution, on every kernel table, against plain loops in double.

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/ops.h"
#include "core/train_kernels.h"
#include "tests/support/same_bits.h"
#include "tests/support/sanitized.h"
#include "tests/support/seed.h"

namespace whittle {

namespace {

struct Problem {
  int64_t n, h, w, in, out, kh, kw;
  ConvGeometry geometry;

  std::string text() const {
    return Shape{n, h, w, in}.str() + " filter " + Shape{out, kh, kw, in / geometry.groups}.str() + " stride " +
           std::to_string(geometry.stride.h) + "," + std::to_string(geometry.stride.w) + " padding " +
           std::to_string(geometry.padding.top) + "," + std::to_string(geometry.padding.left) + "," +
           std::to_string(geometry.padding.bottom) + "," + std::to_string(geometry.padding.right) + " dilation " +
           std::to_string(geometry.dilation.h) + "," + std::to_string(geometry.dilation.w) + " groups " +
           std::to_string(geometry.groups);
  }
};

struct Results {
  std::vector<double> y, gx, gfilter;
};

// y, and the gradients for a given gradient g of y, by their definition.
Results by_definition(const Problem& p, const Tensor& x, const Tensor& filter, const Tensor& g) {
  const auto& [stride, padding, dilation, groups, plain] = p.geometry;
  const int64_t oh = g.dim(1), ow = g.dim(2), in_group = p.in / groups, out_group = p.out / groups;
  Results r{std::vector<double>(static_cast<size_t>(g.elements())),
            std::vector<double>(static_cast<size_t>(x.elements())),
            std::vector<double>(static_cast<size_t>(filter.elements()))};
  for (int64_t n = 0; n < p.n; ++n) {
    for (int64_t i = 0; i < oh; ++i) {
      for (int64_t j = 0; j < ow; ++j) {
        for (int64_t o = 0; o < p.out; ++o) {
          const auto at_y = static_cast<size_t>(((n * oh + i) * ow + j) * p.out + o);
          for (int64_t u = 0; u < p.kh; ++u) {
            for (int64_t v = 0; v < p.kw; ++v) {
              const int64_t row = i * stride.h + u * dilation.h - padding.top;
              const int64_t column = j * stride.w + v * dilation.w - padding.left;
              if (row < 0 || row >= p.h || column < 0 || column >= p.w) {
                continue;
              }
              for (int64_t c = 0; c < in_group; ++c) {
                const auto at_x =
                    static_cast<size_t>(((n * p.h + row) * p.w + column) * p.in + o / out_group * in_group + c);
                const auto at_f = static_cast<size_t>(((o * p.kh + u) * p.kw + v) * in_group + c);
                const double value = x.values()[at_x], weight = filter.values()[at_f], grad = g.values()[at_y];
                r.y[at_y] += value * weight;
                r.gx[at_x] += grad * weight;
                r.gfilter[at_f] += grad * value;
              }
            }
          }
        }
      }
    }
  }
  return r;
}

// Root of the mean square of the difference, relative to that of the expected values.
double rms_error(const Tensor& found, const std::vector<double>& expected) {
  double difference = 0, size = 1e-30;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double d = static_cast<double>(found.values()[i]) - expected[i];
    difference += d * d;
    size += expected[i] * expected[i];
  }
  return std::sqrt(difference / size);
}

struct Computed {
  Tensor y, gx, gfilter;
};
Computed computed(const Problem& p, const Tensor& x, const Tensor& filter, const Tensor& g) {
  const Variable vx = Variable::leaf(x), vf = Variable::leaf(filter);
  const Variable y = conv2d(vx, vf, {}, p.geometry);
  backward(sum(y * Variable(g)));
  return {y.value(), vx.grad(), vf.grad()};
}

Shape output_shape(const Problem& p) {
  const auto& [stride, padding, dilation, groups, plain] = p.geometry;
  return {p.n, window_positions(p.h, padding.top, padding.bottom, p.kh, stride.h, dilation.h),
          window_positions(p.w, padding.left, padding.right, p.kw, stride.w, dilation.w), p.out};
}

// Puts everything back that a test case changes for the whole process.
struct Restore {
  std::string table{train_kernels().name};
  ~Restore() {
    set_train_kernels(table);
    set_convolution(Convolution::kAuto);
  }
};

// A sanitizer looks for wrong accesses; a few problems make them all.
constexpr int kProblems = kSanitized ? 8 : 60;

constexpr Convolution kForms[] = {Convolution::kAuto, Convolution::kDirect, Convolution::kWinograd2,
                                  Convolution::kWinograd4};

void check_all_forms(const Problem& p, RngKey key) {
  CAPTURE(p.text());
  const Tensor x = Tensor::normal({p.n, p.h, p.w, p.in}, key.child("x"), 0, 1);
  const Tensor filter = Tensor::normal({p.out, p.kh, p.kw, p.in / p.geometry.groups}, key.child("f"), 0, 1);
  const Tensor g = Tensor::normal(output_shape(p), key.child("g"), 0, 1);
  const Results expected = by_definition(p, x, filter, g);
  for (const TrainKernels* table : available_train_kernels()) {
    set_train_kernels(table->name);
    for (const Convolution form : kForms) {
      CAPTURE(table->name);
      CAPTURE(static_cast<int>(form));
      set_convolution(form);
      const Computed found = computed(p, x, filter, g);
      // Direct sums round by less than 1e-6; Winograd's intermediate numbers are up to ten times the results.
      const double bound = form == Convolution::kDirect ? 1e-6 : 5e-6;
      CHECK(rms_error(found.y, expected.y) <= bound);
      CHECK(rms_error(found.gx, expected.gx) <= bound);
      CHECK(rms_error(found.gfilter, expected.gfilter) <= bound);
    }
  }
}

}  // namespace

TEST_SUITE("convolution forms") {
  TEST_CASE("3x3 of stride 1: every form and table gives the definition's result") {
    const Restore restore;
    Rng rng(test_seed());
    for (int i = 0; i < kProblems; ++i) {
      const Problem p{
          .n = rng.between(1, 3),
          .h = rng.between(3, 13),
          .w = rng.between(3, 13),
          .in = rng.between(1, i % 3 == 0 ? 70 : 20),
          .out = rng.between(1, i % 4 == 0 ? 70 : 20),
          .kh = 3,
          .kw = 3,
          .geometry = {.padding = {rng.between(0, 3), rng.between(0, 3), rng.between(0, 3), rng.between(0, 3)}}};
      check_all_forms(p, RngKey{.seed = test_seed()}.child(static_cast<uint64_t>(i)));
    }
  }

  TEST_CASE("other shapes: every table gives the definition's result") {
    const Restore restore;
    Rng rng(test_seed());
    for (int i = 0; i < kProblems; ++i) {
      Problem p{.n = rng.between(1, 3),
                .h = rng.between(1, 12),
                .w = rng.between(1, 12),
                .in = rng.between(1, 40),
                .out = rng.between(1, 40),
                .kh = rng.between(1, 5),
                .kw = rng.between(1, 5),
                .geometry = {.stride = {rng.between(1, 3), rng.between(1, 3)},
                             .padding = Padding::all(rng.between(0, 4)),
                             .dilation = {rng.between(1, 2), rng.between(1, 2)}}};
      p.h = std::max(p.h, (p.kh - 1) * p.geometry.dilation.h + 1);
      p.w = std::max(p.w, (p.kw - 1) * p.geometry.dilation.w + 1);
      if (i % 3 == 0) {
        p.geometry.groups = rng.between(2, 4);
        p.in = p.geometry.groups * rng.between(2, 5);
        p.out = p.geometry.groups * rng.between(2, 5);
      }
      check_all_forms(p, RngKey{.seed = test_seed()}.child(static_cast<uint64_t>(1000 + i)));
    }
  }

  // Sizes at which work is cut in every way there is: many tiles, few tiles, long rows, windows far apart, filters too
  // large for partial sums.
  TEST_CASE("large shapes: every table gives the definition's result") {
    const Restore restore;
    const auto problem = [](int64_t n, int64_t h, int64_t w, int64_t in, int64_t out, int64_t k,
                            const ConvGeometry& geometry) {
      return Problem{.n = n, .h = h, .w = w, .in = in, .out = out, .kh = k, .kw = k, .geometry = geometry};
    };
    uint64_t i = 2000;
    for (const Problem& p : {problem(16, 33, 30, 17, 18, 3, {.padding = Padding::all(1)}),  // blocks of tiles
                             problem(5, 4, 4, 200, 190, 3, {.padding = Padding::all(1)}),   // points shared out
                             problem(1, 3, 2000, 3, 20, 3, {}),                             // long rows
                             problem(2, 50, 50, 2, 5, 3, {.stride = {20, 20}, .padding = Padding::all(25)}),
                             problem(2, 9, 9, 90, 190, 3, {.stride = {2, 2}, .padding = Padding::all(1)}),
                             problem(40, 5, 5, 3, 9, 2, {})}) {
      check_all_forms(p, RngKey{.seed = test_seed()}.child(i++));
    }
  }

  TEST_CASE("results do not depend on the thread count") {
    const Restore restore;
    for (const TrainKernels* table : available_train_kernels()) {
      set_train_kernels(table->name);
      for (const Convolution form : kForms) {
        set_convolution(form);
        for (const auto& [n, size, in, out] :
             {std::array<int64_t, 4>{8, 16, 17, 33}, {3, 4, 130, 120}, {1, 21, 16, 16}}) {
          const Problem p{.n = n,
                          .h = size,
                          .w = size,
                          .in = in,
                          .out = out,
                          .kh = 3,
                          .kw = 3,
                          .geometry = {.padding = Padding::all(1)}};
          const Tensor x = Tensor::normal({p.n, p.h, p.w, p.in}, {.seed = 1}, 0, 1);
          const Tensor filter = Tensor::normal({p.out, 3, 3, p.in}, {.seed = 2}, 0, 1);
          const Tensor g = Tensor::normal(output_shape(p), {.seed = 3}, 0, 1);
          CHECK(same_for_any_thread_count([&] { return computed(p, x, filter, g).y; }));
          CHECK(same_for_any_thread_count([&] { return computed(p, x, filter, g).gx; }));
          CHECK(same_for_any_thread_count([&] { return computed(p, x, filter, g).gfilter; }));
        }
      }
    }
  }

  TEST_CASE("a form is found by its name") {
    CHECK(convolution_named("auto") == Convolution::kAuto);
    CHECK(convolution_named("winograd4") == Convolution::kWinograd4);
    CHECK_THROWS_WITH_AS(convolution_named("fft"), doctest::Contains("there is no form called 'fft'"), Error);
  }

  TEST_CASE("an unknown kernel table is refused and the old one stays") {
    const std::string before = train_kernels().name;
    CHECK_THROWS_WITH_AS(set_train_kernels("mmx"),
                         doctest::Contains("no kernel table for training called 'mmx' runs here"), Error);
    CHECK(train_kernels().name == before);
    CHECK(std::string(available_train_kernels().back()->name) == "reference");
  }
}

}  // namespace whittle
