// Eight floats in an AVX register, with AVX2 and FMA. See vec_avx512.h for what the
// members mean.
#pragma once

#include <immintrin.h>

namespace whittle::kernels {

// Unnamed, so that all templates over this type are local to the one object compiled for it.
namespace {

struct Avx2Vec {
  using Scalar = float;
  static constexpr int kWidth = 8;
  static constexpr int kRows2 = 6;  // 12 sums in 16 registers
  static constexpr int kRows1 = 6;

  __m256 v;

  static Avx2Vec zero() { return {_mm256_setzero_ps()}; }
  static Avx2Vec broadcast(float x) { return {_mm256_set1_ps(x)}; }
  static Avx2Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static Avx2Vec load_first(const float* p, int n) { return {_mm256_maskload_ps(p, first(n))}; }
  static void store(float* p, Avx2Vec x) { _mm256_storeu_ps(p, x.v); }
  static void store_first(float* p, int n, Avx2Vec x) { _mm256_maskstore_ps(p, first(n), x.v); }

  static Avx2Vec add(Avx2Vec a, Avx2Vec b) { return {_mm256_add_ps(a.v, b.v)}; }
  static Avx2Vec sub(Avx2Vec a, Avx2Vec b) { return {_mm256_sub_ps(a.v, b.v)}; }
  static Avx2Vec mul(Avx2Vec a, Avx2Vec b) { return {_mm256_mul_ps(a.v, b.v)}; }
  static Avx2Vec fma(Avx2Vec a, Avx2Vec b, Avx2Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }

  static void transpose(Avx2Vec (&row)[8]) {
    __m256 a[8];
    __m256 b[8];
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
      a[i] = _mm256_unpacklo_ps(row[i].v, row[i + 1].v);
      a[i + 1] = _mm256_unpackhi_ps(row[i].v, row[i + 1].v);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {
      b[i] = _mm256_shuffle_ps(a[i], a[i + 2], 0x44);
      b[i + 1] = _mm256_shuffle_ps(a[i], a[i + 2], 0xee);
      b[i + 2] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0x44);
      b[i + 3] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0xee);
    }
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      row[k].v = _mm256_permute2f128_ps(b[k], b[k + 4], 0x20);
      row[k + 4].v = _mm256_permute2f128_ps(b[k], b[k + 4], 0x31);
    }
  }

  using Lanes = __m256i;
  static Lanes first(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static Avx2Vec load(const float* p, Lanes lanes) { return {_mm256_maskload_ps(p, lanes)}; }
  static void store(float* p, Lanes lanes, Avx2Vec x) { _mm256_maskstore_ps(p, lanes, x.v); }
};

}  // namespace

}  // namespace whittle::kernels
