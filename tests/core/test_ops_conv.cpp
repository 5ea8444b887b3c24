// Convolution: values and all three gradients against the definition written as
// seven loops, in double.

#include <doctest/doctest.h>

#include <algorithm>

#include "tests/core/distance.h"
#include "tests/core/op_cases.h"
#include "tests/core/oracle.h"
#include "tests/core/window_samples.h"
#include "tests/support/seed.h"

namespace whittle {

namespace {

using Numbers = std::vector<double>;

struct Convolved {
  Numbers y, gx, gfilter, gbias;
};

// The sum of ops.h over every index there is, with its three gradients: each product of the sum passes g on to its two
// factors. Knows nothing of tiles, patches or phases.
Convolved convolve(const ConvSample& s, const Tensor& x, const Tensor& filter, const Tensor& bias, const Tensor& g) {
  const auto& [stride, padding, dilation, groups, plain] = s.geometry;
  const int64_t images = s.x[0], height = s.x[1], width = s.x[2], inputs = s.x[3];
  const int64_t outputs = s.filter[0], kh = s.filter[1], kw = s.filter[2], depth = s.filter[3];
  const int64_t out_h = g.dim(1), out_w = g.dim(2);
  const auto sized = [](int64_t n) { return Numbers(static_cast<size_t>(n), 0.0); };
  Convolved r{sized(g.elements()), sized(x.elements()), sized(filter.elements()), sized(outputs)};
  for (int64_t n = 0; n < images; ++n) {
    for (int64_t i = 0; i < out_h; ++i) {
      for (int64_t j = 0; j < out_w; ++j) {
        for (int64_t o = 0; o < outputs; ++o) {
          const auto at_y = static_cast<size_t>(((n * out_h + i) * out_w + j) * outputs + o);
          const auto at_o = static_cast<size_t>(o);
          const auto g_here = static_cast<double>(g.values()[at_y]);
          r.y[at_y] = bias.defined() ? static_cast<double>(bias.values()[at_o]) : 0;
          r.gbias[at_o] += g_here;
          for (int64_t u = 0; u < kh; ++u) {
            for (int64_t v = 0; v < kw; ++v) {
              for (int64_t c = 0; c < depth; ++c) {
                const int64_t row = i * stride.h + u * dilation.h - padding.top;
                const int64_t col = j * stride.w + v * dilation.w - padding.left;
                if (row < 0 || row >= height || col < 0 || col >= width) {
                  continue;
                }
                const int64_t channel = o / (outputs / groups) * depth + c;
                const auto at_x = static_cast<size_t>(((n * height + row) * width + col) * inputs + channel);
                const auto at_f = static_cast<size_t>(((o * kh + u) * kw + v) * depth + c);
                const auto x_here = static_cast<double>(x.values()[at_x]);
                const auto f_here = static_cast<double>(filter.values()[at_f]);
                r.y[at_y] += x_here * f_here;
                r.gx[at_x] += g_here * f_here;
                r.gfilter[at_f] += g_here * x_here;
              }
            }
          }
        }
      }
    }
  }
  return r;
}

constexpr bool kDouble = sizeof(real) == 8;
// Relative to the sum of magnitudes. The worst seen is 2.5e-7 over 20 seeds (sums of up to some 150 products), and less
// for the large shapes, where an error is a smaller part of a longer sum.
constexpr double kBound = kDouble ? 1e-12 : 8e-7;

double check_against_definition(const ConvSample& s, RngKey key) {
  const std::string description = s.description();
  CAPTURE(description);
  const auto& [stride, padding, dilation, groups, plain] = s.geometry;
  std::vector<Tensor> inputs{Tensor::uniform(s.x, key.child(0), -1, 1), Tensor::uniform(s.filter, key.child(1), -1, 1)};
  if (s.has_bias) {
    inputs.push_back(Tensor::uniform({s.filter[0]}, key.child(2), -1, 1));
  }
  Tensor g;
  const Run got = run(
      [&](std::span<const Variable> in) {
        return conv2d(in[0], in[1], in.size() > 2 ? in[2] : Variable(), s.geometry);
      },
      inputs, [&](const Shape& shape) { return g = Tensor::uniform(shape, key.child(3), real(0.5), real(1.5)); });
  const auto positions = [](int64_t in, int64_t before, int64_t after, int64_t k, int64_t step, int64_t d) {
    int64_t count = 0;
    while (count * step + d * (k - 1) < in + before + after) {
      ++count;
    }
    return count;
  };
  REQUIRE(got.value.shape() ==
          Shape{s.x[0], positions(s.x[1], padding.top, padding.bottom, s.filter[1], stride.h, dilation.h),
                positions(s.x[2], padding.left, padding.right, s.filter[2], stride.w, dilation.w), s.filter[0]});

  const Convolved want = convolve(s, inputs[0], inputs[1], s.has_bias ? inputs[2] : Tensor(), g);
  // Errors are relative to the largest sum of magnitudes: what is left when terms cancel has no digits to lose.
  const auto magnitudes = [](const Tensor& t) { return abs(t).value(); };
  const Convolved terms =
      convolve(s, magnitudes(inputs[0]), magnitudes(inputs[1]), s.has_bias ? magnitudes(inputs[2]) : Tensor(), g);
  std::vector<double> errors{distance(got.value, want.y, std::ranges::max(terms.y)),
                             distance(got.gradients[0], want.gx, std::ranges::max(terms.gx)),
                             distance(got.gradients[1], want.gfilter, std::ranges::max(terms.gfilter))};
  if (s.has_bias) {
    errors.push_back(distance(got.gradients[2], want.gbias));
  }
  for (size_t i = 0; i < errors.size(); ++i) {
    CAPTURE(i);  // y, gx, gfilter, gbias
    CHECK(errors[i] <= kBound);
  }
  return std::ranges::max(errors);
}

// Large enough for several tiles of every kind, in every dimension and with ragged ends.
const std::vector<ConvSample>& large_samples() {
  static const std::vector<ConvSample> samples{
      {.x = {3, 37, 41, 12}, .filter = {20, 3, 3, 12}, .has_bias = true, .geometry = {.padding = Padding::all(1)}},
      {.x = {2, 33, 29, 16},
       .filter = {24, 3, 3, 16},
       .has_bias = true,
       .geometry = {.stride = {2, 2}, .padding = {0, 1, 1, 0}}},
      {.x = {2, 31, 35, 16}, .filter = {24, 3, 3, 4}, .geometry = {.padding = Padding::all(1), .groups = 4}},
      {.x = {5, 19, 23, 40}, .filter = {56, 1, 1, 40}, .has_bias = true},
      {.x = {3, 25, 27, 32}, .filter = {48, 1, 1, 32}, .geometry = {.stride = {2, 2}}},
      {.x = {3, 39, 43, 48},
       .filter = {48, 3, 3, 1},
       .has_bias = true,
       .geometry = {.padding = Padding::all(1), .groups = 48}},
      {.x = {3, 39, 43, 24},
       .filter = {48, 5, 3, 1},
       .geometry = {.stride = {2, 1}, .padding = {2, 1, 2, 1}, .dilation = {1, 2}, .groups = 24}},
      {.x = {1, 60, 60, 3},
       .filter = {16, 7, 7, 3},
       .has_bias = true,
       .geometry = {.stride = {2, 2}, .padding = Padding::all(3)}},
  };
  return samples;
}

}  // namespace

TEST_SUITE("conv") {
  TEST_CASE("conv2d: values and gradients of 400 random shapes equal the seven loops, on every kernel table") {
    CAPTURE(test_seed());
    double worst = 0;
    for_each_table([&] {
      Rng rng(RngKey{.seed = test_seed()}.child("conv2d shapes"));
      for (uint64_t i = 0; i < 400; ++i) {
        worst = std::max(worst, check_against_definition(some_convolution(rng), RngKey{.seed = test_seed()}.child(i)));
      }
    });
    MESSAGE("conv2d against loops: worst relative error " << worst);
  }

  TEST_CASE("conv2d: shapes of many tiles equal the seven loops, on every kernel table") {
    for_each_table([] {
      for (const ConvSample& s : large_samples()) {
        check_against_definition(s, {.seed = 11});
      }
    });
  }

  // Vectors with and without a tail, pixels that share a vector, rows too short for that, and long rows.
  TEST_CASE("conv2d: depthwise convolutions of any number of channels equal the seven loops, on every kernel table") {
    for_each_table([] {
      for (const int64_t channels : {2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 47, 64, 65}) {
        for (const int64_t stride : {1, 2}) {
          for (const int64_t width : {1, 2, 5, 18}) {
            for (const int64_t kernel : {3, 5}) {
              check_against_definition(
                  {.x = {2, 4, width, channels},
                   .filter = {channels, kernel, kernel, 1},
                   .has_bias = width == 5,
                   .geometry = {.stride = {stride, stride}, .padding = Padding::all(kernel / 2), .groups = channels}},
                  {.seed = 12});
            }
          }
        }
      }
    });
  }

  TEST_CASE("conv2d: an example by hand") {
    const Variable x(Tensor::of({1, 2, 3, 1}, {1, 2, 3,  //
                                               4, 5, 6}));
    const Variable filter(Tensor::of({1, 2, 2, 1}, {1, 10,  //
                                                    100, 1000}));
    const Tensor y = conv2d(x, filter, Tensor::of({1}, {10000}), {.padding = {.left = 1}}).value();
    CHECK(y.shape() == Shape{1, 1, 3, 1});
    CHECK(same_bits(y, Tensor::of({1, 1, 3, 1}, {14010, 15421, 16532})));
  }

  TEST_CASE("conv2d: same bits for any thread count") {
    std::vector<ConvSample> samples = large_samples();
    samples.push_back(
        {.x = {9, 21, 23, 8}, .filter = {8, 3, 3, 1}, .geometry = {.padding = Padding::all(1), .groups = 8}});
    for (const ConvSample& s : samples) {
      const std::string description = s.description();
      CAPTURE(description);
      std::vector<Tensor> inputs{Tensor::uniform(s.x, {.seed = 1}, -1, 1),
                                 Tensor::uniform(s.filter, {.seed = 2}, -1, 1)};
      if (s.has_bias) {
        inputs.push_back(Tensor::uniform({s.filter[0]}, {.seed = 3}, -1, 1));
      }
      check_same_bits_for_any_thread_count(
          [&](std::span<const Variable> in) {
            return conv2d(in[0], in[1], in.size() > 2 ? in[2] : Variable(), s.geometry);
          },
          inputs);
    }
  }

  TEST_CASE("conv2d: backward is pure, skips what is not wanted and keeps only what it reads") {
    for (const ConvSample& s : large_samples()) {
      const std::string description = s.description();
      CAPTURE(description);
      const Tensor filter = Tensor::uniform(s.filter, {.seed = 2}, -1, 1);
      const Tensor bias = Tensor::uniform({s.filter[0]}, {.seed = 3}, -1, 1);
      for (const int wanted : {0, 1, 2}) {
        CAPTURE(wanted);
        Tensor x = Tensor::uniform(s.x, {.seed = 1}, -1, 1);
        Tensor f = filter.clone();
        const auto as_input = [&](const Tensor& t, int place) {
          return wanted == place ? Variable::leaf(t) : Variable(t);
        };
        const Variable y = conv2d(as_input(x, 0), as_input(f, 1), as_input(bias, 2), s.geometry);
        CHECK(x.is_unique() == (wanted != 1));
        CHECK(f.is_unique() == (wanted != 0));
        const Tensor g = Tensor::uniform(y.shape(), {.seed = 4}, -1, 1);
        const Gradients once = y.node()->backward(g);
        const Gradients again = y.node()->backward(g);
        REQUIRE(once.size() == 3);
        for (size_t i = 0; i < 3; ++i) {
          CHECK(once[i].defined() == (static_cast<int>(i) == wanted));
          CHECK(same_bits(once[i], again[i]));
        }
      }
    }
  }

  TEST_CASE("conv2d: scratch memory comes back to the pool") {
    const auto step = [](const ConvSample& s) {
      const Variable x = Variable::leaf(Tensor::full(s.x, 1));
      const Variable filter = Variable::leaf(Tensor::full(s.filter, 1));
      const Variable y = conv2d(x, filter, {}, s.geometry);
      static_cast<void>(y.node()->backward(y.value()));
    };
    set_num_threads(1);  // with more, how many tiles hold scratch at once is left to chance
    for (const ConvSample& s : large_samples()) {
      step(s);
      const PoolStats before = pool_stats();
      step(s);
      const PoolStats after = pool_stats();
      CHECK(after.system_allocations == before.system_allocations);
      CHECK(after.bytes_in_use == before.bytes_in_use);
    }
    set_num_threads(0);
  }

  TEST_CASE("conv2d: misuse is refused with its name and shapes") {
    const Variable x(Tensor::zeros({1, 32, 32, 3}));
    const auto filter = [](std::initializer_list<int64_t> dims) { return Variable(Tensor::zeros(Shape(dims))); };
    const Variable good = filter({16, 3, 3, 3});
    constexpr int64_t kHuge = INT64_MAX;
    const Misuse misuses[] = {
        {[&] {
           return conv2d(x, filter({16, 3, 3, 16}));
         },
         {"[conv2d] input has 3 channels, filter expects 16 (input [1,32,32,3], filter [16,3,3,16])"}},
        {[&] { return conv2d(Variable(), good); }, {"[conv2d]", "undefined"}},
        {[&] { return conv2d(x, Variable()); }, {"[conv2d]", "undefined"}},
        {[&] {
           return conv2d(filter({32, 32, 3}), good);
         },
         {"[conv2d]", "rank 3", "[32,32,3]"}},
        {[&] {
           return conv2d(x, filter({16, 27}));
         },
         {"[conv2d]", "rank 2", "[16,27]"}},
        {[&] { return conv2d(x, good, Tensor::zeros({3})); }, {"[conv2d]", "bias", "[3]", "[16]", "[16,3,3,3]"}},
        {[&] {
           return conv2d(x, good, Tensor::zeros({16, 1}));
         },
         {"[conv2d]", "bias", "[16,1]", "[16]"}},
        {[&] {
           return conv2d(x, good, {}, {.stride = {0, 1}});
         },
         {"[conv2d]", "vertical stride 0", "[1,32,32,3]"}},
        {[&] {
           return conv2d(x, good, {}, {.stride = {1, -2}});
         },
         {"[conv2d]", "horizontal stride -2"}},
        {[&] {
           return conv2d(x, good, {}, {.stride = {kHuge, 1}});
         },
         {"[conv2d]", "vertical stride", "2^31"}},
        {[&] {
           return conv2d(x, good, {}, {.dilation = {0, 1}});
         },
         {"[conv2d]", "vertical dilation 0"}},
        {[&] {
           return conv2d(x, good, {}, {.dilation = {1, kHuge}});
         },
         {"[conv2d]", "horizontal dilation"}},
        {[&] { return conv2d(x, good, {}, {.padding = {.top = -1}}); }, {"[conv2d]", "vertical padding -1"}},
        {[&] { return conv2d(x, good, {}, {.padding = {.right = -3}}); }, {"[conv2d]", "horizontal padding", "-3"}},
        {[&] { return conv2d(x, good, {}, {.padding = Padding::all(kHuge)}); }, {"[conv2d]", "vertical padding"}},
        {[&] { return conv2d(x, good, {}, {.padding = Padding::all(int64_t{1} << 31)}); },
         {"[conv2d]", "too large", "[1,32,32,3]", "[16,3,3,3]"}},
        {[&] {
           return conv2d(x, filter({16, 33, 3, 3}));
         },
         {"[conv2d]", "vertical window of 33 taps", "32 + 0 + 0", "[16,33,3,3]"}},
        {[&] {
           return conv2d(x, good, {}, {.dilation = {1, 16}});
         },
         {"[conv2d]", "horizontal window of 3 taps with dilation 16", "does not fit"}},
        {[&] { return conv2d(x, good, {}, {.groups = 0}); }, {"[conv2d]", "groups 0", "[1,32,32,3]"}},
        {[&] { return conv2d(x, good, {}, {.groups = -3}); }, {"[conv2d]", "groups -3"}},
        {[&] { return conv2d(x, good, {}, {.groups = kHuge}); }, {"[conv2d]", "3 input channels", "groups"}},
        {[&] { return conv2d(x, good, {}, {.groups = 2}); }, {"[conv2d]", "3 input channels", "2 groups"}},
        {[&] {
           return conv2d(x, filter({16, 3, 3, 1}), {}, {.groups = 3});
         },
         {"[conv2d]", "16 output channels", "3 groups", "[16,3,3,1]"}},
        {[&] {
           return conv2d(x, filter({18, 3, 3, 3}), {}, {.groups = 3});
         },
         {"[conv2d] input has 3 channels, filter expects 9", "[18,3,3,3]"}},
    };
    for (const Misuse& misuse : misuses) {
      check_refused(misuse);
    }
    CHECK(std::ranges::all_of(x.value().values(), [](real v) { return v == 0; }));
  }

  TEST_CASE("conv2d: a dilation, stride or padding that just fits is accepted") {
    const Variable x(Tensor::full({1, 32, 32, 1}, 1));
    const Variable filter(Tensor::full({1, 3, 3, 1}, 1));
    CHECK(conv2d(x, filter, {}, {.dilation = {15, 15}}).shape() == Shape{1, 2, 2, 1});
    CHECK(conv2d(x, filter, {}, {.stride = {int64_t{1} << 31, 40}}).shape() == Shape{1, 1, 1, 1});
    // Windows that lie in the padding altogether: their sum is the bias.
    const ConvGeometry far_apart{.stride = {30, 30}, .padding = Padding::all(30)};
    const Tensor far = conv2d(x, filter, Tensor::of({1}, {7}), far_apart).value();
    CHECK(far.shape() == Shape{1, 3, 3, 1});
    CHECK(same_bits(far, Tensor::of({1, 3, 3, 1}, {7, 7, 7, 7, 16, 13, 7, 13, 11})));
  }

  TEST_CASE("window_positions counts windows and refuses those that do not fit") {
    CHECK(window_positions(32, 1, 1, 3, 1, 1) == 32);
    CHECK(window_positions(32, 1, 1, 3, 2, 1) == 16);
    CHECK(window_positions(7, 0, 0, 3, 2, 2) == 2);
    CHECK(window_positions(1, 0, 0, 1, 5, 9) == 1);
    CHECK(message_of([] { return window_positions(2, 0, 0, 3, 1, 1); }).starts_with("[window_positions]"));
    CHECK(message_of([] { return window_positions(0, 1, 1, 1, 1, 1); }).starts_with("[window_positions]"));
    CHECK(message_of([] { return window_positions(INT64_MAX, 1, 1, 1, 1, 1); }).starts_with("[window_positions]"));
    CHECK(message_of([] { return window_positions(9, 1, 1, INT64_MAX, 1, 2); }).starts_with("[window_positions]"));
    CHECK(message_of([] { return window_positions(9, 1, 1, 3, 0, 1); }).starts_with("[window_positions]"));
  }
}

}  // namespace whittle
