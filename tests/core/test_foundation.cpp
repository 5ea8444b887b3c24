// Shape, pool, random numbers, fixed-tree sums and matrix products. Compiled in the
// float twin. Parallel loops are in test_parallel.cpp.

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <cmath>
#include <cstring>
#include <numeric>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include "core/blas.h"
#include "core/error.h"
#include "core/loops.h"
#include "core/pool.h"
#include "core/rng.h"
#include "core/tensor.h"
#include "tests/support/message.h"
#include "tests/support/same_bits.h"
#include "tests/support/seed.h"

namespace whittle {

TEST_SUITE("shape") {
  TEST_CASE("extents, products, strides and axes") {
    const Shape s{2, 3, 4};
    CHECK(s.elements() == 24);
    CHECK(s[-1] == 4);
    CHECK(s[0] == 2);
    CHECK(s.elements(1, 3) == 12);
    CHECK(s.strides()[0] == 12);
    CHECK(s.strides()[2] == 1);
    CHECK(s.with(1, 7) == Shape{2, 7, 4});
    CHECK(s.without(-2) == Shape{2, 4});
    CHECK(s.str() == "[2,3,4]");
    CHECK(Shape().elements() == 1);
    CHECK(Shape().str() == "[]");
    CHECK(Shape{2} != Shape{2, 1});
  }

  TEST_CASE("what is not a shape is refused") {
    CHECK(message_of([] { Shape{2, 0}; }) == "[shape] dimension 1 of [2,0] is not positive");
    CHECK(message_of([] { Shape{-3}; }) == "[shape] dimension 0 of [-3] is not positive");
    CHECK(message_of([] { Shape{1, 1, 1, 1, 1, 1, 1, 1, 1}; }) == "[shape] rank 9 is above the limit of 8");
    // The products of these wrap around in 64 bits.
    CHECK(message_of([] {
            Shape{int64_t{1} << 32, int64_t{1} << 32};
          }).find("more than 2^48 elements") != std::string::npos);
    CHECK(message_of([] { Shape{65537, 65536, 65537, 65536}; }).find("more than 2^48") != std::string::npos);
    CHECK(message_of([] { Shape{INT64_MAX}; }).find("more than 2^48") != std::string::npos);
    CHECK(message_of([] { return Shape{2, 3}[2]; }) == "[shape] axis 2 does not exist in shape [2,3]");
    CHECK(message_of([] { return Shape{2, 3}[-3]; }) == "[shape] axis -3 does not exist in shape [2,3]");
    CHECK(checked_product(1 << 20, 1 << 20, "test") == int64_t{1} << 40);
    CHECK_THROWS_AS(checked_product(int64_t{1} << 40, int64_t{1} << 40, "test"), Error);
    CHECK_THROWS_AS(checked_product(-1, 2, "test"), Error);
  }
}

TEST_SUITE("pool") {
  TEST_CASE("blocks are aligned, large enough, and come back") {
    for (const size_t bytes : {1U, 63U, 64U, 65U, 129U, 257U, 1000U, 4096U, 5000U, 65537U, 1'000'003U}) {
      void* block = pool_allocate(bytes);
      CHECK(reinterpret_cast<uintptr_t>(block) % 64 == 0);
      std::memset(block, 0xab, bytes);
      pool_release(block, bytes);
      const uint64_t before = pool_stats().system_allocations;
      void* again = pool_allocate(bytes);
      CHECK(again == block);
      CHECK(pool_stats().system_allocations == before);
      pool_release(again, bytes);
    }
  }

  TEST_CASE("a block is at most a quarter larger than asked for") {
    for (size_t bytes = 256; bytes < (size_t{1} << 22); bytes += bytes / 7 + 1) {
      const size_t before = pool_stats().bytes_in_use;
      void* block = pool_allocate(bytes);
      const size_t held = pool_stats().bytes_in_use - before;
      pool_release(block, bytes);
      CAPTURE(bytes);
      CHECK(held >= bytes);
      CHECK(held <= bytes + bytes / 4 + 64);
    }
  }

  TEST_CASE("trim gives memory back") {
    pool_release(pool_allocate(1 << 20), 1 << 20);
    const size_t before = pool_stats().bytes_held;
    pool_trim();
    CHECK(pool_stats().bytes_held + (1 << 20) <= before);
  }

  TEST_CASE("absurd sizes are refused") { CHECK_THROWS_AS(pool_allocate(SIZE_MAX - 5), std::bad_alloc); }

  TEST_CASE("many threads share it") {
    std::vector<std::jthread> threads;
    std::atomic<int> damaged{0};
    for (int t = 0; t < 8; ++t) {
      threads.emplace_back([t, &damaged] {
        Rng rng(RngKey{.seed = 7}.child(static_cast<uint64_t>(t)));
        for (int i = 0; i < 2000; ++i) {
          const auto bytes = static_cast<size_t>(rng.between(1, 5000));
          auto* block = static_cast<unsigned char*>(pool_allocate(bytes));
          std::memset(block, t, bytes);
          damaged += block[0] != t || block[bytes - 1] != t ? 1 : 0;
          pool_release(block, bytes);
        }
      });
    }
    threads.clear();
    CHECK(damaged == 0);
  }
}

TEST_SUITE("tensor") {
  TEST_CASE("making, reading, sharing") {
    const Tensor t = Tensor::of({2, 3}, {1, 2, 3, 4, 5, 6});
    CHECK(t.at({1, 2}) == 6);
    CHECK(reinterpret_cast<uintptr_t>(t.data()) % 64 == 0);
    const Tensor view = t.reshape({3, 2});
    CHECK(view.shares_storage_with(t));
    CHECK(view.at({2, 1}) == 6);
    const Tensor copy = t.clone();
    CHECK_FALSE(copy.shares_storage_with(t));
    CHECK(same_bits(copy.values(), t.values()));
    CHECK(Tensor::scalar(5).item() == 5);
    CHECK_FALSE(Tensor().defined());
    CHECK_FALSE(Tensor().shares_storage_with(Tensor()));
    CHECK(Tensor::of({2}, {1, NAN}).all_finite() == false);
  }

  TEST_CASE("misuse is one sentence") {
    CHECK(message_of([] { Tensor::of({2, 2}, {1, 2, 3}); }) == "[tensor] 3 values given for shape [2,2] of 4 elements");
    CHECK(message_of([] {
            return Tensor::zeros({2, 2}).reshape({3});
          }) == "[reshape] shape [2,2] has 4 elements, [3] has 3");
    CHECK(message_of([] { return Tensor::zeros({2}).item(); }) ==
          "[tensor] item() needs exactly one element, shape is [2]");
    CHECK(message_of([] { return Tensor().item(); }).find("[tensor]") == 0);
    CHECK(message_of([] { return Tensor::zeros({2}).at({2}); }) == "[tensor] index 2 is outside axis 0 of shape [2]");
    CHECK(message_of([] { return Tensor().reshape({1}); }).find("[reshape]") == 0);
  }

  TEST_CASE("random tensors do not depend on the thread count") {
    const RngKey key{.seed = test_seed(), .stream = 3};
    CHECK(same_for_any_thread_count([&] { return Tensor::normal({100'003}, key); }));
    CHECK(same_for_any_thread_count([&] { return Tensor::uniform({100'003}, key, -1, 1); }));
  }
}

TEST_SUITE("rng") {
  TEST_CASE("Philox4x32-10 gives the published known answers") {
    using Four = std::array<uint32_t, 4>;
    CHECK(philox4x32({0, 0, 0, 0}, {0, 0}) == Four{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
    CHECK(philox4x32({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}) == Four{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
    CHECK(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
          Four{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
  }

  TEST_CASE("uniform and normal have the right moments") {
    const RngKey key{.seed = test_seed(), .stream = 1};
    CAPTURE(test_seed());
    constexpr int kDraws = 1'000'000;
    double smallest = 1, largest = 0;
    double sum = 0, squares = 0, normal_sum = 0, normal_squares = 0, normal_fourth = 0;
    for (uint64_t i = 0; i < kDraws; ++i) {
      const double u = uniform(key, i);
      smallest = std::min(smallest, u);
      largest = std::max(largest, u);
      sum += u;
      squares += u * u;
      const double z = normal(key, i);
      normal_sum += z;
      normal_squares += z * z;
      normal_fourth += z * z * z * z;
    }
    CHECK(smallest >= 0);
    CHECK(largest < 1);
    // Five standard deviations of each mean.
    const double root = std::sqrt(static_cast<double>(kDraws));
    CHECK(std::abs(sum / kDraws - 1.0 / 2) < 5 * std::sqrt(1.0 / 12) / root);
    CHECK(std::abs(squares / kDraws - 1.0 / 3) < 5 * std::sqrt(4.0 / 45) / root);
    CHECK(std::abs(normal_sum / kDraws) < 5 / root);
    CHECK(std::abs(normal_squares / kDraws - 1) < 5 * std::sqrt(2.0) / root);
    CHECK(std::abs(normal_fourth / kDraws - 3) < 5 * std::sqrt(96.0) / root);
  }

  TEST_CASE("below is in range and even") {
    const RngKey key{.seed = test_seed(), .stream = 2};
    std::array<int, 7> count{};
    for (uint64_t i = 0; i < 70'000; ++i) {
      ++count.at(below(key, i, 7));
    }
    for (const int c : count) {
      CHECK(std::abs(c - 10'000) < 500);  // 5.4 deviations
    }
  }

  TEST_CASE("children differ from each other and from their parent") {
    const RngKey key{.seed = 5};
    std::set<uint64_t> first_numbers{random_bits(key, 0)};
    for (const char* name : {"", "a", "b", "ab", "conv1", "conv2"}) {
      first_numbers.insert(random_bits(key.child(name), 0));
      CHECK(key.child(name) == key.child(name));
    }
    for (uint64_t i = 0; i < 1000; ++i) {
      first_numbers.insert(random_bits(key.child(i), 0));
    }
    CHECK(first_numbers.size() == 1007);
    CHECK_FALSE(key.child("a").child("b") == key.child("b").child("a"));
  }

  TEST_CASE("a sequence resumes where it was saved") {
    Rng rng(9);
    for (int i = 0; i < 10; ++i) {
      rng.uniform();
    }
    Rng resumed(rng.key(), rng.next());
    CHECK(resumed.bits() == rng.bits());
  }
}

TEST_SUITE("loops") {
  TEST_CASE("sums over a fixed tree are accurate and independent of threads") {
    const RngKey key{.seed = test_seed(), .stream = 4};
    CAPTURE(test_seed());
    for (const int64_t n : {1, 7, 8, 129, 4096, 16384, 16385, 300'001}) {
      const Tensor x = Tensor::uniform({n}, key, 0, 1);
      const double exact = std::accumulate(x.values().begin(), x.values().end(), 0.0);
      CHECK(std::abs(static_cast<double>(tree_sum(x.data(), n)) - exact) <= 1e-6 * exact);
    }
    const Tensor x = Tensor::uniform({1'000'000}, key, 0, 1);
    CHECK(same_for_any_thread_count([&] { return Tensor::scalar(tree_sum(x.data(), x.elements())); }));
  }

  TEST_CASE("column sums agree with a double loop, for any shape and thread count") {
    Rng rng(RngKey{.seed = test_seed()}.child("column_sums"));
    CAPTURE(test_seed());
    for (int i = 0; i < 60; ++i) {
      const int64_t rows = rng.between(1, i % 10 == 0 ? 30'000 : 300);
      const int64_t cols = rng.between(1, 90);
      CAPTURE(rows);
      CAPTURE(cols);
      const Tensor x = Tensor::uniform({rows, cols}, RngKey{.seed = test_seed()}.child(static_cast<uint64_t>(i)));
      Tensor sums = Tensor::empty({cols});
      column_sums(x.data(), rows, cols, sums.mutable_data());
      for (int64_t c = 0; c < cols; ++c) {
        double exact = 0;
        for (int64_t r = 0; r < rows; ++r) {
          exact += static_cast<double>(x.at({r, c}));
        }
        CHECK(std::abs(static_cast<double>(sums.at({c})) - exact) <= 3e-6 * exact);
      }
    }
    const Tensor x = Tensor::uniform({70'001, 33}, RngKey{.seed = test_seed()});
    CHECK(same_for_any_thread_count([&] {
      Tensor sums = Tensor::empty({33});
      column_sums(x.data(), 70'001, 33, sums.mutable_data());
      return sums;
    }));
  }

  TEST_CASE("tree_add adds every part once") {
    for (int64_t parts = 1; parts <= 17; ++parts) {
      Tensor data = Tensor::empty({parts, 3});
      for (int64_t i = 0; i < parts; ++i) {
        for (int64_t j = 0; j < 3; ++j) {
          data.mutable_data()[i * 3 + j] = static_cast<real>((1 << i) * (j + 1));
        }
      }
      tree_add(data.mutable_data(), parts, 3);
      for (int64_t j = 0; j < 3; ++j) {
        CHECK(data.at({0, j}) == static_cast<real>(((1 << parts) - 1) * (j + 1)));
      }
    }
  }
}

TEST_SUITE("blas") {
  // C = op(A) op(B) (+ C) by the definition, in double.
  std::vector<double> product_in_double(const MatrixIn& a, const MatrixIn& b, std::span<const real> start, bool add) {
    const auto at = [](const MatrixIn& x, int64_t i, int64_t j) {
      return static_cast<double>(x.transposed ? x.data[j * x.stride + i] : x.data[i * x.stride + j]);
    };
    std::vector<double> c(static_cast<size_t>(a.rows * b.cols));
    for (int64_t i = 0; i < a.rows; ++i) {
      for (int64_t j = 0; j < b.cols; ++j) {
        double sum = add ? static_cast<double>(start[static_cast<size_t>(i * b.cols + j)]) : 0;
        for (int64_t k = 0; k < a.cols; ++k) {
          sum += at(a, i, k) * at(b, k, j);
        }
        c[static_cast<size_t>(i * b.cols + j)] = sum;
      }
    }
    return c;
  }

  TEST_CASE("every backend multiplies, all transpositions, odd sizes, tiles and chunks") {
    CAPTURE(test_seed());
    for (const BlasBackend& backend : blas_backends()) {
      CAPTURE(backend.name);
      set_blas_backend(backend.name);
      Rng rng(RngKey{.seed = test_seed()}.child("blas"));
      for (int i = 0; i < 80; ++i) {
        const bool large = i % 8 == 0;
        const int64_t m = rng.between(1, large ? 300 : 40);
        const int64_t n = rng.between(1, large ? 300 : 40);
        const int64_t k = rng.between(1, i % 5 == 0 ? 3000 : 60);
        const bool ta = rng.uniform() < 0.5, tb = rng.uniform() < 0.5, add = rng.uniform() < 0.5;
        CAPTURE(m);
        CAPTURE(n);
        CAPTURE(k);
        CAPTURE(ta);
        CAPTURE(tb);
        CAPTURE(add);
        const RngKey key = RngKey{.seed = test_seed()}.child(static_cast<uint64_t>(i));
        const Tensor a = Tensor::uniform({m * k}, key.child("a"), -1, 1);
        const Tensor b = Tensor::uniform({k * n}, key.child("b"), -1, 1);
        const Tensor start = Tensor::uniform({m * n}, key.child("c"), -1, 1);
        const MatrixIn left = ta ? MatrixIn(a.data(), k, m).t() : MatrixIn(a.data(), m, k);
        const MatrixIn right = tb ? MatrixIn(b.data(), n, k).t() : MatrixIn(b.data(), k, n);
        const auto exact = product_in_double(left, right, start.values(), add);
        const bool biased = !add && rng.uniform() < 0.5;
        Tensor c = start.clone();
        multiply(left, right, MatrixOut(c.mutable_data(), m, n), add ? Store::kAdd : Store::kOverwrite,
                 biased ? start.data() : nullptr);
        double worst = 0;
        for (size_t j = 0; j < exact.size(); ++j) {
          const double from = biased ? start.data()[j % static_cast<size_t>(n)] : 0;
          worst = std::max(worst, std::abs(static_cast<double>(c.data()[j]) - (exact[j] + from)));
        }
        CHECK(worst <= 1e-7 * static_cast<double>(k + 4));  // |terms| <= 1, one rounding each
      }
    }
    set_blas_backend(blas_backends().front().name);
  }

  TEST_CASE("products do not depend on the thread count") {
    for (const BlasBackend& backend : blas_backends()) {
      set_blas_backend(backend.name);
      for (const auto& size : {std::array<int64_t, 3>{700, 300, 50}, {64, 64, 5000}, {513, 10, 784}, {10, 784, 512}}) {
        const int64_t m = size[0], n = size[1], k = size[2];
        const Tensor a = Tensor::uniform({m, k}, {.seed = 1}, -1, 1);
        const Tensor b = Tensor::uniform({k, n}, {.seed = 2}, -1, 1);
        CHECK(same_for_any_thread_count([&] {
          Tensor c = Tensor::empty({m, n});
          multiply({a.data(), m, k}, {b.data(), k, n}, {c.mutable_data(), m, n});
          return c;
        }));
      }
    }
    set_blas_backend(blas_backends().front().name);
  }

  TEST_CASE("an unknown backend is refused and the old one stays") {
    const auto before = blas_backend().name;
    CHECK(message_of([] { set_blas_backend("mkl"); }) ==
          "[set_blas_backend] there is no backend called 'mkl' in this build");
    CHECK(blas_backend().name == before);
    CHECK(blas_backends().back().name == "naive");
  }
}

}  // namespace whittle
