// The vectors of kernels for AVX-512 with VNNI: sixteen sums of 32 bits.
//
// What such a type must have, for this one and its siblings (vec_avx2.h):
//
//   kLanes                      numbers of 32 bits in a vector, Ints or Reals
//   Codes                       as many codes; load_codes(p, n) and store_codes(p, n, codes) touch the first n alone
//   Bytes, kBytes               a full register of codes, for what needs no more than comparing them
//   Code, Weight, shift(z)      what products are made of: codes enter them as code + shift(z), z being the zero-point
//   kWords                      words of 32 bits that four such codes, or weights, take
//   multiply_add(acc, x, w)     adds to each lane the products of the codes and weights of one word
//   kReadsCodes, shifted(x)     whether a word of codes can be shifted once it is in a register
//   kPixels, kBlocks, kMostBlocks    sizes of tiles (packed_conv_impl.h)
#pragma once

#include <immintrin.h>
#include <stdint.h>

namespace whittle::kernels {

// Unnamed, so that all templates over this type are local to the one object compiled for it.
namespace {

struct Avx512VnniVec {
  using Ints = __m512i;
  using Reals = __m512;
  using Codes = __m128i;
  static constexpr int32_t kLanes = 16;

  static Ints load(const void* p) { return _mm512_loadu_si512(p); }
  static Reals load_reals(const float* p) { return _mm512_loadu_ps(p); }
  static Ints all(int32_t x) { return _mm512_set1_epi32(x); }
  static Reals all_reals(float x) { return _mm512_set1_ps(x); }
  static Ints add(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
  static Ints sub(Ints a, Ints b) { return _mm512_sub_epi32(a, b); }
  static Reals add(Reals a, Reals b) { return _mm512_add_ps(a, b); }
  static Reals mul(Reals a, Reals b) { return _mm512_mul_ps(a, b); }
  static Reals clamp(Reals x, Reals low, Reals high) { return _mm512_min_ps(_mm512_max_ps(x, low), high); }
  static Reals to_reals(Ints x) { return _mm512_cvtepi32_ps(x); }
  static Ints nearest(Reals x) { return _mm512_cvtps_epi32(x); }  // ties to even

  // ---- Codes ----

  static Ints load_codes(const int8_t* p, int64_t n) {
    return _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(first_lanes(n), p));
  }
  static Codes to_codes(Ints x) { return _mm512_cvtepi32_epi8(x); }
  static void store_codes(int8_t* p, Codes x) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), x); }
  static void store_codes(int8_t* p, int64_t n, Codes x) { _mm_mask_storeu_epi8(p, first_lanes(n), x); }

  using Bytes = __m512i;
  static constexpr int32_t kBytes = 64;
  static Bytes all_bytes(int32_t x) { return _mm512_set1_epi8(static_cast<char>(x)); }
  static Bytes load_bytes(const int8_t* p, int64_t n) { return _mm512_maskz_loadu_epi8(first_bytes(n), p); }
  static void store_bytes(int8_t* p, int64_t n, Bytes x) { _mm512_mask_storeu_epi8(p, first_bytes(n), x); }
  static Bytes larger(Bytes a, Bytes b) { return _mm512_max_epi8(a, b); }
  static Bytes smaller(Bytes a, Bytes b) { return _mm512_min_epi8(a, b); }

  // ---- Products ----

  // The instruction multiplies unsigned with signed bytes, so the top bit of codes is turned.
  using Code = uint8_t;
  using Weight = int8_t;
  static constexpr int32_t kWords = 1;
  static constexpr int32_t shift(int32_t) { return 128; }

  // acc += products of four unsigned and four signed bytes per lane. GCC 12 copies and spills the sums around the
  // intrinsic, which halves the speed.
  [[gnu::always_inline]] static void multiply_add(Ints& acc, Ints x, Ints w) {
    asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(x), "v"(w));
  }
  static constexpr bool kReadsCodes = true;
  static Ints shifted(Ints x) { return _mm512_xor_si512(x, all_bytes(-128)); }

  static constexpr int32_t kBlocks = 4;
  static constexpr int32_t kMostBlocks = 8;
  static constexpr int32_t kMostPixels = 12;
  // With more, sums and weights no longer fit 32 registers.
  static constexpr int32_t kPixels[kMostBlocks] = {12, 12, 8, 6, 1, 1, 1, 1};

  static void fill(Code* to, Code value, int64_t n) {
    for (int64_t i = 0; i < n; i += 64) {
      _mm512_mask_storeu_epi8(to + i, first_bytes(n - i), all_bytes(value));
    }
  }
  static void copy_shifted(Code* to, const int8_t* from, int64_t n, int32_t) {
    for (int64_t i = 0; i < n; i += 64) {
      const __mmask64 lanes = first_bytes(n - i);
      _mm512_mask_storeu_epi8(to + i, lanes, shifted(_mm512_maskz_loadu_epi8(lanes, from + i)));
    }
  }
  // Pixels of three codes become pixels of four. Does as many as it likes, and says how many.
  static int32_t copy_triples(Code* to, const int8_t* from, int32_t pixels, int32_t) {
    const __m128i top = _mm_set1_epi8(-128);
    const __m128i spread = _mm_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1);
    int32_t i = 0;
    for (; i + 4 <= pixels; i += 4) {
      const __m128i codes = _mm_xor_si128(_mm_maskz_loadu_epi8(0x0fff, from + 3 * i), top);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 4 * i), _mm_shuffle_epi8(codes, spread));
    }
    return i;
  }

  // ---- Depthwise ----

  static void fill_words(uint32_t* to, uint32_t value, int64_t n) {
    for (int64_t i = 0; i < n; i += 16) {
      _mm512_mask_storeu_epi32(to + i, first_lanes(n - i), _mm512_set1_epi32(static_cast<int>(value)));
    }
  }

  // Words of the bytes [at, at + n) of four rows, one of which is all zero-points if null: word k of them goes to
  // to + k plane.
  static void weave(const int8_t* const (&rows)[4], int64_t at, int64_t n, int32_t zero_point, uint32_t* to, int64_t) {
    const __m128i top = _mm_set1_epi8(-128);
    const __m128i zero = _mm_set1_epi8(static_cast<char>(zero_point));
    for (int64_t i = 0; i < n; i += 16) {
      const __mmask16 lanes = first_lanes(n - i);
      __m128i row[4];
      for (int u = 0; u < 4; ++u) {
        row[u] = _mm_xor_si128(rows[u] == nullptr ? zero : _mm_maskz_loadu_epi8(lanes, rows[u] + at + i), top);
      }
      const __m128i low01 = _mm_unpacklo_epi8(row[0], row[1]);
      const __m128i high01 = _mm_unpackhi_epi8(row[0], row[1]);
      const __m128i low23 = _mm_unpacklo_epi8(row[2], row[3]);
      const __m128i high23 = _mm_unpackhi_epi8(row[2], row[3]);
      const __m512i groups = _mm512_inserti32x4(
          _mm512_inserti32x4(_mm512_inserti32x4(_mm512_castsi128_si512(_mm_unpacklo_epi16(low01, low23)),
                                                _mm_unpackhi_epi16(low01, low23), 1),
                             _mm_unpacklo_epi16(high01, high23), 2),
          _mm_unpackhi_epi16(high01, high23), 3);
      _mm512_mask_storeu_epi32(to + i, lanes, groups);
    }
  }

 private:
  static __mmask16 first_lanes(int64_t n) { return static_cast<__mmask16>(n >= 16 ? 0xffff : (1 << n) - 1); }
  static __mmask64 first_bytes(int64_t n) { return n >= 64 ? ~__mmask64{0} : (__mmask64{1} << n) - 1; }
};

}  // namespace

}  // namespace whittle::kernels
