// Convolution and fully connected layers with packed weights in float, for any vector type.
//
// Images without padding are read where they lie. Padded ones are first copied into scratch,
// with a frame of zeros: every window is then whole, and the row of a filter over
// neighbouring pixels is one run of numbers, also where pixels have one or three.
//
// Results of few channels would leave lanes empty. There, neighbouring pixels of a row are
// one (with_neighbours_as_one).
#pragma once

#include <stdint.h>

#include "kernels/f32/table.h"
#include "kernels/f32/tiles_impl.h"
#include "kernels/f32/widen.h"
#include "kernels/train/parts.h"

namespace whittle::kernels {

template <class Kit>
struct PackedConvF32 {
  using V = typename Kit::V;
  using Tiles = FloatTiles<Kit>;
  using Op = ConvF32<float>;
  static constexpr int32_t kWidth = V::kWidth;
  static constexpr int64_t kLeastProducts = 1 << 18;  // of a part: some microseconds

  static constexpr int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

  // Weight i of output channel o as the tiles want it: with its scale, if it has one.
  template <class Weight, class Rows>
  static float weight(const ConvF32<Weight>& op, const Rows& rows, int64_t o, int64_t i) {
    const float number = widen(rows[o][i]);
    if constexpr (sizeof(Weight) == 1) {
      return number * op.scales[o];
    } else {
      return number;
    }
  }

  // The biases of `channels` channels from o on, `times` times, in whole vectors of which there are `blocks`.
  template <class Weight>
  static void pack_bias(const ConvF32<Weight>& op, int64_t o, int64_t channels, int64_t times, int64_t blocks,
                        float* to) {
    for (int64_t i = 0; i < blocks * kWidth; ++i) {
      to[i] = i < channels * times ? op.bias[o + i % channels] : 0.0f;
    }
  }

  // ---- How an op is done: by its shape alone ----

  struct Plan {
    bool copies;       // into scratch
    int32_t width;     // pixels from one row to the next
    int64_t in, out;   // channels of a group
    int64_t depth;     // products of a sum
    int64_t blocks;    // vectors of output channels of a group
    int64_t together;  // of them in a tile
    int64_t images;
    int64_t results;  // pixels of the result in one of them
    int64_t row;      // in a row
    bool pointwise;   // the whole batch is one long row
    int64_t at_once;  // rows of results whose frame is copied at once
    // What parts are: results, or tiles of channels of the only one. (Channels of several results, so that each thread
    // reads half the weights, were tried and not seen to be faster.)
    bool by_channels;
    int64_t units;
  };

  static Plan plan_of(const ConvShape& s) {
    const Window& w = s.window;
    Plan plan = {};
    const int32_t last_row = (w.out_h - 1) * w.stride_h + (w.kernel_h - 1) * w.dilation_h;
    const int32_t last_column = (w.out_w - 1) * w.stride_w + (w.kernel_w - 1) * w.dilation_w;
    plan.copies = w.top > 0 || w.left > 0 || last_row - w.top >= w.in_h || last_column - w.left >= w.in_w;
    plan.width = plan.copies ? last_column + 1 : w.in_w;
    plan.in = s.in_channels / s.groups;
    plan.out = s.out_channels / s.groups;
    plan.depth = int64_t{w.kernel_h} * w.kernel_w * plan.in;
    plan.blocks = (plan.out + kWidth - 1) / kWidth;
    plan.images = s.batch;
    plan.results = int64_t{w.out_h} * w.out_w;
    plan.row = w.out_w;
    plan.pointwise = w.kernel_h == 1 && w.kernel_w == 1 && !plan.copies && w.stride_h == 1 && w.stride_w == 1 &&
                     w.out_h == w.in_h && w.out_w == w.in_w;
    if (plan.pointwise) {
      plan.results *= plan.images;
      plan.images = 1;
      plan.row = plan.results;
    }
    constexpr int64_t kNear = 24 * 1024 / sizeof(float);  // what stays in the first-level cache
    const bool near = plan.depth * kWidth * Kit::kBlocks <= kNear;
    plan.together = plan.results == 1 ? Tiles::kMostBlocks : near ? Kit::kBlocks : Kit::kLongBlocks;
    plan.together = least(plan.blocks, plan.together);
    plan.by_channels = s.groups == 1 && plan.images * plan.results == 1;
    if (plan.by_channels && plan.depth * plan.out >= 2 * kLeastProducts) {
      plan.together = least(plan.together, (plan.blocks + 1) / 2);  // so that there is a tile for another thread
    }
    plan.units = plan.by_channels ? (plan.blocks + plan.together - 1) / plan.together : plan.images * plan.results;
    // Where all weights are near, the frame is, too.
    plan.at_once = plan.depth * kWidth * plan.blocks <= kNear ? rows_at_once(plan, s, kNear) : w.out_h;
    return plan;
  }

  // Rows of results that read no more than so many numbers, or a few.
  static int64_t rows_at_once(const Plan& plan, const ConvShape& s, int64_t numbers) {
    constexpr int64_t kLeastRows = 8;
    const int64_t fitting = numbers / (int64_t{s.window.stride_h} * plan.width * s.in_channels);
    const int64_t rows = !plan.copies ? s.window.out_h : fitting < kLeastRows ? kLeastRows : fitting;
    return least(rows, s.window.out_h);
  }

  static bool fits(const ConvShape& s) {
    const Window& w = s.window;
    const Plan plan = plan_of(s);
    const int64_t height = int64_t{w.out_h - 1} * w.stride_h + int64_t{w.kernel_h - 1} * w.dilation_h + 1;
    return !plan.copies || frame_fits(height, plan.width, s.in_channels);
  }

  // ---- Packed, in floats: per group its biases, then for every block of tiles [tap][input][together][kWidth] ----

  static int64_t group_size(const Plan& plan) { return (plan.depth + 1) * plan.blocks * kWidth; }

  static PackedNeeds needs(const ConvShape& shape) {
    const ConvShape s = with_neighbours_as_one(shape, kWidth);
    const Plan plan = plan_of(s);
    PackedNeeds result;
    result.packed_bytes = round_up(s.groups * group_size(plan) * int64_t{sizeof(float)}, 64);
    result.scratch_bytes = frame_bytes(plan, s, plan.at_once);
    const int64_t products = plan.images * plan.results * plan.depth * s.out_channels;
    result.parts = parts_worth(plan.units, products, kLeastProducts);
    return result;
  }

  template <class Weight, class Rows>
  static void pack(const ConvF32<Weight>& op, const Rows& rows, uint8_t* packed) {
    const ConvShape s = with_neighbours_as_one(op.shape, kWidth);
    const Window& own = op.shape.window;
    const int64_t pixels = s.out_channels / op.shape.out_channels;
    const Plan plan = plan_of(s);
    const int64_t channels = plan.out / pixels;
    auto* to = reinterpret_cast<float*>(packed);
    for (int64_t first = 0; first < op.shape.out_channels; first += channels) {
      // Of lane o of a group, for product k of its sum.
      const auto weight_of = [&](int64_t o, int64_t k) {
        if (o >= plan.out) {
          return 0.0f;
        }
        if (pixels == 1) {
          return weight(op, rows, first + o, k);
        }
        const int64_t u = k / plan.in / s.window.kernel_w;
        const int64_t v = k / plan.in % s.window.kernel_w - o / channels * own.stride_w;
        const int64_t at = (u * own.kernel_w + v) * plan.in + k % plan.in;
        return v >= 0 && v < own.kernel_w ? weight(op, rows, first + o % channels, at) : 0.0f;
      };
      pack_bias(op, first, channels, pixels, plan.blocks, to);
      to += plan.blocks * kWidth;
      for (int64_t block = 0; block < plan.blocks; block += plan.together) {
        const int64_t lanes = least(plan.blocks - block, plan.together) * kWidth;
        for (int64_t k = 0; k < plan.depth; ++k) {
          for (int64_t lane = 0; lane < lanes; ++lane) {
            *to++ = weight_of(block * kWidth + lane, k);
          }
        }
      }
    }
  }

  // ---- Copying: the rows of one image that some rows of results read ----

  static void copy_rows(const Op& op, const Plan& plan, const float* image, int64_t first, int64_t last, float* frame) {
    const Window& w = op.shape.window;
    const int64_t channels = op.shape.in_channels;
    const int64_t begin = first * w.stride_h;
    const int64_t end = (last - 1) * w.stride_h + int64_t{w.kernel_h - 1} * w.dilation_h + 1;
    const int64_t left = least(w.left, plan.width);  // where the image begins and ends
    const int64_t right = least(left + w.in_w, plan.width);
    for (int64_t i = begin; i < end; ++i) {
      float* const to = frame + (i - begin) * plan.width * channels;
      const int64_t row = i - w.top;
      if (row < 0 || row >= w.in_h) {
        zero(to, plan.width * channels);
        continue;
      }
      zero(to, left * channels);
      copy(to + left * channels, image + row * w.in_w * channels, (right - left) * channels);
      zero(to + right * channels, (plan.width - right) * channels);
    }
  }
  // Where the results of row `first` find their first tap.
  static const float* framed(const Op& op, const Plan& plan, const float* image, int64_t first, int64_t last,
                             uint8_t* scratch) {
    if (!plan.copies) {
      return image + first * op.shape.window.stride_h * plan.width * op.shape.in_channels;
    }
    auto* const frame = reinterpret_cast<float*>(scratch);
    copy_rows(op, plan, image, first, last, frame);
    return frame;
  }
  // For so many rows of results.
  static int64_t frame_bytes(const Plan& plan, const ConvShape& s, int64_t rows) {
    const Window& w = s.window;
    const int64_t height = (rows - 1) * w.stride_h + int64_t{w.kernel_h - 1} * w.dilation_h + 1;
    return plan.copies ? round_up(height * plan.width * s.in_channels * int64_t{sizeof(float)}, 64) : 0;
  }
  static void copy(float* to, const float* from, int64_t n) {
    for_each_part<V>(n, [&](int64_t i, auto part) { part.store(to + i, part.load(from + i)); });
  }
  static void zero(float* to, int64_t n) {
    for_each_part<V>(n, [&](int64_t i, auto part) { part.store(to + i, V::zero()); });
  }
  static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

  // ---- Running ----

  static void run(const Op& op, const uint8_t* packed, uint8_t* scratch, Part part) {
    const ConvShape s = with_neighbours_as_one(op.shape, kWidth);
    const Window& w = s.window;
    const Plan plan = plan_of(s);
    const int64_t from_unit = plan.units * part.index / part.count;
    const int64_t to_unit = plan.units * (part.index + 1) / part.count;
    const int64_t from_block = plan.by_channels ? from_unit * plan.together : 0;
    const int64_t to_block = plan.by_channels ? least(to_unit * plan.together, plan.blocks) : plan.blocks;
    const int64_t end = plan.by_channels ? plan.images * plan.results : to_unit;
    for (int64_t first = plan.by_channels ? 0 : from_unit; first < end;) {  // rows of an image, or what is ours of them
      const int64_t n = first / plan.results;
      const int64_t ours = first - n * plan.results;
      const int64_t row = ours / plan.row;
      const int64_t last = least(end, n * plan.results + least((row + plan.at_once) * plan.row, plan.results));
      const int64_t ours_end = last - n * plan.results;
      const int64_t row_end = (ours_end - 1) / plan.row + 1;
      const float* const image = op.x + n * w.in_h * w.in_w * s.in_channels;
      run_image(s, op.limits, plan, reinterpret_cast<const float*>(packed),
                framed(op, plan, image, row, row_end, scratch),
                op.y + (n * plan.results + row * plan.row) * s.out_channels,
                {.begin = static_cast<int32_t>(ours - row * plan.row),
                 .end = static_cast<int32_t>(ours_end - row * plan.row),
                 .from = from_block,
                 .to = to_block});
      first = last;
    }
  }

  // Results [begin, end) in channels of the blocks [from, to).
  struct Range {
    int32_t begin, end;
    int64_t from, to;
  };
  static void run_image(const ConvShape& s, const Limits& limits, const Plan& plan, const float* packed,
                        const float* from, float* y, const Range& range) {
    const Window& w = s.window;
    const int64_t channels = s.in_channels;
    typename Tiles::Tile tile = {};
    const bool one_run = w.dilation_w == 1 && s.groups == 1;  // for a whole row of the filter
    tile.line = plan.pointwise;
    tile.taps_h = w.kernel_h;
    tile.taps_w = one_run ? 1 : w.kernel_w;
    tile.tap_row = int64_t{w.dilation_h} * plan.width * channels;
    tile.tap_column = w.dilation_w * channels;
    tile.run = one_run ? w.kernel_w * plan.in : plan.in;
    tile.row = static_cast<int32_t>(plan.row);
    tile.pixel = w.stride_w * channels;
    tile.skip = int64_t{w.stride_h} * plan.width * channels - plan.row * tile.pixel;
    tile.y_pixel = s.out_channels;
    tile.low = limits.lo;
    tile.high = limits.hi;
    for (int64_t group = 0; group < s.groups; ++group, packed += group_size(plan), from += plan.in, y += plan.out) {
      const float* const weights = packed + plan.blocks * kWidth;
      for (int64_t block = range.from; block < range.to; block += plan.together) {
        const int64_t together = least(plan.blocks - block, plan.together);
        tile.bias = packed + block * kWidth;
        tile.weights = weights + block * plan.depth * kWidth;
        tile.size = together * plan.depth * kWidth;
        tile.last = static_cast<int32_t>(least(plan.out - (block + together - 1) * kWidth, kWidth));
        Tiles::run(tile, static_cast<int>(together), from, y + block * kWidth, range.begin, range.end);
      }
    }
  }
};

}  // namespace whittle::kernels
