// Moving elements: every result against loops over indices, exactly.

#include <doctest/doctest.h>

#include <numeric>

#include "tests/core/oracle.h"
#include "tests/core/some_shape.h"
#include "tests/support/seed.h"

namespace whittle {

namespace {

// Element i is i: every element tells where it came from.
Tensor numbered(const Shape& shape) {
  Tensor x = Tensor::empty(shape);
  std::iota(x.mutable_data(), x.mutable_data() + x.elements(), real(1));
  return x;
}

// An op that only moves elements is described by where each element of the result
// comes from: a position in the input, or -1 for what the op puts there itself.
// Backward must send g the same way back, and leave 0 everywhere else.
void check_moves(const std::function<Variable(const Variable&)>& op, const Shape& from, const Shape& to,
                 const std::function<int64_t(const Index&)>& source, real fill = 0) {
  CAPTURE(from.str());
  CAPTURE(to.str());
  const Tensor x = numbered(from);
  const Tensor g = numbered(to);
  const Run got = run([&](std::span<const Variable> in) { return op(in[0]); }, {x}, [&](const Shape&) { return g; });
  REQUIRE(got.value.shape() == to);
  Tensor value = Tensor::full(to, fill);
  Tensor gradient = Tensor::zeros(from);
  for_each_index(to, [&](const Index& index, int64_t i) {
    if (const int64_t at = source(index); at >= 0) {
      value.mutable_data()[i] = x.data()[at];
      gradient.mutable_data()[at] = g.data()[i];
    }
  });
  CHECK(same_bits(got.value, value));
  CHECK(same_bits(got.gradients[0], gradient));
}

void check_transpose(const Shape& from, const std::vector<int>& axes) {
  Index dims;
  for (const int axis : axes) {
    CAPTURE(axis);
    dims.push_back(from[axis]);
  }
  check_moves([&](const Variable& x) { return transpose(x, axes); }, from, Shape(dims),
              [&](const Index& index) {
                Index source(index.size());
                for (size_t i = 0; i < axes.size(); ++i) {
                  source[static_cast<size_t>(from.normal_axis(axes[i]))] = index[i];
                }
                return position_of(source, from);
              });
}

void check_slice(const Shape& from, int axis, int64_t begin, int64_t end) {
  check_moves([=](const Variable& x) { return slice(x, axis, begin, end); }, from, from.with(axis, end - begin),
              [&](Index index) {
                index[static_cast<size_t>(from.normal_axis(axis))] += begin;
                return position_of(index, from);
              });
}

void check_pad(const Shape& from, const Padding& p) {
  const Shape to{from[0], p.top + from[1] + p.bottom, p.left + from[2] + p.right, from[3]};
  check_moves([&](const Variable& x) { return pad(x, p, -7); }, from, to,
              [&](Index index) {
                index[1] -= p.top;
                index[2] -= p.left;
                const bool inside = index[1] >= 0 && index[1] < from[1] && index[2] >= 0 && index[2] < from[2];
                return inside ? position_of(index, from) : -1;
              },
              -7);
}

// Each part in turn is the input; the others are constants.
void check_concat(const std::vector<Shape>& shapes, int axis) {
  const size_t along = static_cast<size_t>(shapes[0].normal_axis(axis));
  int64_t extent = 0;
  for (const Shape& shape : shapes) {
    extent += shape[axis];
  }
  int64_t begin = 0;
  for (size_t wanted = 0; wanted < shapes.size(); ++wanted) {
    const Shape& own = shapes[wanted];
    check_moves(
        [&](const Variable& x) {
          std::vector<Variable> parts;
          for (size_t i = 0; i < shapes.size(); ++i) {
            parts.push_back(i == wanted ? x : Variable(Tensor::full(shapes[i], -7)));
          }
          return concat(parts, axis);
        },
        own, own.with(axis, extent),
        [&](Index index) {
          index[along] -= begin;
          return index[along] >= 0 && index[along] < own[axis] ? position_of(index, own) : -1;
        },
        -7);
    begin += own[axis];
  }
}

}  // namespace

TEST_SUITE("shape") {
  TEST_CASE("reshape and flatten are views of the same elements") {
    const Variable x = numbered({2, 3, 4});
    CHECK(reshape(x, {4, 6}).value().shares_storage_with(x.value()));
    CHECK(flatten(x).shape() == Shape{2, 12});
    CHECK(flatten(x).value().shares_storage_with(x.value()));
    CHECK(flatten(Tensor::zeros({5})).shape() == Shape{5, 1});
    CHECK(reshape(Tensor::scalar(3), {1, 1}).value().at({0, 0}) == 3);
    const auto unmoved = [](const Shape& to) { return [to](const Index& index) { return position_of(index, to); }; };
    check_moves([](const Variable& v) { return reshape(v, {4, 6}); }, {2, 3, 4}, {4, 6}, unmoved({4, 6}));
    check_moves(flatten, {2, 3, 4}, {2, 12}, unmoved({2, 12}));
  }

  TEST_CASE("transpose moves element by element: random shapes and axes") {
    CAPTURE(test_seed());
    Rng rng(test_seed());
    for (int round = 0; round < 200; ++round) {
      const Shape shape = some_shape(rng, 0, round % 10 == 0 ? 8 : 5);
      std::vector<int> axes(static_cast<size_t>(shape.rank()));
      std::iota(axes.begin(), axes.end(), 0);
      for (size_t i = 0; i < axes.size(); ++i) {
        std::swap(axes[i], axes[i + static_cast<size_t>(rng.below(static_cast<int64_t>(axes.size() - i)))]);
        axes[i] -= rng.uniform() < 0.3 ? shape.rank() : 0;
      }
      check_transpose(shape, axes);
    }
  }

  TEST_CASE("transpose moves element by element: blocks and their edges") {
    for (const Shape& shape :
         {Shape{31, 33}, Shape{32, 64}, Shape{200, 190}, Shape{1, 70}, Shape{70, 1}, Shape{3, 9000}, Shape{9000, 3}}) {
      check_transpose(shape, {1, 0});
      check_transpose(shape, {0, 1});
    }
    check_transpose({5, 40, 37, 3}, {0, 3, 1, 2});  // NHWC to NCHW
    check_transpose({5, 3, 40, 37}, {0, 2, 3, 1});  // and back
    check_transpose({6, 33, 70}, {0, 2, 1});
    check_transpose({6, 33, 70}, {2, 1, 0});
    check_transpose({6, 33, 70}, {1, 0, 2});
    check_transpose({33, 2, 35, 2, 36}, {4, 1, 2, 3, 0});
  }

  TEST_CASE("slice moves element by element") {
    CAPTURE(test_seed());
    Rng rng(test_seed());
    for (int round = 0; round < 100; ++round) {
      const Shape shape = some_shape(rng, 1, 5);
      const int axis = static_cast<int>(rng.between(-shape.rank(), shape.rank() - 1));
      const int64_t begin = rng.below(shape[axis]);
      check_slice(shape, axis, begin, rng.between(begin + 1, shape[axis]));
    }
    check_slice({400, 90}, 0, 13, 387);
    check_slice({400, 90}, 1, 89, 90);
  }

  TEST_CASE("concat moves element by element") {
    CAPTURE(test_seed());
    Rng rng(test_seed());
    for (int round = 0; round < 60; ++round) {
      const Shape shape = some_shape(rng, 1, 5);
      const int axis = static_cast<int>(rng.between(-shape.rank(), shape.rank() - 1));
      std::vector<Shape> shapes;
      for (int64_t parts = rng.between(1, 4); parts > 0; --parts) {
        shapes.push_back(shape.with(axis, some_extent(rng)));
      }
      check_concat(shapes, axis);
    }
    check_concat({{300, 70}, {300, 1}, {300, 50}}, 1);
    check_concat({{30, 700}, {1, 700}}, 0);
  }

  TEST_CASE("one Variable twice in a concat gets both gradients") {
    const Variable x = Variable::leaf(Tensor::of({2}, {1, 2}));
    backward(sum(mul(concat({x, x}, 0), Tensor::of({4}, {1, 2, 30, 40}))));
    CHECK(same_bits(x.grad(), Tensor::of({2}, {31, 42})));
  }

  TEST_CASE("a constant part of a concat gets no gradient") {
    const Variable y = concat({Tensor::zeros({2}), Variable::leaf(Tensor::zeros({1}))}, 0);
    const Gradients grads = y.node()->backward(Tensor::of({3}, {1, 2, 3}));
    CHECK(!grads[0].defined());
    CHECK(same_bits(grads[1], Tensor::of({1}, {3})));
  }

  TEST_CASE("pad moves element by element") {
    CAPTURE(test_seed());
    Rng rng(test_seed());
    for (int round = 0; round < 60; ++round) {
      check_pad(some_shape(rng, 4, 4),
                {.top = rng.below(4), .left = rng.below(4), .bottom = rng.below(4), .right = rng.below(4)});
    }
    check_pad({3, 40, 50, 9}, {.top = 1, .left = 2, .bottom = 3, .right = 4});
  }

  TEST_CASE("misuse is refused with the op's name and the shapes") {
    const Variable x = Tensor::zeros({2, 3});
    const Variable image = Tensor::zeros({1, 2, 2, 1});
    const std::vector<Variable> none;
    for (const Misuse& misuse : std::vector<Misuse>{
             {[&] { return reshape({}, {1}); }, {"[reshape] ", "undefined"}},
             {[&] { return reshape(x, {7}); }, {"[reshape] ", "[2,3]", "[7]"}},
             {[&] { return flatten({}); }, {"[flatten] ", "undefined"}},
             {[&] { return flatten(Tensor::scalar(1)); }, {"[flatten] ", "shape []"}},
             {[&] { return transpose({}, {0}); }, {"[transpose] ", "undefined"}},
             {[&] { return transpose(x, {0}); }, {"[transpose] ", "1 axes", "[2,3]"}},
             {[&] {
                return transpose(x, {0, 2});
              },
              {"[transpose] ", "axis 2", "[2,3]"}},
             {[&] {
                return transpose(x, {1, -1});
              },
              {"[transpose] ", "axis -1", "twice", "[2,3]"}},
             {[&] { return concat(none, 0); }, {"[concat] "}},
             {[&] {
                return concat({x, {}}, 0);
              },
              {"[concat] ", "undefined"}},
             {[&] {
                return concat({x, x}, 2);
              },
              {"[concat] ", "axis 2", "[2,3]"}},
             {[&] {
                return concat({x, Tensor::zeros({2, 4})}, 0);
              },
              {"[concat] ", "[2,3]", "[2,4]", "axis 0"}},
             {[&] {
                return concat({x, Tensor::zeros({3})}, 0);
              },
              {"[concat] ", "[2,3]", "[3]"}},
             {[&] { return concat({Tensor::scalar(1)}, 0); }, {"[concat] ", "axis 0", "[]"}},
             {[&] { return slice({}, 0, 0, 1); }, {"[slice] ", "undefined"}},
             {[&] { return slice(x, 2, 0, 1); }, {"[slice] ", "axis 2", "[2,3]"}},
             {[&] { return slice(x, 1, 0, 4); }, {"[slice] ", "[0, 4)", "[2,3]"}},
             {[&] { return slice(x, 1, -1, 2); }, {"[slice] ", "[-1, 2)", "[2,3]"}},
             {[&] { return slice(x, 1, 2, 2); }, {"[slice] ", "[2, 2)", "[2,3]"}},
             {[&] { return pad({}, {}); }, {"[pad] ", "undefined"}},
             {[&] { return pad(x, {}); }, {"[pad] ", "[2,3]"}},
             {[&] { return pad(image, {.left = -1}); }, {"[pad] ", "{0, -1, 0, 0}", "[1,2,2,1]"}},
             {[&] { return pad(image, {.bottom = INT64_MAX}); }, {"[pad] ", "[1,2,2,1]"}},
             {[&] { return pad(image, Padding::all(int64_t{1} << 30)); }, {"[pad] ", "[1,2,2,1]"}},
         }) {
      check_refused(misuse);
    }
  }

  TEST_CASE("the same bits for any number of threads") {
    const Tensor x = Tensor::uniform({5, 40, 31, 9}, {.seed = 2});
    const auto check = [&](const std::function<Variable(const Variable&)>& op) {
      check_same_bits_for_any_thread_count([&](std::span<const Variable> in) { return op(in[0]); }, {x});
    };
    check([](const Variable& v) { return reshape(v, {9, 40, 31, 5}); });
    check(flatten);
    check([](const Variable& v) { return transpose(v, {0, 3, 1, 2}); });
    check([](const Variable& v) { return transpose(v, {3, 1, 2, 0}); });
    check([](const Variable& v) { return concat({v, v}, 2); });
    check([](const Variable& v) { return slice(v, 1, 3, 38); });
    check([](const Variable& v) { return pad(v, Padding::all(2)); });
  }
}

}  // namespace whittle
