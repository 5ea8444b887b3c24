#include "bench/peaks.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#define WHITTLE_TARGET(isa) __attribute__((target(isa)))
#endif

namespace whittle::bench {

namespace {

// Twelve chains hide the latency of a multiply-add. A factor and an addend that keep all numbers as they are.
constexpr int kChains = 12;
constexpr int64_t kRounds = 400000;

template <class Vector>
[[gnu::always_inline]] inline float multiply_add(Vector one, Vector zero) {
  Vector sums[kChains] = {};
  for (int64_t i = 0; i < kRounds; ++i) {
#pragma GCC unroll 12
    for (Vector& sum : sums) {
      sum = sum * one + zero;
      asm("" : "+x"(sum));
    }
  }
  Vector total = sums[0];
#pragma GCC unroll 12
  for (const Vector& sum : sums) {
    total += sum;
  }
  return total[0];
}

template <class Vector>
[[gnu::always_inline]] inline float read_all(const float* x, int64_t n) {
  constexpr int64_t kStep = static_cast<int64_t>(sizeof(Vector) / sizeof(float));
  Vector sums[8] = {};
  for (int64_t i = 0; i + 8 * kStep <= n; i += 8 * kStep) {
#pragma GCC unroll 8
    for (int64_t k = 0; k < 8; ++k) {
      sums[k] += *reinterpret_cast<const Vector*>(x + i + k * kStep);
    }
  }
  Vector total = sums[0];
#pragma GCC unroll 12
  for (const Vector& sum : sums) {
    total += sum;
  }
  return total[0];
}

using Four = float __attribute__((vector_size(16), may_alias));
float multiply_add_4(float one, float zero) { return multiply_add<Four>(Four{} + one, Four{} + zero); }
float read_4(const float* x, int64_t n) { return read_all<Four>(x, n); }

#if defined(__x86_64__)
WHITTLE_TARGET("avx2,fma") float multiply_add_8(float one, float zero) {
  __m256 sums[kChains] = {};
  for (int64_t i = 0; i < kRounds; ++i) {
#pragma GCC unroll 12
    for (__m256& sum : sums) {
      sum = _mm256_fmadd_ps(sum, _mm256_set1_ps(one), _mm256_set1_ps(zero));
      asm("" : "+v"(sum));  // so that the compiler does not see that all are equal
    }
  }
  __m256 total = sums[0];
#pragma GCC unroll 12
  for (const __m256& sum : sums) {
    total = _mm256_add_ps(total, sum);
  }
  return _mm256_cvtss_f32(total);
}
WHITTLE_TARGET("avx512f") float multiply_add_16(float one, float zero) {
  __m512 sums[kChains] = {};
  for (int64_t i = 0; i < kRounds; ++i) {
#pragma GCC unroll 12
    for (__m512& sum : sums) {
      sum = _mm512_fmadd_ps(sum, _mm512_set1_ps(one), _mm512_set1_ps(zero));
      asm("" : "+v"(sum));
    }
  }
  __m512 total = sums[0];
#pragma GCC unroll 12
  for (const __m512& sum : sums) {
    total = _mm512_add_ps(total, sum);
  }
  return _mm512_cvtss_f32(total);
}
WHITTLE_TARGET("avx512f") float read_16(const float* x, int64_t n) {
  __m512 sums[8] = {};
  for (int64_t i = 0; i + 128 <= n; i += 128) {
#pragma GCC unroll 8
    for (int64_t k = 0; k < 8; ++k) {
      sums[k] = _mm512_add_ps(sums[k], _mm512_load_ps(x + i + k * 16));
    }
  }
  __m512 total = sums[0];
#pragma GCC unroll 12
  for (const __m512& sum : sums) {
    total = _mm512_add_ps(total, sum);
  }
  return _mm512_cvtss_f32(total);
}

// Products of codes, with the instructions of the kernels for integers (kernels/int8/vec_*.h).
WHITTLE_TARGET("avx512f,avx512vnni") void products_of_four() {
  __m512i sums[kChains] = {};
  const __m512i one = _mm512_set1_epi8(1);
  for (int64_t i = 0; i < kRounds; ++i) {
#pragma GCC unroll 12
    for (__m512i& sum : sums) {
      asm volatile("vpdpbusd %1, %1, %0" : "+v"(sum) : "v"(one));
    }
  }
}
WHITTLE_TARGET("avx2") void products_of_two() {
  __m256i sums[kChains] = {};
  const __m256i one = _mm256_set1_epi16(1);
  for (int64_t i = 0; i < kRounds; ++i) {
#pragma GCC unroll 12
    for (__m256i& sum : sums) {
      __m256i products;
      asm volatile("vpmaddwd %2, %2, %1\n\tvpaddd %1, %0, %0" : "+x"(sum), "=&x"(products) : "x"(one));
    }
  }
}
#endif

volatile float sink;

// Seconds of the fastest of many calls.
template <class F>
double fastest(double seconds, F f) {
  using Clock = std::chrono::steady_clock;
  const auto begin = Clock::now();
  double best = 1e9;
  do {
    const auto start = Clock::now();
    f();
    best = std::min(best, std::chrono::duration<double>(Clock::now() - start).count());
  } while (std::chrono::duration<double>(Clock::now() - begin).count() < seconds);
  return best;
}

struct Arena {
  explicit Arena(int64_t bytes) : numbers(static_cast<size_t>(bytes / 4 + 32), 1.0F) {
    void* at = numbers.data();
    size_t space = numbers.size() * sizeof(float);
    first = static_cast<float*>(std::align(64, sizeof(float), at, space));
  }
  std::vector<float> numbers;
  float* first;
};

}  // namespace

double peak_gflops(std::string_view table) {
  float (*loop)(float, float) = multiply_add_4;
  double lanes = 4;
#if defined(__x86_64__)
  if (table == "avx2") {
    loop = multiply_add_8;
    lanes = 8;
  } else if (table == "avx512") {
    loop = multiply_add_16;
    lanes = 16;
  }
#endif
  static std::map<std::string, double, std::less<>> known;
  if (const auto found = known.find(table); found != known.end()) {
    return found->second;
  }
  const double time = fastest(0.2, [loop] { sink = loop(1.0F, 0.0F); });
  return known[std::string(table)] = 2 * lanes * kChains * static_cast<double>(kRounds) / time * 1e-9;
}

double peak_products(std::string_view table) {
#if defined(__x86_64__)
  const bool vnni = table == "avx512vnni";
  if (vnni || table == "avx2") {
    const double time = fastest(0.2, vnni ? products_of_four : products_of_two);
    return (vnni ? 64 : 16) * kChains * static_cast<double>(kRounds) / time * 1e-9;
  }
#endif
  static_cast<void>(table);
  return 0;
}

double peak_read(int64_t bytes) {
  static std::map<int64_t, double> known;
  if (const auto found = known.find(bytes); found != known.end()) {
    return found->second;
  }
  float (*loop)(const float*, int64_t) = read_4;
#if defined(__x86_64__)
  loop = __builtin_cpu_supports("avx512f") != 0 ? read_16 : read_4;
#endif
  const Arena arena(bytes);
  const int64_t times = std::max<int64_t>(1, (1 << 20) / bytes);
  const double time = fastest(0.1, [&] {
    for (int64_t i = 0; i < times; ++i) {
      sink = loop(arena.first, bytes / 4);
    }
  });
  return known[bytes] = static_cast<double>(bytes * times) / time * 1e-9;
}

double peak_copy(int64_t bytes) {
  static std::map<int64_t, double> known;
  if (const auto found = known.find(bytes); found != known.end()) {
    return found->second;
  }
  const Arena from(bytes / 2);
  const Arena to(bytes / 2);
  const int64_t times = std::max<int64_t>(1, (1 << 20) / bytes);
  const double time = fastest(0.1, [&] {
    for (int64_t i = 0; i < times; ++i) {
      std::memcpy(to.first, from.first, static_cast<size_t>(bytes / 2));
      asm volatile("" : : "r"(to.first) : "memory");
    }
  });
  return known[bytes] = static_cast<double>(bytes * times) / time * 1e-9;
}

}  // namespace whittle::bench
