// Depthwise convolution with packed weights in float.
//
// Filters of 3x3 have tiles of their own: neighbouring results of one or two rows, for one
// vector of channels after the other. The weights and sums of a vector stay in registers,
// and a number of the image is loaded once for all the results of the tile that it is part of.
// Images are read where they lie: of padding no lane is loaded.
//
// Others, and few channels, are the rows of train/depthwise.h, with bias and
// limits where a sum ends. There, padded images are copied into scratch as for
// packed_conv_impl.h, but some rows at a time, which stay in the second-level cache: rows
// without borders are worth more than the copy takes.
#pragma once

#include <stdint.h>

#include "kernels/f32/packed_conv_impl.h"
#include "kernels/train/depthwise_impl.h"

namespace whittle::kernels {

template <class Kit>
struct PackedDepthwiseF32 {
  using V = typename Kit::V;
  using Rows = Depthwise<V>;
  using Direct = PackedConvF32<Kit>;
  using Op = ConvF32<float>;
  static constexpr int64_t kLeastProducts = 1 << 17;  // of a part: some microseconds

  static bool fits(const ConvShape& s) {
    return s.groups > 1 && s.groups == s.in_channels && s.groups == s.out_channels;
  }

  // Packed, in floats, all as Rows::pack() repeats it: biases, then taps.
  static PackedNeeds needs(const ConvShape& s) {
    const int64_t taps = int64_t{s.window.kernel_h} * s.window.kernel_w;
    PackedNeeds result;
    result.packed_bytes =
        Direct::round_up((taps + 1) * Rows::packed_channels(s.in_channels) * int64_t{sizeof(float)}, 64);
    const auto plan = Direct::plan_of(s);
    result.scratch_bytes = in_tiles(s) ? 0 : Direct::frame_bytes(plan, s, rows_at_once(plan, s));
    const int64_t rows = int64_t{s.batch} * s.window.out_h;
    const int64_t products = rows * s.window.out_w * s.window.kernel_h * s.window.kernel_w * s.out_channels;
    result.parts = parts_worth(rows, products, kLeastProducts);
    return result;
  }

  static int64_t rows_at_once(const typename Direct::Plan& plan, const ConvShape& s) {
    constexpr int64_t kNumbers = 32 * 1024;
    return Direct::rows_at_once(plan, s, kNumbers);
  }

  template <class Weight, class Weights>
  static void pack(const ConvF32<Weight>& op, const Weights& weights, uint8_t* packed) {
    const int64_t channels = op.shape.in_channels;
    const int64_t taps = int64_t{op.shape.window.kernel_h} * op.shape.window.kernel_w;
    auto* to = reinterpret_cast<float*>(packed);
    const int64_t width = Rows::packed_channels(channels);
    Rows::pack(op.bias, channels, 1, to);
    for (int64_t tap = 0; tap < taps; ++tap) {
      to += width;
      for (int64_t i = 0; i < width; ++i) {
        to[i] = Direct::weight(op, weights, i % channels, tap);
      }
    }
  }

  static void run(const Op& op, const uint8_t* packed, uint8_t* scratch, Part part) {
    const ConvShape& s = op.shape;
    const Window& w = s.window;
    if (in_tiles(s)) {
      return w.stride_h == 1 ? run_tiles<1>(op, packed, part) : run_tiles<2>(op, packed, part);
    }
    const auto plan = Direct::plan_of(s);
    const int64_t channels = s.in_channels;
    const int64_t width = Rows::packed_channels(channels);
    const auto* const bias = reinterpret_cast<const float*>(packed);
    const V low = V::broadcast(op.limits.lo);
    const V high = V::broadcast(op.limits.hi);
    const auto finish = [bias, low, high](V sum, int64_t c, auto lanes) {
      return V::limited(V::add(sum, lanes.load(bias + c)), low, high);
    };
    const int64_t step = int64_t{plan.width} * channels;
    DepthwiseRow<float> row = {.channels = channels,
                               .in = plan.width,
                               .windows = w.out_w,
                               .taps = w.kernel_w,
                               .stride = w.stride_w,
                               .dilation = w.dilation_w,
                               .before = 0,
                               .whole_begin = 0,
                               .whole_end = w.out_w,
                               .rows = w.kernel_h,
                               .source = nullptr,
                               .source_step = w.dilation_h * step};
    const int64_t at_once = rows_at_once(plan, s);
    const int64_t rows = int64_t{s.batch} * w.out_h;
    const int64_t end = rows * (part.index + 1) / part.count;
    for (int64_t first = rows * part.index / part.count; first < end;) {  // of an image
      const int64_t n = first / w.out_h;
      const int64_t last = Direct::least(first + at_once, Direct::least(end, (n + 1) * w.out_h));
      const float* const image = op.x + n * w.in_h * w.in_w * channels;
      row.source = Direct::framed(op, plan, image, first - n * w.out_h, last - n * w.out_h, scratch);
      Rows::correlate_and_finish(row, {bias + width, row.taps * width, width}, nullptr, finish,
                                 {last - first, w.stride_h * step, w.out_w * channels},
                                 op.y + first * w.out_w * channels, channels);
      first = last;
    }
  }

 private:
  // ---- Tiles of 3x3 filters ----

  using Lanes = typename V::Lanes;
  static constexpr int kTap = 3;
  static constexpr int kPixels = Kit::kDepthwisePixels;

  static bool in_tiles(const ConvShape& s) {
    const Window& w = s.window;
    const auto reaches = [](int32_t in, int32_t out, int32_t stride, int32_t before) {  // one pixel too far at most
      return before <= 1 && (out - 1) * stride + kTap - 1 - before <= in;
    };
    constexpr int32_t kLeastChannels = 16;  // fewer are not worth preparing a tile
    return s.in_channels >= kLeastChannels && w.kernel_h == kTap && w.kernel_w == kTap && w.dilation_h == 1 &&
           w.dilation_w == 1 && w.stride_h == w.stride_w && w.stride_h <= 2 &&
           reaches(w.in_h, w.out_h, w.stride_h, w.top) && reaches(w.in_w, w.out_w, w.stride_w, w.left);
  }

  struct Tile {
    int64_t channels;
    int64_t begin, end;           // channels that are computed
    const float* weights;         // biases, then taps
    const float* rows[kTap + 1];  // of the image, at the first column that lies inside
    bool above, below;            // the first, the last row is padding
    Lanes first, last;            // none of them: the first, the last column is padding
    int64_t to_second, to_last;   // numbers from the first column to the next, and from the last but one
    float low, high;
    float* y;
    int64_t y_row;
  };

  // So many channels at once that the nearest cache keeps the rows that two rows of results share.
  static int64_t channels_at_once(const ConvShape& s) {
    constexpr int64_t kNumbers = 6 * 1024;
    constexpr int64_t kLeast = 64;
    const int64_t fitting = kNumbers / (int64_t{kTap + 1} * s.window.in_w) / kLeast * kLeast;
    return fitting < kLeast ? kLeast : fitting;
  }

  template <int kStride>
  static void run_tiles(const Op& op, const uint8_t* packed, Part part) {
    const ConvShape& s = op.shape;
    Tile tile = {};
    tile.channels = s.in_channels;
    tile.weights = reinterpret_cast<const float*>(packed);
    tile.low = op.limits.lo;
    tile.high = op.limits.hi;
    tile.y_row = s.window.out_w * tile.channels;
    const int64_t rows = int64_t{s.batch} * s.window.out_h;
    const int64_t begin = rows * part.index / part.count;
    const int64_t end = rows * (part.index + 1) / part.count;
    const int64_t at_once = channels_at_once(s);
    for (int64_t n = begin / s.window.out_h; n * s.window.out_h < end; ++n) {  // images, or what is ours of them
      const int64_t first = n * s.window.out_h;
      const auto p = static_cast<int32_t>(begin > first ? begin - first : 0);
      const auto p_end = static_cast<int32_t>(Direct::least(end - first, s.window.out_h));
      for (tile.begin = 0; tile.begin < tile.channels; tile.begin = tile.end) {
        tile.end = Direct::least(tile.begin + at_once, tile.channels);
        run_image<kStride>(s.window, tile, op.x + n * s.window.in_h * s.window.in_w * tile.channels,
                           op.y + first * tile.y_row, p, p_end);
      }
    }
  }

  // Rows [p, p_end) of the results of an image.
  template <int kStride>
  static void run_image(const Window& w, Tile& tile, const float* image, float* y, int32_t p, int32_t p_end) {
    const int32_t tiles = (w.out_w + kPixels - 1) / kPixels;
    while (p < p_end) {
      const bool two = kStride == 1 && p + 1 < p_end;
      tile.above = w.row(p, 0) < 0;
      tile.below = w.row(p, two ? kTap : kTap - 1) >= w.in_h;
      int32_t column = 0;
      for (int32_t i = 0; i < tiles; ++i) {  // of nearly equal size
        const int32_t pixels = (w.out_w - column + tiles - i - 1) / (tiles - i);
        const int32_t first = w.column(column, 0);
        const bool left = first < 0;
        const bool right = w.column(column + pixels - 1, kTap - 1) >= w.in_w;
        tile.first = V::first(left ? 0 : V::kWidth);
        tile.last = V::first(right ? 0 : V::kWidth);
        tile.to_second = left ? 0 : tile.channels;
        tile.to_last = right ? 0 : tile.channels;
        for (int32_t u = 0; u <= kTap; ++u) {
          tile.rows[u] = image + (int64_t{w.row(p, u)} * w.in_w + (left ? 0 : first)) * tile.channels;
        }
        tile.y = y + p * tile.y_row + column * tile.channels;
        two ? run_tile<kStride == 1 ? 2 : 1, kStride, kPixels>(tile, pixels)
            : run_tile<1, kStride, kPixels>(tile, pixels);
        column += pixels;
      }
      p += two ? 2 : 1;
    }
  }

  template <int kRows, int kStride, int kCount>
  static void run_tile(const Tile& t, int32_t pixels) {
    if constexpr (kCount > 1) {
      if (pixels < kCount) {
        return run_tile<kRows, kStride, kCount - 1>(t, pixels);
      }
    }
    const Tile own = t;  // which no store changes
    int64_t c = own.begin;
    for (; c + V::kWidth <= own.end; c += V::kWidth) {
      results<kRows, kStride, kCount>(own, c, WholePart<V>(), own.first, own.last);
    }
    if (c < own.end) {
      const auto n = static_cast<int>(own.end - c);
      results<kRows, kStride, kCount>(own, c, FirstPart<V>{n}, static_cast<Lanes>(own.first & V::first(n)),
                                      static_cast<Lanes>(own.last & V::first(n)));
    }
  }

  // The sum of a result has the order of its taps, whatever the tile.
  template <int kRows, int kStride, int kCount, class Channels>
  [[gnu::always_inline]] static void results(const Tile& t, int64_t c, Channels channels, Lanes first, Lanes last) {
    constexpr int kColumns = (kCount - 1) * kStride + kTap;
    V weight[kTap][kTap];
#pragma GCC unroll 3
    for (int u = 0; u < kTap; ++u) {
#pragma GCC unroll 3
      for (int v = 0; v < kTap; ++v) {
        weight[u][v] = channels.load(t.weights + (1 + u * kTap + v) * t.channels + c);
      }
    }
    V sum[kRows][kCount];
#pragma GCC unroll 2
    for (auto& row : sum) {
#pragma GCC unroll 8
      for (V& number : row) {
        number = V::zero();
      }
    }
#pragma GCC unroll 4
    for (int i = 0; i < kRows + kTap - 1; ++i) {
      if ((i == 0 && t.above) || (i == kRows + kTap - 2 && t.below)) {
        continue;
      }
      const float* at = t.rows[i] + c;
#pragma GCC unroll 17
      for (int j = 0; j < kColumns; ++j) {
        const V number = j == 0 ? V::load(at, first) : j + 1 == kColumns ? V::load(at, last) : channels.load(at);
        at += j == 0 ? t.to_second : j + 2 == kColumns ? t.to_last : t.channels;
        asm("" : "+r"(at));  // else all addresses are computed beforehand, and registers hold none
#pragma GCC unroll 2
        for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
          for (int p = 0; p < kCount; ++p) {
            const int u = i - r;
            const int v = j - p * kStride;
            if (u >= 0 && u < kTap && v >= 0 && v < kTap) {
              sum[r][p] = V::fma(number, weight[u][v], sum[r][p]);
            }
          }
        }
      }
    }
    const V bias = channels.load(t.weights + c);
    const V low = V::broadcast(t.low);
    const V high = V::broadcast(t.high);
#pragma GCC unroll 2
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
      for (int p = 0; p < kCount; ++p) {
        channels.store(t.y + r * t.y_row + p * t.channels + c, V::limited(V::add(sum[r][p], bias), low, high));
      }
    }
  }
};

}  // namespace whittle::kernels
