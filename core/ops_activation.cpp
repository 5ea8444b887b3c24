// Activations: pointwise functions, and softmax over the last axis.
//
// Each pointwise one is its formula and the formula of its gradient. NaN goes
// through all of them, and an infinite input gives the function's limit. Fusing
// an activation into the op before it is not done here: an op that takes an Act
// applies it itself.

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/elementwise.h"
#include "core/error.h"
#include "core/ops.h"

namespace whittle::inline WHITTLE_PRECISION {

Tensor activated(const Tensor& x, Act act) {
  Tensor y = Tensor::empty(x.shape());
  parallel_ranges(x.elements(), kElementGrain,
                  [in = x.data(), out = y.mutable_data(), act](int64_t begin, int64_t end) {
                    train_kernels().loops.clamp(in + begin, end - begin, clamp_of(act), out + begin);
                  });
  return y;
}

Tensor through_activation(const Tensor& g, const Tensor& y, Act act) {
  Tensor gx = Tensor::empty(g.shape());
  parallel_ranges(g.elements(), kElementGrain,
                  [in_g = g.data(), in_y = y.data(), out = gx.mutable_data(), act](int64_t begin, int64_t end) {
                    train_kernels().loops.clamp_gradient(in_g + begin, in_y + begin, end - begin, clamp_of(act),
                                                         out + begin);
                  });
  return gx;
}

namespace {

Variable activation(const char* op, const Variable& x, Act act) {
  require_defined(op, x);
  const Tensor y = activated(x.value(), act);
  return make_op(op, y, {x}, [y, act](const Tensor& g) -> Gradients { return {through_activation(g, y, act)}; });
}

}  // namespace

// Every grid has a code for 0.
Variable relu(const Variable& x) { return activation("relu", x, Act::kRelu).on(x.grids()); }

Variable relu6(const Variable& x) { return activation("relu6", x, Act::kRelu6); }

Variable leaky_relu(const Variable& x, real slope) {
  require_defined("leaky_relu", x);
  require(std::isfinite(slope), "leaky_relu", "slope ", slope, " is not finite (input ", x.shape(), ")");
  return elementwise_from_x(
      "leaky_relu", x, [slope](real v) { return v > 0 ? v : slope * v; },
      [slope](real g, real v) { return v > 0 ? g : slope * g; });
}

Variable sigmoid(const Variable& x) {
  const auto f = [](real v) {
    const real e = std::exp(-std::abs(v));  // in [0, 1]: cannot overflow, and keeps small results exact
    return (v >= 0 ? 1 : e) / (1 + e);
  };
  return elementwise_from_y("sigmoid", x, f, [](real g, real y) { return g * y * (1 - y); });
}

Variable tanh(const Variable& x) {
  return elementwise_from_y(
      "tanh", x, [](real v) { return std::tanh(v); }, [](real g, real y) { return g * (1 - y) * (1 + y); });
}

namespace {

// x weight, and 0 where the weight has vanished, even if x is infinite by then.
real fading(real x, real weight) { return weight == 0 ? 0 : x * weight; }

real hard_sigmoid(real x) { return std::min(std::max((x + 3) / 6, real(0)), real(1)); }

// The standard normal distribution and density. 1 + erf(x / sqrt 2) would cancel
// for negative x; erfc(-x / sqrt 2) is the same number without the subtraction.
real normal_below(real x) { return std::erfc(-x / std::numbers::sqrt2_v<real>) / 2; }
real normal_density(real x) {
  return std::exp(-x * x / 2) * (std::numbers::inv_sqrtpi_v<real> / std::numbers::sqrt2_v<real>);
}

}  // namespace

Variable hard_swish(const Variable& x) {
  return elementwise_from_x(
      "hard_swish", x, [](real v) { return fading(v, hard_sigmoid(v)); },
      [](real g, real v) { return g * (v > -3 && v <= 3 ? (2 * v + 3) / 6 : hard_sigmoid(v)); });
}

Variable gelu(const Variable& x) {
  return elementwise_from_x(
      "gelu", x, [](real v) { return fading(v, normal_below(v)); },
      [](real g, real v) { return g * (normal_below(v) + fading(v, normal_density(v))); });
}

namespace {

struct Rows {
  int64_t rows;
  int64_t cols;
};

Rows rows_of(const char* op, const Variable& x) {
  require_defined(op, x);
  require(x.shape().rank() >= 1, op, "input has shape ", x.shape(), ", which has no last axis");
  return {x.shape().elements() / x.shape()[-1], x.shape()[-1]};
}

}  // namespace

Variable softmax(const Variable& x) {
  const auto [rows, cols] = rows_of("softmax", x);
  Tensor y = Tensor::empty(x.shape());
  parallel_rows(rows, cols, [in = x.value().data(), out = y.mutable_data(), cols = cols](int64_t r) {
    real* row = out + r * cols;
    const real sum = exp_row(in + r * cols, cols, row).sum;
    for (int64_t c = 0; c < cols; ++c) {
      row[c] /= sum;
    }
  });
  return make_op("softmax", y, {x}, [y, rows = rows, cols = cols](const Tensor& g) -> Gradients {
    Tensor gx = Tensor::empty(y.shape());
    parallel_rows(rows, cols, [in_g = g.data(), in_y = y.data(), out = gx.mutable_data(), cols](int64_t r) {
      const real* row_g = in_g + r * cols;
      const real* row_y = in_y + r * cols;
      real* row = out + r * cols;
      for (int64_t c = 0; c < cols; ++c) {
        row[c] = row_g[c] * row_y[c];
      }
      const real dot = pairwise_sum(row, cols);
      for (int64_t c = 0; c < cols; ++c) {
        row[c] = row_y[c] * (row_g[c] - dot);
      }
    });
    return {gx};
  });
}

Variable log_softmax(const Variable& x) {
  const auto [rows, cols] = rows_of("log_softmax", x);
  Tensor y = Tensor::empty(x.shape());
  parallel_rows(rows, cols, [in = x.value().data(), out = y.mutable_data(), cols = cols](int64_t r) {
    const real* row_x = in + r * cols;
    real* row = out + r * cols;
    const auto [largest, sum] = exp_row(row_x, cols, row);
    const real log_sum = std::log(sum);
    for (int64_t c = 0; c < cols; ++c) {
      row[c] = (row_x[c] - largest) - log_sum;  // in this order: x and its maximum may dwarf log_sum
    }
  });
  return make_op("log_softmax", y, {x}, [y, rows = rows, cols = cols](const Tensor& g) -> Gradients {
    Tensor gx = Tensor::empty(y.shape());
    parallel_rows(rows, cols, [in_g = g.data(), in_y = y.data(), out = gx.mutable_data(), cols](int64_t r) {
      const real total = pairwise_sum(in_g + r * cols, cols);
      for (int64_t c = r * cols; c < (r + 1) * cols; ++c) {
        out[c] = in_g[c] - std::exp(in_y[c]) * total;
      }
    });
    return {gx};
  });
}

Variable activate(const Variable& x, Act act) {
  require_defined("activate", x);
  switch (act) {
    case Act::kNone:
      return x;
    case Act::kRelu:
      return relu(x);
    case Act::kRelu6:
      return relu6(x);
  }
  fail("activate", "there is no activation number ", static_cast<int>(act), " (input ", x.shape(), ")");
}

}  // namespace whittle::inline WHITTLE_PRECISION
