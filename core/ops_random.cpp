// Lookup in a table, and dropout.

#include <algorithm>
#include <array>
#include <cmath>

#include "core/error.h"
#include "core/loops.h"
#include "core/ops.h"
#include "core/pool.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

using Indices = std::vector<int32_t, PoolAllocator<int32_t>>;

// Row indices[i] of table += row i of rows, in the order of i. An index may come
// again, so a tile owns columns, not rows.
void add_rows(const Tensor& rows, const Indices& indices, Tensor& table) {
  constexpr int64_t kColumns = 64;
  const int64_t width = table.dim(1);
  parallel_ranges(width, kColumns, [&, from = rows.data(), to = table.mutable_data()](int64_t begin, int64_t end) {
    for (size_t i = 0; i < indices.size(); ++i) {
      const real* row = from + static_cast<int64_t>(i) * width;
      real* sum = to + indices[i] * width;
      for (int64_t c = begin; c < end; ++c) {
        sum[c] += row[c];
      }
    }
  });
}

}  // namespace

Variable embedding(const Variable& table, std::span<const int32_t> indices) {
  require_defined("embedding", table);
  require(table.shape().rank() == 2, "embedding", "table has shape ", table.shape(), ", expected [V,D]");
  require(!indices.empty(), "embedding", "no indices given for table ", table.shape());
  const int64_t rows = table.shape()[0];
  const int64_t width = table.shape()[1];
  for (size_t i = 0; i < indices.size(); ++i) {
    require(indices[i] >= 0 && indices[i] < rows, "embedding", "index ", indices[i], " at position ", i,
            " is outside [0, ", rows, ") of table ", table.shape());
  }
  const int64_t count = static_cast<int64_t>(indices.size());
  Tensor y = Tensor::empty({count, width});
  parallel_rows(count, width, [=, from = table.value().data(), to = y.mutable_data()](int64_t i) {
    std::copy_n(from + indices[static_cast<size_t>(i)] * width, width, to + i * width);
  });
  if (!table.requires_grad()) {
    return y;  // no need to copy the indices
  }
  return make_op("embedding", std::move(y), {table},
                 [shape = table.shape(), kept = Indices(indices.begin(), indices.end())](const Tensor& g) -> Gradients {
                   Tensor gtable = Tensor::zeros(shape);
                   add_rows(g, kept, gtable);
                   return {gtable};
                 });
}

namespace {

// The four 32-bit random words number 4 block to 4 block + 3 of a key.
std::array<uint32_t, 4> random_words(RngKey key, uint64_t block) {
  const auto low = [](uint64_t x) { return static_cast<uint32_t>(x); };
  const auto high = [](uint64_t x) { return static_cast<uint32_t>(x >> 32); };
  return philox4x32({low(block), high(block), low(key.stream), high(key.stream)}, {low(key.seed), high(key.seed)});
}

// x[i] / (1 - p) where random word i is at least p 2^32, else 0. The decision is
// one of integers, so float and double drop the same elements.
Tensor dropped(const Tensor& x, double p, RngKey key) {
  static_assert(kElementGrain % 4 == 0, "tiles begin with a block of random words");
  const uint64_t threshold = static_cast<uint64_t>(std::llround(p * 0x1p32));
  const real scale = static_cast<real>(1 / (1 - p));
  Tensor y = Tensor::empty(x.shape());
  parallel_ranges(x.elements(), kElementGrain, [=, in = x.data(), out = y.mutable_data()](int64_t begin, int64_t end) {
    for (int64_t first = begin; first < end; first += 4) {
      const auto words = random_words(key, static_cast<uint64_t>(first / 4));
      for (int64_t i = first; i < std::min(first + 4, end); ++i) {
        out[i] = words[static_cast<size_t>(i - first)] >= threshold ? scale * in[i] : 0;
      }
    }
  });
  return y;
}

}  // namespace

Variable dropout(const Variable& x, real p, RngKey key) {
  require_defined("dropout", x);
  require(p >= 0 && p < 1, "dropout", "p ", p, " is outside [0, 1) (input ", x.shape(), ")");
  if (p == 0) {
    return x;
  }
  // Linear in x and decided by the key, so backward is the same function again
  // and nothing needs to be kept.
  const double probability = static_cast<double>(p);
  return make_op("dropout", dropped(x.value(), probability, key), {x},
                 [probability, key](const Tensor& g) -> Gradients { return {dropped(g, probability, key)}; });
}

}  // namespace whittle::inline WHITTLE_PRECISION
