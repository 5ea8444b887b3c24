// Products, for any vector type V (vec_*.h).
//
// Both keep a tile of C in registers: R rows by one or two vectors of columns, so
// that every number loaded takes part in several multiplications. row_product reads
// B from panels that pack() has laid out in the order of use, and A by broadcasting
// one number at a time from wherever its rows are: nothing of A is copied.
// outer_product reads both sides as they lie.
#pragma once

#include "kernels/train/product.h"

namespace whittle::kernels {

template <class V>
struct Products {
  using T = typename V::Scalar;
  static constexpr int64_t kWidth = V::kWidth;
  static constexpr int64_t kPanel = 2 * kWidth;  // columns of a panel; the last may have kWidth
  // Rows of a panel used at a time: they stay in the first-level cache while the rows of A go by.
  static constexpr int64_t kBlockDepth = 32 * 1024 / (kPanel * static_cast<int64_t>(sizeof(T)));
  // Points of an outer product used at a time, for the same reason.
  static constexpr int64_t kBlockPoints = 128;

  static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

  static int64_t packed_size(int64_t rows, int64_t columns) {
    return rows * ((columns + kWidth - 1) / kWidth * kWidth);
  }

  // Block by block in registers. With `fill`, out has whole vectors: what `in` has no row for is 0.
  template <bool fill>
  static void transpose_blocks(const T* in, int64_t in_stride, int64_t rows, int64_t columns, T* out,
                               int64_t out_stride) {
    for (int64_t i = 0; i < rows; i += kWidth) {
      const int used = static_cast<int>(least(kWidth, rows - i));
      for (int64_t j = 0; j < columns; j += kWidth) {
        const int width = static_cast<int>(least(kWidth, columns - j));
        V block[kWidth];
        for (int r = 0; r < kWidth; ++r) {
          const T* const from = in + (i + r) * in_stride + j;
          block[r] = r >= used ? V::zero() : width == kWidth ? V::load(from) : V::load_first(from, width);
        }
        V::transpose(block);
        for (int r = 0; r < width; ++r) {
          T* const to = out + (j + r) * out_stride + i;
          if (fill || used == kWidth) {
            V::store(to, block[r]);
          } else {
            V::store_first(to, used, block[r]);
          }
        }
      }
    }
  }
  static void transpose(const T* in, int64_t in_stride, int64_t rows, int64_t columns, T* out, int64_t out_stride) {
    transpose_blocks<false>(in, in_stride, rows, columns, out, out_stride);
  }

  static void pack(const T* b, int64_t k_stride, int64_t n_stride, int64_t first, int64_t rows, int64_t all_rows,
                   int64_t columns, T* packed) {
    for (int64_t n = 0; n < columns; n += kPanel) {
      const int64_t used = least(kPanel, columns - n);
      const int64_t width = used > kWidth ? kPanel : kWidth;
      T* const panel = packed + all_rows * n + first * width;
      const T* const from = b + n * n_stride;
      if (n_stride != 1) {
        transpose_blocks<true>(from, n_stride, used, rows, panel, width);
        continue;
      }
      for (int64_t k = 0; k < rows; ++k) {
        for (int64_t j = 0; j < width; j += kWidth) {
          const T* const here = from + k * k_stride + j;
          V::store(panel + k * width + j,
                   used - j >= kWidth ? V::load(here) : V::load_first(here, static_cast<int>(used - j)));
        }
      }
    }
  }

  // How a tile of C begins.
  enum class Start { kZero, kBias, kAdd };

  // `used` of the N vectors' columns exist.
  template <int N>
  static V load_columns(const T* p, int vector, int64_t used) {
    const int64_t here = used - vector * kWidth;
    return here >= kWidth ? V::load(p + vector * kWidth) : V::load_first(p + vector * kWidth, static_cast<int>(here));
  }

  // R rows by N vectors over segments [s, s_end), or over depth [k, k_end) of one segment.
  template <int R, int N>
  [[gnu::noinline]] static void row_tile(const RowProduct<T>& p, int64_t row, int64_t column, int64_t used, int64_t s,
                                         int64_t s_end, int64_t k, int64_t k_end, const T* b, Start start) {
    V sum[R][N];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
      for (int n = 0; n < N; ++n) {
        sum[r][n] = start == Start::kZero   ? V::zero()
                    : start == Start::kBias ? load_columns<N>(p.bias + column, n, used)
                                            : load_columns<N>(p.c[row + r] + column, n, used);
      }
    }
    for (; s < s_end; ++s) {
      const T* a[R];
      for (int r = 0; r < R; ++r) {
        a[r] = p.a[row + r] + p.offsets[s];
      }
      for (int64_t i = k; i < k_end; ++i) {
        V right[N];
        for (int n = 0; n < N; ++n) {
          right[n] = V::load(b + n * kWidth);
        }
        b += N * kWidth;
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
          const V left = V::broadcast(a[r][i]);
#pragma GCC unroll 2
          for (int n = 0; n < N; ++n) {
            sum[r][n] = V::fma(left, right[n], sum[r][n]);
          }
        }
      }
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
      for (int n = 0; n < N; ++n) {
        T* const to = p.c[row + r] + column + n * kWidth;
        const int64_t here = used - n * kWidth;
        if (here >= kWidth) {
          V::store(to, sum[r][n]);
        } else {
          V::store_first(to, static_cast<int>(here), sum[r][n]);
        }
      }
    }
  }

  // The rows that are left when R do not divide them: R - 1 or fewer.
  template <int R, int N, class... Arguments>
  static void rest_of_rows(const RowProduct<T>& p, int64_t row, Arguments... arguments) {
    if constexpr (R > 0) {
      if (p.rows - row == R) {
        row_tile<R, N>(p, row, arguments...);
      } else {
        rest_of_rows<R - 1, N>(p, row, arguments...);
      }
    }
  }

  template <int R, int N, class... Arguments>
  static void all_rows(const RowProduct<T>& p, Arguments... arguments) {
    int64_t row = 0;
    for (; row + R <= p.rows; row += R) {
      row_tile<R, N>(p, row, arguments...);
    }
    rest_of_rows<R - 1, N>(p, row, arguments...);
  }

  static void row_product(const RowProduct<T>& p) {
    const int64_t all = p.segments * p.depth;
    Start start = p.bias != nullptr ? Start::kBias : p.add ? Start::kAdd : Start::kZero;
    const auto block = [&](int64_t s, int64_t s_end, int64_t k, int64_t k_end) {
      const int64_t first = s * p.depth + k;
      for (int64_t column = 0; column < p.columns; column += kPanel) {
        const int64_t used = least(kPanel, p.columns - column);
        const T* const panel = p.b + all * column;
        if (used > kWidth) {
          all_rows<V::kRows2, 2>(p, column, used, s, s_end, k, k_end, panel + first * kPanel, start);
        } else {
          all_rows<V::kRows1, 1>(p, column, used, s, s_end, k, k_end, panel + first * kWidth, start);
        }
      }
      start = Start::kAdd;
    };
    if (p.depth >= kBlockDepth) {
      for (int64_t s = 0; s < p.segments; ++s) {
        for (int64_t k = 0; k < p.depth; k += kBlockDepth) {
          block(s, s + 1, k, least(k + kBlockDepth, p.depth));
        }
      }
    } else {
      const int64_t together = kBlockDepth / p.depth;
      for (int64_t s = 0; s < p.segments; s += together) {
        block(s, least(s + together, p.segments), 0, p.depth);
      }
    }
  }

  static void gather(int64_t rows, const T* const* a, const int64_t* offsets, int64_t segments, int64_t depth, T* out) {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t s = 0; s < segments; ++s, out += depth) {
        const T* const from = a[r] + offsets[s];
        int64_t k = 0;
        for (; k + kWidth <= depth; k += kWidth) {
          V::store(out + k, V::load(from + k));
        }
        if (k < depth) {
          V::store_first(out + k, static_cast<int>(depth - k), V::load_first(from + k, static_cast<int>(depth - k)));
        }
      }
    }
  }

  // R rows by N vectors of C, over points [begin, end).
  template <int R, int N, bool kWhole>
  [[gnu::noinline]] static void outer_tile(const OuterProduct<T>& p, int64_t row, int64_t column, int64_t begin,
                                           int64_t end, bool add) {
    const int64_t used = p.columns - column;
    T* const c = p.c + row * p.c_stride + column;
    const auto lanes = V::first(static_cast<int>(kWhole ? 0 : used - (N - 1) * kWidth));  // of the last vector
    const auto load = [lanes](const T* from, int n) __attribute__((always_inline)) {
      return kWhole || n < N - 1 ? V::load(from + n * kWidth) : V::load(from + n * kWidth, lanes);
    };
    // Without these hints the compiler leaves the sums in memory, for the sake of their indices.
    V sum[R][N];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
      for (int n = 0; n < N; ++n) {
        sum[r][n] = add ? load(c + r * p.c_stride, n) : V::zero();
      }
    }
    const T* a = p.a + begin * p.a_stride + row;
    for (int64_t i = begin; i < end; ++i, a += p.a_stride) {
      const T* const b = p.b[i] + p.offset + column;
      V right[N];
      for (int n = 0; n < N; ++n) {
        right[n] = load(b, n);
      }
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const V left = V::broadcast(a[r]);
#pragma GCC unroll 2
        for (int n = 0; n < N; ++n) {
          sum[r][n] = V::fma(left, right[n], sum[r][n]);
        }
      }
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
      for (int n = 0; n < N; ++n) {
        T* const to = c + r * p.c_stride + n * kWidth;
        if (kWhole || n < N - 1) {
          V::store(to, sum[r][n]);
        } else {
          V::store(to, lanes, sum[r][n]);
        }
      }
    }
  }

  template <int R, int N, bool kWhole>
  static void rest_of_outer_rows(const OuterProduct<T>& p, int64_t row, int64_t column, int64_t begin, int64_t end,
                                 bool add) {
    if constexpr (R > 0) {
      if (p.rows - row == R) {
        outer_tile<R, N, kWhole>(p, row, column, begin, end, add);
      } else {
        rest_of_outer_rows<R - 1, N, kWhole>(p, row, column, begin, end, add);
      }
    }
  }

  template <int R, int N, bool kWhole>
  static void outer_column(const OuterProduct<T>& p, int64_t column, int64_t begin, int64_t end, bool add) {
    int64_t row = 0;
    for (; row + R <= p.rows; row += R) {
      outer_tile<R, N, kWhole>(p, row, column, begin, end, add);
    }
    rest_of_outer_rows<R - 1, N, kWhole>(p, row, column, begin, end, add);
  }

  static void outer_product(const OuterProduct<T>& p) {
    // Eight rows: numbers of channels are multiples of eight more often than of anything larger.
    constexpr int kRows = V::kRows2 >= 8 ? 8 : V::kRows2 >= 4 ? 4 : V::kRows2;
    for (int64_t begin = 0; begin < p.points; begin += kBlockPoints) {
      const int64_t end = least(begin + kBlockPoints, p.points);
      const bool add = p.add || begin > 0;
      for (int64_t column = 0; column < p.columns; column += kPanel) {
        const int64_t used = p.columns - column;
        if (used >= kPanel) {
          outer_column<kRows, 2, true>(p, column, begin, end, add);
        } else if (used > kWidth) {
          outer_column<kRows, 2, false>(p, column, begin, end, add);
        } else if (used == kWidth) {
          outer_column<kRows, 1, true>(p, column, begin, end, add);
        } else {
          outer_column<kRows, 1, false>(p, column, begin, end, add);
        }
      }
    }
  }

  static constexpr ProductKernels<T> table() {
    return {kPanel, packed_size, pack, transpose, row_product, gather, outer_product};
  }
};

}  // namespace whittle::kernels
