// Sixteen floats in an AVX-512 register.
#pragma once

#include <immintrin.h>

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
  static Avx512Vec load_first(const float* p, int n) { return load(p, first(n)); }
  static void store(float* p, Avx512Vec x) { _mm512_storeu_ps(p, x.v); }
  static void store_first(float* p, int n, Avx512Vec x) { store(p, first(n), x); }

  static Avx512Vec add(Avx512Vec a, Avx512Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
  static Avx512Vec sub(Avx512Vec a, Avx512Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
  static Avx512Vec mul(Avx512Vec a, Avx512Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
  // a b + c, rounded once
  static Avx512Vec fma(Avx512Vec a, Avx512Vec b, Avx512Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }

  // The same with the lanes chosen beforehand, for loops.
  using Lanes = __mmask16;
  static Lanes first(int n) { return static_cast<__mmask16>((1u << n) - 1u); }
  static Avx512Vec load(const float* p, Lanes lanes) { return {_mm512_maskz_loadu_ps(lanes, p)}; }
  static void store(float* p, Lanes lanes, Avx512Vec x) { _mm512_mask_storeu_ps(p, lanes, x.v); }
};

}  // namespace

}  // namespace whittle::kernels
