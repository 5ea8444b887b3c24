#include "tests/core/some_shape.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

OpInstance embedding_case(Rng& rng) {
  const Shape table{some_extent(rng), rng.uniform() < 0.8 ? some_extent(rng) : 130};
  std::vector<int32_t> indices(static_cast<size_t>(rng.between(1, 20)));  // more than rows: some repeat
  for (int32_t& index : indices) {
    index = static_cast<int32_t>(rng.below(table[0]));
  }
  return {.description = table.str() + ", " + std::to_string(indices.size()) + " indices",
          .inputs = {some_tensor(rng, table)},
          .run = [indices](std::span<const Variable> in) { return embedding(in[0], indices); }};
}

OpInstance dropout_case(Rng& rng) {
  const Shape shape = some_shape(rng, 0, 4);
  const real p = static_cast<real>(rng.below(8)) / 8;  // 0 among them
  const RngKey key{.seed = rng.bits()};
  return {.description = shape.str() + ", p " + std::to_string(p),
          .inputs = {some_tensor(rng, shape)},
          .run = [=](std::span<const Variable> in) { return dropout(in[0], p, key); }};
}

}  // namespace

std::vector<OpCase> op_cases_random() {
  // Bounds: about three times the worst of 2400 instances over 60 seeds; 0 where
  // nothing is rounded.
  return {
      {.op = "embedding", .value_bound = 0, .gradient_bound = 7e-7, .make = embedding_case},
      {.op = "dropout", .value_bound = 3e-7, .gradient_bound = 3e-7, .make = dropout_case},
  };
}

}  // namespace whittle::inline WHITTLE_PRECISION
