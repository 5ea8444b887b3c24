#include "core/loops.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/train_kernels.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

// Below this many numbers a sum is a plain loop in eight lanes.
constexpr int64_t kSumLeaf = 128;
// Rows of one tile of column_sums, for matrices of ordinary width.
constexpr int64_t kColumnTileElements = 65536;

}  // namespace

real pairwise_sum(const real* x, int64_t n) {
  if (n <= kSumLeaf) {
    real lanes[8] = {};
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
      for (int lane = 0; lane < 8; ++lane) {
        lanes[lane] += x[i + lane];
      }
    }
    for (; i < n; ++i) {
      lanes[i % 8] += x[i];
    }
    return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
  }
  const int64_t half = (n / 2 + 7) / 8 * 8;  // depth is log2(n / kSumLeaf): at most 41
  return pairwise_sum(x, half) + pairwise_sum(x + half, n - half);
}

real tree_sum(const real* x, int64_t n) {
  const int64_t tiles = (n + kElementGrain - 1) / kElementGrain;
  if (tiles == 1) {
    return pairwise_sum(x, n);
  }
  Tensor partial = Tensor::empty({tiles});
  real* sums = partial.mutable_data();
  parallel_ranges(n, kElementGrain, [=](int64_t begin, int64_t end) {
    sums[begin / kElementGrain] = pairwise_sum(x + begin, end - begin);
  });
  return pairwise_sum(sums, tiles);
}

void column_sums(const real* x, int64_t rows, int64_t cols, real* out) {
  const int64_t tile_rows = std::max<int64_t>(32, kColumnTileElements / cols);
  const int64_t tiles = (rows + tile_rows - 1) / tile_rows;
  Tensor partial = tiles == 1 ? Tensor() : Tensor::empty({tiles, cols});
  real* const sums = tiles == 1 ? out : partial.mutable_data();
  parallel_ranges(rows, tile_rows, [=](int64_t begin, int64_t end) {
    train_kernels().loops.column_sums(x + begin * cols, end - begin, cols, sums + begin / tile_rows * cols);
  });
  if (tiles > 1) {
    tree_add(sums, tiles, cols);
    std::copy_n(sums, cols, out);
  }
}

void tree_add(real* data, int64_t parts, int64_t n) {
  for (int64_t step = 1; step < parts; step *= 2) {
    const int64_t pairs = (parts - step + 2 * step - 1) / (2 * step);
    const int64_t ranges = (n + kElementGrain - 1) / kElementGrain;
    const auto add = [=](int64_t tile) {
      const int64_t begin = tile % ranges * kElementGrain;
      const int64_t end = std::min(n, begin + kElementGrain);
      real* const target = data + tile / ranges * 2 * step * n;
      train_kernels().loops.add_to(target + step * n + begin, end - begin, target + begin);
    };
    if (pairs * n <= kElementGrain) {  // not worth waking anyone
      for (int64_t tile = 0; tile < pairs * ranges; ++tile) {
        add(tile);
      }
    } else {
      parallel_for(pairs * ranges, add);
    }
  }
}

ExpSum exp_row(const real* x, int64_t n, real* e) {
  real largest = x[0];
  for (int64_t i = 1; i < n; ++i) {
    largest = std::max(largest, x[i]);
  }
  for (int64_t i = 0; i < n; ++i) {
    e[i] = std::exp(x[i] - largest);
  }
  return {largest, pairwise_sum(e, n)};
}

Broadcast::Broadcast(const char* op, const Shape& a, const Shape& b) {
  const int rank = std::max(a.rank(), b.rank());
  std::array<int64_t, Shape::kMaxRank> dims{};
  int64_t elements = 1;
  int64_t stride_a = 1;
  int64_t stride_b = 1;
  for (int from_end = 1; from_end <= rank; ++from_end) {
    const int64_t in_a = from_end <= a.rank() ? a[-from_end] : 1;
    const int64_t in_b = from_end <= b.rank() ? b[-from_end] : 1;
    require(in_a == in_b || in_a == 1 || in_b == 1, op, "shapes ", a, " and ", b, " do not broadcast: extents ", in_a,
            " and ", in_b, " differ");
    const int64_t extent = std::max(in_a, in_b);
    require(extent <= Shape::kMaxElements / elements, op, "shapes ", a, " and ", b, " broadcast to too many elements");
    elements *= extent;
    dims[static_cast<size_t>(rank - from_end)] = extent;
    if (extent > 1) {
      const Axis axis{extent, in_a == 1 ? 0 : stride_a, in_b == 1 ? 0 : stride_b};
      Axis* inner = count_ > 0 ? &axes_[static_cast<size_t>(count_ - 1)] : nullptr;
      if (inner != nullptr && (inner->stride_a == 0) == (axis.stride_a == 0) &&
          (inner->stride_b == 0) == (axis.stride_b == 0)) {
        inner->extent *= extent;
      } else {
        axes_[static_cast<size_t>(count_++)] = axis;
      }
    }
    stride_a *= in_a;
    stride_b *= in_b;
  }
  shape_ = Shape(std::span<const int64_t>(dims.data(), static_cast<size_t>(rank)));
}

Tensor repeat_to(const Tensor& x, const Shape& shape) {
  if (x.elements() == shape.elements()) {
    return x.reshape(shape);
  }
  const Broadcast together("repeat_to", x.shape(), shape);
  Tensor y = Tensor::empty(shape);
  const real* in = x.data();
  real* out = y.mutable_data();
  together.for_each_run([&, in, out](int64_t i, int64_t from, int64_t, int64_t n) {
    if (together.step_a() == 0) {
      std::fill_n(out + i, n, in[from]);
    } else {
      std::copy_n(in + from, n, out + i);
    }
  });
  return y;
}

namespace {

// Rows that are added one after another.
constexpr int64_t kFewRows = 32;

// x [outer, r, inner] summed over r into out [outer, inner].
void sum_middle(const real* x, int64_t outer, int64_t r, int64_t inner, real* out) {
  const int64_t size = r * inner;
  const auto sum_part = [=](int64_t o) {
    const real* part = x + o * size;
    real* sums = out + o * inner;
    if (inner == 1) {
      *sums = tree_sum(part, r);
    } else if (r > kFewRows) {
      column_sums(part, r, inner, sums);
    } else {  // so few rows need no tree, and no scratch
      std::copy_n(part, inner, sums);
      for (int64_t i = inner; i < size; i += inner) {
        train_kernels().loops.add_to(part + i, inner, sums);
      }
    }
  };
  if (size > 4 * kElementGrain) {  // large parts one after another, each in parallel
    for (int64_t o = 0; o < outer; ++o) {
      sum_part(o);
    }
  } else {  // small parts side by side, each serial
    parallel_rows(outer, size, sum_part);
  }
}

}  // namespace

Tensor sum_to(const Tensor& x, const Shape& shape) {
  Tensor y = x;
  for_each_reduced_group(x.shape(), shape, [&y](int64_t outer, int64_t r, int64_t inner) {
    Tensor summed = Tensor::empty({outer, inner});
    sum_middle(y.data(), outer, r, inner, summed.mutable_data());
    y = std::move(summed);
  });
  return y.reshape(shape);
}

}  // namespace whittle::inline WHITTLE_PRECISION
