// Arithmetic: broadcasting against loops over indices, formulas at their corners.

#include <doctest/doctest.h>

#include <limits>

#include "core/loops.h"
#include "tests/core/oracle.h"
#include "tests/core/some_shape.h"
#include "tests/support/message.h"
#include "tests/support/seed.h"

namespace whittle {

namespace {

struct BinaryOp {
  std::string name;
  Variable (*op)(const Variable&, const Variable&);
  double (*value)(double a, double b);
  double (*by_a)(double a, double b);
  double (*by_b)(double a, double b);
};

const BinaryOp kBinaryOps[] = {
    {"add", [](const Variable& a, const Variable& b) { return add(a, b); }, [](double a, double b) { return a + b; },
     [](double, double) { return 1.0; }, [](double, double) { return 1.0; }},
    {"sub", sub, [](double a, double b) { return a - b; }, [](double, double) { return 1.0; },
     [](double, double) { return -1.0; }},
    {"mul", mul, [](double a, double b) { return a * b; }, [](double, double b) { return b; },
     [](double a, double) { return a; }},
    {"div", div, [](double a, double b) { return a / b; }, [](double, double b) { return 1 / b; },
     [](double a, double b) { return -a / (b * b); }},
};

// Element by element in double, and every product of the gradient added where its
// operand's element lies.
void check_against_loops(const BinaryOp& op, const Tensor& a, const Tensor& b, const Shape& shape) {
  CAPTURE(op.name);
  CAPTURE(a.shape().str());
  CAPTURE(b.shape().str());
  const Tensor g = Tensor::uniform(shape, {.seed = 5}, real(0.5), real(1.5));
  const Run got = run([&](std::span<const Variable> in) { return op.op(in[0], in[1]); }, {a, b},
                      [&](const Shape& s) { return s == shape ? g : Tensor::zeros(s); });
  REQUIRE(got.value.shape() == shape);
  REQUIRE(got.gradients[0].shape() == a.shape());
  REQUIRE(got.gradients[1].shape() == b.shape());

  struct Sum {
    long double total = 0;
    double magnitude = 0;
    void add(double term) {
      total += term;
      magnitude += std::abs(term);
    }
  };
  std::vector<Sum> by_a(static_cast<size_t>(a.elements()));
  std::vector<Sum> by_b(static_cast<size_t>(b.elements()));
  int wrong = 0;
  for_each_index(shape, [&](const Index& index, int64_t i) {
    const int64_t at_a = position_of(index, a.shape());
    const int64_t at_b = position_of(index, b.shape());
    const double x = static_cast<double>(a.data()[at_a]);
    const double y = static_cast<double>(b.data()[at_b]);
    const double weight = static_cast<double>(g.data()[i]);
    wrong += !close(got.value.data()[i], op.value(x, y), std::abs(x) + std::abs(y) + std::abs(op.value(x, y)), 1);
    by_a[static_cast<size_t>(at_a)].add(weight * op.by_a(x, y));
    by_b[static_cast<size_t>(at_b)].add(weight * op.by_b(x, y));
  });
  for (int64_t i = 0; i < a.elements(); ++i) {
    const Sum& sum = by_a[static_cast<size_t>(i)];
    wrong += !close(got.gradients[0].data()[i], static_cast<double>(sum.total), sum.magnitude);
  }
  for (int64_t i = 0; i < b.elements(); ++i) {
    const Sum& sum = by_b[static_cast<size_t>(i)];
    wrong += !close(got.gradients[1].data()[i], static_cast<double>(sum.total), sum.magnitude);
  }
  CHECK(wrong == 0);
}

Tensor divisor(Rng& rng, const Shape& shape) {
  Tensor t = some_tensor(rng, shape, 0.5, 2);
  for (real& x : t.mutable_values()) {
    x = rng.uniform() < 0.5 ? -x : x;
  }
  return t;
}

Shape some_part_of(Rng& rng, const Shape& shape) {
  Shape part(shape.dims().subspan(rng.uniform() < 0.4 ? static_cast<size_t>(rng.between(0, shape.rank())) : 0));
  for (int axis = 0; axis < part.rank(); ++axis) {
    part = rng.uniform() < 0.3 ? part.with(axis, 1) : part;
  }
  return part;
}

}  // namespace

TEST_SUITE("arith") {
  TEST_CASE("binary ops broadcast as loops over indices do: random shapes up to rank 8") {
    CAPTURE(test_seed());
    Rng rng(test_seed());
    for (int round = 0; round < 100; ++round) {
      const Shape shape = some_shape(rng, 0, round % 10 == 0 ? 8 : 5);
      // One operand has every extent, the other some; then each has some.
      const Shape a = round % 3 == 0 ? some_part_of(rng, shape) : shape;
      const Shape b = round % 3 == 1 ? shape : some_part_of(rng, shape);
      Index dims;
      for (int axis = -std::max(a.rank(), b.rank()); axis < 0; ++axis) {
        dims.push_back(std::max(axis >= -a.rank() ? a[axis] : 1, axis >= -b.rank() ? b[axis] : 1));
      }
      for (const BinaryOp& op : kBinaryOps) {
        check_against_loops(op, some_tensor(rng, a), divisor(rng, b), Shape(dims));
      }
    }
  }

  TEST_CASE("binary ops broadcast as loops over indices do: several tiles, every fast path") {
    CAPTURE(test_seed());
    Rng rng(test_seed());
    const Shape full{3, 40, 41, 17};
    for (const Shape& part : {full, Shape{}, Shape{1}, Shape{17}, Shape{41, 17}, Shape{41, 1}, Shape{3, 40, 41, 1},
                              Shape{3, 1, 1, 1}, Shape{3, 1, 1, 17}, Shape{40, 1, 17}, Shape{3, 1, 41, 1}}) {
      for (const BinaryOp& op : kBinaryOps) {
        check_against_loops(op, some_tensor(rng, full), divisor(rng, part), full);
        check_against_loops(op, some_tensor(rng, part), divisor(rng, full), full);
      }
    }
    for (const BinaryOp& op : kBinaryOps) {
      check_against_loops(op, some_tensor(rng, {230, 1}), divisor(rng, {170}), {230, 170});
      check_against_loops(op, some_tensor(rng, {40000}), divisor(rng, {40000}), {40000});
      check_against_loops(op, some_tensor(rng, {3, 1, 5, 1}), divisor(rng, {70, 1, 61}), {3, 70, 5, 61});
    }
  }

  TEST_CASE("add: an activation inside is the activation behind, on every kernel table") {
    for_each_table([] {
      for (const Shape& part : {Shape{50, 31, 43}, Shape{}, Shape{43}, Shape{31, 1}}) {
        for (const Act act : {Act::kNone, Act::kRelu, Act::kRelu6}) {
          const std::vector<Tensor> inputs{Tensor::uniform({50, 31, 43}, {.seed = 1}, -3, 5),
                                           Tensor::uniform(part, {.seed = 2}, -3, 5)};
          const auto g = [](const Shape& s) { return Tensor::uniform(s, {.seed = 5}, -1, 1); };
          const auto fused = [act](std::span<const Variable> v) { return add(v[0], v[1], act); };
          const Run got = run(fused, inputs, g);
          const Run apart = run([&](std::span<const Variable> v) { return activate(add(v[0], v[1]), act); }, inputs, g);
          CHECK(same_bits(got.value, apart.value));
          CHECK(same_bits(got.gradients[0], apart.gradients[0]));
          CHECK(same_bits(got.gradients[1], apart.gradients[1]));
          check_same_bits_for_any_thread_count(fused, inputs);
        }
      }
    });
  }

  TEST_CASE("one Variable as both operands") {
    const Variable x = Variable::leaf(Tensor::of({2}, {3, -2}));
    backward(sum(x * x + x / x - (x - x)));
    CHECK(x.grad().at({0}) == doctest::Approx(6));
    CHECK(x.grad().at({1}) == doctest::Approx(-4));
  }

  TEST_CASE("operators are the functions") {
    const Variable a = Tensor::of({2}, {6, 1});
    const Variable b = Tensor::of({2}, {2, 4});
    CHECK(same_bits((a + b).value(), Tensor::of({2}, {8, 5})));
    CHECK(same_bits((a - b).value(), Tensor::of({2}, {4, -3})));
    CHECK(same_bits((a * b).value(), Tensor::of({2}, {12, 4})));
    CHECK(same_bits((a / b).value(), Tensor::of({2}, {3, real(0.25)})));
    CHECK(same_bits((-a).value(), Tensor::of({2}, {-6, -1})));
    CHECK(same_bits((3 * a).value(), Tensor::of({2}, {18, 3})));
  }

  TEST_CASE("a constant operand gets no gradient and the other one does") {
    for (const BinaryOp& op : kBinaryOps) {
      CAPTURE(op.name);
      const Tensor a = Tensor::of({2}, {3, 5});
      const Tensor b = Tensor::of({2}, {2, 4});
      const Variable leaf_a = Variable::leaf(a);
      backward(sum(op.op(leaf_a, b)));
      const Variable leaf_b = Variable::leaf(b);
      backward(sum(op.op(a, leaf_b)));
      for (int64_t i = 0; i < 2; ++i) {
        const double x = static_cast<double>(a.at({i}));
        const double y = static_cast<double>(b.at({i}));
        CHECK(static_cast<double>(leaf_a.grad().at({i})) == doctest::Approx(op.by_a(x, y)));
        CHECK(static_cast<double>(leaf_b.grad().at({i})) == doctest::Approx(op.by_b(x, y)));
      }
      CHECK(!op.op(a, b).requires_grad());
      CHECK(!op.op(leaf_a, b).node()->backward(Tensor::full({2}, 1))[1].defined());  // not even computed
      CHECK(!op.op(a, leaf_b).node()->backward(Tensor::full({2}, 1))[0].defined());
    }
  }

  TEST_CASE("unary ops: values and slopes at chosen points") {
    constexpr real kInfinity = std::numeric_limits<real>::infinity();
    struct Point {
      std::string name;
      std::function<Variable(const Variable&)> op;
      real x, y, slope;
    };
    const auto clamp01 = [](const Variable& x) { return clamp(x, 0, 1); };
    const std::vector<Point> points = {
        {"affine", [](const Variable& x) { return affine(x, 3, -1); }, 2, 5, 3},
        {"exp", exp, 0, 1, 1},
        {"exp", exp, -kInfinity, 0, 0},
        {"log", log, 1, 0, 1},
        {"log", log, 4, std::log(real(4)), real(0.25)},
        {"log", log, 0, -kInfinity, kInfinity},
        {"sqrt", sqrt, 9, 3, real(1) / 6},
        {"sqrt", sqrt, 0, 0, kInfinity},
        {"abs", abs, -2, 2, -1},
        {"abs", abs, 0, 0, 0},
        {"abs", abs, 2, 2, 1},
        {"clamp", clamp01, -1, 0, 0},
        {"clamp", clamp01, 0, 0, 1},  // both ends belong to the range
        {"clamp", clamp01, real(0.5), real(0.5), 1},
        {"clamp", clamp01, 1, 1, 1},
        {"clamp", clamp01, 2, 1, 0},
        {"clamp", clamp01, kInfinity, 1, 0},
        {"clamp", [](const Variable& x) { return clamp(x, 2, 2); }, 2, 2, 1},
    };
    for (const Point& point : points) {
      CAPTURE(point.name);
      CAPTURE(point.x);
      const Variable x = Variable::leaf(Tensor::scalar(point.x));
      const Variable y = point.op(x);
      backward(y);
      CHECK(y.value().item() == point.y);
      CHECK(x.grad().item() == point.slope);
    }
  }

  TEST_CASE("NaN goes through clamp and abs") {
    const Variable x = Tensor::scalar(std::numeric_limits<real>::quiet_NaN());
    CHECK(std::isnan(clamp(x, 0, 1).value().item()));
    CHECK(std::isnan(abs(x).value().item()));
  }

  TEST_CASE("misuse is refused with the op's name and the shapes") {
    const Variable a = Tensor::zeros({2, 3});
    const Variable b = Tensor::zeros({4});
    constexpr real kNan = std::numeric_limits<real>::quiet_NaN();
    const std::vector<Misuse> misuses = {
        {[&] { return add(a, b); }, {"[add] ", "[2,3]", "[4]", "extents 3 and 4"}},
        {[&] { return sub(b, a); }, {"[sub] ", "[2,3]", "[4]"}},
        {[&] { return mul(a, b); }, {"[mul] ", "[2,3]", "[4]"}},
        {[&] { return div(a, b); }, {"[div] ", "[2,3]", "[4]"}},
        {[&] {
           return add(a, Tensor::zeros({3, 3}));
         },
         {"[add] ", "[2,3]", "[3,3]"}},
        {[&] { return add(a, {}); }, {"[add] ", "undefined"}},
        {[&] { return sub({}, a); }, {"[sub] ", "undefined"}},
        {[&] { return mul({}, a); }, {"[mul] ", "undefined"}},
        {[&] { return div(a, {}); }, {"[div] ", "undefined"}},
        {[&] { return affine({}, 1, 1); }, {"[affine] ", "undefined"}},
        {[&] { return exp({}); }, {"[exp] ", "undefined"}},
        {[&] { return log({}); }, {"[log] ", "undefined"}},
        {[&] { return sqrt({}); }, {"[sqrt] ", "undefined"}},
        {[&] { return abs({}); }, {"[abs] ", "undefined"}},
        {[&] { return clamp({}, 0, 1); }, {"[clamp] ", "undefined"}},
        {[&] { return clamp(a, 1, 0); }, {"[clamp] ", "low 1", "high 0", "[2,3]"}},
        {[&] { return clamp(a, kNan, 0); }, {"[clamp] ", "[2,3]"}},
        {[&] { return clamp(a, 0, kNan); }, {"[clamp] ", "[2,3]"}},
    };
    for (const Misuse& misuse : misuses) {
      check_refused(misuse);
    }
    // Shapes alone, without the memory.
    const int64_t many = int64_t{1} << 25;
    CHECK(message_of([&] {
            return Broadcast("add", {many, 1}, {many}).shape();
          }) == "[add] shapes [33554432,1] and [33554432] broadcast to too many elements");
  }

  TEST_CASE("the same bits for any number of threads") {
    const auto draw = [](const Shape& shape) { return Tensor::uniform(shape, {.seed = 9}, real(0.5), 2); };
    for (const Shape& part : {Shape{50, 31, 43}, Shape{}, Shape{43}, Shape{31, 1}, Shape{50, 1, 43}, Shape{50, 1, 1}}) {
      for (const BinaryOp& op : kBinaryOps) {
        CAPTURE(op.name);
        CAPTURE(part.str());
        check_same_bits_for_any_thread_count([&](std::span<const Variable> in) { return op.op(in[0], in[1]); },
                                             {draw({50, 31, 43}), draw(part)});
      }
    }
    for (const auto& op : {exp, log, sqrt, abs}) {
      check_same_bits_for_any_thread_count([&](std::span<const Variable> in) { return op(in[0]); }, {draw({50001})});
    }
  }
}

}  // namespace whittle
