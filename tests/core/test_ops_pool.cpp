// Pools against loops over windows: values, winners of ties, NaN, gradients.

#include <doctest/doctest.h>

#include <algorithm>

#include "tests/core/op_cases.h"
#include "tests/core/oracle.h"
#include "tests/core/window_samples.h"
#include "tests/support/seed.h"

namespace whittle {

namespace {

constexpr real kInf = std::numeric_limits<real>::infinity();
constexpr real kNaN = std::numeric_limits<real>::quiet_NaN();

struct Pooled {
  std::vector<double> y, gx;
};

// Both pools, window by window: collect what lies inside x, then take the maximum or the mean.
Pooled pool(const PoolSample& s, const Tensor& x, const Tensor& g, bool maximum) {
  const Size2 kernel = s.geometry.kernel;
  const Size2 stride{s.geometry.stride.h == 0 ? kernel.h : s.geometry.stride.h,
                     s.geometry.stride.w == 0 ? kernel.w : s.geometry.stride.w};
  Pooled result{std::vector<double>(static_cast<size_t>(g.elements())),
                std::vector<double>(static_cast<size_t>(x.elements()), 0.0)};
  for_each_index(g.shape(), [&](const Index& at, int64_t position) {
    std::vector<size_t> inside;
    for (int64_t u = 0; u < kernel.h; ++u) {
      for (int64_t v = 0; v < kernel.w; ++v) {
        const int64_t row = at[1] * stride.h + u - s.geometry.padding.top;
        const int64_t col = at[2] * stride.w + v - s.geometry.padding.left;
        if (row >= 0 && row < s.x[1] && col >= 0 && col < s.x[2]) {
          inside.push_back(static_cast<size_t>(position_of({at[0], row, col, at[3]}, s.x)));
        }
      }
    }
    REQUIRE(!inside.empty());
    const auto g_here = static_cast<double>(g.data()[position]);
    double& y = result.y[static_cast<size_t>(position)];
    if (maximum) {
      size_t best = inside.front();
      for (const size_t i : inside) {
        best = x.values()[i] > x.values()[best] ? i : best;
      }
      y = static_cast<double>(x.values()[best]);
      result.gx[best] += g_here;
    } else {
      for (const size_t i : inside) {
        y += static_cast<double>(x.values()[i]) / static_cast<double>(inside.size());
        result.gx[i] += g_here / static_cast<double>(inside.size());
      }
    }
  });
  return result;
}

int count_wrong(const Tensor& got, const std::vector<double>& want, double scale) {
  int wrong = got.elements() == static_cast<int64_t>(want.size()) ? 0 : 1000000;
  for (size_t i = 0; wrong < 1000000 && i < want.size(); ++i) {
    wrong += !close(got.values()[i], want[i], scale, 4);
  }
  return wrong;
}

void check_against_loops(const PoolSample& s, const Tensor& x, bool maximum) {
  const std::string description = s.description();
  CAPTURE(description);
  CAPTURE(maximum);
  Tensor g;
  const Run got = run(
      [&](std::span<const Variable> in) { return maximum ? max_pool(in[0], s.geometry) : avg_pool(in[0], s.geometry); },
      {x}, [&](const Shape& shape) { return g = Tensor::uniform(shape, {.seed = 5}, real(0.5), real(1.5)); });
  const Pooled want = pool(s, x, g, maximum);
  CHECK(count_wrong(got.value, want.y, maximum ? 0 : 2) == 0);
  // A pixel is in at most (kernel / stride)^2 windows; the samples stay below 16.
  CHECK(count_wrong(got.gradients[0], want.gx, 16) == 0);
}

// Small whole numbers: most windows have ties.
Tensor with_ties(Rng& rng, const Shape& shape) {
  Tensor x = Tensor::empty(shape);
  std::ranges::generate(x.mutable_values(), [&] { return static_cast<real>(rng.between(-2, 1)); });
  return x;
}

const std::vector<PoolSample>& large_samples() {
  static const std::vector<PoolSample> samples{
      {.x = {3, 57, 61, 24}, .geometry = {}},
      {.x = {3, 57, 61, 24}, .geometry = {.kernel = {3, 3}, .stride = {2, 2}, .padding = {1, 1, 0, 1}}},
      {.x = {2, 40, 40, 33}, .geometry = {.kernel = {3, 2}, .stride = {1, 3}, .padding = {2, 0, 1, 1}}},
  };
  return samples;
}

}  // namespace

TEST_SUITE("pool") {
  TEST_CASE("max_pool and avg_pool: 400 random shapes equal the loops, ties included, on every kernel table") {
    CAPTURE(test_seed());
    for_each_table([] {
      Rng rng(RngKey{.seed = test_seed()}.child("pool shapes"));
      for (int i = 0; i < 400; ++i) {
        const PoolSample s = some_pooling(rng);
        check_against_loops(s, with_ties(rng, s.x), true);
        check_against_loops(s, some_tensor(rng, s.x), false);
      }
      for (const PoolSample& s : large_samples()) {
        check_against_loops(s, with_ties(rng, s.x), true);
        check_against_loops(s, some_tensor(rng, s.x), false);
      }
    });
  }

  TEST_CASE("max_pool: kernels of more than 256 taps remember their winners too") {
    for_each_table([] {
      Rng rng(test_seed());
      for (const Size2 kernel : {Size2{16, 16}, Size2{16, 17}, Size2{1, 257}, Size2{20, 33}}) {
        const PoolSample s{.x = {2, 21, 300, 3}, .geometry = {.kernel = kernel, .stride = {16, 16}}};
        check_against_loops(s, distinct_tensor(rng, s.x), true);
        check_against_loops(s, with_ties(rng, s.x), true);
      }
    });
  }

  TEST_CASE("max_pool: padding never wins, and neither do ties against the first") {
    const Variable x = Variable::leaf(Tensor::of({1, 2, 2, 1}, {-3, -1, -1, -2}));
    const Variable y = max_pool(x, {.kernel = {3, 3}, .stride = {1, 1}, .padding = Padding::all(1)});
    CHECK(same_bits(y.value(), Tensor::of({1, 2, 2, 1}, {-1, -1, -1, -1})));
    backward(sum(mul(y, Tensor::of({1, 2, 2, 1}, {1, 2, 4, 8}))));
    CHECK(same_bits(x.grad(), Tensor::of({1, 2, 2, 1}, {0, 15, 0, 0})));
  }

  TEST_CASE("max_pool: a window of -infinity has a winner; a NaN wins and takes the gradient") {
    const auto pool_row = [](std::initializer_list<real> row) {
      const Variable x = Variable::leaf(Tensor::of({1, 1, 4, 1}, row));
      const Variable y = max_pool(x, {.kernel = {1, 4}});
      backward(sum(y));
      return std::pair(y.value().item(), x.grad());
    };
    const auto won = [](int64_t place) {
      Tensor g = Tensor::zeros({1, 1, 4, 1});
      g.mutable_data()[place] = 1;
      return g;
    };
    for_each_table([&] {
      const auto [lowest, g_lowest] = pool_row({-kInf, -kInf, -kInf, -kInf});
      CHECK(lowest == -kInf);
      CHECK(same_bits(g_lowest, won(0)));
      for (int64_t place = 0; place < 4; ++place) {
        CAPTURE(place);
        std::vector<real> row{1, kInf, 2, kInf};
        row[static_cast<size_t>(place)] = kNaN;
        const auto [y, g] = pool_row({row[0], row[1], row[2], row[3]});
        CHECK(std::isnan(y));
        CHECK(same_bits(g, won(place)));
      }
      const auto [both, g_both] = pool_row({1, kNaN, kNaN, 5});
      CHECK(std::isnan(both));
      CHECK(same_bits(g_both, won(1)));
    });
  }

  TEST_CASE("avg_pool: the mean is over the part inside") {
    const Variable x(Tensor::of({1, 2, 2, 1}, {1, 2, 4, 8}));
    const Tensor y = avg_pool(x, {.kernel = {2, 2}, .stride = {1, 1}, .padding = Padding::all(1)}).value();
    CHECK(same_bits(y, Tensor::of({1, 3, 3, 1}, {1, 1.5, 2, 2.5, 3.75, 5, 4, 6, 8})));
  }

  TEST_CASE("global_avg_pool equals the loops, also over long sums") {
    Rng rng(test_seed());
    for (const Shape& shape :
         {Shape{2, 3, 5, 7}, Shape{1, 1, 1, 1}, Shape{3, 1, 9, 1}, Shape{2, 200, 301, 3}, Shape{4, 7, 7, 512}}) {
      CAPTURE(shape.str());
      const Tensor x = some_tensor(rng, shape, 0, 2);
      Tensor g;
      const Run got = run([](std::span<const Variable> in) { return global_avg_pool(in[0]); }, {x},
                          [&](const Shape& s) { return g = Tensor::uniform(s, {.seed = 5}, real(0.5), real(1.5)); });
      REQUIRE(got.value.shape() == Shape{shape[0], shape[3]});
      const auto pixels = static_cast<double>(shape[1] * shape[2]);
      std::vector<long double> sum(static_cast<size_t>(shape[0] * shape[3]), 0);
      std::vector<double> gx(static_cast<size_t>(shape.elements()));
      for_each_index(shape, [&](const Index& at, int64_t i) {
        const int64_t pooled = at[0] * shape[3] + at[3];
        sum[static_cast<size_t>(pooled)] += static_cast<long double>(x.data()[i]);
        gx[static_cast<size_t>(i)] = static_cast<double>(g.data()[pooled]) / pixels;
      });
      std::vector<double> mean;
      for (const long double total : sum) {
        mean.push_back(static_cast<double>(total) / pixels);
      }
      CHECK(count_wrong(got.value, mean, 2) == 0);
      CHECK(count_wrong(got.gradients[0], gx, 1 / pixels) == 0);
    }
  }

  TEST_CASE("pools: same bits for any thread count") {
    for (const PoolSample& s : large_samples()) {
      const Tensor x = Tensor::uniform(s.x, {.seed = 1}, -1, 1);
      check_same_bits_for_any_thread_count([&](std::span<const Variable> in) { return max_pool(in[0], s.geometry); },
                                           {x});
      check_same_bits_for_any_thread_count([&](std::span<const Variable> in) { return avg_pool(in[0], s.geometry); },
                                           {x});
      check_same_bits_for_any_thread_count([](std::span<const Variable> in) { return global_avg_pool(in[0]); }, {x});
    }
  }

  TEST_CASE("pools: backward is pure and keeps no value") {
    for (const auto op : {+[](const Variable& v) { return max_pool(v); },  //
                          +[](const Variable& v) { return avg_pool(v); },  //
                          +[](const Variable& v) { return global_avg_pool(v); }}) {
      Tensor x = Tensor::uniform({2, 9, 9, 5}, {.seed = 1});
      Variable y = op(Variable::leaf(x));
      CHECK(x.is_unique());
      CHECK(y.value().is_unique());
      const Tensor g = Tensor::uniform(y.shape(), {.seed = 2});
      CHECK(same_bits(y.node()->backward(g)[0], y.node()->backward(g)[0]));
    }
  }

  TEST_CASE("pools: misuse is refused with its name and shapes") {
    const Variable x(Tensor::zeros({1, 6, 5, 3}));
    const Variable matrix(Tensor::zeros({6, 5}));
    constexpr int64_t kHuge = INT64_MAX;
    struct PoolMisuse {
      Variable x;
      PoolGeometry geometry;
      std::vector<const char*> pieces;
    };
    const PoolMisuse misuses[] = {
        {Variable(), {}, {"undefined"}},
        {matrix, {}, {"[6,5]", "[N,H,W,C]"}},
        {x, {.kernel = {0, 2}}, {"0 x 2", "[1,6,5,3]"}},
        {x, {.kernel = {2, -1}}, {"2 x -1", "[1,6,5,3]"}},
        {x, {.kernel = {7, 2}}, {"vertical window of 7 taps", "6 + 0 + 0", "[1,6,5,3]"}},
        {x, {.kernel = {2, kHuge}}, {"horizontal window", "does not fit", "[1,6,5,3]"}},
        {x, {.stride = {-1, 1}}, {"vertical stride -1", "[1,6,5,3]"}},
        {x, {.stride = {1, kHuge}}, {"horizontal stride", "[1,6,5,3]"}},
        {x, {.padding = {2, 0, 0, 0}}, {"padding {2,0,0,0} is not smaller than the kernel of 2 x 2", "[1,6,5,3]"}},
        {x, {.padding = {0, 0, 0, 2}}, {"padding {0,0,0,2} is not smaller"}},
        {x, {.kernel = {3, 2}, .padding = {2, 0, 3, 0}}, {"padding {2,0,3,0} is not smaller"}},
        {x, {.padding = {0, -1, 0, 0}}, {"horizontal padding -1"}},
    };
    for (const PoolMisuse& m : misuses) {
      std::vector<const char*> pieces = m.pieces;
      pieces.push_back("[max_pool]");
      check_refused({[&] { return max_pool(m.x, m.geometry); }, pieces});
      pieces.back() = "[avg_pool]";
      check_refused({[&] { return avg_pool(m.x, m.geometry); }, pieces});
    }
    check_refused({[] { return global_avg_pool(Variable()); }, {"[global_avg_pool]", "undefined"}});
    check_refused({[&] { return global_avg_pool(matrix); }, {"[global_avg_pool]", "[6,5]", "[N,H,W,C]"}});
  }
}

}  // namespace whittle
