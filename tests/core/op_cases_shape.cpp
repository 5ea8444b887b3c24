#include <numeric>

#include "tests/core/some_shape.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

OpInstance reshape_case(Rng& rng) {
  const Shape from = some_shape(rng, 0, 4);
  // Extents in another order, and some merged.
  std::vector<int64_t> dims(from.dims().rbegin(), from.dims().rend());
  if (dims.size() > 1 && rng.uniform() < 0.5) {
    dims[0] *= dims.back();
    dims.pop_back();
  }
  const Shape to{std::span<const int64_t>(dims)};
  return {.description = from.str() + " to " + to.str(),
          .inputs = {some_tensor(rng, from)},
          .run = [to](std::span<const Variable> in) { return reshape(in[0], to); }};
}

OpInstance flatten_case(Rng& rng) {
  const Shape shape = some_shape(rng, 1, 5);
  return {.description = shape.str(), .inputs = {some_tensor(rng, shape)}, .run = [](std::span<const Variable> in) {
            return flatten(in[0]);
          }};
}

OpInstance transpose_case(Rng& rng) {
  const Shape shape = rng.uniform() < 0.8 ? some_shape(rng, 0, 6) : Shape{rng.between(1, 3), rng.between(20, 80), 37};
  std::vector<int> axes(static_cast<size_t>(shape.rank()));
  std::iota(axes.begin(), axes.end(), 0);
  std::string text = shape.str() + " by";
  for (size_t i = 0; i < axes.size(); ++i) {
    std::swap(axes[i], axes[i + static_cast<size_t>(rng.below(static_cast<int64_t>(axes.size() - i)))]);
    axes[i] -= rng.uniform() < 0.3 ? shape.rank() : 0;
    text += " " + std::to_string(axes[i]);
  }
  return {.description = text, .inputs = {some_tensor(rng, shape)}, .run = [axes](std::span<const Variable> in) {
            return transpose(in[0], axes);
          }};
}

OpInstance concat_case(Rng& rng) {
  const Shape shape = some_shape(rng, 1, 4);
  const int axis = static_cast<int>(rng.between(-shape.rank(), shape.rank() - 1));
  OpInstance instance{.description = "axis " + std::to_string(axis) + " of",
                      .inputs = {},
                      .run = [axis](std::span<const Variable> in) { return concat(in, axis); }};
  for (int64_t parts = rng.between(1, 4); parts > 0; --parts) {
    instance.inputs.push_back(some_tensor(rng, shape.with(axis, some_extent(rng))));
    instance.description += " " + instance.inputs.back().shape().str();
  }
  return instance;
}

OpInstance slice_case(Rng& rng) {
  const Shape shape = some_shape(rng, 1, 4);
  const int axis = static_cast<int>(rng.between(-shape.rank(), shape.rank() - 1));
  const int64_t begin = rng.below(shape[axis]);
  const int64_t end = rng.between(begin + 1, shape[axis]);
  return {.description = shape.str() + ", axis " + std::to_string(axis) + " from " + std::to_string(begin) + " to " +
                         std::to_string(end),
          .inputs = {some_tensor(rng, shape)},
          .run = [=](std::span<const Variable> in) { return slice(in[0], axis, begin, end); }};
}

OpInstance pad_case(Rng& rng) {
  const Shape shape = some_shape(rng, 4, 4);
  const Padding p{.top = rng.below(3), .left = rng.below(3), .bottom = rng.below(3), .right = rng.below(3)};
  return {.description = shape.str() + " with padding " +
                         Shape{p.top + 1, p.left + 1, p.bottom + 1, p.right + 1}.str() + " less 1",
          .inputs = {some_tensor(rng, shape)},
          .run = [p](std::span<const Variable> in) { return pad(in[0], p, real(0.75)); }};
}

}  // namespace

std::vector<OpCase> op_cases_shape() {
  // Bounds: about three times the worst of 2400 instances over 60 seeds; 0 where
  // nothing is rounded.
  return {
      {.op = "reshape", .value_bound = 0, .gradient_bound = 0, .make = reshape_case},
      {.op = "flatten", .value_bound = 0, .gradient_bound = 0, .make = flatten_case},
      {.op = "transpose", .value_bound = 0, .gradient_bound = 0, .make = transpose_case},
      {.op = "concat", .value_bound = 0, .gradient_bound = 0, .make = concat_case},
      {.op = "slice", .value_bound = 0, .gradient_bound = 0, .make = slice_case},
      {.op = "pad", .value_bound = 0, .gradient_bound = 0, .make = pad_case},
  };
}

}  // namespace whittle::inline WHITTLE_PRECISION
