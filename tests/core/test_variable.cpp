// The tape: gradients by hand, order, release, and every error. Float twin.

#include <doctest/doctest.h>

#include <thread>
#include <vector>

#include "core/ops.h"
#include "core/variable.h"
#include "tests/support/message.h"

namespace whittle {

namespace {

Variable leaf(std::initializer_list<real> values) {
  return Variable::leaf(Tensor::of({static_cast<int64_t>(values.size())}, values));
}

std::vector<real> gradient(const Variable& v) { return {v.grad().values().begin(), v.grad().values().end()}; }

// x unchanged, with a backward that counts its calls.
Variable counted(const Variable& x, int* calls) {
  return make_op("counted", x.value(), {x}, [calls](const Tensor& g) -> Gradients {
    ++*calls;
    return {g};
  });
}

}  // namespace

TEST_SUITE("variable") {
  TEST_CASE("a gradient one can follow by hand") {
    const Variable w = leaf({1, 2, 3});
    const Variable x = leaf({4, 5, 6});
    backward(sum(mul(add(w, x), w)));  // d/dw (w + x) w = 2 w + x, d/dx = w
    CHECK(gradient(w) == std::vector<real>{6, 9, 12});
    CHECK(gradient(x) == std::vector<real>{1, 2, 3});
  }

  TEST_CASE("gradients add up over uses and over calls, until zeroed") {
    Variable w = leaf({3});
    backward(sum(mul(w, w)));
    backward(sum(mul(w, w)));
    CHECK(gradient(w) == std::vector<real>{12});
    w.zero_grad();
    CHECK_FALSE(w.grad().defined());
    backward(sum(add(w, w)));
    CHECK(gradient(w) == std::vector<real>{2});
  }

  TEST_CASE("a shared subgraph is walked once, when its gradient is complete") {
    const Variable w = leaf({2});
    int calls = 0;
    const Variable shared = counted(mul(w, w), &calls);  // w^2
    const Variable a = mul(shared, shared);              // w^4
    backward(sum(add(a, mul(shared, w))));               // w^4 + w^3: 4 w^3 + 3 w^2 = 44
    CHECK(calls == 1);
    CHECK(gradient(w) == std::vector<real>{44});
  }

  TEST_CASE("leaves do not share gradient memory, whatever the op returned") {
    Variable a = leaf({1, 2});
    Variable b = leaf({3, 4});
    backward(sum(add(a, b)));  // add hands the same tensor to both
    CHECK_FALSE(a.grad().shares_storage_with(b.grad()));
    Tensor held = a.grad();
    backward(sum(mul(a, b)));
    CHECK(held.at({0}) == 1);  // what a reader held did not change under it
    CHECK(gradient(a) == std::vector<real>{4, 5});
  }

  TEST_CASE("constants get no gradient and make no graph") {
    const Variable c = Tensor::of({2}, {1, 2});
    CHECK_FALSE(add(c, c).requires_grad());
    const Variable w = leaf({5, 6});
    backward(sum(mul(w, c)));
    CHECK(gradient(w) == std::vector<real>{1, 2});
    CHECK_FALSE(mul(w, c).detach().requires_grad());
  }

  TEST_CASE("NoGrad records nothing, nests, and is per thread") {
    const Variable w = leaf({1});
    {
      const NoGrad outer;
      {
        const NoGrad inner;
        CHECK_FALSE(add(w, w).requires_grad());
      }
      CHECK_FALSE(add(w, w).requires_grad());
      bool elsewhere = false;
      std::jthread([&] { elsewhere = add(w, w).requires_grad(); }).join();
      CHECK(elsewhere);
    }
    CHECK(add(w, w).requires_grad());
  }

  TEST_CASE("an op may return 'no gradient', and everything behind it is left alone") {
    const Variable w = leaf({1});
    const Variable v = leaf({1});
    int calls = 0;
    const Variable stopped = make_op("stop", Tensor::of({1}, {7}), {counted(w, &calls)},
                                     [](const Tensor&) -> Gradients { return {Tensor()}; });
    backward(sum(mul(stopped, v)));
    CHECK(calls == 0);
    CHECK_FALSE(w.grad().defined());
    CHECK(gradient(v) == std::vector<real>{7});
  }

  TEST_CASE("a chain of a million nodes: backward and release without recursion") {
    const Variable w = leaf({1});
    Variable x = w;
    for (int i = 0; i < 1'000'000; ++i) {
      x = affine(x, 1, 0);
    }
    SUBCASE("run backward") {
      backward(sum(x));
      CHECK(gradient(w) == std::vector<real>{1});
    }
    SUBCASE("only released") { x = Variable(); }
  }

  TEST_CASE("a million-node ladder with shared rungs is released too") {
    Variable x = leaf({1});
    for (int i = 0; i < 500'000; ++i) {
      x = affine(add(x, x), real(0.5), 0);
    }
    CHECK(x.value().item() == 1);
  }

  TEST_CASE("closures and what they captured are released as backward goes") {
    Tensor captured = Tensor::zeros({4});
    const Variable w = leaf({1, 1, 1, 1});
    const Variable y =
        make_op("hold", Tensor::zeros({4}), {w}, [captured](const Tensor& g) -> Gradients { return {g}; });
    const Variable loss = sum(y);
    CHECK_FALSE(captured.is_unique());
    backward(loss);
    CHECK(captured.is_unique());
  }

  TEST_CASE("misuse of backward is one clear sentence") {
    const Variable w = leaf({1, 2});
    CHECK(message_of([&] { backward(mul(w, w)); }) == "[backward] the loss must have one element, it has shape [2]");
    CHECK(message_of([&] { backward(Variable()); }) == "[backward] the loss is undefined");
    CHECK(message_of([&] { backward(sum(w.detach())); }) ==
          "[backward] the loss depends on no Variable that wants a gradient");
    const Variable loss = sum(mul(w, w));
    backward(loss);
    CHECK(message_of([&] { backward(loss); }) ==
          "[backward] the graph of op 'sum' was already released by an earlier backward()");
    CHECK(gradient(w) == std::vector<real>{2, 4});  // once only
  }

  TEST_CASE("a second backward through part of a used graph is refused before anything changes") {
    const Variable w = leaf({1, 2});
    const Variable v = leaf({1, 2});
    const Variable shared = mul(w, w);
    backward(sum(shared));
    const Variable second = sum(mul(shared, v));
    CHECK(message_of([&] { backward(second); }) ==
          "[backward] the graph of op 'mul' was already released by an earlier backward()");
    CHECK_FALSE(v.grad().defined());
    CHECK(gradient(w) == std::vector<real>{2, 4});
  }

  TEST_CASE("an op with a wrong backward is named, and no leaf changes") {
    const Variable w = leaf({1, 2});
    const Variable v = leaf({1, 2});
    const auto broken = [&](Backward wrong) {
      const Variable y = make_op("broken", Tensor::zeros({2}), {w, v}, std::move(wrong));
      return message_of([&] { backward(sum(add(y, mul(w, v)))); });
    };
    CHECK(broken([](const Tensor& g) -> Gradients { return {g}; }) ==
          "[backward] op 'broken' returned 1 gradients for 2 inputs");
    CHECK(broken([](const Tensor& g) -> Gradients {
            return {g, Tensor::zeros({3})};
          }) == "[backward] op 'broken' returned a gradient of shape [3] for input 1 of shape [2]");
    CHECK(broken([](const Tensor&) -> Gradients { throw Error("[broken] no"); }) == "[broken] no");
    CHECK_FALSE(w.grad().defined());
    CHECK_FALSE(v.grad().defined());
  }

  TEST_CASE("leaves: assignment, gradients, and who may write") {
    Variable w = leaf({1, 2});
    const Variable other = w;
    w.assign(Tensor::of({2}, {8, 9}));
    CHECK(other.value().at({1}) == 9);  // copies of a Variable are the same leaf
    CHECK(message_of([&] { w.assign(Tensor::zeros({3})); }) == "[assign] value has shape [3], expected [2]");
    CHECK(message_of([&] { w.set_grad(Tensor::zeros({3})); }) == "[set_grad] gradient has shape [3], value has [2]");
    Variable y = mul(w, w);
    CHECK(message_of([&] { return y.grad(); }) ==
          "[grad] only leaves keep a gradient; this Variable is the result of an op");
    CHECK(message_of([&] { return Variable(Tensor::zeros({1})).grad(); }) ==
          "[grad] only leaves keep a gradient; this Variable is a constant");
    CHECK(message_of([&] { return y.mutable_data(); }) == "[mutable_data] only a leaf's value may be written in place");
    CHECK(message_of([&] { return Variable::leaf(Tensor()); }) == "[leaf] the value is undefined");
  }

  TEST_CASE("different graphs on different threads") {
    std::vector<std::jthread> threads;
    std::vector<int> right(8, 0);
    for (size_t t = 0; t < right.size(); ++t) {
      threads.emplace_back([t, &right] {
        for (int i = 0; i < 200; ++i) {
          const Variable w = leaf({static_cast<real>(t), 1});
          backward(sum(mul(w, w)));
          right[t] += gradient(w) == std::vector<real>{static_cast<real>(2 * t), 2} ? 1 : 0;
        }
      });
    }
    threads.clear();
    CHECK(right == std::vector<int>(8, 200));
  }
}

}  // namespace whittle
