// Embedding against loops; dropout against what its definition and chance allow.

#include <doctest/doctest.h>

#include "tests/core/oracle.h"
#include "tests/core/some_shape.h"
#include "tests/support/seed.h"

namespace whittle {

namespace {

// Element i of a dropout of ones, by the definition in core/ops_random.cpp.
bool kept_by_definition(RngKey key, int64_t i, double p) {
  const auto word = [](uint64_t x, int which) { return static_cast<uint32_t>(x >> (32 * which)); };
  const uint64_t block = static_cast<uint64_t>(i / 4);
  const auto words = philox4x32({word(block, 0), word(block, 1), word(key.stream, 0), word(key.stream, 1)},
                                {word(key.seed, 0), word(key.seed, 1)});
  return static_cast<double>(words[static_cast<size_t>(i % 4)]) >= std::round(p * 4294967296.0);
}

}  // namespace

TEST_SUITE("random") {
  TEST_CASE("embedding picks rows and adds their gradients in index order") {
    CAPTURE(test_seed());
    Rng rng(test_seed());
    for (int round = 0; round < 40; ++round) {
      const Shape shape{some_extent(rng), round % 8 == 0 ? 150 : some_extent(rng)};
      std::vector<int32_t> indices(static_cast<size_t>(rng.between(1, 30)));  // more than rows: most repeat
      for (int32_t& index : indices) {
        index = static_cast<int32_t>(rng.below(shape[0]));
      }
      const Tensor table = some_tensor(rng, shape);
      const Tensor g = some_tensor(rng, {static_cast<int64_t>(indices.size()), shape[1]});
      const Run got = run([&](std::span<const Variable> in) { return embedding(in[0], indices); }, {table},
                          [&](const Shape&) { return g; });
      Tensor value = Tensor::empty(g.shape());
      Tensor gradient = Tensor::zeros(shape);
      for_each_index(g.shape(), [&](const Index& index, int64_t i) {
        const int64_t at = indices[static_cast<size_t>(index[0])] * shape[1] + index[1];
        value.mutable_data()[i] = table.data()[at];
        gradient.mutable_data()[at] += g.data()[i];
      });
      CHECK(same_bits(got.value, value));
      CHECK(same_bits(got.gradients[0], gradient));
    }
  }

  TEST_CASE("embedding keeps its own copy of the indices") {
    const Variable table = Variable::leaf(Tensor::of({3, 1}, {10, 20, 30}));
    std::vector<int32_t> indices = {2, 0, 2};
    const Variable loss = sum(embedding(table, indices));
    indices.assign(3, 1);
    backward(loss);
    CHECK(same_bits(table.grad(), Tensor::of({3, 1}, {1, 0, 2})));
  }

  TEST_CASE("embedding of a constant table is a constant") {
    const std::vector<int32_t> indices = {1};
    const Variable y = embedding(Tensor::of({2, 2}, {1, 2, 3, 4}), indices);
    CHECK(!y.requires_grad());
    CHECK(same_bits(y.value(), Tensor::of({1, 2}, {3, 4})));
  }

  TEST_CASE("dropout: element i is decided by (key, i) alone and kept ones are scaled") {
    CAPTURE(test_seed());
    Rng rng(test_seed());
    for (const double p : {0.1, 0.5, 0.75, 0.999}) {
      CAPTURE(p);
      const real as_real = static_cast<real>(p);
      const RngKey key{.seed = rng.bits(), .stream = rng.bits()};
      const Tensor x = some_tensor(rng, {40001}, 0.5, 1);
      const Tensor y = dropout(x, as_real, key).value();
      int wrong = 0;
      for (int64_t i = 0; i < x.elements(); ++i) {
        const double want = kept_by_definition(key, i, static_cast<double>(as_real))
                                ? static_cast<double>(x.data()[i]) / (1 - static_cast<double>(as_real))
                                : 0;
        wrong += !close(y.data()[i], want, want, 2);
      }
      CHECK(wrong == 0);
      // A shorter tensor of another shape meets the same decisions.
      const Tensor part = dropout(slice(x, 0, 0, 999), as_real, key).value();
      CHECK(std::memcmp(part.data(), y.data(), 999 * sizeof(real)) == 0);
    }
  }

  TEST_CASE("dropout: the share that is kept and the mean are within chance") {
    CAPTURE(test_seed());
    constexpr int64_t kCount = 1000000;
    for (const double p : {0.05, 0.5, 0.9}) {
      CAPTURE(p);
      const Tensor y = dropout(Tensor::full({kCount}, 1), static_cast<real>(p), RngKey{.seed = test_seed()}).value();
      const double kept = static_cast<double>(std::ranges::count_if(y.values(), [](real v) { return v != 0; }));
      const double expected = static_cast<double>(kCount) * (1 - p);
      CHECK(std::abs(kept - expected) < 4 * std::sqrt(expected * p));  // 4 sigma of a binomial count
      const double mean_y = static_cast<double>(mean(y).value().item());
      CHECK(std::abs(mean_y - 1) < 4 * std::sqrt(expected * p) / expected + 1e-6);
    }
  }

  TEST_CASE("dropout: the gradient passes where the value passed, with the same scale") {
    const RngKey key{.seed = test_seed()};
    const Variable x = Variable::leaf(Tensor::full({1001}, 1));
    const Variable y = dropout(x, real(0.25), key);
    backward(sum(y));
    CHECK(same_bits(x.grad(), y.value()));
  }

  TEST_CASE("dropout: what is dropped is 0, whatever it was") {
    const Tensor y = dropout(Tensor::full({1000}, std::numeric_limits<real>::quiet_NaN()), real(0.5), {}).value();
    CHECK(std::ranges::count(y.values(), real(0)) > 400);
  }

  TEST_CASE("dropout: p = 0 is x itself; other keys drop other elements") {
    const Variable x = Variable::leaf(Tensor::full({1000}, 1));
    CHECK(dropout(x, 0, {}).node() == x.node());
    const Tensor a = dropout(x, real(0.5), {.seed = 1}).value();
    CHECK(!same_bits(a, dropout(x, real(0.5), {.seed = 2}).value()));
    CHECK(!same_bits(a, dropout(x, real(0.5), {.seed = 1, .stream = 1}).value()));
    CHECK(same_bits(a, dropout(x, real(0.5), {.seed = 1}).value()));
  }

  TEST_CASE("misuse is refused with the op's name and the shapes") {
    const Variable table = Tensor::zeros({2, 3});
    const auto look_up = [&](std::vector<int32_t> i) { return [&table, i] { return embedding(table, i); }; };
    const auto drop = [&](real p) { return [&table, p] { return dropout(table, p, {}); }; };
    const std::vector<int32_t> zero = {0};
    for (const Misuse& misuse : std::vector<Misuse>{
             {[&] { return embedding({}, zero); }, {"[embedding] ", "undefined"}},
             {[&] { return embedding(Tensor::zeros({3}), zero); }, {"[embedding] ", "[3]", "[V,D]"}},
             {look_up({}), {"[embedding] ", "no indices", "[2,3]"}},
             {look_up({0, 2}), {"[embedding] index 2 at position 1", "[0, 2)", "[2,3]"}},
             {look_up({-1}), {"[embedding] index -1 at position 0", "[0, 2)", "[2,3]"}},
             {[&] { return dropout({}, real(0.5), {}); }, {"[dropout] ", "undefined"}},
             {drop(1), {"[dropout] ", "p 1", "[2,3]"}},
             {drop(real(-0.5)), {"[dropout] ", "p -0.5", "[2,3]"}},
             {drop(std::numeric_limits<real>::quiet_NaN()), {"[dropout] ", "p ", "[2,3]"}},
         }) {
      check_refused(misuse);
    }
  }

  TEST_CASE("the same bits for any number of threads") {
    const Tensor x = Tensor::uniform({70001}, {.seed = 1}, 1, 2);
    check_same_bits_for_any_thread_count(
        [](std::span<const Variable> in) { return dropout(in[0], real(0.3), {.seed = 5}); }, {x});
    std::vector<int32_t> indices(3000);
    for (size_t i = 0; i < indices.size(); ++i) {
      indices[i] = static_cast<int32_t>(i * i % 10);
    }
    check_same_bits_for_any_thread_count([&](std::span<const Variable> in) { return embedding(in[0], indices); },
                                         {Tensor::uniform({10, 300}, {.seed = 2})});
  }
}

}  // namespace whittle
