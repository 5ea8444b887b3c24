// The vectors of kernels for AVX-512 with VNNI: sixteen sums of 32 bits.
//
// What such a type must have, for this one and its siblings (vec_avx2.h):
//
//   kLanes                     numbers of 32 bits in a vector, Ints or Reals
//   Bytes, kBytes              a full register of codes: as many as four vectors have lanes
//   load_codes(p, n)           the first n codes, or kLanes, as Ints
//   load_bytes, store_bytes    the first n codes of a register
//   narrow(a, b, c, d, z)      the codes of four vectors of integers and z; what does not fit saturates
//   in_order, unwoven          put these into the order a, b, c, d, or into that of weave()
//   store_vectors<v, n>        the codes of vectors v to v + n - 1 of the four
//   Code, Weight, shift(z)     products are made of code + shift(z), z being the zero-point, and weight
//   kWords                     words of 32 bits that four such codes, or weights, take
//   multiply_add(acc, x, w)    adds to each lane the products of the codes and weights of one word
//   fill, copy_shifted         write whole registers, up to kSlack bytes too much; copying reads so, too, if it may
//   separates(p)               whether copy_separated() knows pixels of p codes
//   copy_separated             copies the first, third, ... pixel to one place and the others to another
//   weave(rows, at, groups)    groups of four codes, one from each row; position k has code woven(k)
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
  static constexpr int32_t kLanes = 16;

  static Ints load(const void* p) { return _mm512_loadu_si512(p); }
  static Reals load_reals(const float* p) { return _mm512_loadu_ps(p); }
  static Ints all(int32_t x) { return _mm512_set1_epi32(x); }
  static Reals all_reals(float x) { return _mm512_set1_ps(x); }
  static Ints add(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
  static Reals add(Reals a, Reals b) { return _mm512_add_ps(a, b); }
  static Reals mul(Reals a, Reals b) { return _mm512_mul_ps(a, b); }
  static Reals smaller(Reals a, Reals b) { return _mm512_min_ps(a, b); }
  static Reals to_reals(Ints x) { return _mm512_cvtepi32_ps(x); }
  static Ints nearest(Reals x) { return _mm512_cvtps_epi32(x); }  // ties to even

  // ---- Codes ----

  static Ints load_codes(const int8_t* p, int64_t n) {
    return _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(first_lanes(n), p));
  }
  using Bytes = __m512i;
  static constexpr int32_t kBytes = 64;
  static Bytes all_bytes(int32_t x) { return _mm512_set1_epi8(static_cast<char>(x)); }
  static Bytes load_bytes(const int8_t* p, int64_t n) { return _mm512_maskz_loadu_epi8(first_bytes(n), p); }
  static void store_bytes(int8_t* p, int64_t n, Bytes x) { _mm512_mask_storeu_epi8(p, first_bytes(n), x); }
  static Ints all_pairs(int32_t x) { return _mm512_set1_epi16(static_cast<int16_t>(x)); }
  static Bytes narrow(Ints a, Ints b, Ints c, Ints d, Ints zero_point) {
    return _mm512_packs_epi16(_mm512_adds_epi16(_mm512_packs_epi32(a, b), zero_point),
                              _mm512_adds_epi16(_mm512_packs_epi32(c, d), zero_point));
  }
  static Bytes in_order(Bytes x) {  // a quarter of the register has a quarter of each vector
    return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), x);
  }
  static Bytes unwoven(Bytes x) { return x; }
  template <int kFirst, int kCount>
  static void store_vectors(int8_t* p, Bytes x) {
    if constexpr (kCount == 4) {
      _mm512_storeu_si512(p, x);
    } else if constexpr (kCount >= 2 && kFirst % 2 == 0) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_extracti64x4_epi64(x, kFirst / 2));
      store_vectors<kFirst + 2, kCount - 2>(p + 32, x);
    } else if constexpr (kCount >= 1) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_extracti32x4_epi32(x, kFirst));
      store_vectors<kFirst + 1, kCount - 1>(p + 16, x);
    }
  }
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

  static constexpr int32_t kBlocks = 4;
  static constexpr int32_t kMostBlocks = 8;
  static constexpr int32_t kMostPixels = 16;
  // With more, sums and weights no longer fit 32 registers.
  static constexpr int32_t kPixels[kMostBlocks] = {16, 12, 8, 6, 1, 1, 1, 1};

  static constexpr int64_t kSlack = 64;
  static void fill(Code* to, Code value, int64_t n) {
    for (int64_t i = 0; i < n; i += 64) {
      _mm512_storeu_si512(to + i, all_bytes(value));
    }
  }
  static void copy_shifted(Code* to, const int8_t* from, int64_t n, int64_t readable, int32_t) {
    if (n <= 32 && readable >= 32) {  // a pixel of few channels
      const __m256i codes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
      return _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_xor_si256(codes, _mm256_set1_epi8(-128)));
    }
    int64_t i = 0;
    for (; i < n && readable - i >= 64; i += 64) {
      _mm512_storeu_si512(to + i, shifted(_mm512_loadu_si512(from + i)));
    }
    if (i < n) {
      _mm512_storeu_si512(to + i, shifted(load_bytes(from + i, readable - i)));
    }
  }

  // ---- Depthwise ----

  static constexpr bool separates(int64_t pixel) { return pixel == 8 || pixel == 16 || pixel == 32; }
  // `n_first` codes of the first, third, ... pixel, `n_second`, which are no more, of the others.
  static void copy_separated(Code* first, int64_t n_first, Code* second, int64_t n_second, const int8_t* from,
                             int64_t pixel, int64_t readable) {
    const __m512i lane = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);  // of eight bytes
    const __m512i lanes = _mm512_set1_epi64(pixel / 8);
    const __m512i at_first =
        _mm512_add_epi64(lane, _mm512_andnot_si512(_mm512_sub_epi64(lanes, _mm512_set1_epi64(1)), lane));
    const __m512i at_second = _mm512_add_epi64(at_first, lanes);
    for (int64_t i = 0; i < n_first; i += 64, from += 128, readable -= 128) {
      const Ints low = shifted(load_bytes(from, readable));
      const Ints high = shifted(load_bytes(from + 64, readable > 64 ? readable - 64 : 0));
      _mm512_storeu_si512(first + i, _mm512_permutex2var_epi64(low, at_first, high));
      if (i < n_second) {
        _mm512_storeu_si512(second + i, _mm512_permutex2var_epi64(low, at_second, high));
      }
    }
  }

  static constexpr int32_t woven(int32_t k) { return k % 16 / 4 * 16 + k / 16 * 4 + k % 4; }
  static void weave(const Code* const (&rows)[4], int64_t at, Ints (&groups)[kWords][4]) {
    Ints row[4];
    for (int u = 0; u < 4; ++u) {
      row[u] = load(rows[u] + at);
    }
    const Ints low01 = _mm512_unpacklo_epi8(row[0], row[1]);
    const Ints high01 = _mm512_unpackhi_epi8(row[0], row[1]);
    const Ints low23 = _mm512_unpacklo_epi8(row[2], row[3]);
    const Ints high23 = _mm512_unpackhi_epi8(row[2], row[3]);
    groups[0][0] = _mm512_unpacklo_epi16(low01, low23);
    groups[0][1] = _mm512_unpackhi_epi16(low01, low23);
    groups[0][2] = _mm512_unpacklo_epi16(high01, high23);
    groups[0][3] = _mm512_unpackhi_epi16(high01, high23);
  }

 private:
  static Ints shifted(Ints x) { return _mm512_xor_si512(x, all_bytes(-128)); }
  static __mmask16 first_lanes(int64_t n) {
    return static_cast<__mmask16>(n >= 16 ? 0xffff : n > 0 ? (1 << n) - 1 : 0);
  }
  static __mmask64 first_bytes(int64_t n) { return n >= 64 ? ~__mmask64{0} : (__mmask64{1} << n) - 1; }
};

}  // namespace

}  // namespace whittle::kernels
