// The vectors of kernels for AVX2: eight sums of 32 bits. See vec_avx512vnni.h for what the members mean.
//
// Without VNNI there are two ways to add products of bytes. `vpmaddubsw` adds pairs of them in 16 bits, where
// 255 * 127 * 2 = 64,770 would saturate; to stay exact it takes magnitudes of codes (128 * 127 * 2 = 32,512) and
// weights that carry the signs, and then it is vpsignb, vpmaddubsw, vpmaddwd and vpaddd for 32 products, and a vpabsb
// per broadcast. The other way is codes and weights of 16 bits, and vpmaddwd and vpaddd for 16 products: the same four
// instructions for 32, none per broadcast, and on the CPUs of Intel half of them may go where multiplications cannot.
// It also leaves registers for larger tiles. So this is the way taken here; the price is memory, two bytes for each
// code in scratch and for each packed weight.
//
// It is exact: |code - zero-point| <= 255 and |weight| <= 127 fit 16 bits; a pair of products is at most
// 2 * 255 * 127 = 64,770, far from where vpmaddwd wraps around (only at 2^31); and every sum, in whatever order, is
// within the bound of the accumulator (A7), which the program proves to be below 2^31.
#pragma once

#include <immintrin.h>
#include <stdint.h>

namespace whittle::kernels {

// Unnamed, so that all templates over this type are local to the one object compiled for it.
namespace {

struct Avx2Int8Vec {
  using Ints = __m256i;
  using Reals = __m256;
  static constexpr int32_t kLanes = 8;

  static Ints load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
  static Reals load_reals(const float* p) { return _mm256_loadu_ps(p); }
  static Ints all(int32_t x) { return _mm256_set1_epi32(x); }
  static Reals all_reals(float x) { return _mm256_set1_ps(x); }
  static Ints add(Ints a, Ints b) { return _mm256_add_epi32(a, b); }
  static Reals add(Reals a, Reals b) { return _mm256_add_ps(a, b); }
  static Reals mul(Reals a, Reals b) { return _mm256_mul_ps(a, b); }
  static Reals smaller(Reals a, Reals b) { return _mm256_min_ps(a, b); }
  static Reals to_reals(Ints x) { return _mm256_cvtepi32_ps(x); }
  static Ints nearest(Reals x) { return _mm256_cvtps_epi32(x); }  // ties to even

  // ---- Codes ----

  static Ints load_codes(const int8_t* p, int64_t n) {
    return _mm256_cvtepi8_epi32(n >= 8 ? load_eight(p) : n > 0 ? load_fewer(p, n) : _mm_setzero_si128());
  }

  using Bytes = __m256i;
  static constexpr int32_t kBytes = 32;
  static Bytes all_bytes(int32_t x) { return _mm256_set1_epi8(static_cast<char>(x)); }
  static Bytes load_bytes(const int8_t* p, int64_t n) {
    if (n >= 32) {
      return load(p);
    }
    const __m128i low = load_sixteen(p, n);
    return _mm256_inserti128_si256(_mm256_castsi128_si256(low), n > 16 ? load_sixteen(p + 16, n - 16) : low, 1);
  }
  static void store_bytes(int8_t* p, int64_t n, Bytes x) {
    if (n >= 32) {
      return _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x);
    }
    store_sixteen(p, n, _mm256_castsi256_si128(x));
    if (n > 16) {
      store_sixteen(p + 16, n - 16, _mm256_extracti128_si256(x, 1));
    }
  }
  static Ints all_pairs(int32_t x) { return _mm256_set1_epi16(static_cast<int16_t>(x)); }
  static Bytes narrow(Ints a, Ints b, Ints c, Ints d, Ints zero_point) {
    return _mm256_packs_epi16(_mm256_adds_epi16(_mm256_packs_epi32(a, b), zero_point),
                              _mm256_adds_epi16(_mm256_packs_epi32(c, d), zero_point));
  }
  static Bytes in_order(Bytes x) {  // either half of the register has a half of each vector
    return _mm256_permutevar8x32_epi32(x, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  }
  static Bytes unwoven(Bytes x) { return _mm256_permute4x64_epi64(x, 0b11011000); }
  template <int kFirst, int kCount>
  static void store_vectors(int8_t* p, Bytes x) {
    if constexpr (kCount == 4) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x);
    } else if constexpr (kCount >= 2 && kFirst % 2 == 0) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_extracti128_si256(x, kFirst / 2));
      store_vectors<kFirst + 2, kCount - 2>(p + 16, x);
    } else if constexpr (kCount >= 1) {
      _mm_storel_epi64(reinterpret_cast<__m128i*>(p), eight_of<kFirst>(x));
      store_vectors<kFirst + 1, kCount - 1>(p + 8, x);
    }
  }
  static Bytes larger(Bytes a, Bytes b) { return _mm256_max_epi8(a, b); }
  static Bytes smaller(Bytes a, Bytes b) { return _mm256_min_epi8(a, b); }

  // ---- Products ----

  using Code = int16_t;
  using Weight = int16_t;
  static constexpr int32_t kWords = 2;
  static constexpr int32_t shift(int32_t zero_point) { return -zero_point; }

  // acc += products of two codes and two weights per lane. GCC 12, left free, adds the products of both words first and
  // spills the sums, which takes a fifth longer; clang 14 spills them where the order is fixed.
  [[gnu::always_inline]] static void multiply_add(Ints& acc, Ints x, Ints w) {
#if defined(__clang__)
    acc = _mm256_add_epi32(acc, _mm256_madd_epi16(x, w));
#else
    Ints products;
    asm("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+x"(acc), "=&x"(products) : "x"(x), "x"(w));
#endif
  }

  static constexpr int32_t kBlocks = 2;
  static constexpr int32_t kMostBlocks = 8;
  static constexpr int32_t kMostPixels = 12;
  // Of 16 registers one holds codes and one products; weights may stay in memory.
  static constexpr int32_t kPixels[kMostBlocks] = {12, 6, 1, 1, 1, 1, 1, 1};

  static constexpr int64_t kSlack = 32;
  static void fill(Code* to, Code value, int64_t n) {
    for (int64_t i = 0; i < n; i += 16) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i), _mm256_set1_epi16(value));
    }
  }
  static void copy_shifted(Code* to, const int8_t* from, int64_t n, int64_t readable, int32_t by) {
    const __m256i shift = _mm256_set1_epi16(static_cast<int16_t>(by));
    for (int64_t i = 0; i < n; i += 16) {
      const __m256i codes = _mm256_cvtepi8_epi16(load_sixteen(from + i, readable - i));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i), _mm256_add_epi16(codes, shift));
    }
  }

  // ---- Depthwise ----

  static constexpr bool separates(int64_t) { return false; }
  static void copy_separated(Code*, int64_t, Code*, int64_t, const int8_t*, int64_t, int64_t) {}
  static constexpr int32_t woven(int32_t k) { return k / 16 * 16 + k % 8 / 4 * 8 + k % 16 / 8 * 4 + k % 4; }
  static void weave(const Code* const (&rows)[4], int64_t at, Ints (&groups)[kWords][4]) {
    for (int word = 0; word < kWords; ++word) {
      for (int half = 0; half < 2; ++half) {
        const Ints a = load(rows[2 * word] + at + 16 * half);
        const Ints b = load(rows[2 * word + 1] + at + 16 * half);
        groups[word][2 * half] = _mm256_unpacklo_epi16(a, b);
        groups[word][2 * half + 1] = _mm256_unpackhi_epi16(a, b);
      }
    }
  }

 private:
  // Those of one of the four vectors that were narrowed, in the lower half.
  template <int kVector>
  static __m128i eight_of(Bytes x) {
    const __m128i half = _mm256_extracti128_si256(x, kVector / 2);
    return kVector % 2 == 0 ? half : _mm_unpackhi_epi64(half, half);
  }
  static __m128i load_eight(const int8_t* p) { return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)); }
  // The first n < 8 codes: there is no load of some bytes.
  static __m128i load_fewer(const int8_t* p, int64_t n) {
    uint64_t eight = 0;
    int at = 0;
    if ((n & 4) != 0) {
      uint32_t four;
      __builtin_memcpy(&four, p, 4);
      eight = four;
      at = 4;
    }
    if ((n & 2) != 0) {
      uint16_t two;
      __builtin_memcpy(&two, p + at, 2);
      eight |= uint64_t{two} << 8 * at;
      at += 2;
    }
    if ((n & 1) != 0) {
      eight |= uint64_t{static_cast<uint8_t>(p[at])} << 8 * at;
    }
    return _mm_cvtsi64_si128(static_cast<int64_t>(eight));
  }
  static void store_fewer(int8_t* p, int64_t n, __m128i x) {
    auto eight = static_cast<uint64_t>(_mm_cvtsi128_si64(x));
    if ((n & 4) != 0) {
      __builtin_memcpy(p, &eight, 4);
      eight >>= 32;
      p += 4;
    }
    if ((n & 2) != 0) {
      __builtin_memcpy(p, &eight, 2);
      eight >>= 16;
      p += 2;
    }
    if ((n & 1) != 0) {
      __builtin_memcpy(p, &eight, 1);
    }
  }
  // The first n codes, or sixteen.
  static __m128i load_sixteen(const int8_t* p, int64_t n) {
    if (n >= 16) {
      return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    }
    return n < 8    ? load_fewer(p, n)
           : n == 8 ? load_eight(p)
                    : _mm_unpacklo_epi64(load_eight(p), load_fewer(p + 8, n - 8));
  }
  static void store_sixteen(int8_t* p, int64_t n, __m128i x) {
    if (n >= 16) {
      return _mm_storeu_si128(reinterpret_cast<__m128i*>(p), x);
    }
    if (n >= 8) {
      _mm_storel_epi64(reinterpret_cast<__m128i*>(p), x);
      p += 8;
      x = _mm_unpackhi_epi64(x, x);
    }
    store_fewer(p, n % 8, x);
  }
};

}  // namespace

}  // namespace whittle::kernels
