// Reductions over any set of axes: sum, mean, max.

#include <algorithm>
#include <array>
#include <vector>

#include "core/error.h"
#include "core/loops.h"
#include "core/ops.h"
#include "core/pool.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

// What a reduction of x leaves: the shape with an extent of 1 in place of every
// reduced axis, and the shape the caller asked for.
struct Reduced {
  Shape ones;
  Shape result;
};

Reduced reduced(const char* op, const Variable& x, const ReduceOptions& options) {
  require_defined(op, x);
  const Shape& shape = x.shape();
  std::array<bool, Shape::kMaxRank> reduce{};
  reduce.fill(options.axes.empty());
  for (const int axis : options.axes) {
    reduce[static_cast<size_t>(shape.normal_axis(axis, op))] = true;  // naming an axis twice is naming it
  }
  Reduced result{.ones = shape, .result = shape};
  for (int axis = shape.rank() - 1; axis >= 0; --axis) {
    if (reduce[static_cast<size_t>(axis)]) {
      result.ones = result.ones.with(axis, 1);
      result.result = options.keep_dims ? result.result.with(axis, 1) : result.result.without(axis);
    }
  }
  return result;
}

// The sum over the axes divided by `divisor`, under the name of `op`.
Variable divided_sum(const char* op, const Variable& x, const Reduced& shapes, real divisor) {
  const auto divide = [divisor](real v) { return v / divisor; };
  Tensor y = map(sum_to(x.value(), shapes.ones), divide);
  return make_op(op, y.reshape(shapes.result), {x},
                 [ones = shapes.ones, shape = x.shape(), divide](const Tensor& g) -> Gradients {
                   return {repeat_to(map(g.reshape(ones), divide), shape)};
                 });
}

}  // namespace

Variable sum(const Variable& x, const ReduceOptions& options) {
  return divided_sum("sum", x, reduced("sum", x, options), 1);
}

Variable mean(const Variable& x, const ReduceOptions& options) {
  const Reduced shapes = reduced("mean", x, options);
  return divided_sum("mean", x, shapes, static_cast<real>(x.shape().elements() / shapes.result.elements()));
}

namespace {

// The largest elements of a tensor x along some of its axes, and where they lie
// in x; no positions while every element is still its own maximum.
struct Largest {
  Tensor values;
  std::vector<int64_t, PoolAllocator<int64_t>> positions{};
};

// NaN beats every number and the first of equals stays, so the winner among the
// winners of consecutive parts is the winner of the whole, position included.
bool beats(real challenger, real best) { return challenger > best || (challenger != challenger && best == best); }

// `from` seen as [outer, r, inner]: the largest over r, as [outer, inner]. Long
// columns are cut into parts of fixed length, whose winners meet in a next round.
Largest largest_over_middle(Largest from, int64_t outer, int64_t r, int64_t inner) {
  const int64_t part = std::max<int64_t>(2, kElementGrain / inner);
  while (r > 1) {
    const int64_t parts = (r + part - 1) / part;
    Largest winners{Tensor::empty({outer, parts, inner}), {}};
    winners.positions.resize(static_cast<size_t>(winners.values.elements()));
    const real* values = from.values.data();
    const int64_t* positions = from.positions.empty() ? nullptr : from.positions.data();
    const auto position = [=](int64_t i) { return positions == nullptr ? i : positions[i]; };
    real* best = winners.values.mutable_data();
    int64_t* best_at = winners.positions.data();
    parallel_rows(outer * parts, std::min(part, r) * inner, [=](int64_t job) {  // a part of one column
      const int64_t top = job / parts * r;
      const int64_t first = top + job % parts * part;
      const int64_t last = std::min(first + part, top + r);
      for (int64_t row = first; row < last; ++row) {
        for (int64_t c = 0; c < inner; ++c) {
          const int64_t from_at = row * inner + c;
          const int64_t to_at = job * inner + c;
          if (row == first || beats(values[from_at], best[to_at])) {
            best[to_at] = values[from_at];
            best_at[to_at] = position(from_at);
          }
        }
      }
    });
    from = std::move(winners);
    r = parts;
  }
  return from;
}

}  // namespace

Variable max(const Variable& x, const ReduceOptions& options) {
  const Reduced shapes = reduced("max", x, options);
  Largest largest{x.value(), {}};
  for_each_reduced_group(x.shape(), shapes.ones, [&largest](int64_t outer, int64_t r, int64_t inner) {
    largest = largest_over_middle(std::move(largest), outer, r, inner);
  });
  Tensor y = largest.positions.empty() ? x.value().clone() : std::move(largest.values);
  return make_op("max", y.reshape(shapes.result), {x},
                 [positions = std::move(largest.positions), shape = x.shape()](const Tensor& g) -> Gradients {
                   if (positions.empty()) {
                     return {g.reshape(shape)};
                   }
                   Tensor gx = Tensor::zeros(shape);
                   for (size_t i = 0; i < positions.size(); ++i) {  // no position comes twice
                     gx.mutable_data()[positions[i]] = g.data()[i];
                   }
                   return {gx};
                 });
}

}  // namespace whittle::inline WHITTLE_PRECISION
