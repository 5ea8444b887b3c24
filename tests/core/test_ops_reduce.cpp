// Reductions against loops over indices.

#include <doctest/doctest.h>

#include "tests/core/oracle.h"
#include "tests/core/some_shape.h"
#include "tests/support/seed.h"

namespace whittle {

namespace {

constexpr real kNan = std::numeric_limits<real>::quiet_NaN();

// What a reduction of `shape` must leave, with ones in place of the reduced axes.
Shape ones_at(const Shape& shape, const std::vector<int>& axes) {
  Index dims(shape.dims().begin(), shape.dims().end());
  for (size_t axis = 0; axis < dims.size(); ++axis) {
    const int number = static_cast<int>(axis);
    const bool named = std::ranges::any_of(axes, [&](int a) { return a == number || a == number - shape.rank(); });
    dims[axis] = axes.empty() || named ? 1 : dims[axis];
  }
  return Shape(dims);
}

// Sum, mean and maximum over the axes, element by element.
void check_against_loops(const Tensor& x, const std::vector<int>& axes) {
  CAPTURE(x.shape().str());
  const Shape kept = ones_at(x.shape(), axes);
  CAPTURE(kept.str());
  const size_t results = static_cast<size_t>(kept.elements());
  const double count = static_cast<double>(x.elements()) / static_cast<double>(kept.elements());

  std::vector<long double> sums(results, 0);
  std::vector<double> magnitudes(results, 0);
  std::vector<int64_t> largest(results, -1);
  std::vector<size_t> target(static_cast<size_t>(x.elements()));
  for_each_index(x.shape(), [&](const Index& index, int64_t i) {
    const size_t to = static_cast<size_t>(position_of(index, kept));
    const real value = x.data()[i];
    target[static_cast<size_t>(i)] = to;
    sums[to] += static_cast<long double>(value);
    magnitudes[to] += std::abs(static_cast<double>(value));
    if (largest[to] < 0 || value > x.data()[largest[to]]) {
      largest[to] = i;
    }
  });

  const Tensor g = Tensor::uniform(kept, {.seed = 6}, real(0.5), real(1.5));
  const ReduceOptions options{.axes = axes, .keep_dims = true};
  const auto with_g = [&](const Shape&) { return g; };
  const Run sum_run = run([&](std::span<const Variable> in) { return sum(in[0], options); }, {x}, with_g);
  const Run mean_run = run([&](std::span<const Variable> in) { return mean(in[0], options); }, {x}, with_g);
  const Run max_run = run([&](std::span<const Variable> in) { return max(in[0], options); }, {x}, with_g);
  for (const Run* r : {&sum_run, &mean_run, &max_run}) {
    REQUIRE(r->value.shape() == kept);
  }
  int wrong = 0;
  for (size_t i = 0; i < results; ++i) {
    const double total = static_cast<double>(sums[i]);
    wrong += !close(sum_run.value.data()[i], total, magnitudes[i]);
    wrong += !close(mean_run.value.data()[i], total / count, magnitudes[i] / count);
    wrong += max_run.value.data()[i] != x.data()[largest[i]];
  }
  CHECK(wrong == 0);
  for (size_t i = 0; i < target.size(); ++i) {
    const real gi = g.data()[target[i]];
    const bool first_largest = largest[target[i]] == static_cast<int64_t>(i);
    wrong += sum_run.gradients[0].data()[i] != gi;
    wrong +=
        !close(mean_run.gradients[0].data()[i], static_cast<double>(gi) / count, static_cast<double>(gi) / count, 1);
    wrong += max_run.gradients[0].data()[i] != (first_largest ? gi : 0);
  }
  CHECK(wrong == 0);
}

// Few different values, so that most maxima are ties.
Tensor with_ties(Rng& rng, const Shape& shape) {
  Tensor x = Tensor::empty(shape);
  for (real& v : x.mutable_values()) {
    v = static_cast<real>(rng.between(-3, 3));
  }
  return x;
}

}  // namespace

TEST_SUITE("reduce") {
  TEST_CASE("sum, mean and max equal loops over indices: random shapes and axes") {
    CAPTURE(test_seed());
    Rng rng(test_seed());
    for (int round = 0; round < 150; ++round) {
      const Shape shape = some_shape(rng, 0, round % 15 == 0 ? 8 : 5);
      std::vector<int> axes;
      for (int64_t i = shape.rank() == 0 ? 0 : rng.below(shape.rank() + 1); i > 0; --i) {
        axes.push_back(static_cast<int>(rng.between(-shape.rank(), shape.rank() - 1)));  // repeats are allowed
      }
      check_against_loops(round % 2 == 0 ? some_tensor(rng, shape) : with_ties(rng, shape), axes);
    }
  }

  TEST_CASE("sum, mean and max equal loops over indices: several tiles") {
    CAPTURE(test_seed());
    Rng rng(test_seed());
    struct Large {
      Shape shape;
      std::vector<int> axes;
    };
    const std::vector<Large> cases = {
        {{70001}, {}},          {{3, 70000}, {1}},       {{70000, 3}, {0}},       {{70000, 3}, {1}},
        {{5, 300, 70}, {1}},    {{2, 900, 100}, {1}},    {{40, 50, 60}, {0, 2}},  {{40, 50, 60}, {1}},
        {{17, 3, 40, 41}, {2}}, {{2, 40000, 2}, {0, 2}}, {{3, 2, 20000}, {0, 1}}, {{2, 30000}, {0}},
    };
    for (const Large& c : cases) {
      check_against_loops(some_tensor(rng, c.shape), c.axes);
      check_against_loops(with_ties(rng, c.shape), c.axes);
    }
  }

  TEST_CASE("the shape of the result") {
    const Variable x = Tensor::zeros({2, 3, 4});
    for (const auto& op : {sum, mean, max}) {
      CHECK(op(x, {}).shape() == Shape{});
      CHECK(op(x, {.keep_dims = true}).shape() == Shape{1, 1, 1});
      CHECK(op(x, {.axes = {1}}).shape() == Shape{2, 4});
      CHECK(op(x, {.axes = {-1}}).shape() == Shape{2, 3});
      CHECK(op(x, {.axes = {2, 0}, .keep_dims = true}).shape() == Shape{1, 3, 1});
      CHECK(op(x, {.axes = {0, -3, 0}}).shape() == Shape{3, 4});
      CHECK(op(Tensor::scalar(5), {}).shape() == Shape{});
    }
  }

  TEST_CASE("squeezed results carry the same numbers and gradients") {
    const Tensor x = Tensor::uniform({3, 4, 5}, {.seed = test_seed()});
    for (const auto& op : {sum, mean, max}) {
      const auto with_ones = [](const Shape& s) { return Tensor::full(s, 2); };
      const auto reduce = [&](bool keep_dims) {
        return run([&](std::span<const Variable> in) { return op(in[0], {.axes = {1}, .keep_dims = keep_dims}); }, {x},
                   with_ones);
      };
      const Run kept = reduce(true);
      const Run squeezed = reduce(false);
      CHECK(same_bits(kept.value.reshape({3, 5}), squeezed.value));
      CHECK(same_bits(kept.gradients[0], squeezed.gradients[0]));
    }
  }

  TEST_CASE("a reduction that reduces nothing is a copy") {
    const Variable x = Tensor::of({1, 3}, {1, 2, 3});
    for (const auto& op : {sum, mean, max}) {
      const Tensor y = op(x, {.axes = {0}}).value();
      CHECK(same_bits(y, Tensor::of({3}, {1, 2, 3})));
      CHECK(!y.shares_storage_with(x.value()));
    }
  }

  TEST_CASE("a long sum keeps its digits") {
    constexpr int64_t kCount = 3000000;
    const Tensor x = Tensor::full({kCount}, real(0.1));
    const double want = static_cast<double>(kCount) * static_cast<double>(real(0.1));
    CHECK(close(sum(x).value().item(), want, want, 4));  // one after another would lose about 3 % in float
    // Narrow columns are added in blocks of rows one after another within a tile.
    CHECK(close(sum(x.reshape({kCount / 3, 3}), {.axes = {0}}).value().data()[1], want / 3, want / 3, 200));
  }

  TEST_CASE("max: NaN wins, the first NaN gets the gradient, and -infinity is a number") {
    const Variable x =
        Variable::leaf(Tensor::of({2, 4}, {1, kNan, 5, kNan, -INFINITY, -INFINITY, -INFINITY, -INFINITY}));
    const Variable y = max(x, {.axes = {1}});
    CHECK(std::isnan(y.value().data()[0]));
    CHECK(y.value().data()[1] == -INFINITY);
    backward(sum(max(x, {.axes = {1}, .keep_dims = true})));
    CHECK(same_bits(x.grad(), Tensor::of({2, 4}, {0, 1, 0, 0, 1, 0, 0, 0})));
    // In the other direction too, and where the parts of a long column meet.
    CHECK(std::isnan(max(x, {.axes = {0}}).value().data()[1]));
    Tensor column = Tensor::zeros({100000});
    column.mutable_data()[70000] = kNan;
    CHECK(std::isnan(max(column).value().item()));
  }

  TEST_CASE("misuse is refused with the op's name and the shapes") {
    const Variable x = Tensor::zeros({2, 3});
    for (const Misuse& misuse : std::vector<Misuse>{
             {[&] { return sum({}); }, {"[sum] ", "undefined"}},
             {[&] { return mean({}); }, {"[mean] ", "undefined"}},
             {[&] { return max({}); }, {"[max] ", "undefined"}},
             {[&] { return sum(x, {.axes = {2}}); }, {"[sum] ", "axis 2", "[2,3]"}},
             {[&] {
                return mean(x, {.axes = {0, -3}});
              },
              {"[mean] ", "axis -3", "[2,3]"}},
             {[&] { return max(x, {.axes = {5}}); }, {"[max] ", "axis 5", "[2,3]"}},
             {[&] { return sum(Tensor::scalar(1), {.axes = {0}}); }, {"[sum] ", "axis 0", "[]"}},
         }) {
      check_refused(misuse);
    }
  }

  TEST_CASE("the same bits for any number of threads") {
    struct Large {
      Shape shape;
      std::vector<int> axes;
    };
    for (const Large& c : {Large{{150001}, {}}, Large{{3, 50000}, {1}}, Large{{50000, 3}, {0}},
                           Large{{2, 900, 100}, {1}}, Large{{40, 50, 70}, {0, 2}}, Large{{300, 20, 21}, {1}}}) {
      CAPTURE(c.shape.str());
      for (const auto& op : {sum, mean, max}) {
        check_same_bits_for_any_thread_count([&](std::span<const Variable> in) { return op(in[0], {.axes = c.axes}); },
                                             {Tensor::uniform(c.shape, {.seed = 8}, -1, 1)});
      }
    }
  }
}

}  // namespace whittle
