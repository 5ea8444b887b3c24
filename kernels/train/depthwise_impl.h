// Depthwise convolution, for any vector type V (vec_*.h).
//
// Channels are the lanes of a vector, and sums stay in registers until they are done.
// Pixels with few channels would leave lanes empty: there, a group of neighbouring
// pixels is one pixel of that many times the channels, as long as windows move by one
// pixel and lie inside.
#pragma once

#include "kernels/train/depthwise.h"
#include "kernels/train/parts.h"

namespace whittle::kernels {

template <class V>
struct Depthwise {
  using T = typename V::Scalar;
  using Row = DepthwiseRow<T>;
  using Weights = DepthwiseWeights<T>;

  // The pixel that a window's tap reads.
  static int64_t at(const Row& r, int64_t window, int64_t tap) {
    return window * r.stride + tap * r.dilation - r.before;
  }

  // Pixels that share a vector.
  static int64_t group(int64_t channels) { return 2 * channels <= V::kWidth ? V::kWidth / channels : 1; }

  static int64_t packed_channels(int64_t channels) { return channels * group(channels); }

  static void pack(const T* filter, int64_t channels, int64_t taps, T* packed) {
    for (int64_t tap = 0; tap < taps; ++tap) {
      for (int64_t i = 0; i < group(channels); ++i) {
        for (int64_t c = 0; c < channels; ++c) {
          *packed++ = filter[c * taps + tap];
        }
      }
    }
  }

  // ---- Values ----

  // finish(sum, c, part) is what becomes of a sum of channel c (or of channels in a group of pixels) at the end.
  template <class Finish>
  struct Target {
    const T* bias;
    Finish finish;
    T* data;
    int64_t step;
  };

  // P neighbouring (groups of) windows from j on, and N taps of their rows from v on: as many as `taps` if N is 0.
  template <int P, int N, class Finish>
  static void windows(const Row& r, const Weights& w, const Target<Finish>& t, int64_t j, int64_t pixels, int64_t v,
                      int64_t taps) {
    const int64_t step = pixels * r.stride * r.channels;
    const int64_t next_tap = r.dilation * r.channels;
    const T* const source = r.source + at(r, j, v) * r.channels;
    const T* const weights = w.data + v * w.step;
    T* const target = t.data + j * t.step;
    for_each_part<V>(pixels * r.channels, [&](int64_t c, auto part) {
      V sum[P];
      for (int p = 0; p < P; ++p) {
        sum[p] = t.bias != nullptr ? part.load(t.bias + c) : V::zero();
      }
      for (int64_t u = 0; u < r.rows; ++u) {
        const T* in = source + u * r.source_step + c;
        const T* weight = weights + u * w.row_step + c;
#pragma GCC unroll 3
        for (int64_t i = 0; i < (N > 0 ? N : taps); ++i, in += next_tap, weight += w.step) {
          const V right = part.load(weight);
#pragma GCC unroll 4
          for (int p = 0; p < P; ++p) {
            sum[p] = V::fma(part.load(in + p * step), right, sum[p]);
          }
        }
      }
      for (int p = 0; p < P; ++p) {
        part.store(target + p * pixels * t.step + c, t.finish(sum[p], c, part));
      }
    });
  }

  // Rows of windows that are alike: how many, and from one to the next in source and target.
  struct Rows {
    int64_t count, source_step, target_step;
  };

  // The windows [j, j_end) in groups of `pixels`, all of whose 3 by U taps lie inside: their weights stay in registers.
  template <int U, class Finish>
  static void whole_windows(const Row& r, const Weights& w, const Target<Finish>& t, const Rows& rows, int64_t j,
                            int64_t j_end, int64_t pixels) {
    const int64_t step = pixels * r.stride * r.channels;
    const int64_t target_step = pixels * t.step;
    const int64_t next_row = r.source_step;
    const int64_t next_tap = r.dilation * r.channels;
    const int64_t groups = (j_end - j) / pixels;
    const T* const source = r.source + at(r, j, 0) * r.channels;
    T* const target = t.data + j * t.step;
    const auto finish = t.finish;
    for_each_part<V>(pixels * r.channels, [=](int64_t c, auto part) {
      V weight[U][3];
#pragma GCC unroll 3
      for (int u = 0; u < U; ++u) {
#pragma GCC unroll 3
        for (int v = 0; v < 3; ++v) {
          weight[u][v] = part.load(w.data + u * w.row_step + v * w.step + c);
        }
      }
      const V start = t.bias != nullptr ? part.load(t.bias + c) : V::zero();
      const auto some = [&weight, start, next_row, next_tap, step, target_step, finish, c,
                         part ](auto count, const T* in, T* to) __attribute__((always_inline)) {
        V sum[count.value];
#pragma GCC unroll 4
        for (int p = 0; p < count.value; ++p) {
          sum[p] = start;
        }
#pragma GCC unroll 3
        for (int u = 0; u < U; ++u, in += next_row) {
          const T* tap = in;
#pragma GCC unroll 4
          for (int p = 0; p < count.value; ++p, tap += step) {
            asm("" : "+r"(tap));  // else each of the 36 addresses is computed beforehand, and registers hold none
#pragma GCC unroll 3
            for (int v = 0; v < 3; ++v) {
              sum[p] = V::fma(part.load(tap + v * next_tap), weight[u][v], sum[p]);
            }
          }
        }
#pragma GCC unroll 4
        for (int p = 0; p < count.value; ++p) {
          part.store(to + p * target_step, finish(sum[p], c, part));
        }
      };
      for (int64_t row = 0; row < rows.count; ++row) {
        const T* in = source + row * rows.source_step + c;
        T* to = target + row * rows.target_step + c;
        int64_t i = 0;
        for (; i + 4 <= groups; i += 4, in += 4 * step, to += 4 * target_step) {
          some(Constant<4>(), in, to);
        }
        if (i + 2 <= groups) {
          some(Constant<2>(), in, to);
          i += 2;
          in += 2 * step;
          to += 2 * target_step;
        }
        if (i < groups) {
          some(Constant<1>(), in, to);
        }
      }
    });
  }

  // The windows [j, j_end) in groups of `pixels`: P groups at a time as long as there are so many. All read the taps
  // [v, v + taps) of their rows.
  template <int P, class Finish>
  static void run(const Row& r, const Weights& w, const Target<Finish>& t, int64_t j, int64_t j_end, int64_t pixels,
                  int64_t v, int64_t taps) {
    const auto some = taps == 3   ? windows<P, 3, Finish>
                      : taps == 2 ? windows<P, 2, Finish>
                      : taps == 1 ? windows<P, 1, Finish>
                                  : windows<P, 0, Finish>;
    for (; j + P * pixels <= j_end; j += P * pixels) {
      some(r, w, t, j, pixels, v, taps);
    }
    if constexpr (P > 1) {
      run<P - 1>(r, w, t, j, j_end, pixels, v, taps);
    } else if (j < j_end) {
      run<3>(r, w, t, j, j_end, 1, v, taps);
    }
  }

  static void correlate(const Row& r, const Weights& w, const T* bias, T* target, int64_t step) {
    correlate_and_finish(
        r, w, bias, [](V sum, int64_t, auto) { return sum; }, {1, 0, 0}, target, step);
  }
  // The same for some rows of windows, with finish() over every sum.
  template <class Finish>
  static void correlate_and_finish(const Row& r, const Weights& w, const T* bias, Finish finish, const Rows& rows,
                                   T* target, int64_t step) {
    const bool in_groups = r.stride == 1 && step == r.channels && bias == nullptr;
    const int64_t pixels = in_groups ? group(r.channels) : 1;
    int64_t rest = r.whole_begin;  // of the whole windows
    if (r.taps == 3 && (r.rows == 2 || r.rows == 3)) {
      const auto some = r.rows == 3 ? whole_windows<3, Finish> : whole_windows<2, Finish>;
      some(r, w, {bias, finish, target, step}, rows, r.whole_begin, r.whole_end, pixels);
      rest += (r.whole_end - r.whole_begin) / pixels * pixels;
    }
    Row row = r;
    for (int64_t i = 0; i < rows.count; ++i) {
      const Target<Finish> t{bias, finish, target + i * rows.target_step, step};
      at_border(row, w, t, 0, r.whole_begin);
      run<4>(row, w, t, rest, r.whole_end, pixels, 0, r.taps);
      at_border(row, w, t, r.whole_end, r.windows);
      row.source += rows.source_step;
    }
  }
  template <class Finish>
  static void at_border(const Row& r, const Weights& w, const Target<Finish>& t, int64_t j, int64_t j_end) {
    for (; j < j_end; ++j) {
      int64_t v = 0;
      int64_t v_end = r.taps;
      while (v < v_end && at(r, j, v) < 0) {
        ++v;
      }
      while (v < v_end && at(r, j, v_end - 1) >= r.in) {
        --v_end;
      }
      run<1>(r, w, t, j, j + 1, 1, v, v_end - v);
    }
  }

  // ---- Filter gradients ----

  // U rows by N columns of taps from (u, v) on, over the windows j, j + pixels, ... below j_end.
  template <int U, int N>
  static void taps(const Row& r, const T* g, T* sums, int64_t u, int64_t v, int64_t j, int64_t j_end, int64_t pixels) {
    const int64_t packed = packed_channels(r.channels);
    const int64_t g_step = pixels * r.channels;
    const int64_t next_tap = r.dilation * r.channels;
    const T* const source = r.source + u * r.source_step;
    T* const sums_from = sums + (u * r.taps + v) * packed;
    for_each_part<V>(pixels * r.channels, [&](int64_t c, auto part) {
      V sum[U][N];
      for (auto& row : sum) {
        for (V& s : row) {
          s = V::zero();
        }
      }
      int64_t x = at(r, j, v);
      const T* in = source + x * r.channels + c;
      const T* g_in = g + j * r.channels + c;
      for (int64_t window = j; window < j_end; window += pixels) {
        const V left = part.load(g_in);
#pragma GCC unroll 3
        for (int n = 0; n < N; ++n) {
          if (x + n * r.dilation >= 0 && x + n * r.dilation < r.in) {
#pragma GCC unroll 3
            for (int i = 0; i < U; ++i) {
              sum[i][n] = V::fma(left, part.load(in + i * r.source_step + n * next_tap), sum[i][n]);
            }
          }
        }
        x += pixels * r.stride;
        in += g_step * r.stride;
        g_in += g_step;
      }
      for (int i = 0; i < U; ++i) {
        for (int n = 0; n < N; ++n) {
          T* const to = sums_from + (i * r.taps + n) * packed + c;
          part.store(to, V::add(part.load(to), sum[i][n]));
        }
      }
    });
  }

  template <int U>
  static void rows_of_taps(const Row& r, const T* g, T* sums, int64_t u, int64_t j, int64_t j_end, int64_t pixels) {
    for (int64_t v = 0; v < r.taps; v += 3) {
      const int64_t n = r.taps - v;
      (n >= 3 ? taps<U, 3> : n == 2 ? taps<U, 2> : taps<U, 1>)(r, g, sums, u, v, j, j_end, pixels);
    }
  }

  static void filter_gradient(const Row& r, const T* g, T* sums) {
    const auto over = [&](int64_t j, int64_t j_end, int64_t pixels) {
      for (int64_t u = 0; j < j_end && u < r.rows; u += 3) {
        const int64_t n = r.rows - u;
        (n >= 3 ? rows_of_taps<3> : n == 2 ? rows_of_taps<2> : rows_of_taps<1>)(r, g, sums, u, j, j_end, pixels);
      }
    };
    const int64_t pixels = r.stride == 1 ? group(r.channels) : 1;
    if (pixels == 1) {
      over(0, r.windows, 1);
      return;
    }
    const int64_t grouped_end = r.whole_begin + (r.whole_end - r.whole_begin) / pixels * pixels;
    over(0, r.whole_begin, 1);
    over(r.whole_begin, grouped_end, pixels);
    over(grouped_end, r.windows, 1);
  }

  static void unpack(const T* packed, int64_t channels, int64_t taps, T* filter) {
    for (int64_t tap = 0; tap < taps; ++tap) {
      for (int64_t c = 0; c < channels; ++c) {
        T sum = packed[c];
        for (int64_t i = 1; i < group(channels); ++i) {
          sum += packed[i * channels + c];
        }
        filter[c * taps + tap] = sum;
      }
      packed += packed_channels(channels);
    }
  }

  static constexpr DepthwiseKernels<T> table() { return {packed_channels, pack, unpack, correlate, filter_gradient}; }
};

}  // namespace whittle::kernels
