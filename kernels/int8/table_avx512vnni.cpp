// Integer kernels for x86-64 with AVX-512 and its VNNI instructions.

#include <cpuid.h>
#include <immintrin.h>
#include <stdint.h>

#include "kernels/int8/packed_conv_impl.h"
#include "kernels/int8/packed_depthwise_impl.h"
#include "kernels/int8/reference_impl.h"

namespace whittle::kernels {

namespace {

__mmask16 first_lanes(int64_t n) { return static_cast<__mmask16>(n >= 16 ? 0xffff : (1 << n) - 1); }
__mmask64 first_bytes(int64_t n) { return n >= 64 ? ~__mmask64{0} : (__mmask64{1} << n) - 1; }

// acc += products of four unsigned and four signed bytes per lane. GCC 12 copies and spills the sums around the
// intrinsic, which halves the speed.
[[gnu::always_inline]] inline void multiply_add(__m512i& acc, __m512i u, __m512i s) {
  asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(u), "v"(s));
}

// A9 for 16 sums.
class Requantize {
 public:
  explicit Requantize(const CodeRange& range)
      : low_(_mm512_set1_ps(static_cast<float>(range.lo - range.zero_point))),
        high_(_mm512_set1_ps(static_cast<float>(range.hi - range.zero_point))),
        zero_point_(_mm512_set1_epi32(range.zero_point)) {}

  [[gnu::always_inline]] __m128i operator()(__m512i acc, __m512 multiplier) const {
    const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(acc), multiplier);
    const __m512i rounded = _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(scaled, low_), high_));
    return _mm512_cvtepi32_epi8(_mm512_add_epi32(rounded, zero_point_));
  }

 private:
  __m512 low_, high_;
  __m512i zero_point_;
};

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
    const Requantize requantize(t.range);
#pragma GCC unroll 16
    for (int c = 0; c < kBlockCount; ++c) {
      const __m512 multiplier = _mm512_loadu_ps(t.multipliers + c * kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < kPixelCount; ++r) {
        const __m128i codes = requantize(acc[r][c], multiplier);
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

struct Depthwise512 {
  static constexpr int64_t kLanes = 16;

  struct Flat {
    int32_t columns;  // of the filter
    int64_t count;    // results in a row
    int64_t period;
    const int32_t* bias;
    const float* multipliers;
    const uint8_t* weights;
    const uint32_t* groups[7];  // what result 0 multiplies with each column
    CodeRange range;
  };

  static void fill_groups(uint32_t* to, uint8_t zero, int64_t n) {
    const __m512i v = _mm512_set1_epi8(static_cast<char>(zero));
    for (int64_t i = 0; i < n; i += 16) {
      _mm512_mask_storeu_epi32(to + i, first_lanes(n - i), v);
    }
  }

  // Groups of the bytes [at, at + n) of four rows.
  static void weave(const int8_t* const (&rows)[4], int64_t at, int64_t n, uint8_t zero, uint32_t* to) {
    const __m128i top = _mm_set1_epi8(-128);
    for (int64_t i = 0; i < n; i += 16) {
      const __mmask16 lanes = first_lanes(n - i);
      __m128i row[4];
      for (int u = 0; u < 4; ++u) {
        row[u] = rows[u] == nullptr ? _mm_set1_epi8(static_cast<char>(zero))
                                    : _mm_xor_si128(_mm_maskz_loadu_epi8(lanes, rows[u] + at + i), top);
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

  static void row(const Flat& flat, int8_t* y) { run<1>(flat, y, nullptr); }
  static void row_pair(const Flat& flat, int8_t* y, int8_t* below) { run<2>(flat, y, below); }

 private:
  template <int kRows>
  static void run(const Flat& flat, int8_t* y, int8_t* below) {
    switch (flat.columns) {
      case 1:
        return results<kRows, 1>(flat, y, below);
      case 2:
        return results<kRows, 2>(flat, y, below);
      case 3:
        return results<kRows, 3>(flat, y, below);
      case 4:
        return results<kRows, 4>(flat, y, below);
      case 5:
        return results<kRows, 5>(flat, y, below);
      case 6:
        return results<kRows, 6>(flat, y, below);
      default:
        return results<kRows, 7>(flat, y, below);
    }
  }

  // Vectors of the same channels one after another, so that their weights stay in registers. The groups behind the
  // last result are there, as scratch, and what becomes of them is not stored.
  template <int kRows, int kColumns>
  static void results(const Flat& flat, int8_t* y, int8_t* below) {
    const Requantize requantize(flat.range);
    for (int64_t k = 0; k < flat.period && k < flat.count; k += kLanes) {
      const __m512i bias = _mm512_loadu_si512(flat.bias + k);
      const __m512 multiplier = _mm512_loadu_ps(flat.multipliers + k);
      __m512i weights[kRows][kColumns];
#pragma GCC unroll 2
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
        for (int v = 0; v < kColumns; ++v) {
          weights[r][v] = _mm512_loadu_si512(flat.weights + ((r * kColumns + v) * flat.period + k) * 4);
        }
      }
      for (int64_t i = k; i < flat.count; i += flat.period) {
        __m512i acc[kRows];
#pragma GCC unroll 2
        for (int r = 0; r < kRows; ++r) {
          acc[r] = bias;
        }
#pragma GCC unroll 8
        for (int v = 0; v < kColumns; ++v) {
          const __m512i groups = _mm512_loadu_si512(flat.groups[v] + i);
#pragma GCC unroll 2
          for (int r = 0; r < kRows; ++r) {
            multiply_add(acc[r], groups, weights[r][v]);
          }
        }
        const __mmask16 lanes = first_lanes(flat.count - i);
        _mm_mask_storeu_epi8(y + i, lanes, requantize(acc[0], multiplier));
        if constexpr (kRows > 1) {
          _mm_mask_storeu_epi8(below + i, lanes, requantize(acc[1], multiplier));
        }
      }
    }
  }
};

// ---- Loops over codes, and pools ----

// A16, in the order of Binary32::add.
void add(const Add<int8_t>& op) {
  const __m512 offset = _mm512_castsi512_ps(_mm512_set1_epi32(static_cast<int>(op.constants.offset)));
  const __m512 ratio_a = _mm512_castsi512_ps(_mm512_set1_epi32(static_cast<int>(op.constants.ratio_a)));
  const __m512 ratio_b = _mm512_castsi512_ps(_mm512_set1_epi32(static_cast<int>(op.constants.ratio_b)));
  const __m512 low = _mm512_set1_ps(static_cast<float>(op.range.lo));
  const __m512 high = _mm512_set1_ps(static_cast<float>(op.range.hi));
  for (int32_t i = 0; i < op.count; i += 16) {
    const __mmask16 lanes = first_lanes(op.count - i);
    const __m512 a = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(lanes, op.a + i)));
    const __m512 b = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(lanes, op.b + i)));
    const __m512 sum = _mm512_add_ps(_mm512_add_ps(offset, _mm512_mul_ps(a, ratio_a)), _mm512_mul_ps(b, ratio_b));
    const __m512i codes = _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(sum, low), high));
    _mm_mask_storeu_epi8(op.y + i, lanes, _mm512_cvtepi32_epi8(codes));
  }
}

// Calls body(image, p, r, y) for every window.
template <class Body>
void for_each_window(const PoolShape& s, const int8_t* x, int8_t* y, Body body) {
  const Window& w = s.window;
  for (int32_t n = 0; n < s.batch; ++n) {
    const int8_t* const image = x + int64_t{n} * w.in_h * w.in_w * s.channels;
    for (int32_t p = 0; p < w.out_h; ++p) {
      for (int32_t r = 0; r < w.out_w; ++r, y += s.channels) {
        body(image, p, r, y);
      }
    }
  }
}

// Calls body(pixel) for every tap of a window that lies inside the image.
template <class Body>
void for_each_tap(const PoolShape& s, const int8_t* image, int32_t p, int32_t r, Body body) {
  const Window& w = s.window;
  for (int32_t u = 0; u < w.kernel_h; ++u) {
    for (int32_t v = 0; v < w.kernel_w; ++v) {
      if (w.inside(w.row(p, u), w.column(r, v))) {
        body(image + (int64_t{w.row(p, u)} * w.in_w + w.column(r, v)) * s.channels);
      }
    }
  }
}

// A17.
void max_pool(const MaxPool<int8_t>& op) {
  const __m512i low = _mm512_set1_epi8(static_cast<char>(op.range.lo));
  const __m512i high = _mm512_set1_epi8(static_cast<char>(op.range.hi));
  for_each_window(op.shape, op.x, op.y, [&](const int8_t* image, int32_t p, int32_t r, int8_t* y) {
    for (int32_t c = 0; c < op.shape.channels; c += 64) {
      const __mmask64 lanes = first_bytes(op.shape.channels - c);
      __m512i largest = low;
      for_each_tap(op.shape, image, p, r, [&](const int8_t* pixel) {
        largest = _mm512_max_epi8(largest, _mm512_maskz_loadu_epi8(lanes, pixel + c));
      });
      _mm512_mask_storeu_epi8(y + c, lanes, _mm512_min_epi8(largest, high));
    }
  });
}

// A18.
void average_pool(const AveragePool<int8_t>& op) {
  const Requantize requantize(op.range);
  const __m512i zero_point = _mm512_set1_epi32(op.x_zero_point);
  for_each_window(op.shape, op.x, op.y, [&](const int8_t* image, int32_t p, int32_t r, int8_t* y) {
    for (int32_t c = 0; c < op.shape.channels; c += 16) {
      const __mmask16 lanes = first_lanes(op.shape.channels - c);
      __m512i acc = _mm512_setzero_si512();
      int32_t taps = 0;
      for_each_tap(op.shape, image, p, r, [&](const int8_t* pixel) {
        const __m512i codes = _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(lanes, pixel + c));
        acc = _mm512_add_epi32(acc, _mm512_sub_epi32(codes, zero_point));
        ++taps;
      });
      const uint32_t multiplier = op.multipliers[op.padded ? taps - 1 : 0];
      const __m512 scale = _mm512_castsi512_ps(_mm512_set1_epi32(static_cast<int>(multiplier)));
      _mm_mask_storeu_epi8(y + c, lanes, requantize(acc, scale));
    }
  });
}

// The CPU has the instructions and the system saves the registers. (__builtin_cpu_supports wants a library.)
bool has_vnni() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & bit_OSXSAVE) == 0) {
    return false;
  }
  unsigned saved = 0, high = 0;
  asm("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
  constexpr unsigned kStates = 0xe6;  // SSE, AVX, masks and both halves of the wide registers
  if ((saved & kStates) != kStates || __get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) {
    return false;
  }
  constexpr unsigned kNeeded = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
  return (b & kNeeded) == kNeeded && (c & bit_AVX512VNNI) != 0;
}

using Products = PackedConv<Vnni512>;
using Depthwise = PackedDepthwise<Depthwise512>;

PackedNeeds conv_needs(const Conv<int8_t>& op) {
  return Depthwise::fits(op.shape) ? Depthwise::needs(op) : Products::needs(op);
}
void pack_conv(const Conv<int8_t>& op, uint8_t* packed) {
  return Depthwise::fits(op.shape) ? Depthwise::pack(op, packed) : Products::pack(op, packed);
}
void conv(const Conv<int8_t>& op, const uint8_t* packed, uint8_t* scratch, Part part) {
  return Depthwise::fits(op.shape) ? Depthwise::run(op, packed, scratch, part)
                                   : Products::run(op, packed, scratch, part);
}

const PackedKernels kPacked = {.conv_needs = conv_needs, .pack_conv = pack_conv, .conv = conv};

constexpr Int8Table make_table() {
  Int8Table table = make_int8_table<Binary32>("avx512vnni");
  table.runs_here = has_vnni;
  table.packed = &kPacked;
  table.s8.add = add;
  table.s8.max_pool = max_pool;
  table.s8.average_pool = average_pool;
  return table;
}

}  // namespace

const Int8Table kInt8Avx512Vnni = make_table();

}  // namespace whittle::kernels
