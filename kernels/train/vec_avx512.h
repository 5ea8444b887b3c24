// Sixteen floats in an AVX-512 register.
#pragma once

#include <immintrin.h>
#include <stdint.h>

namespace whittle::kernels {

// Unnamed, so that all templates over this type are local to the one object compiled for it.
namespace {

struct Avx512Vec {
  using Scalar = float;
  static constexpr int kWidth = 16;
  // Rows of a product's register tile, for tiles two vectors and one vector wide: enough sums to
  // hide the latency of a multiplication, few enough for their pointers to stay in registers.
  static constexpr int kRows2 = 8;
  static constexpr int kRows1 = 12;
  // Vectors of sums that a loop keeps in registers, beside what it adds up.
  static constexpr int kSums = 8;

  __m512 v;

  static Avx512Vec zero() { return {_mm512_setzero_ps()}; }
  static Avx512Vec broadcast(float x) { return {_mm512_set1_ps(x)}; }
  static Avx512Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
  // The first n < kWidth lanes; the others are 0. Touches no memory beyond them.
  static Avx512Vec load_first(const float* p, int n) { return load(p, first(n)); }
  static void store(float* p, Avx512Vec x) { _mm512_storeu_ps(p, x.v); }
  static void store_first(float* p, int n, Avx512Vec x) { store(p, first(n), x); }

  static Avx512Vec add(Avx512Vec a, Avx512Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
  static Avx512Vec sub(Avx512Vec a, Avx512Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
  static Avx512Vec mul(Avx512Vec a, Avx512Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
  // a b + c, rounded once
  static Avx512Vec fma(Avx512Vec a, Avx512Vec b, Avx512Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }

  // min(max(x, low), high); a NaN in x stays.
  static Avx512Vec limited(Avx512Vec x, Avx512Vec low, Avx512Vec high) {
    return {_mm512_min_ps(high.v, _mm512_max_ps(low.v, x.v))};
  }

  // Lane j of row i becomes lane i of row j.
  static void transpose(Avx512Vec (&row)[16]) {
    __m512 a[16];
    __m512 b[16];
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {  // pairs of rows, lane by lane
      a[i] = _mm512_unpacklo_ps(row[i].v, row[i + 1].v);
      a[i + 1] = _mm512_unpackhi_ps(row[i].v, row[i + 1].v);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {  // groups of four rows: b[i + k] holds column k of every fourth
      b[i] = pairs_low(a[i], a[i + 2]);
      b[i + 1] = pairs_high(a[i], a[i + 2]);
      b[i + 2] = pairs_low(a[i + 1], a[i + 3]);
      b[i + 3] = pairs_high(a[i + 1], a[i + 3]);
    }
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {  // blocks of four lanes
      const __m512 low0 = _mm512_shuffle_f32x4(b[k], b[k + 4], 0x88);
      const __m512 high0 = _mm512_shuffle_f32x4(b[k], b[k + 4], 0xdd);
      const __m512 low1 = _mm512_shuffle_f32x4(b[k + 8], b[k + 12], 0x88);
      const __m512 high1 = _mm512_shuffle_f32x4(b[k + 8], b[k + 12], 0xdd);
      row[k].v = _mm512_shuffle_f32x4(low0, low1, 0x88);
      row[k + 4].v = _mm512_shuffle_f32x4(high0, high1, 0x88);
      row[k + 8].v = _mm512_shuffle_f32x4(low0, low1, 0xdd);
      row[k + 12].v = _mm512_shuffle_f32x4(high0, high1, 0xdd);
    }
  }

  // The same with the lanes chosen beforehand, for loops.
  using Lanes = __mmask16;
  static Lanes first(int n) { return static_cast<__mmask16>((1u << n) - 1u); }
  static Avx512Vec load(const float* p, Lanes lanes) { return {_mm512_maskz_loadu_ps(lanes, p)}; }
  static void store(float* p, Lanes lanes, Avx512Vec x) { _mm512_mask_storeu_ps(p, lanes, x.v); }

  // Whole numbers from 0 to 255, a byte each.
  static Avx512Vec load_bytes(const uint8_t* p) { return from_bytes(_mm_loadu_epi8(p)); }
  static Avx512Vec load_first_bytes(const uint8_t* p, int n) { return from_bytes(_mm_maskz_loadu_epi8(first(n), p)); }
  static void store_bytes(uint8_t* p, Avx512Vec x) { _mm_storeu_epi8(p, to_bytes(x)); }
  static void store_first_bytes(uint8_t* p, int n, Avx512Vec x) { _mm_mask_storeu_epi8(p, first(n), to_bytes(x)); }

  // Per lane, x where a is larger than b, or a NaN and b none; else y.
  static Avx512Vec where_beats(Avx512Vec a, Avx512Vec b, Avx512Vec x, Avx512Vec y) {
    const __mmask16 b_is_number = _mm512_cmp_ps_mask(b.v, b.v, _CMP_ORD_Q);
    return {_mm512_mask_mov_ps(y.v, _mm512_mask_cmp_ps_mask(b_is_number, a.v, b.v, _CMP_NLE_UQ), x.v)};
  }
  static Avx512Vec where_equal(Avx512Vec a, Avx512Vec b, Avx512Vec x, Avx512Vec y) {
    return {_mm512_mask_mov_ps(y.v, _mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ), x.v)};
  }
  // Per lane, x where a <= b, else y: also where one of them is a NaN.
  static Avx512Vec where_at_most(Avx512Vec a, Avx512Vec b, Avx512Vec x, Avx512Vec y) {
    return {_mm512_mask_mov_ps(y.v, _mm512_cmp_ps_mask(a.v, b.v, _CMP_LE_OQ), x.v)};
  }

 private:
  static Avx512Vec from_bytes(__m128i x) { return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(x))}; }
  static __m128i to_bytes(Avx512Vec x) { return _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x.v)); }
  static __m512 pairs_low(__m512 x, __m512 y) {
    return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(x), _mm512_castps_pd(y)));
  }
  static __m512 pairs_high(__m512 x, __m512 y) {
    return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(x), _mm512_castps_pd(y)));
  }
};

}  // namespace

}  // namespace whittle::kernels
