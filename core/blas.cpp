#include "core/blas.h"

#include <algorithm>
#include <atomic>
#include <cassert>
#include <utility>
#include <vector>

#include "core/blas_backends.h"
#include "core/error.h"
#include "core/loops.h"
#include "core/train_kernels.h"

namespace whittle::inline WHITTLE_PRECISION {

MatrixIn MatrixIn::t() const {
  MatrixIn result(data, cols, rows, stride);
  result.transposed = !transposed;
  return result;
}

MatrixIn MatrixIn::block(int64_t row, int64_t col, int64_t row_count, int64_t col_count) const {
  MatrixIn result(transposed ? data + col * stride + row : data + row * stride + col, row_count, col_count, stride);
  result.transposed = transposed;
  return result;
}

MatrixOut MatrixOut::block(int64_t row, int64_t col, int64_t row_count, int64_t col_count) const {
  return {data + row * stride + col, row_count, col_count, stride};
}

std::span<const BlasBackend> blas_backends() {
  static const std::vector<BlasBackend> backends = [] {
    std::vector<BlasBackend> list{kernels_blas()};
#if defined(WHITTLE_HAVE_OPENBLAS)
    list.push_back(openblas());
#if !defined(WHITTLE_DOUBLE)  // the twin checks our own
    if (std::string_view(available_train_kernels().front()->name) == "reference") {
      std::swap(list[0], list[1]);  // a library for this CPU beats plain loops
    }
#endif
#endif
    list.push_back(naive_blas());
    return list;
  }();
  return backends;
}

namespace {

std::atomic<const BlasBackend*>& chosen_backend() {
  static std::atomic<const BlasBackend*> chosen{&blas_backends().front()};
  return chosen;
}

}  // namespace

const BlasBackend& blas_backend() { return *chosen_backend().load(std::memory_order_relaxed); }

void set_blas_backend(std::string_view name) {
  for (const BlasBackend& backend : blas_backends()) {
    if (backend.name == name) {
      chosen_backend().store(&backend, std::memory_order_relaxed);
      return;
    }
  }
  fail("set_blas_backend", "there is no backend called '", name, "' in this build");
}

void multiply(const MatrixIn& a, const MatrixIn& b, const MatrixOut& c, Store store, const real* bias) {
  assert(a.cols == b.rows && a.rows == c.rows && b.cols == c.cols);
  assert(bias == nullptr || store == Store::kOverwrite);
  blas_backend().multiply(a, b, c, store, bias);
}

void store_sum(const real* sum, const MatrixOut& c, Store store) {
  parallel_rows(c.rows, c.cols, [&](int64_t i) {
    for (int64_t j = 0; j < c.cols; ++j) {
      real& out = c.data[i * c.stride + j];
      out = store == Store::kAdd ? out + sum[i * c.cols + j] : sum[i * c.cols + j];
    }
  });
}

namespace {

// Products below this many multiplications are not worth a parallel region.
constexpr int64_t kSmallProduct = 32 * 1024;
// Tiles of C: large enough for a packed kernel to run at full speed, small
// enough that an MLP's layers still make several.
constexpr int64_t kTileRows = 256;
constexpr int64_t kTileCols = 256;
// Below this many tiles of C, the sum over k is cut as well.
constexpr int64_t kFewTiles = 4;
constexpr int64_t kChunks = 8;
constexpr int64_t kChunkDepth = 256;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Rows per tile: `tile`, or less so that even a matrix of a few hundred rows
// makes work for several threads.
int64_t tile_extent(int64_t extent, int64_t tile) {
  constexpr int64_t kLeast = 32;
  return extent >= 2 * tile ? tile : std::max(kLeast, ceil_div(ceil_div(extent, 2), kLeast) * kLeast);
}

}  // namespace

void multiply_in_tiles(Gemm gemm, const MatrixIn& a, const MatrixIn& b, const MatrixOut& c, Store store,
                       const real* bias) {
  if (bias != nullptr) {
    parallel_rows(c.rows, c.cols, [&](int64_t i) { std::copy_n(bias, c.cols, c.data + i * c.stride); });
    store = Store::kAdd;
  }
  const int64_t depth = a.cols;
  if (c.rows * c.cols * depth <= kSmallProduct) {
    gemm(a, b, c, store);
    return;
  }
  const int64_t tile_rows = tile_extent(c.rows, kTileRows);
  const int64_t tile_cols = tile_extent(c.cols, kTileCols);
  const int64_t row_tiles = ceil_div(c.rows, tile_rows);
  const int64_t col_tiles = ceil_div(c.cols, tile_cols);
  const int64_t chunks =
      row_tiles * col_tiles >= kFewTiles ? 1 : std::min(kChunks, std::max<int64_t>(1, depth / kChunkDepth));

  // With several chunks each has a sum of its own; without, C is written directly.
  Tensor partial = chunks > 1 ? Tensor::empty({chunks, c.rows, c.cols}) : Tensor();
  const int64_t chunk_depth = ceil_div(depth, chunks);
  parallel_for(chunks * row_tiles * col_tiles, [&](int64_t tile) {
    const int64_t chunk = tile / (row_tiles * col_tiles);
    const int64_t row = tile / col_tiles % row_tiles * tile_rows;
    const int64_t col = tile % col_tiles * tile_cols;
    const int64_t from = chunk * chunk_depth;
    const int64_t rows = std::min(tile_rows, c.rows - row);
    const int64_t cols = std::min(tile_cols, c.cols - col);
    const int64_t depth_here = std::min(chunk_depth, depth - from);
    const MatrixOut target =
        chunks == 1 ? c : MatrixOut(partial.mutable_data() + chunk * c.rows * c.cols, c.rows, c.cols);
    gemm(a.block(row, from, rows, depth_here), b.block(from, col, depth_here, cols), target.block(row, col, rows, cols),
         chunks == 1 ? store : Store::kOverwrite);
  });
  if (chunks > 1) {
    tree_add(partial.mutable_data(), chunks, c.rows * c.cols);
    store_sum(partial.data(), c, store);
  }
}

}  // namespace whittle::inline WHITTLE_PRECISION
