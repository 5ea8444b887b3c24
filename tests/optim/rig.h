// Parameters whose gradients are a formula of (parameter, element, step, value)
// instead of the tape's work, so that a test can follow the same trajectory on its
// own, in double.
#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/parameter.h"

namespace whittle::inline WHITTLE_PRECISION {

// How far a trajectory in `real` may be from one in double, relative to 1 + |value|.
inline constexpr double kTrajectory = sizeof(real) == sizeof(double) ? 1e-12 : 2e-5;

inline bool near(double got, double expected, double tolerance = kTrajectory) {
  return std::abs(got - expected) <= tolerance * (1 + std::abs(expected));
}

inline double start_value(size_t parameter, int64_t i) {
  return 2 * std::sin(1 + 0.37 * static_cast<double>(i) + 10 * static_cast<double>(parameter));
}

// A tilted bowl that sways: never 0 for long, of every size from 0.01 to 3.
inline double gradient_of(size_t parameter, int64_t i, int step, double value) {
  const double steep = 0.05 + 0.3 * static_cast<double>((i + static_cast<int64_t>(parameter)) % 5);
  return steep * value + 0.4 * std::cos(0.7 * step + static_cast<double>(i));
}

class Rig {
 public:
  explicit Rig(std::vector<std::pair<std::string, Shape>> shapes, double shift = 0) {
    for (const auto& [name, shape] : shapes) {
      Tensor value = Tensor::empty(shape);
      for (int64_t i = 0; i < shape.elements(); ++i) {
        value.mutable_data()[i] = static_cast<real>(start_value(named.size(), i) + shift);
      }
      parameters_.push_back(std::make_unique<Parameter>(std::move(value)));
      named.push_back({name, parameters_.back().get()});
    }
  }

  void set_gradient(size_t p, int step) {
    Tensor gradient = Tensor::empty(named[p].parameter->shape());
    for (int64_t i = 0; i < gradient.elements(); ++i) {
      gradient.mutable_data()[i] = static_cast<real>(gradient_of(p, i, step, value(p, i)));
    }
    named[p].parameter->raw.set_grad(std::move(gradient));
  }
  void set_gradients(int step) {
    for (size_t p = 0; p < named.size(); ++p) {
      set_gradient(p, step);
    }
  }

  double value(size_t p, int64_t i) const { return static_cast<double>(named[p].parameter->raw.value().data()[i]); }
  std::vector<real> values() const {
    std::vector<real> all;
    for (const NamedParameter& one : named) {
      const auto more = one.parameter->raw.value().values();
      all.insert(all.end(), more.begin(), more.end());
    }
    return all;
  }

  std::vector<NamedParameter> named;

 private:
  std::vector<std::unique_ptr<Parameter>> parameters_;
};

}  // namespace whittle::inline WHITTLE_PRECISION
