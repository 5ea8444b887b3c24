// Products on our own kernels (kernels/train/product.h), which need no library.

#include <algorithm>
#include <array>

#include "core/blas_backends.h"
#include "core/loops.h"
#include "core/train_kernels.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

// A product is cut into about so many pieces of work, fewer if they would be too small to be worth it.
constexpr int64_t kPieces = 8;
constexpr int64_t kLeastProducts = 128 * 1024;
constexpr int64_t kStackRows = 256;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

Tensor packed(const MatrixIn& b) {
  const auto& kernels = train_kernels().product;
  constexpr int64_t kRows = 256;
  Tensor result = Tensor::empty({kernels.packed_size(b.rows, b.cols)});
  real* const to = result.mutable_data();
  const int64_t k_stride = b.transposed ? 1 : b.stride;
  const int64_t n_stride = b.transposed ? b.stride : 1;
  const int64_t row_blocks = ceil_div(b.rows, kRows);
  parallel_for(row_blocks * ceil_div(b.cols, kernels.panel), [&](int64_t index) {
    const int64_t row = index % row_blocks * kRows;
    const int64_t column = index / row_blocks * kernels.panel;
    kernels.pack(b.data + row * k_stride + column * n_stride, k_stride, n_stride, row, std::min(kRows, b.rows - row),
                 b.rows, std::min(kernels.panel, b.cols - column), to + b.rows * column);
  });
  return result;
}

// How C is cut: what both sides together are read, over all pieces, should be little.
struct Cut {
  int64_t rows, columns;  // of C, per piece

  Cut(const MatrixIn& a, const MatrixIn& b) {
    const int64_t panel = train_kernels().product.panel;
    const int64_t most = std::clamp<int64_t>(a.rows * a.cols * b.cols / kLeastProducts, 1, kPieces);
    const int64_t column_cuts = std::min(most, ceil_div(b.cols, panel));
    const int64_t row_cuts = std::min(most, ceil_div(a.rows, 8));
    const auto traffic = [&](int64_t row_parts, int64_t column_parts) {
      return row_parts * b.rows * b.cols + column_parts * a.rows * a.cols;
    };
    int64_t row_parts = row_cuts;
    int64_t column_parts = ceil_div(most, row_cuts);
    for (int64_t parts = 1; parts <= row_cuts; parts *= 2) {
      const int64_t others = std::min(column_cuts, ceil_div(most, parts));
      if (parts * others >= row_parts * column_parts && traffic(parts, others) < traffic(row_parts, column_parts)) {
        row_parts = parts;
        column_parts = others;
      }
    }
    rows = std::min(ceil_div(ceil_div(a.rows, row_parts), 8) * 8, kStackRows);
    columns = ceil_div(ceil_div(b.cols, column_parts), panel) * panel;
  }
};

void rows_times_matrix(const MatrixIn& a, const MatrixIn& b, const MatrixOut& c, Store store, const real* bias) {
  const auto& kernels = train_kernels().product;
  const Tensor right = packed(b);
  const Cut cut(a, b);
  const int64_t column_parts = ceil_div(c.cols, cut.columns);
  parallel_for(ceil_div(c.rows, cut.rows) * column_parts, [&](int64_t index) {
    const int64_t row = index / column_parts * cut.rows;
    const int64_t column = index % column_parts * cut.columns;
    const int64_t rows = std::min(cut.rows, c.rows - row);
    std::array<const real*, kStackRows> left{};
    std::array<real*, kStackRows> out{};
    for (int64_t r = 0; r < rows; ++r) {
      left[static_cast<size_t>(r)] = a.data + (row + r) * a.stride;
      out[static_cast<size_t>(r)] = c.data + (row + r) * c.stride + column;
    }
    const int64_t offset = 0;
    kernels.row_product({.rows = rows,
                         .a = left.data(),
                         .offsets = &offset,
                         .segments = 1,
                         .depth = a.cols,
                         .b = right.data() + b.rows * column,
                         .columns = std::min(cut.columns, c.cols - column),
                         .c = out.data(),
                         .bias = bias == nullptr ? nullptr : bias + column,
                         .add = store == Store::kAdd});
  });
}

// A is the transpose of what lies in memory: C is a sum of outer products of its rows with those of B. Where C is
// small, parts of the sum are found apart and joined by a fixed tree.
void sum_of_outer_products(const MatrixIn& a, const MatrixIn& b, const MatrixOut& c, Store store) {
  const auto& kernels = train_kernels().product;
  constexpr int64_t kLeastPoints = 256;
  constexpr int64_t kPartialElements = int64_t{1} << 20;
  const int64_t points = a.cols;
  const int64_t elements = c.rows * c.cols;
  const int64_t pieces = std::clamp<int64_t>(elements * points / kLeastProducts, 1, kPieces);
  const int64_t parts =
      std::min(ceil_div(points, kLeastPoints), std::clamp<int64_t>(kPartialElements / elements, 1, pieces));
  const int64_t slice = ceil_div(ceil_div(c.rows, ceil_div(pieces, parts)), 8) * 8;
  const int64_t slices = ceil_div(c.rows, slice);
  Tensor partial = parts > 1 ? Tensor::empty({parts, elements}) : Tensor();
  parallel_for(parts * slices, [&](int64_t index) {
    const int64_t part = index / slices;
    const int64_t row = index % slices * slice;
    const int64_t end = (part + 1) * points / parts;
    const MatrixOut sum = parts == 1 ? c : MatrixOut(partial.mutable_data() + part * elements, c.rows, c.cols);
    bool add = parts == 1 && store == Store::kAdd;
    for (int64_t point = part * points / parts; point < end; point += kStackRows) {
      const int64_t here = std::min(kStackRows, end - point);
      std::array<const real*, kStackRows> right{};
      for (int64_t i = 0; i < here; ++i) {
        right[static_cast<size_t>(i)] = b.data + (point + i) * b.stride;
      }
      kernels.outer_product({.points = here,
                             .a = a.data + point * a.stride + row,
                             .a_stride = a.stride,
                             .b = right.data(),
                             .offset = 0,
                             .rows = std::min(slice, c.rows - row),
                             .columns = c.cols,
                             .c = sum.data + row * sum.stride,
                             .c_stride = sum.stride,
                             .add = add});
      add = true;
    }
  });
  if (parts > 1) {
    tree_add(partial.mutable_data(), parts, elements);
    store_sum(partial.data(), c, store);
  }
}

// The transpose of a matrix, written out.
Tensor turned(const MatrixIn& a) {
  Tensor result = Tensor::empty({a.rows, a.cols});
  real* const to = result.mutable_data();
  parallel_ranges(a.rows, std::max<int64_t>(16, kElementGrain / a.cols), [&](int64_t begin, int64_t end) {
    train_kernels().product.transpose(a.data + begin, a.stride, a.cols, end - begin, to + begin * a.cols, a.cols);
  });
  return result;
}

void multiply_on_kernels(const MatrixIn& a, const MatrixIn& b, const MatrixOut& c, Store store, const real* bias) {
  if (a.transposed && (b.transposed || bias != nullptr)) {
    const Tensor left = turned(a);
    rows_times_matrix(MatrixIn(left.data(), a.rows, a.cols), b, c, store, bias);
  } else if (a.transposed) {
    sum_of_outer_products(a, b, c, store);
  } else {
    rows_times_matrix(a, b, c, store, bias);
  }
}

}  // namespace

const BlasBackend& kernels_blas() {
  static const BlasBackend backend{.name = "kernels", .multiply = multiply_on_kernels};
  return backend;
}

}  // namespace whittle::inline WHITTLE_PRECISION
