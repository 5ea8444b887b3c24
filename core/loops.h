// Loops shared by the op files: parallel over fixed tiles, sums over a fixed tree.
// Internal to core/.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "core/parallel.h"
#include "core/shape.h"
#include "core/tensor.h"

namespace whittle::inline WHITTLE_PRECISION {

// A new tensor with y[i] = f(x[i]).
template <class F>
Tensor map(const Tensor& x, F f) {
  Tensor y = Tensor::empty(x.shape());
  const real* in = x.data();
  real* out = y.mutable_data();
  parallel_ranges(x.elements(), kElementGrain, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      out[i] = f(in[i]);
    }
  });
  return y;
}

// A new tensor with y[i] = f(a[i], b[i]); a and b have the same shape.
template <class F>
Tensor map(const Tensor& a, const Tensor& b, F f) {
  Tensor y = Tensor::empty(a.shape());
  const real* in_a = a.data();
  const real* in_b = b.data();
  real* out = y.mutable_data();
  parallel_ranges(a.elements(), kElementGrain, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      out[i] = f(in_a[i], in_b[i]);
    }
  });
  return y;
}

// Runs work(r) for r in [0, rows), in tiles of about kElementGrain numbers when a
// row has `cols` of them.
template <class Work>
void parallel_rows(int64_t rows, int64_t cols, Work work) {
  parallel_ranges(rows, std::max<int64_t>(1, kElementGrain / cols), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      work(r);
    }
  });
}

// Two shapes walked together as in NumPy: aligned at the last axis, an extent of
// 1 (or a missing axis) repeats. Neighbouring axes on which the operands behave
// alike are merged, so every pair of shapes becomes a few nested loops whose
// innermost is a plain run: both operands advance, or one of them stands still.
class Broadcast {
 public:
  // Throws in the name of `op` unless the shapes go together.
  Broadcast(const char* op, const Shape& a, const Shape& b);

  const Shape& shape() const { return shape_; }  // of the result

  // Innermost steps: 0 where the operand stands still, else 1.
  int64_t step_a() const { return axes_[0].stride_a; }
  int64_t step_b() const { return axes_[0].stride_b; }

  // Runs run(i, a, b, n) over all runs, in parallel: elements [i, i + n) of the
  // result come from the elements at a and b, advancing by step_a and step_b.
  template <class Run>
  void for_each_run(Run run) const {
    const int64_t length = axes_[0].extent;
    parallel_ranges(shape_.elements(), kElementGrain, [&, this](int64_t begin, int64_t end) {
      int64_t row = begin / length;
      for (int64_t i = begin; i < end; ++row) {
        const int64_t stop = std::min(end, (row + 1) * length);
        const auto [a, b] = offsets(row, i - row * length);
        run(i, a, b, stop - i);
        i = stop;
      }
    });
  }

 private:
  struct Axis {
    int64_t extent = 1;
    int64_t stride_a = 0;  // 0: repeats
    int64_t stride_b = 0;
  };
  struct Offsets {
    int64_t a;
    int64_t b;
  };

  // Where column `column` of run `row` starts in a and b.
  Offsets offsets(int64_t row, int64_t column) const {
    Offsets at{column * axes_[0].stride_a, column * axes_[0].stride_b};
    const auto move = [&at](const Axis& axis, int64_t index) {
      at.a += index * axis.stride_a;
      at.b += index * axis.stride_b;
    };
    for (int i = 1; i < count_ - 1; ++i) {
      const Axis& axis = axes_[static_cast<size_t>(i)];
      move(axis, row % axis.extent);
      row /= axis.extent;
    }
    if (count_ > 1) {
      move(axes_[static_cast<size_t>(count_ - 1)], row);  // outermost, so no division
    }
    return at;
  }

  Shape shape_;
  std::array<Axis, Shape::kMaxRank> axes_{};  // merged, innermost first
  int count_ = 0;
};

// A new tensor with y[i] = f(a[i], b[i]), both operands repeated as needed.
template <class F>
Tensor map(const Broadcast& together, const Tensor& a, const Tensor& b, F f) {
  Tensor y = Tensor::empty(together.shape());
  real* const out = y.mutable_data();
  together.for_each_run([&, f](int64_t i, int64_t at_a, int64_t at_b, int64_t n) {
    const real* in_a = a.data() + at_a;
    const real* in_b = b.data() + at_b;
    real* to = out + i;
    if (together.step_a() == 0) {
      const real fixed = *in_a;
      for (int64_t j = 0; j < n; ++j) {
        to[j] = f(fixed, in_b[j]);
      }
    } else if (together.step_b() == 0) {
      const real fixed = *in_b;
      for (int64_t j = 0; j < n; ++j) {
        to[j] = f(in_a[j], fixed);
      }
    } else {
      for (int64_t j = 0; j < n; ++j) {
        to[j] = f(in_a[j], in_b[j]);
      }
    }
  });
  return y;
}

// The two directions between a shape and one that broadcasts to it: x repeated
// up to `shape`, and x summed over the repetitions down to `shape`. Each is the
// other's gradient. Where nothing repeats, the result shares x's storage.
Tensor repeat_to(const Tensor& x, const Shape& shape);
Tensor sum_to(const Tensor& x, const Shape& shape);

// How a reduction from one shape to another that broadcasts to it is done: one
// group of neighbouring axes after another, innermost first, so that each step
// sees a tensor [outer, r, inner] and reduces it over r to [outer, inner].
template <class Step>
void for_each_reduced_group(const Shape& from, const Shape& to, Step step) {
  const auto kept = [&](int axis) {
    const int aligned = axis - (from.rank() - to.rank());
    return (aligned >= 0 ? to[aligned] : 1) == from[axis];
  };
  int64_t inner = 1;  // elements right of `axis`, where everything is reduced already
  for (int axis = from.rank() - 1; axis >= 0;) {
    if (kept(axis)) {
      inner *= from[axis--];
      continue;
    }
    int64_t r = 1;
    while (axis >= 0 && (!kept(axis) || from[axis] == 1)) {
      r *= from[axis--];
    }
    step(from.elements(0, axis + 1), r, inner);
  }
}

// e[i] = exp(x[i] - largest x) and the sum of e: what softmax and its relatives
// are made of. Nothing overflows and the sum is at least 1. Serial; x may be e.
struct ExpSum {
  real largest;
  real sum;
};
ExpSum exp_row(const real* x, int64_t n, real* e);

// The sum of n numbers by pairwise halving: the error grows with log n, and the
// order of additions depends on n alone. Serial; for use inside a tile.
real pairwise_sum(const real* x, int64_t n);

// The same over any n, in parallel tiles.
real tree_sum(const real* x, int64_t n);

// out[c] = sum over r of x[r * cols + c], rows added in fixed tiles and a fixed tree.
void column_sums(const real* x, int64_t rows, int64_t cols, real* out);

// Adds `parts` arrays of n numbers, stored one after another from `data`, into the
// first by a fixed tree (1 into 0, 3 into 2, then 2 into 0, ...).
void tree_add(real* data, int64_t parts, int64_t n);

}  // namespace whittle::inline WHITTLE_PRECISION
