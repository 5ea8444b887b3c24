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

  __m512 v;

  static Avx512Vec zero() { return {_mm512_setzero_ps()}; }
  static Avx512Vec broadcast(float x) { return {_mm512_set1_ps(x)}; }
  static Avx512Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
  // The first n < kWidth lanes; the others are 0. Touches no memory beyond them.
  static Avx512Vec load_first(const float* p, int n) { return {_mm512_maskz_loadu_ps(mask(n), p)}; }
  static void store(float* p, Avx512Vec x) { _mm512_storeu_ps(p, x.v); }
  static void store_first(float* p, int n, Avx512Vec x) { _mm512_mask_storeu_ps(p, mask(n), x.v); }

  static Avx512Vec add(Avx512Vec a, Avx512Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
  static Avx512Vec sub(Avx512Vec a, Avx512Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
  static Avx512Vec mul(Avx512Vec a, Avx512Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
  // a b + c, rounded once
  static Avx512Vec fma(Avx512Vec a, Avx512Vec b, Avx512Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }

  // Whole numbers from 0 to 255, a byte each.
  static Avx512Vec load_bytes(const uint8_t* p) { return from_bytes(_mm_loadu_epi8(p)); }
  static Avx512Vec load_first_bytes(const uint8_t* p, int n) { return from_bytes(_mm_maskz_loadu_epi8(mask(n), p)); }
  static void store_bytes(uint8_t* p, Avx512Vec x) { _mm_storeu_epi8(p, to_bytes(x)); }
  static void store_first_bytes(uint8_t* p, int n, Avx512Vec x) { _mm_mask_storeu_epi8(p, mask(n), to_bytes(x)); }

  // Per lane, x where a is larger than b, or a NaN and b none; else y.
  static Avx512Vec where_beats(Avx512Vec a, Avx512Vec b, Avx512Vec x, Avx512Vec y) {
    const __mmask16 b_is_number = _mm512_cmp_ps_mask(b.v, b.v, _CMP_ORD_Q);
    return {_mm512_mask_mov_ps(y.v, _mm512_mask_cmp_ps_mask(b_is_number, a.v, b.v, _CMP_NLE_UQ), x.v)};
  }
  static Avx512Vec where_equal(Avx512Vec a, Avx512Vec b, Avx512Vec x, Avx512Vec y) {
    return {_mm512_mask_mov_ps(y.v, _mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ), x.v)};
  }

 private:
  // Masked with all lanes: of the plain forms, GCC 12 says that they read an unset register (its bug 105593).
  static constexpr __mmask16 kAll = 0xFFFF;
  static Avx512Vec from_bytes(__m128i x) {
    return {_mm512_maskz_cvtepi32_ps(kAll, _mm512_maskz_cvtepu8_epi32(kAll, x))};
  }
  static __m128i to_bytes(Avx512Vec x) { return _mm512_maskz_cvtepi32_epi8(kAll, _mm512_maskz_cvtps_epi32(kAll, x.v)); }
  static __mmask16 mask(int n) { return static_cast<__mmask16>((1u << n) - 1u); }
};

}  // namespace

}  // namespace whittle::kernels
