// Convolution and fully connected layers with packed weights, for vectors of 32-bit sums to
// which one instruction adds products of groups of four bytes.
//
// A tile is some pixels of the result times some blocks of output channels. Four input
// channels of a pixel are broadcast, multiplied with the weights of every channel of the
// blocks, and added to sums that never leave their registers. With a pointer per pixel and
// an offset per filter tap that is the same for all of them, no matrix of patches is built.
// Padding would spoil that, and so would channels that are not a multiple of four: then the
// rows are first copied into scratch, with a frame of zero-points.
//
// The instruction multiplies unsigned with signed bytes, so codes enter as code + 128, their
// top bit turned. Packing takes that out of the bias again (packing.h).
#pragma once

#include <stdint.h>

#include "kernels/int8/packing.h"
#include "kernels/int8/table.h"

namespace whittle::kernels {

// V: kLanes output channels in a vector; kPixels[c], the pixels of a tile of c vectors; see the tables.
template <class V>
struct PackedConv {
  using Op = Conv<int8_t>;
  static constexpr int32_t kLanes = V::kLanes;
  static constexpr int32_t kStep = 4;                 // input channels that are multiplied at once
  static constexpr int64_t kLeastProducts = 1 << 21;  // of a part: less is not worth moving codes between cores

  // ---- How an op is done: by its shape alone ----

  struct Plan {
    bool copies;       // into scratch
    int32_t channels;  // of a pixel as it is read, a multiple of kStep
    int32_t width;     // pixels from one row to the next
    int32_t height;    // rows of the frame, if it copies
    int32_t steps;     // per tap
    int32_t taps;
    int32_t blocks;    // vectors of output channels
    int32_t together;  // of them in a tile
    int32_t rows;      // of results, over the whole batch
    int32_t row;       // results in one of them
    // What parts are: tiles of channels, if there are more weights to read than codes; else rows, or results of the
    // only row.
    bool by_channels;
    int32_t units;
  };

  static Plan plan_of(const ConvShape& s) {
    const Window& w = s.window;
    Plan plan = {};
    plan.taps = w.kernel_h * w.kernel_w;
    const int32_t last_row = (w.out_h - 1) * w.stride_h + (w.kernel_h - 1) * w.dilation_h;
    const int32_t last_column = (w.out_w - 1) * w.stride_w + (w.kernel_w - 1) * w.dilation_w;
    const bool padded = w.top > 0 || w.left > 0 || last_row - w.top >= w.in_h || last_column - w.left >= w.in_w;
    plan.copies = padded || s.in_channels % kStep != 0;
    plan.channels = static_cast<int32_t>(round_up(s.in_channels, kStep));
    plan.width = plan.copies ? last_column + 1 : w.in_w;
    plan.height = last_row + 1;
    plan.steps = plan.channels / kStep;
    plan.blocks = (s.out_channels + kLanes - 1) / kLanes;
    plan.rows = s.batch * w.out_h;
    plan.row = w.out_w;
    // A window of one pixel that goes through a whole image has one long row.
    const bool pointwise = plan.taps == 1 && !plan.copies && w.stride_h == 1 && w.stride_w == 1;
    if (pointwise && w.out_h == w.in_h && w.out_w == w.in_w) {
      plan.row *= plan.rows;
      plan.rows = 1;
    }
    plan.together = plan.row == 1 ? V::kMostBlocks : V::kBlocks;
    plan.together = plan.blocks < plan.together ? plan.blocks : plan.together;
    const int32_t tiles = (plan.blocks + plan.together - 1) / plan.together;
    const int64_t codes = int64_t{s.batch} * w.in_h * w.in_w * plan.channels;
    plan.by_channels = tiles > 1 && int64_t{plan.taps} * plan.steps * kStep * plan.blocks * kLanes > codes;
    plan.units = plan.by_channels ? tiles : plan.rows > 1 ? plan.rows : plan.row;
    return plan;
  }

  // ---- Packed: biases, multipliers, then for every block of tiles [taps][steps][together][kLanes][kStep] ----

  static int64_t weights_at(const Plan& plan) { return round_up(int64_t{8} * plan.blocks * kLanes, 64); }
  static int64_t packed_bytes(const Plan& plan) {
    return weights_at(plan) + int64_t{plan.blocks} * plan.taps * plan.steps * kLanes * kStep;
  }

  static PackedNeeds needs(const Op& op) {
    const ConvShape& s = op.shape;
    if (s.groups != 1) {
      return {};
    }
    const Plan plan = plan_of(s);
    PackedNeeds result;
    result.packed_bytes = round_up(packed_bytes(plan), 64);
    result.scratch_bytes = plan.copies ? round_up(int64_t{plan.height} * plan.width * plan.channels, 64) : 0;
    const int64_t products = int64_t{plan.rows} * plan.row * plan.taps * s.in_channels * s.out_channels;
    result.parts = parts_worth(plan.units, products, kLeastProducts);
    return result;
  }

  static void pack(const Op& op, uint8_t* packed) {
    const ConvShape& s = op.shape;
    const Plan plan = plan_of(s);
    const int32_t filter = plan.taps * s.in_channels;
    auto* const bias = reinterpret_cast<int32_t*>(packed);
    auto* const multipliers = reinterpret_cast<uint32_t*>(packed) + plan.blocks * kLanes;
    for (int32_t o = 0; o < plan.blocks * kLanes; ++o) {
      const bool real = o < s.out_channels;
      bias[o] = real ? bias_for_turned_codes(op, o, filter) : 0;
      multipliers[o] = real ? op.multipliers[o] : 0;
    }
    auto* to = reinterpret_cast<int8_t*>(packed + weights_at(plan));
    for (int32_t block = 0; block < plan.blocks; block += plan.together) {
      const int32_t together = plan.blocks - block < plan.together ? plan.blocks - block : plan.together;
      for (int32_t tap = 0; tap < plan.taps; ++tap) {
        for (int32_t i = 0; i < plan.channels; i += kStep) {
          for (int32_t lane = 0; lane < together * kLanes; ++lane) {
            const int32_t o = block * kLanes + lane;
            for (int32_t k = i; k < i + kStep; ++k) {
              const bool real = o < s.out_channels && k < s.in_channels;
              *to++ = real ? op.weights[(int64_t{o} * plan.taps + tap) * s.in_channels + k] : int8_t{0};
            }
          }
        }
      }
    }
  }

  // ---- Copying: the rows of one image that some rows of results read ----

  static void copy_rows(const Op& op, const Plan& plan, const int8_t* image, int32_t first, int32_t last,
                        uint8_t* frame) {
    const Window& w = op.shape.window;
    const int32_t channels = op.shape.in_channels;
    const auto zero = static_cast<uint8_t>(op.x_zero_point + 128);
    const int64_t row_bytes = int64_t{plan.width} * plan.channels;
    const int32_t begin = first * w.stride_h;
    const int32_t end = (last - 1) * w.stride_h + (w.kernel_h - 1) * w.dilation_h + 1;
    const int32_t left = w.left < plan.width ? w.left : plan.width;  // where the image begins and ends
    const int32_t right = left + w.in_w < plan.width ? left + w.in_w : plan.width;
    for (int32_t i = begin; i < end; ++i) {
      uint8_t* const to = frame + i * row_bytes;
      const int32_t row = i - w.top;
      if (row < 0 || row >= w.in_h) {
        V::fill(to, zero, row_bytes);
        continue;
      }
      const int8_t* const from = image + int64_t{row} * w.in_w * channels;
      V::fill(to, zero, int64_t{left} * plan.channels);
      if (channels == plan.channels) {
        V::copy_turned(to + int64_t{left} * channels, from, int64_t{right - left} * channels);
      } else {
        V::copy_turned_pixels(to + int64_t{left} * plan.channels, from, right - left, channels, plan.channels);
      }
      V::fill(to + int64_t{right} * plan.channels, zero, int64_t{plan.width - right} * plan.channels);
    }
  }

  // ---- Running ----

  // What a part computes: results [begin, end) of each of the rows [first, last), in channels of blocks [from, to).
  struct Range {
    int32_t first, last;
    int32_t begin, end;
    int32_t from, to;
  };

  static void run(const Op& op, const uint8_t* packed, uint8_t* scratch, Part part) {
    const ConvShape& s = op.shape;
    const Window& w = s.window;
    const Plan plan = plan_of(s);
    const auto begin = static_cast<int32_t>(int64_t{plan.units} * part.index / part.count);
    const auto end = static_cast<int32_t>(int64_t{plan.units} * (part.index + 1) / part.count);
    Range all = {.first = 0, .last = plan.rows, .begin = 0, .end = plan.row, .from = 0, .to = plan.blocks};
    if (plan.by_channels) {
      all.from = begin * plan.together;
      all.to = end * plan.together < plan.blocks ? end * plan.together : plan.blocks;
    } else if (plan.rows > 1) {
      all.first = begin;
      all.last = end;
    } else {
      all.begin = begin;
      all.end = end;
    }
    const int32_t rows_of_image = plan.rows > 1 ? w.out_h : 1;
    while (all.first < all.last) {  // an image, or what is ours of it
      const int32_t n = all.first / rows_of_image;
      const int32_t before = n * rows_of_image;
      const int32_t last = all.last < before + rows_of_image ? all.last : before + rows_of_image;
      const int8_t* const image = op.x + int64_t{n} * w.in_h * w.in_w * s.in_channels;
      const uint8_t* from = reinterpret_cast<const uint8_t*>(image);
      Range range = all;
      range.first = all.first - before;
      range.last = last - before;
      if (plan.copies) {
        copy_rows(op, plan, image, range.first, range.last, scratch);
        from = scratch;
      }
      run_range(op, plan, packed, from, range, op.y + int64_t{n} * rows_of_image * plan.row * s.out_channels);
      all.first = last;
    }
  }

  // Of one image.
  static void run_range(const Op& op, const Plan& plan, const uint8_t* packed, const uint8_t* from, const Range& range,
                        int8_t* y) {
    const Window& w = op.shape.window;
    typename V::Tile tile = {};
    tile.taps_h = w.kernel_h;
    tile.taps_w = w.kernel_w;
    tile.tap_row = int64_t{w.dilation_h} * plan.width * plan.channels;
    tile.tap_column = int64_t{w.dilation_w} * plan.channels;
    tile.steps = plan.steps;
    tile.pixel = int64_t{w.stride_w} * plan.channels;
    tile.y_pixel = op.shape.out_channels;
    tile.range = op.range;
    const int64_t weights_of_block = int64_t{plan.taps} * plan.steps * kLanes * kStep;
    for (int32_t block = range.from; block < range.to; block += plan.together) {
      const int32_t together = plan.blocks - block < plan.together ? plan.blocks - block : plan.together;
      const int32_t channels = op.shape.out_channels - block * kLanes;
      tile.bias = reinterpret_cast<const int32_t*>(packed) + block * kLanes;
      tile.multipliers = reinterpret_cast<const float*>(packed) + (plan.blocks + block) * kLanes;
      tile.weights = packed + weights_at(plan) + block * weights_of_block;
      tile.last_lanes = channels - (together - 1) * kLanes < kLanes ? channels - (together - 1) * kLanes : kLanes;
      for (int32_t p = range.first; p < range.last; ++p) {
        const uint8_t* const row = from + int64_t{p} * w.stride_h * plan.width * plan.channels;
        int8_t* const results = y + int64_t{p} * w.out_w * op.shape.out_channels + block * kLanes;
        V::run(tile, together, plan.copies, row, results, range.begin, range.end);
      }
    }
  }
};

}  // namespace whittle::kernels
