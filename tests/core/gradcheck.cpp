#include "tests/core/gradcheck.h"

#include <algorithm>
#include <cmath>

namespace whittle::inline WHITTLE_PRECISION {

namespace {

Tensor random_tensor(const Shape& shape, Rng& rng, double low, double high) {
  Tensor t = Tensor::empty(shape);
  std::ranges::generate(t.mutable_values(), [&] { return static_cast<real>(rng.uniform(low, high)); });
  return t;
}

double dot(const Tensor& a, const Tensor& b, bool magnitudes = false) {
  double total = 0;
  for (int64_t i = 0; i < a.elements(); ++i) {
    const double term = static_cast<double>(a.data()[i]) * static_cast<double>(b.data()[i]);
    total += magnitudes ? std::abs(term) : term;
  }
  return total;
}

}  // namespace

GradientCheck check_gradient(const std::function<Variable(std::span<const Variable>)>& f,
                             std::span<const Tensor> inputs, Rng& rng) {
  std::vector<Tensor> directions;
  std::vector<Variable> leaves;
  for (const Tensor& input : inputs) {
    directions.push_back(random_tensor(input.shape(), rng, -1, 1));
    leaves.push_back(Variable::leaf(input.clone()));
  }

  const Variable y = f(leaves);
  const Tensor weights = random_tensor(y.shape(), rng, 0.5, 1.5);
  backward(sum(mul(y, weights)));

  GradientCheck result;
  double scale = 0;
  for (size_t i = 0; i < leaves.size(); ++i) {
    if (leaves[i].grad().defined()) {
      result.analytic += dot(leaves[i].grad(), directions[i]);
      scale += dot(leaves[i].grad(), directions[i], true);
    }
  }

  const auto along = [&](double step) {
    const NoGrad guard;
    std::vector<Variable> moved;
    for (size_t i = 0; i < inputs.size(); ++i) {
      Tensor x = inputs[i].clone();
      for (int64_t j = 0; j < x.elements(); ++j) {
        x.mutable_data()[j] += static_cast<real>(step) * directions[i].data()[j];
      }
      moved.emplace_back(x);
    }
    return dot(f(moved).value(), weights);
  };
  constexpr double kStep = 1e-3;
  result.numeric = (8 * (along(kStep) - along(-kStep)) - (along(2 * kStep) - along(-2 * kStep))) / (12 * kStep);
  const double difference = std::abs(result.analytic - result.numeric);
  // A function without any gradient must also have no numeric one.
  result.relative_error = scale > 0 ? difference / scale : difference;
  return result;
}

}  // namespace whittle::inline WHITTLE_PRECISION
