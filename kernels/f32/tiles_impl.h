// The register tile of float products: some pixels of the result times some vectors of
// output channels.
//
// One number of a pixel is broadcast, multiplied with the weights of every channel of the
// tile, and added to sums that never leave their registers. Pixels are pointers, and an
// offset per filter tap is the same for all of them, so that a convolution needs no matrix
// of patches. Where pixels just follow one another, three share a pointer: with one each, the
// last finds no register. A sum has one order, that of its products, wherever the tile begins and however
// wide it is: results do not depend on how an op is cut up.
//
// Kit: its vector type V; kPixels[c - 1], the pixels of a tile of c vectors; kBlocks and
// kLongBlocks, how many vectors a tile has if its weights stay in the first-level cache and
// if they do not. See the tables.
#pragma once

#include <stdint.h>

namespace whittle::kernels {

template <class Kit>
struct FloatTiles {
  using V = typename Kit::V;
  static constexpr int kWidth = V::kWidth;
  static constexpr int kMostBlocks = 8;  // with a single pixel
  static constexpr int kMostPixels = 12;

  struct Tile {
    bool line;               // one run, and `pixel` numbers from any pixel to the next
    int32_t taps_h, taps_w;  // runs of numbers that lie one behind the other
    int64_t tap_row, tap_column;
    int64_t run;
    int32_t row;  // pixels of the result in a row; behind the last of them, the next row of x is `skip` further
    int64_t pixel, skip;
    int64_t y_pixel;
    const float* weights;  // [run of taps][number][vector], whole vectors
    const float* bias;     // whole vectors; null: sums as they are, without limits
    float low, high;
    int32_t last;  // lanes of the last vector that are channels
    int64_t size;  // numbers in `weights`; what is behind them is wanted next
  };

  // Pixels [begin, end) of the result; x belongs to pixel 0, and so does y.
  static void run(const Tile& t, int together, const float* x, float* y, int32_t begin, int32_t end) {
    const Function* const functions = (t.line ? kFunctions<true> : kFunctions<false>).rows[together - 1].functions;
    const int32_t most = together <= kTileBlocks ? Kit::kPixels[together - 1] : 1;
    const int32_t tiles = (end - begin + most - 1) / most;
    int32_t first = begin;
    int32_t row = begin / t.row;
    int32_t column = begin - row * t.row;
    for (int32_t i = 0; i < tiles; ++i) {  // of nearly equal size
      const int32_t pixels = (end - first + tiles - i - 1) / (tiles - i);
      const float* const from = x + row * (t.row * t.pixel + t.skip) + column * t.pixel;
      // While the last tiles read these weights, each fetches a share of the next ones: one line of every step.
      const int32_t share = tiles - 1 - i;
      const int64_t ahead = together > kTileBlocks                     ? kAhead
                            : share < together * kWidth / kLineNumbers ? t.size + share * kLineNumbers
                                                                       : 0;
      functions[pixels - 1](t, from, t.row - column, y + first * t.y_pixel, ahead);
      first += pixels;
      for (column += pixels; column >= t.row; column -= t.row) {
        ++row;
      }
    }
  }

 private:
  using Function = void (*)(const Tile&, const float*, int32_t, float*, int64_t);
  static constexpr int64_t kAhead = 2048;
  static constexpr int kLineNumbers = 64 / static_cast<int>(sizeof(float));
  static constexpr int kTileBlocks = static_cast<int>(sizeof(Kit::kPixels) / sizeof(Kit::kPixels[0]));

  // `left`: pixels until the row ends.
  template <int kPixelCount, int kBlockCount, bool kLine>
  [[gnu::noinline]] static void tile(const Tile& t, const float* x, int32_t left, float* y, int64_t ahead) {
    V sum[kPixelCount][kBlockCount];
#pragma GCC unroll 16
    for (int r = 0; r < kPixelCount; ++r) {
#pragma GCC unroll 8
      for (int c = 0; c < kBlockCount; ++c) {
        sum[r][c] = V::zero();
      }
    }
    // pixel(r): the number of pixel r that is multiplied with the weights at w.
    const auto step = [&sum, ahead ](const float*& w, auto pixel) __attribute__((always_inline)) {
      V right[kBlockCount];
#pragma GCC unroll 8
      for (int c = 0; c < kBlockCount; ++c) {
        right[c] = V::load(w + c * kWidth);
        // What the next steps read goes to the nearest cache, a line at a time; the next weights go to the second one.
        if constexpr (kBlockCount > kTileBlocks) {
          if (c * kWidth % kLineNumbers == 0) {
            __builtin_prefetch(w + ahead + c * kWidth, 0, 3);
          }
        } else if (c == 0) {
          __builtin_prefetch(w + ahead, 0, 2);
        }
      }
#pragma GCC unroll 16
      for (int r = 0; r < kPixelCount; ++r) {
        const V number = V::broadcast(pixel(r));
#pragma GCC unroll 8
        for (int c = 0; c < kBlockCount; ++c) {
          sum[r][c] = V::fma(number, right[c], sum[r][c]);
        }
      }
      w += kBlockCount * kWidth;
    };
    const float* w = t.weights;
    if constexpr (kLine) {
      constexpr int kPointers = (kPixelCount + 2) / 3;
      const int64_t next = t.pixel;
      const float* pixel[kPointers];
#pragma GCC unroll 4
      for (int i = 0; i < kPointers; ++i) {
        pixel[i] = x + 3 * i * next;
      }
      for (const float* const end = x + t.run; pixel[0] < end;) {
        step(
            w, [&pixel, next ](int r) __attribute__((always_inline)) { return pixel[r / 3][r % 3 * next]; });
#pragma GCC unroll 4
        for (const float*& number : pixel) {
          ++number;
          asm("" : "+r"(number));  // else they become one pointer and sums
        }
      }
    } else {
      const float* pixel[kPixelCount];
#pragma GCC unroll 16
      for (int r = 0; r < kPixelCount; ++r) {
        pixel[r] = x;
        --left;
        x += t.pixel + (left == 0 ? t.skip : 0);
        left = left == 0 ? t.row : left;
      }
      for (int32_t u = 0; u < t.taps_h; ++u) {
        for (int32_t v = 0; v < t.taps_w; ++v) {
          int64_t at = u * t.tap_row + v * t.tap_column;
          for (const int64_t end = at + t.run; at < end; ++at) {
            step(
                w, [&pixel, at ](int r) __attribute__((always_inline)) { return pixel[r][at]; });
          }
        }
      }
    }
    if (t.bias != nullptr) {
      const V low = V::broadcast(t.low);
      const V high = V::broadcast(t.high);
#pragma GCC unroll 8
      for (int c = 0; c < kBlockCount; ++c) {
        const V bias = V::load(t.bias + c * kWidth);
#pragma GCC unroll 16
        for (int r = 0; r < kPixelCount; ++r) {
          sum[r][c] = V::limited(V::add(sum[r][c], bias), low, high);
        }
      }
    }
    const int32_t last = t.last;
#pragma GCC unroll 16
    for (int r = 0; r < kPixelCount; ++r, y += t.y_pixel) {
#pragma GCC unroll 8
      for (int c = 0; c + 1 < kBlockCount; ++c) {
        V::store(y + c * kWidth, sum[r][c]);
      }
      float* const to = y + (kBlockCount - 1) * kWidth;
      if (last == kWidth) {
        V::store(to, sum[r][kBlockCount - 1]);
      } else {
        V::store_first(to, last, sum[r][kBlockCount - 1]);
      }
    }
  }

  struct Functions {
    struct {
      Function functions[kMostPixels];
    } rows[kMostBlocks];
  };
  template <bool kLine, int kPixelCount, int kBlockCount>
  static constexpr void fill(Functions& all) {
    all.rows[kBlockCount - 1].functions[kPixelCount - 1] = tile < kPixelCount, kBlockCount,
                                                      kLine && (kPixelCount > 3) > ;
    if constexpr (kPixelCount > 1) {
      fill<kLine, kPixelCount - 1, kBlockCount>(all);
    } else if constexpr (kBlockCount > kTileBlocks + 1) {
      fill<kLine, 1, kBlockCount - 1>(all);
    } else if constexpr (kBlockCount > 1) {
      fill<kLine, Kit::kPixels[kBlockCount - 2], kBlockCount - 1>(all);
    }
  }
  template <bool kLine>
  static constexpr Functions make_functions() {
    Functions all = {};
    fill<kLine, 1, kMostBlocks>(all);
    return all;
  }
  template <bool kLine>
  static constexpr Functions kFunctions = make_functions<kLine>();
};

}  // namespace whittle::kernels
