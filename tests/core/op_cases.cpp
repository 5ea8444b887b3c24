#include "tests/core/op_cases.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>

namespace whittle::inline WHITTLE_PRECISION {

namespace {

real rounded_to_float(double x) { return static_cast<real>(static_cast<float>(x)); }

}  // namespace

int64_t some_extent(Rng& rng, int64_t most) { return rng.uniform() < 0.25 ? 1 : rng.between(1, most); }

int64_t some_channels(Rng& rng) { return rng.uniform() < 0.75 ? some_extent(rng) : rng.between(8, 40); }

Tensor some_tensor(Rng& rng, const Shape& shape, double low, double high) {
  Tensor t = Tensor::empty(shape);
  std::ranges::generate(t.mutable_values(), [&] { return rounded_to_float(rng.uniform(low, high)); });
  return t;
}

Tensor tensor_away_from(Rng& rng, const Shape& shape, std::initializer_list<double> kinks, double low, double high) {
  const auto near_a_kink = [&](double x) {
    return std::ranges::any_of(kinks, [x](double kink) { return std::abs(x - kink) < 0.02; });
  };
  Tensor t = Tensor::empty(shape);
  for (real& x : t.mutable_values()) {
    do {
      x = rounded_to_float(rng.uniform(low, high));
    } while (near_a_kink(static_cast<double>(x)));
  }
  return t;
}

Tensor distinct_tensor(Rng& rng, const Shape& shape) {
  std::vector<double> values(static_cast<size_t>(shape.elements()));
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = 0.04 * (static_cast<double>(i) - static_cast<double>(values.size()) / 2) + rng.uniform(0, 0.02);
  }
  for (size_t i = values.size(); i > 1; --i) {
    std::swap(values[i - 1], values[static_cast<size_t>(rng.below(static_cast<int64_t>(i)))]);
  }
  Tensor t = Tensor::empty(shape);
  std::ranges::transform(values, t.mutable_data(), rounded_to_float);
  return t;
}

std::vector<OpCase> all_op_cases() {
  std::vector<OpCase> all;
  for (const auto& group : {op_cases_matmul, op_cases_arith, op_cases_activation, op_cases_conv, op_cases_pool,
                            op_cases_norm, op_cases_loss, op_cases_shape, op_cases_reduce, op_cases_random}) {
    std::ranges::move(group(), std::back_inserter(all));
  }
  return all;
}

}  // namespace whittle::inline WHITTLE_PRECISION
