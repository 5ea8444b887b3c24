#include "optim/clip.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"
#include "core/pool.h"

namespace whittle::inline WHITTLE_PRECISION::optim {

namespace {

// In place where the gradient is nobody else's, which it is after backward().
template <class F>
void change_gradients(std::span<const NamedParameter> parameters, F f) {
  for (const NamedParameter& named : parameters) {
    Variable& raw = named.parameter->raw;
    Tensor gradient = raw.grad();
    if (!gradient.defined()) {
      continue;
    }
    raw.zero_grad();
    if (!gradient.is_unique()) {
      gradient = gradient.clone();
    }
    real* g = gradient.mutable_data();
    parallel_ranges(gradient.elements(), kElementGrain, [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        g[i] = f(g[i]);
      }
    });
    raw.set_grad(std::move(gradient));
  }
}

double sum_of_squares(const real* x, int64_t n) {
  double lanes[8] = {};
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    for (int lane = 0; lane < 8; ++lane) {
      const auto value = static_cast<double>(x[i + lane]);
      lanes[lane] += value * value;
    }
  }
  for (; i < n; ++i) {
    const auto value = static_cast<double>(x[i]);
    lanes[i % 8] += value * value;
  }
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

}  // namespace

void clip_gradient_values(std::span<const NamedParameter> parameters, double limit) {
  const auto bound = static_cast<real>(limit);
  require(bound > 0, "clip_gradient_values", "the limit must be above 0, got ", limit);
  change_gradients(parameters, [bound](real g) { return std::clamp(g, -bound, bound); });
}

double gradient_norm(std::span<const NamedParameter> parameters) {
  // One partial sum per tile of every gradient, then pairs, pairs of pairs, ...
  std::vector<double, PoolAllocator<double>> sums;
  for (const NamedParameter& named : parameters) {
    const Tensor& gradient = named.parameter->raw.grad();
    if (!gradient.defined()) {
      continue;
    }
    const size_t first = sums.size();
    sums.resize(first + static_cast<size_t>((gradient.elements() + kElementGrain - 1) / kElementGrain));
    const real* g = gradient.data();
    double* tiles = sums.data() + first;
    parallel_ranges(gradient.elements(), kElementGrain, [=](int64_t begin, int64_t end) {
      tiles[begin / kElementGrain] = sum_of_squares(g + begin, end - begin);
    });
  }
  for (size_t apart = 1; apart < sums.size(); apart *= 2) {
    for (size_t i = 0; i + apart < sums.size(); i += 2 * apart) {
      sums[i] += sums[i + apart];
    }
  }
  return sums.empty() ? 0 : std::sqrt(sums.front());
}

double clip_gradient_norm(std::span<const NamedParameter> parameters, double limit) {
  require(limit > 0, "clip_gradient_norm", "the limit must be above 0, got ", limit);
  const double norm = gradient_norm(parameters);
  if (std::isfinite(norm) && norm > limit) {
    const auto factor = static_cast<real>(limit / norm);
    change_gradients(parameters, [factor](real g) { return factor * g; });
  }
  return norm;
}

std::optional<std::string> first_non_finite_gradient(std::span<const NamedParameter> parameters) {
  for (const NamedParameter& named : parameters) {
    const Tensor& gradient = named.parameter->raw.grad();
    if (gradient.defined() && !gradient.all_finite()) {
      return named.name;
    }
  }
  return std::nullopt;
}

}  // namespace whittle::inline WHITTLE_PRECISION::optim
