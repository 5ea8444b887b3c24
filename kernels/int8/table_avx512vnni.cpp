// Integer kernels for x86-64 with AVX-512 and its VNNI instructions.

#include <immintrin.h>
#include <stdint.h>

#include "kernels/int8/packed_conv_impl.h"
#include "kernels/int8/reference_impl.h"

namespace whittle::kernels {

namespace {

struct Vnni512 {
  static constexpr int32_t kLanes = 16;
  static constexpr int32_t kBlocks = 4;      // vectors of sums side by side
  static constexpr int32_t kMostBlocks = 8;  // with a single pixel

  struct Tile {
    int32_t taps_h, taps_w;
    int64_t tap_row, tap_column;  // bytes from tap to tap
    int32_t steps;
    int64_t pixel;    // bytes from pixel to pixel
    int64_t y_pixel;  // the same in y
    const int32_t* bias;
    const float* multipliers;
    const uint8_t* weights;
    int32_t last_lanes;  // of the last vector
    CodeRange range;
  };

  static void fill(uint8_t* to, uint8_t value, int64_t n) {
    const __m512i v = _mm512_set1_epi8(static_cast<char>(value));
    for (int64_t i = 0; i < n; i += 64) {
      _mm512_mask_storeu_epi8(to + i, first_bytes(n - i), v);
    }
  }
  static void copy_turned(uint8_t* to, const int8_t* from, int64_t n) {
    const __m512i top = _mm512_set1_epi8(-128);
    for (int64_t i = 0; i < n; i += 64) {
      const __mmask64 lanes = first_bytes(n - i);
      _mm512_mask_storeu_epi8(to + i, lanes, _mm512_xor_si512(_mm512_maskz_loadu_epi8(lanes, from + i), top));
    }
  }
  // Pixels of `channels` become pixels of `wide` bytes, the new ones 0.
  static void copy_turned_pixels(uint8_t* to, const int8_t* from, int32_t pixels, int32_t channels, int32_t wide) {
    if (channels == 3) {  // the usual image: four pixels at a time
      const __m128i top = _mm_set1_epi8(-128);
      const __m128i spread = _mm_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1);
      for (; pixels >= 4; pixels -= 4, to += 16, from += 12) {
        const __m128i codes = _mm_xor_si128(_mm_maskz_loadu_epi8(0x0fff, from), top);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_shuffle_epi8(codes, spread));
      }
    }
    for (int32_t i = 0; i < pixels; ++i, to += wide, from += channels) {
      copy_turned(to, from, channels);
      for (int32_t k = channels; k < wide; ++k) {
        to[k] = 0;
      }
    }
  }

  static void run(const Tile& t, int32_t together, bool turned, const uint8_t* row, int8_t* y, int32_t begin,
                  int32_t end) {
    const Function* const functions = (turned ? tiles<true>() : tiles<false>()).rows[together - 1].functions;
    const int32_t most = kPixels[together - 1];
    const int32_t tiles = (end - begin + most - 1) / most;
    for (int32_t i = 0; i < tiles; ++i) {  // of nearly equal size
      const int32_t first = begin + static_cast<int32_t>(int64_t{end - begin} * i / tiles);
      const int32_t last = begin + static_cast<int32_t>(int64_t{end - begin} * (i + 1) / tiles);
      functions[last - first - 1](t, row + first * t.pixel, y + first * t.y_pixel);
    }
  }

 private:
  static __mmask64 first_bytes(int64_t n) { return n >= 64 ? ~__mmask64{0} : (__mmask64{1} << n) - 1; }

  // acc += products of four unsigned and four signed bytes per lane. GCC 12 copies and spills the sums around the
  // intrinsic, which halves the speed.
  [[gnu::always_inline]] static void multiply_add(__m512i& acc, __m512i u, __m512i s) {
    asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(u), "v"(s));
  }

  template <int kPixelCount, int kBlockCount, bool kTurned>
  static void tile(const Tile& t, const uint8_t* x, int8_t* y) {
    __m512i acc[kPixelCount][kBlockCount];
    const uint8_t* pixel[kPixelCount];
#pragma GCC unroll 16
    for (int c = 0; c < kBlockCount; ++c) {
      const __m512i bias = _mm512_loadu_si512(t.bias + c * kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < kPixelCount; ++r) {
        acc[r][c] = bias;
      }
    }
#pragma GCC unroll 16
    for (int r = 0; r < kPixelCount; ++r) {
      pixel[r] = x + r * t.pixel;
    }
    const __m512i top = _mm512_set1_epi8(-128);
    const uint8_t* w = t.weights;
    for (int32_t u = 0; u < t.taps_h; ++u) {
      for (int32_t v = 0; v < t.taps_w; ++v) {
        int64_t at = u * t.tap_row + v * t.tap_column;
        for (const int64_t end = at + t.steps * int64_t{4}; at < end; at += 4, w += kBlockCount * 64) {
          __m512i weights[kBlockCount];
#pragma GCC unroll 16
          for (int c = 0; c < kBlockCount; ++c) {
            weights[c] = _mm512_loadu_si512(w + c * 64);
          }
#pragma GCC unroll 16
          for (int r = 0; r < kPixelCount; ++r) {
            int32_t four;
            __builtin_memcpy(&four, pixel[r] + at, 4);
            __m512i codes = _mm512_set1_epi32(four);
            if constexpr (!kTurned) {
              codes = _mm512_xor_si512(codes, top);
            }
#pragma GCC unroll 16
            for (int c = 0; c < kBlockCount; ++c) {
              multiply_add(acc[r][c], codes, weights[c]);
            }
          }
        }
      }
    }
    const __m512 low = _mm512_set1_ps(static_cast<float>(t.range.lo - t.range.zero_point));
    const __m512 high = _mm512_set1_ps(static_cast<float>(t.range.hi - t.range.zero_point));
    const __m512i zero_point = _mm512_set1_epi32(t.range.zero_point);
#pragma GCC unroll 16
    for (int c = 0; c < kBlockCount; ++c) {
      const __m512 multiplier = _mm512_loadu_ps(t.multipliers + c * kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < kPixelCount; ++r) {
        const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(acc[r][c]), multiplier);
        const __m512i rounded = _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(scaled, low), high));
        const __m128i codes = _mm512_cvtepi32_epi8(_mm512_add_epi32(rounded, zero_point));
        int8_t* const to = y + r * t.y_pixel + c * kLanes;
        if (c + 1 < kBlockCount || t.last_lanes == kLanes) {
          _mm_storeu_si128(reinterpret_cast<__m128i*>(to), codes);
        } else {
          _mm_mask_storeu_epi8(to, static_cast<__mmask16>((1u << t.last_lanes) - 1u), codes);
        }
      }
    }
  }

  using Function = void (*)(const Tile&, const uint8_t*, int8_t*);
  static constexpr int32_t kMostPixels = 12;
  // Pixels of a tile by its vectors of channels: with more, sums and weights no longer fit 32 registers.
  static constexpr int32_t kPixels[kMostBlocks] = {12, 12, 8, 6, 1, 1, 1, 1};

  struct Row {
    Function functions[kMostPixels];
  };
  template <bool kTurned, int kBlockCount, int kPixelCount>
  static constexpr void add_tiles(Row& row) {
    row.functions[kPixelCount - 1] = tile<kPixelCount, kBlockCount, kTurned>;
    if constexpr (kPixelCount > 1) {
      add_tiles<kTurned, kBlockCount, kPixelCount - 1>(row);
    }
  }
  struct Rows {
    Row rows[kMostBlocks];
  };
  template <bool kTurned, int kBlockCount>
  static constexpr void add_rows(Rows& all) {
    add_tiles<kTurned, kBlockCount, kPixels[kBlockCount - 1]>(all.rows[kBlockCount - 1]);
    if constexpr (kBlockCount > 1) {
      add_rows<kTurned, kBlockCount - 1>(all);
    }
  }
  template <bool kTurned>
  static const Rows& tiles() {
    static constexpr Rows all = [] {
      Rows rows = {};
      add_rows<kTurned, kMostBlocks>(rows);
      return rows;
    }();
    return all;
  }
};

bool has_vnni() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
}

const PackedKernels kPacked = PackedConv<Vnni512>::kernels();

constexpr Int8Table make_table() {
  Int8Table table = make_int8_table<Binary32>("avx512vnni");
  table.runs_here = has_vnni;
  table.packed = &kPacked;
  return table;
}

}  // namespace

const Int8Table kInt8Avx512Vnni = make_table();

}  // namespace whittle::kernels
