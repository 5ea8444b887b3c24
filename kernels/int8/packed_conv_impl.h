// Convolution and fully connected layers with packed weights, for vectors of 32-bit sums to
// which few instructions add products of pairs or groups of four codes.
//
// A tile is some pixels of the result times some blocks of output channels. Four input
// codes of a pixel are broadcast, multiplied with the weights of every channel of the
// blocks, and added to sums that never leave their registers. With an address per pixel and
// an offset per filter tap that is the same for all of them, no matrix of patches is built.
// The taps of a row of the filter lie side by side, so they are one run of codes, whatever the
// channels; the last four of a run may go beyond it and meet weights that are 0.
// Rows of the filter that lie above or below the image are left out. The other rows are first
// copied into scratch, with zero-points at their ends where there is padding: codes enter
// products as code + shift, which costs less there than in every tile, and a run may be read
// beyond its end. Packing takes the shift out of the bias again (packing.h). Of windows of one
// pixel no more is copied at once than the nearest cache holds. Some images are copied at once
// where weights come from far, so that each block of them comes once for all of these. Where
// results have fewer channels than a vector lanes, neighbouring pixels share it
// (with_neighbours_as_one).
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "kernels/int8/loops_impl.h"
#include "kernels/int8/packing.h"
#include "kernels/int8/table.h"

namespace whittle::kernels {

// V: see vec_avx512vnni.h. kPixels[c - 1] are the pixels of a tile of c vectors of channels, kBlocks the most vectors
// of a tile with several pixels, kMostBlocks with one.
template <class V>
struct PackedConv {
  using Op = Conv<int8_t>;
  using Code = typename V::Code;
  using Weight = typename V::Weight;
  static constexpr int32_t kLanes = V::kLanes;
  static constexpr int32_t kStep = 4;                    // codes that are multiplied at once
  static constexpr int32_t kInWord = kStep / V::kWords;  // of them in a word of 32 bits
  static constexpr int64_t kLeastProducts = 1 << 21;     // of a part: less is not worth moving codes between cores
  static constexpr int64_t kLeastWeights = 1 << 19;      // of a part whose weights are used once, and come from far

  // ---- How an op is done: by its shape alone ----

  struct Plan {
    bool line;         // the windows are the pixels of the whole batch, one by one
    int32_t width;     // pixels from one row to the next
    int32_t runs;      // of codes that are read side by side, for each row of the filter
    int32_t run;       // codes in one
    int32_t steps;     // of them
    int32_t blocks;    // vectors of output channels
    int32_t together;  // of them in a tile
    int32_t rows;      // of results, over the whole batch
    int32_t row;       // results in one of them
    int32_t piece;     // of a line, that is copied at once
    int32_t images;    // if it is no line, that are copied at once
    // What parts are: tiles of channels, if there are more weights to read than codes; else rows, or results of the
    // only row.
    bool by_channels;
    int32_t units;
    int64_t pixel_bytes;
  };

  static Plan plan_of(const ConvShape& s) {
    const Window& w = s.window;
    Plan plan = {};
    plan.pixel_bytes = int64_t{s.in_channels} * static_cast<int64_t>(sizeof(Code));
    plan.runs = w.dilation_w == 1 ? 1 : w.kernel_w;
    plan.run = w.kernel_w / plan.runs * s.in_channels;
    plan.steps = (plan.run + kStep - 1) / kStep;
    plan.width = (w.out_w - 1) * w.stride_w + (w.kernel_w - 1) * w.dilation_w + 1;
    plan.blocks = (s.out_channels + kLanes - 1) / kLanes;
    plan.rows = s.batch * w.out_h;
    plan.row = w.out_w;
    // A window of one pixel that goes through a whole image has one long row.
    plan.line = w.kernel_h == 1 && w.kernel_w == 1 && w.top == 0 && w.left == 0 && w.stride_h == 1 && w.stride_w == 1 &&
                w.out_h == w.in_h && w.out_w == w.in_w;
    if (plan.line) {
      plan.row *= plan.rows;
      plan.rows = 1;
      plan.piece = piece_of(plan);
    }
    plan.together = plan.row == 1 ? V::kMostBlocks : V::kBlocks;
    plan.together = plan.blocks < plan.together ? plan.blocks : plan.together;
    if (once(plan) && products(s, plan) >= 2 * kLeastWeights && 2 * plan.together > plan.blocks) {
      plan.together = (plan.blocks + 1) / 2;  // so that there is a tile for another thread
    }
    plan.images = plan.line ? 1 : images_of(s, plan);
    const int32_t tiles = (plan.blocks + plan.together - 1) / plan.together;
    plan.by_channels =
        tiles > 1 && plan.blocks * block_bytes(s, plan) > int64_t{s.batch} * w.in_h * w.in_w * s.in_channels;
    plan.units = plan.by_channels ? tiles : plan.rows > 1 ? plan.rows : plan.row;
    return plan;
  }

  static bool once(const Plan& plan) { return plan.rows * plan.row == 1; }
  static int64_t products(const ConvShape& s, const Plan& plan) {
    return int64_t{plan.rows} * plan.row * s.window.kernel_h * plan.runs * plan.run * s.out_channels;
  }

  // What is copied of a line stays in the nearest cache, and is whole tiles.
  static int32_t piece_of(const Plan& plan) {
    constexpr int64_t kBytes = 16384;
    constexpr int64_t kTile = V::kPixels[V::kBlocks - 1];
    const int64_t tiles = kBytes / (plan.pixel_bytes * kTile);
    const int64_t pixels = (tiles < 1 ? 1 : tiles) * kTile;
    return static_cast<int32_t>(pixels > plan.row ? plan.row : pixels);
  }

  // As many as stay in the second cache beside a tile of channels, if their weights do not.
  static int32_t images_of(const ConvShape& s, const Plan& plan) {
    constexpr int64_t kNear = 1 << 18;  // bytes of weights
    constexpr int64_t kBytes = 1 << 17;
    const int64_t images = plan.blocks * block_bytes(s, plan) < kNear ? 1 : kBytes / (frame_bytes(s, plan) + 1);
    return static_cast<int32_t>(images < 1 ? 1 : images > s.batch ? s.batch : images);
  }
  static int64_t frame_bytes(const ConvShape& s, const Plan& plan) {
    return int64_t{s.window.in_h} * plan.width * plan.pixel_bytes;
  }

  // ---- Packed: the plan; biases, multipliers, and what biases lack if the first 0, 1, ... rows of the filter are left
  // out; and for every block of tiles [rows of the filter][runs][steps][words][together][kLanes][kInWord] weights ----

  static constexpr int64_t kBiasAt = round_up(sizeof(Plan), 64);
  static int64_t weights_at(const ConvShape& s, const Plan& plan) {
    return kBiasAt + round_up(int64_t{4} * plan.blocks * kLanes * (3 + s.window.kernel_h), 64);
  }
  static int64_t block_bytes(const ConvShape& s, const Plan& plan) {
    return int64_t{s.window.kernel_h} * plan.runs * plan.steps * kLanes * kStep * static_cast<int64_t>(sizeof(Weight));
  }

  static PackedNeeds needs(const Op& op) {
    const ConvShape s = with_neighbours_as_one(op.shape, kLanes);
    if (s.groups != 1) {
      return {};
    }
    const Plan plan = plan_of(s);
    if (!plan.line && !frame_fits(s.window.in_h, plan.width, s.in_channels)) {
      return {};
    }
    const int64_t copied = plan.line ? plan.piece * plan.pixel_bytes : plan.images * frame_bytes(s, plan);
    PackedNeeds result;
    result.packed_bytes = round_up(weights_at(s, plan) + plan.blocks * block_bytes(s, plan), 64);
    result.scratch_bytes = round_up(copied + V::kSlack, 64);
    result.parts = parts_worth(plan.units, products(s, plan), once(plan) ? kLeastWeights : kLeastProducts);
    return result;
  }

  template <class Rows>
  static void pack(const Op& op, const Rows& rows, uint8_t* packed) {
    const ConvShape s = with_neighbours_as_one(op.shape, kLanes);
    const Plan plan = plan_of(s);
    const Window& w = s.window;
    const int32_t channels = op.shape.out_channels;
    const int32_t row = op.shape.window.kernel_w * s.in_channels;  // weights in one of the filter
    const int32_t taps = row / plan.runs;                          // that one run meets
    const int32_t filter = w.kernel_h * row;
    *reinterpret_cast<Plan*>(packed) = plan;
    auto* const bias = reinterpret_cast<int32_t*>(packed + kBiasAt);
    const int32_t shift = V::shift(op.x_zero_point);
    const int32_t lanes = plan.blocks * kLanes;
    auto* const multipliers = reinterpret_cast<uint32_t*>(bias + lanes);
    int32_t* const missing = bias + 2 * lanes;
    for (int32_t o = 0; o < lanes; ++o) {
      const bool real = o < s.out_channels;
      multipliers[o] = real ? op.multipliers[o % channels] : 0;
      for (int32_t u = 0; u <= w.kernel_h; ++u) {
        missing[u * lanes + o] = real ? sum_of_shifts(op, rows[o % channels], shift, u * row) : 0;
      }
      bias[o] = real ? bias_for_shifted_codes(op, rows[o % channels], shift, o % channels, filter) : 0;
    }
    auto* to = reinterpret_cast<Weight*>(packed + weights_at(s, plan));
    for (int32_t block = 0; block < plan.blocks; block += plan.together) {
      const int32_t together = plan.blocks - block < plan.together ? plan.blocks - block : plan.together;
      for (int32_t run = 0; run < w.kernel_h * plan.runs; ++run) {
        for (int32_t lane = 0; lane < together * kLanes; ++lane) {
          const int32_t o = block * kLanes + lane;
          // Those of the second pixel, if pixels share a vector, begin where its window does.
          const int32_t begin = o / channels * op.shape.window.stride_w * s.in_channels;
          const int32_t end = o < s.out_channels ? begin + taps : begin;
          const auto weights = rows[o % channels];
          for (int32_t k = 0; k < plan.steps * kStep; k += kInWord) {
            Weight word[kInWord];
            for (int32_t i = 0; i < kInWord; ++i) {
              const bool real = begin <= k + i && k + i < end;
              word[i] = static_cast<Weight>(real ? weights[run * taps + k + i - begin] : 0);
            }
            __builtin_memcpy(to + (k / kInWord * together * kLanes + lane) * kInWord, word, sizeof word);
          }
        }
        to += together * kLanes * plan.steps * kStep;
      }
    }
  }

  // ---- Copying ----

  // The rows of one image that some rows of results read. Copying writes more than it should, which what follows
  // corrects. Inlined into a loop over images by g++ 12, it cost nets of one image 2 %.
  [[gnu::noinline]] static void copy_rows(const Op& op, const Plan& plan, const int8_t* image, int32_t first,
                                          int32_t last, Code* frame) {
    const Window& w = op.shape.window;
    const int32_t shift = V::shift(op.x_zero_point);
    const auto zero = static_cast<Code>(op.x_zero_point + shift);
    const int64_t channels = op.shape.in_channels;
    const int64_t row_codes = plan.width * channels;
    const int8_t* const end_of_image = image + int64_t{w.in_h} * w.in_w * channels;
    const int32_t left = w.left < plan.width ? w.left : plan.width;  // where the image begins and ends
    const int32_t right = left + w.in_w < plan.width ? left + w.in_w : plan.width;
    const int32_t end = w.row(last - 1, w.kernel_h - 1) + 1;
    const int32_t reach = (w.kernel_h - 1) * w.dilation_h + 1;
    for (int32_t row = w.row(first, 0) < 0 ? 0 : w.row(first, 0); row < end && row < w.in_h; ++row) {
      if ((row + w.top) % w.stride_h >= reach) {
        continue;  // between windows
      }
      Code* const to = frame + row * row_codes;
      const int8_t* const from = image + row * w.in_w * channels;
      V::fill(to, zero, left * channels);
      V::copy_shifted(to + left * channels, from, (right - left) * channels, end_of_image - from, shift);
      V::fill(to + right * channels, zero, (plan.width - right) * channels);
    }
  }

  // ---- Running ----

  // Results [begin, end) of the rows [first, last), in channels of the blocks [from, to).
  struct Range {
    int32_t first, last;
    int32_t begin, end;
    int32_t from, to;
  };

  static Range range_of(const Plan& plan, Part part) {
    const auto begin = static_cast<int32_t>(int64_t{plan.units} * part.index / part.count);
    const auto end = static_cast<int32_t>(int64_t{plan.units} * (part.index + 1) / part.count);
    Range range = {.first = 0, .last = plan.rows, .begin = 0, .end = plan.row, .from = 0, .to = plan.blocks};
    if (plan.by_channels) {
      range.from = begin * plan.together;
      range.to = end * plan.together < plan.blocks ? end * plan.together : plan.blocks;
    } else if (plan.rows > 1) {
      range.first = begin;
      range.last = end;
    } else {
      range.begin = begin;
      range.end = end;
    }
    return range;
  }

  static void run(const Op& given, const uint8_t* packed, uint8_t* scratch, Part part) {
    Op op = given;
    op.shape = with_neighbours_as_one(given.shape, kLanes);
    const ConvShape& s = op.shape;
    const Window& w = s.window;
    const Plan& plan = *reinterpret_cast<const Plan*>(packed);
    const Range all = range_of(plan, part);
    Range range = all;
    auto* const frame = reinterpret_cast<Code*>(scratch);
    if (plan.line) {
      for (int32_t first = all.begin, last = all.begin; first < all.end; first = last) {
        last = all.end - first > plan.piece ? first + plan.piece : all.end;
        const int8_t* const from = op.x + int64_t{first} * s.in_channels;
        int8_t* const y = op.y + int64_t{first} * s.out_channels;
        const int64_t codes = int64_t{last - first} * s.in_channels;
        V::copy_shifted(frame, from, codes, codes, V::shift(op.x_zero_point));
        range.begin = 0;
        range.end = last - first;
        run_range(op, plan, packed, scratch, range, y);
      }
      return;
    }
    const int32_t rows = plan.rows > 1 ? w.out_h : 1;  // of an image
    const int64_t frame_codes = frame_bytes(s, plan) / static_cast<int64_t>(sizeof(Code));
    const int32_t step = plan.images > 1 ? plan.together : plan.blocks;
    const int32_t last = (all.last - 1) / rows;  // image
    for (int32_t n = all.first / rows; n <= last; n += plan.images) {
      const int32_t images = last - n < plan.images ? last - n + 1 : plan.images;
      const auto rows_of = [&](int32_t i) {  // that are ours
        const int32_t before = (n + i) * rows;
        range.first = all.first > before ? all.first - before : 0;
        range.last = all.last - before < rows ? all.last - before : rows;
      };
      for (int32_t i = 0; i < images; ++i) {
        rows_of(i);
        const int8_t* const image = op.x + int64_t{n + i} * w.in_h * w.in_w * s.in_channels;
        copy_rows(op, plan, image, range.first, range.last, frame + i * frame_codes);
      }
      for (range.from = all.from; range.from < all.to; range.from = range.to) {
        range.to = all.to - range.from < step ? all.to : range.from + step;
        for (int32_t i = 0; i < images; ++i) {
          rows_of(i);
          run_range(op, plan, packed, scratch + i * frame_bytes(s, plan), range,
                    op.y + int64_t{n + i} * w.out_h * w.out_w * s.out_channels);
        }
      }
    }
  }

 private:
  using Ints = typename V::Ints;
  using Bytes = typename V::Bytes;

  struct Tile {
    int32_t rows, runs;     // of the filter
    int64_t row, next_run;  // bytes to the next
    int64_t run;            // bytes that are read of it
    int64_t pixel;          // bytes from pixel to pixel
    int64_t y_pixel;        // the same in y
    const int32_t* bias;
    const float* multipliers;
    const uint8_t* weights;
    CodeRange range;
  };

  // Of one image, whose rows were copied to `from`.
  static void run_range(const Op& op, const Plan& plan, const uint8_t* packed, const uint8_t* from, const Range& range,
                        int8_t* y) {
    if (range.begin == range.end) {
      return;
    }
    const Window& w = op.shape.window;
    Tile tile = {};
    tile.runs = plan.runs;
    tile.row = w.dilation_h * plan.width * plan.pixel_bytes;
    tile.next_run = w.dilation_w * plan.pixel_bytes;
    tile.run = plan.steps * V::kWords * 4;
    tile.pixel = w.stride_w * plan.pixel_bytes;
    tile.range = op.range;
    alignas(64) int8_t beside[V::kMostPixels * V::kBlocks * kLanes];  // results of a tile, where there is no room
    int32_t some[V::kMostBlocks * kLanes];                            // biases without all rows of the filter
    const int8_t* const end = y + (int64_t{range.last - 1} * w.out_w + range.end) * op.shape.out_channels;
    const int64_t one_row = plan.width * plan.pixel_bytes;
    for (int32_t block = range.from; block < range.to; block += plan.together) {
      const int32_t together = plan.blocks - block < plan.together ? plan.blocks - block : plan.together;
      // A tile may have more channels than there are. If it has all of them, the next pixel overwrites what is too
      // much.
      const int32_t channels = op.shape.out_channels - block * kLanes;
      const bool whole = channels >= together * kLanes;
      const bool overwritten = plan.blocks <= plan.together;
      const int32_t* const bias = reinterpret_cast<const int32_t*>(packed + kBiasAt) + block * kLanes;
      tile.multipliers = reinterpret_cast<const float*>(bias + plan.blocks * kLanes);
      const uint8_t* const weights = packed + weights_at(op.shape, plan) + block * block_bytes(op.shape, plan);
      // A row is cut into tiles of nearly equal size.
      const bool dense = op.shape.out_channels == together * kLanes;
      const Function* const functions = (dense ? kFunctions<true> : kFunctions<false>).of[together - 1];
      const int32_t most = V::kPixels[together - 1];
      const int32_t tiles = (range.end - range.begin + most - 1) / most;
      const int32_t least = (range.end - range.begin) / tiles;
      const int32_t larger = (range.end - range.begin) % tiles;  // so many have one pixel more
      for (int32_t p = range.first; p < range.last; ++p) {
        int32_t top = 0;  // the rows of the filter that are inside
        int32_t bottom = w.kernel_h;
        for (; top < bottom && w.row(p, top) < 0; ++top) {
        }
        for (; top < bottom && w.row(p, bottom - 1) >= w.in_h; --bottom) {
        }
        tile.rows = bottom - top;
        tile.weights = weights + int64_t{top} * together * (block_bytes(op.shape, plan) / w.kernel_h);
        tile.bias = tile.rows == w.kernel_h ? bias : bias_of_rows(plan, bias, together, top, bottom, w.kernel_h, some);
        const int64_t first_row = tile.rows > 0 ? w.row(p, top) : 0;
        const uint8_t* x = from + first_row * one_row + range.begin * tile.pixel;
        int8_t* to = y + (int64_t{p} * w.out_w + range.begin) * op.shape.out_channels + block * kLanes;
        for (int32_t i = 0; i < tiles; ++i) {
          const int32_t pixels = least + (i < larger ? 1 : 0);
          int8_t* const next = to + int64_t{pixels} * op.shape.out_channels;
          if (whole || (overwritten && end - next >= kLanes)) {
            tile.y_pixel = op.shape.out_channels;
            functions[pixels - 1](tile, x, to);
          } else {
            tile.y_pixel = together * kLanes;
            functions[pixels - 1](tile, x, beside);
            for (int32_t r = 0; r < pixels; ++r) {
              __builtin_memcpy(to + int64_t{r} * op.shape.out_channels, beside + r * tile.y_pixel,
                               static_cast<size_t>(channels < tile.y_pixel ? channels : tile.y_pixel));
            }
          }
          x += pixels * tile.pixel;
          to = next;
        }
      }
    }
  }

  // Biases where only the rows [top, bottom) of the filter take part.
  static const int32_t* bias_of_rows(const Plan& plan, const int32_t* bias, int32_t together, int32_t top,
                                     int32_t bottom, int32_t rows, int32_t* to) {
    const int64_t lanes = int64_t{plan.blocks} * kLanes;
    const int32_t* const missing = bias + 2 * lanes;
    for (int32_t i = 0; i < together * kLanes; ++i) {
      const auto at = [&](int64_t u) { return static_cast<uint32_t>(missing[u * lanes + i]); };
      to[i] = static_cast<int32_t>(static_cast<uint32_t>(bias[i]) + at(rows) - at(bottom) + at(top));
    }
    return to;
  }

  // kDense: the channels of the tile are all there are, so that all its results lie side by side.
  template <int kPixelCount, int kBlockCount, bool kDense>
  static void run_tile(const Tile& t, const uint8_t* x, int8_t* y) {
    Ints acc[kPixelCount][kBlockCount];
#pragma GCC unroll 16
    for (int c = 0; c < kBlockCount; ++c) {
      const Ints bias = V::load(t.bias + c * kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < kPixelCount; ++r) {
        acc[r][c] = bias;
      }
    }
    constexpr int64_t kVector = kLanes * 4;  // bytes
    constexpr int64_t kWords = V::kWords;
    const uint8_t* w = t.weights;
    for (int32_t u = 0; u < t.rows; ++u) {
      for (int32_t v = 0; v < t.runs; ++v) {
        const uint8_t* at = x + u * t.row + v * t.next_run;
        const uint8_t* const end = at + t.run;
        for (; at < end; at += kWords * 4, w += kWords * kBlockCount * kVector) {
#pragma GCC unroll 2
          for (int word = 0; word < kWords; ++word) {
            Ints weights[kBlockCount];
#pragma GCC unroll 16
            for (int c = 0; c < kBlockCount; ++c) {
              weights[c] = V::load(w + (word * kBlockCount + c) * kVector);
            }
#pragma GCC unroll 16
            for (int r = 0; r < kPixelCount; ++r) {
              int32_t codes_of_pixel;
              __builtin_memcpy(&codes_of_pixel, at + r * t.pixel + word * 4, 4);
              const Ints codes = V::all(codes_of_pixel);
#pragma GCC unroll 16
              for (int c = 0; c < kBlockCount; ++c) {
                V::multiply_add(acc[r][c], codes, weights[c]);
              }
            }
          }
        }
      }
    }
    finish<kDense>(t, acc, Requantize<V>(t.range), y);
  }

  // Four vectors at a time from kFirst on: the blocks of a pixel, then those of the next.
  template <bool kDense, int kFirst = 0, int kPixelCount, int kBlockCount>
  [[gnu::always_inline]] static void finish(const Tile& t, const Ints (&acc)[kPixelCount][kBlockCount],
                                            const Requantize<V>& requantize, int8_t* y) {
    constexpr int kCount = kPixelCount * kBlockCount;
    Ints four[4];
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      const int i = kFirst + k < kCount ? kFirst + k : kCount - 1;
      const int c = i % kBlockCount;
      four[k] = requantize.scaled(acc[i / kBlockCount][c], V::load_reals(t.multipliers + c * kLanes));
    }
    const Bytes codes = V::in_order(requantize.codes(four[0], four[1], four[2], four[3]));
    if constexpr (kDense) {
      V::template store_vectors<0, (kCount - kFirst < 4 ? kCount - kFirst : 4)>(y + kFirst * kLanes, codes);
    } else {
      store<kBlockCount, kFirst, kCount>(t, codes, y);
    }
    if constexpr (kFirst + 4 < kCount) {
      finish<kDense, kFirst + 4>(t, acc, requantize, y);
    }
  }

  // Vectors kFirst + kVector to kFirst + 3: as many at once as lie side by side in y.
  template <int kBlockCount, int kFirst, int kCount, int kVector = 0>
  [[gnu::always_inline]] static void store(const Tile& t, Bytes codes, int8_t* y) {
    constexpr int kPixel = (kFirst + kVector) / kBlockCount;
    constexpr int kBlock = (kFirst + kVector) % kBlockCount;
    constexpr int kOfPixel = kBlockCount - kBlock < 4 - kVector ? kBlockCount - kBlock : 4 - kVector;
    V::template store_vectors<kVector, kOfPixel>(y + kPixel * t.y_pixel + kBlock * kLanes, codes);
    if constexpr (kVector + kOfPixel < 4 && kFirst + kVector + kOfPixel < kCount) {
      store<kBlockCount, kFirst, kCount, kVector + kOfPixel>(t, codes, y);
    }
  }

  // ---- A function for each size of tile ----

  using Function = void (*)(const Tile&, const uint8_t*, int8_t*);
  struct Functions {
    Function of[V::kMostBlocks][V::kMostPixels];  // by blocks, then by pixels
  };
  template <bool kDense, int kBlockCount, int kPixelCount>
  static constexpr void add_tiles(Functions& all) {
    constexpr bool kMatters = kPixelCount > 1 && kBlockCount % 4 != 0;
    all.of[kBlockCount - 1][kPixelCount - 1] = run_tile < kPixelCount, kBlockCount, kDense && kMatters > ;
    if constexpr (kPixelCount > 1) {
      add_tiles<kDense, kBlockCount, kPixelCount - 1>(all);
    } else if constexpr (kBlockCount > 1) {
      add_tiles<kDense, kBlockCount - 1, V::kPixels[kBlockCount - 2]>(all);
    }
  }
  template <bool kDense>
  static constexpr Functions make_functions() {
    Functions all = {};
    add_tiles<kDense, V::kMostBlocks, V::kPixels[V::kMostBlocks - 1]>(all);
    return all;
  }
  template <bool kDense>
  static constexpr Functions kFunctions = make_functions<kDense>();
};

}  // namespace whittle::kernels
