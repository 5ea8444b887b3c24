// Depthwise convolution with packed weights, for vectors of 32-bit sums to which few
// instructions add products of pairs or groups of four codes.
//
// The four codes are four rows of one channel. The rows of x that a row of results reads are
// copied into a ring in scratch, each once, with zero-points where there is padding. From
// there on a row of results is one flat array, whatever the channels: result i is the sum over
// the columns v of the filter of code i + v channels in each of the rows times the weights of
// column v. With a stride of s, columns 0, s, 2 s, ... are copied into one array, 1, s + 1, ...
// into the next, so that it stays flat. A register of codes from each of four rows is woven
// into four vectors of groups. Weights, biases and multipliers lie in the order that weaving
// gives, repeated until they fill whole registers.
//
// Three rows leave one of the four codes free. With a stride of 1 the row below goes there,
// and the same groups serve two rows of results: with weights (a, b, c, 0) and (0, a, b, c).
#pragma once

#include <stdint.h>

#include "kernels/int8/loops_impl.h"
#include "kernels/int8/packing.h"
#include "kernels/int8/table.h"

namespace whittle::kernels {

// V: see vec_avx512vnni.h.
template <class V>
struct PackedDepthwise {
  using Op = Conv<int8_t>;
  using Code = typename V::Code;
  using Weight = typename V::Weight;
  static constexpr int32_t kLanes = V::kLanes;
  static constexpr int32_t kBytes = V::kBytes;  // results at once: four vectors
  static constexpr int32_t kWords = V::kWords;
  static constexpr int32_t kInWord = 4 / kWords;
  static constexpr int64_t kLeastProducts = 1 << 18;  // of a part, as in packed_conv_impl.h
  static constexpr int32_t kMostColumns = 7;

  static bool fits(const ConvShape& s) {
    return s.groups > 1 && s.groups == s.in_channels && s.groups == s.out_channels && s.window.kernel_h <= 4 &&
           s.window.kernel_w <= kMostColumns;
  }

  struct Plan {
    int64_t channels;
    int64_t period;   // results until the channels begin anew at a whole register
    int64_t columns;  // of the frame that belong to one array
    int64_t array;    // codes in it
    int64_t row;      // codes of all its arrays
    int64_t reach;    // rows that one or two rows of results read
    int64_t ring;     // as many or more, a power of two
    bool pairs;       // of rows
  };
  static Plan plan_of(const ConvShape& s) {
    const Window& w = s.window;
    Plan plan = {};
    plan.channels = s.in_channels;
    plan.period = plan.channels;
    while (plan.period % kBytes != 0) {
      plan.period += plan.channels;
    }
    plan.columns = (int64_t{w.out_w - 1} * w.stride_w + int64_t{w.kernel_w - 1} * w.dilation_w) / w.stride_w + 1;
    plan.array = round_up(plan.columns * plan.channels, kBytes) + V::kSlack;
    plan.row = plan.array * w.stride_w + kBytes;  // behind the last result there may be anything
    plan.pairs = w.kernel_h <= 3 && w.stride_h == 1 && w.dilation_h == 1 && w.out_h > 1;
    plan.reach = int64_t{w.kernel_h - 1} * w.dilation_h + 1 + (plan.pairs ? 1 : 0);
    for (plan.ring = 1; plan.ring < plan.reach;) {
      plan.ring *= 2;
    }
    return plan;
  }

  // Packed: for every register of a period four vectors of biases, four of multipliers, and of weights
  // [row of a pair][column of the filter][word][4].
  static constexpr int64_t kVector = kLanes * 4;  // bytes
  static constexpr int64_t bytes_of_register(int64_t columns) { return (2 + 2 * columns * kWords) * 4 * kVector; }

  static PackedNeeds needs(const Op& op) {
    const ConvShape& s = op.shape;
    const Plan plan = plan_of(s);
    if (!frame_fits(plan.ring, plan.row, 1)) {
      return {};
    }
    const int64_t products =
        int64_t{s.batch} * s.window.out_h * s.window.out_w * s.window.kernel_h * s.window.kernel_w * s.out_channels;
    return {.packed_bytes = plan.period / kBytes * bytes_of_register(s.window.kernel_w),
            .scratch_bytes = round_up(plan.ring * plan.row * static_cast<int64_t>(sizeof(Code)), 64),
            .parts = parts_worth(int64_t{s.batch} * s.window.out_h, products, kLeastProducts)};
  }

  template <class Rows>
  static void pack(const Op& op, const Rows& rows, uint8_t* packed) {
    const ConvShape& s = op.shape;
    const Window& w = s.window;
    const Plan plan = plan_of(s);
    const int32_t taps = w.kernel_h * w.kernel_w;
    for (int64_t at = 0; at < plan.period; at += kBytes, packed += bytes_of_register(w.kernel_w)) {
      auto* const bias = reinterpret_cast<int32_t*>(packed);
      auto* const multipliers = reinterpret_cast<uint32_t*>(packed + 4 * kVector);
      auto* weights = reinterpret_cast<Weight*>(packed + 8 * kVector);
      const auto channel = [&](int32_t k) { return static_cast<int32_t>((at + V::woven(k)) % plan.channels); };
      for (int32_t k = 0; k < kBytes; ++k) {
        bias[k] = bias_for_shifted_codes(op, rows[channel(k)], V::shift(op.x_zero_point), channel(k), taps);
        multipliers[k] = op.multipliers[channel(k)];
      }
      for (int32_t below = 0; below < 2; ++below) {
        for (int32_t v = 0; v < w.kernel_w; ++v) {
          for (int32_t u = 0; u < 4; u += kInWord) {
            for (int32_t k = 0; k < kBytes; ++k) {
              const auto filter = rows[channel(k)];
              for (int32_t row = u - below; row < u - below + kInWord; ++row) {
                *weights++ = row >= 0 && row < w.kernel_h ? filter[row * w.kernel_w + v] : Weight{0};
              }
            }
          }
        }
      }
    }
  }

  static void run(const Op& op, const uint8_t* packed, uint8_t* scratch, Part part) {
    const ConvShape& s = op.shape;
    const Window& w = s.window;
    const Plan plan = plan_of(s);
    Flat flat = {};
    flat.columns = w.kernel_w;
    flat.count = int64_t{w.out_w} * plan.channels;
    flat.packed = packed;
    flat.end = packed + plan.period / kBytes * bytes_of_register(w.kernel_w);
    flat.range = op.range;
    for (int32_t v = 0; v < w.kernel_w; ++v) {
      const int64_t column = int64_t{v} * w.dilation_w;
      flat.at[v] = column % w.stride_w * plan.array + column / w.stride_w * plan.channels;
    }
    auto* const ring = reinterpret_cast<Code*>(scratch);
    const int64_t rows = int64_t{s.batch} * w.out_h;
    const int64_t begin = rows * part.index / part.count;
    const int64_t end = rows * (part.index + 1) / part.count;
    const auto slot = [&](int64_t row) { return ring + (row & (plan.ring - 1)) * plan.row; };
    auto n = static_cast<int32_t>(begin / w.out_h);
    auto p = static_cast<int32_t>(begin % w.out_h);
    int64_t copied = 0;  // of this image's rows, with the padding above
    for (int64_t i = begin; i < end;) {
      const int64_t first = int64_t{p} * w.stride_h;
      copied = copied < first ? first : copied;
      for (; copied < first + plan.reach; ++copied) {
        copy_row(op, plan, n, copied - w.top, slot(copied));
      }
      for (int32_t u = 0; u < 4; ++u) {  // rows without weights may be any
        flat.rows[u] = slot(first + (u < w.kernel_h ? int64_t{u} * w.dilation_h : plan.reach - 1));
      }
      int8_t* const y = op.y + i * flat.count;
      const int32_t done = plan.pairs && p + 1 < w.out_h && i + 1 < end ? 2 : 1;
      if (done == 2) {
        run_columns<2>(flat, y, y + flat.count);
      } else {
        run_columns<1>(flat, y, nullptr);
      }
      i += done;
      p += done;
      if (p == w.out_h) {
        p = 0;
        ++n;
        copied = 0;
      }
    }
  }

 private:
  using Ints = typename V::Ints;

  struct Flat {
    int32_t columns;  // of the filter
    int64_t count;    // results in a row
    const uint8_t* packed;
    const uint8_t* end;
    const Code* rows[4];
    int64_t at[kMostColumns];  // what result 0 multiplies with each column
    CodeRange range;
  };

  template <int kRows, int kColumns = 1>
  static void run_columns(const Flat& flat, int8_t* y, int8_t* below) {
    if constexpr (kColumns < kMostColumns) {
      if (flat.columns > kColumns) {
        return run_columns<kRows, kColumns + 1>(flat, y, below);
      }
    }
    results<kRows, kColumns>(flat, y, below);
  }

  // The codes behind the last result are there, as scratch, and what becomes of them is not stored.
  template <int kRows, int kColumns>
  static void results(const Flat& flat, int8_t* y, int8_t* below) {
    constexpr int64_t kRow = kColumns * kWords * 4 * kVector;
    const Requantize<V> requantize(flat.range);
    const uint8_t* packed = flat.packed;
    for (int64_t i = 0; i < flat.count; i += kBytes) {
      Ints acc[kRows][4];
#pragma GCC unroll 4
      for (int q = 0; q < 4; ++q) {
        const Ints bias = V::load(packed + q * kVector);
#pragma GCC unroll 2
        for (int r = 0; r < kRows; ++r) {
          acc[r][q] = bias;
        }
      }
#pragma GCC unroll 8
      for (int v = 0; v < kColumns; ++v) {
        Ints groups[kWords][4];
        V::weave(flat.rows, flat.at[v] + i, groups);
#pragma GCC unroll 2
        for (int word = 0; word < kWords; ++word) {
#pragma GCC unroll 4
          for (int q = 0; q < 4; ++q) {
#pragma GCC unroll 2
            for (int r = 0; r < kRows; ++r) {
              const uint8_t* const at = packed + 8 * kVector + r * kRow + ((v * kWords + word) * 4 + q) * kVector;
              V::multiply_add(acc[r][q], groups[word][q], V::load(at));
            }
          }
        }
      }
#pragma GCC unroll 4
      for (int q = 0; q < 4; ++q) {
        const typename V::Reals multiplier = V::load_reals(reinterpret_cast<const float*>(packed) + (4 + q) * kLanes);
#pragma GCC unroll 2
        for (int r = 0; r < kRows; ++r) {
          acc[r][q] = requantize.scaled(acc[r][q], multiplier);
        }
      }
#pragma GCC unroll 2
      for (int r = 0; r < kRows; ++r) {
        const typename V::Bytes codes = V::unwoven(requantize.codes(acc[r][0], acc[r][1], acc[r][2], acc[r][3]));
        int8_t* const to = (r == 0 ? y : below) + i;
        if (flat.count - i >= kBytes) {
          V::template store_vectors<0, 4>(to, codes);
        } else {
          V::store_bytes(to, flat.count - i, codes);
        }
      }
      packed += bytes_of_register(kColumns);
      packed = packed == flat.end ? flat.packed : packed;
    }
  }

  // A row of image n, or of the padding above or below it, into all arrays. Copying writes more than it should, which
  // what follows corrects.
  static void copy_row(const Op& op, const Plan& plan, int32_t n, int64_t row, Code* to) {
    const Window& w = op.shape.window;
    const int32_t shift = V::shift(op.x_zero_point);
    const auto zero = static_cast<Code>(op.x_zero_point + shift);
    if (row < 0 || row >= w.in_h) {
      return V::fill(to, zero, plan.array * w.stride_w);
    }
    const int64_t channels = plan.channels;
    const int64_t rows = int64_t{op.shape.batch} * w.in_h;
    const int8_t* const end = op.x + rows * w.in_w * channels;
    const int8_t* const x = op.x + (int64_t{n} * w.in_h + row) * w.in_w * channels;
    // What an array has of the image, and the padding behind it.
    struct Piece {
      const int8_t* from;
      Code* at;
      int64_t codes, padding;
    };
    const auto piece_of = [&](int32_t phase) {
      const auto column_at = [&](int32_t column) {
        const int32_t last = column - phase + w.stride_w - 1;
        const int32_t q = last <= 0         ? 0
                          : w.stride_w == 1 ? last
                          : w.stride_w == 2 ? last >> 1
                                            : last / w.stride_w;  // divisions are slow
        return q < plan.columns ? q : plan.columns;
      };
      const int64_t left = column_at(w.left);
      const int64_t right = column_at(w.left + w.in_w);
      Code* const array = to + phase * plan.array;
      V::fill(array, zero, left * channels);
      return Piece{.from = x + (left * w.stride_w + phase - w.left) * channels,
                   .at = array + left * channels,
                   .codes = (right - left) * channels,
                   .padding = (plan.columns - right) * channels};
    };
    const auto pad = [zero](const Piece& piece) { V::fill(piece.at + piece.codes, zero, piece.padding); };
    if (w.stride_w == 2 && V::separates(channels)) {
      const int32_t phase = w.left % 2;  // of the first pixel
      const Piece first = piece_of(phase);
      const Piece second = piece_of(1 - phase);
      V::copy_separated(first.at, first.codes, second.at, second.codes, x, channels, end - x);
      pad(first);
      pad(second);
      return;
    }
    for (int32_t phase = 0; phase < w.stride_w; ++phase) {
      const Piece piece = piece_of(phase);
      const int64_t codes = w.stride_w == 1 ? piece.codes : channels;  // in one piece
      const int8_t* from = piece.from;
      for (int64_t i = 0; i < piece.codes; i += codes, from += codes * w.stride_w) {
        V::copy_shifted(piece.at + i, from, codes, end - from, shift);
      }
      pad(piece);
    }
  }
};

}  // namespace whittle::kernels
