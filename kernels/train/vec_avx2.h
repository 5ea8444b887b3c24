// Eight floats in an AVX register, with AVX2 and FMA. See vec_avx512.h for what the
// members mean.
#pragma once

#include <immintrin.h>
#include <stdint.h>

namespace whittle::kernels {

// Unnamed, so that all templates over this type are local to the one object compiled for it.
namespace {

struct Avx2Vec {
  using Scalar = float;
  static constexpr int kWidth = 8;
  static constexpr int kRows2 = 6;  // 12 sums in 16 registers
  static constexpr int kRows1 = 6;
  static constexpr int kSums = 4;

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
  static Avx2Vec limited(Avx2Vec x, Avx2Vec low, Avx2Vec high) {
    return {_mm256_min_ps(high.v, _mm256_max_ps(low.v, x.v))};
  }

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

  static Avx2Vec load_bytes(const uint8_t* p) {
    return from_bytes(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  }
  static Avx2Vec load_first_bytes(const uint8_t* p, int n) {
    uint8_t eight[8] = {};
    for (int i = 0; i < n; ++i) {
      eight[i] = p[i];
    }
    return load_bytes(eight);
  }
  static void store_bytes(uint8_t* p, Avx2Vec x) {
    const __m256i whole = _mm256_cvtps_epi32(x.v);
    const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(words, words));
  }
  static void store_first_bytes(uint8_t* p, int n, Avx2Vec x) {
    uint8_t eight[8];
    store_bytes(eight, x);
    for (int i = 0; i < n; ++i) {
      p[i] = eight[i];
    }
  }

  static Avx2Vec where_beats(Avx2Vec a, Avx2Vec b, Avx2Vec x, Avx2Vec y) {
    const __m256 b_is_number = _mm256_cmp_ps(b.v, b.v, _CMP_ORD_Q);
    return {_mm256_blendv_ps(y.v, x.v, _mm256_and_ps(b_is_number, _mm256_cmp_ps(a.v, b.v, _CMP_NLE_UQ)))};
  }
  static Avx2Vec where_equal(Avx2Vec a, Avx2Vec b, Avx2Vec x, Avx2Vec y) {
    return {_mm256_blendv_ps(y.v, x.v, _mm256_cmp_ps(a.v, b.v, _CMP_EQ_OQ))};
  }
  static Avx2Vec where_at_most(Avx2Vec a, Avx2Vec b, Avx2Vec x, Avx2Vec y) {
    return {_mm256_blendv_ps(y.v, x.v, _mm256_cmp_ps(a.v, b.v, _CMP_LE_OQ))};
  }

 private:
  static Avx2Vec from_bytes(__m128i x) { return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(x))}; }
};

}  // namespace

}  // namespace whittle::kernels
