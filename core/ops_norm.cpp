// Batch normalisation, with the addition and the activation behind it done in the same
// pass. What happens to a tile of rows is a kernel (kernels/train/norm.h).
//
// Kept for backward: x, and four numbers per channel. The normalised value and
// which elements the activation let through are computed again from them, in the
// very expressions of the forward pass, so neither y nor a mask is kept. Behind an
// addition y tells what was let through, and is kept.

#include <cmath>

#include "core/elementwise.h"
#include "core/error.h"
#include "core/ops.h"
#include "core/pool.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

// A matrix [rows, channels] in tiles of rows: a few thousand numbers each.
struct Rows {
  int64_t rows, channels, per_tile;

  explicit Rows(const Shape& shape)
      : rows(shape.elements() / shape[-1]),
        channels(shape[-1]),
        per_tile(std::max<int64_t>(kElementGrain / channels, 64)) {}
  int64_t tiles() const { return (rows + per_tile - 1) / per_tile; }
  int64_t count(int64_t tile) const { return std::min(per_tile, rows - tile * per_tile); }

  // body(first, count, tile) for each tile: where its numbers start and how many rows it has.
  template <class Body>
  void for_each_tile(Body body) const {
    parallel_for(tiles(), [=, *this](int64_t tile) { body(tile * per_tile * channels, count(tile), tile); });
  }
};

struct Statistics {
  Tensor mean;
  Tensor variance;
};

// Each tile sums x - p and its square, p being a number near the mean: E[x^2] - E[x]^2 would lose all digits when the
// mean is large. The tiles, of means m_t and squares S_t about them, are then joined in double, seen from a common a:
//   A = sum n_t (m_t - a)    B = sum S_t + n_t (m_t - a)^2    mean = a + A / n    variance = (B - A^2 / n) / n
Statistics batch_statistics(const real* x, const Rows& r) {
  Tensor partial = Tensor::empty({r.tiles(), 3, r.channels});
  real* const sums = partial.mutable_data();
  r.for_each_tile([=](int64_t first, int64_t count, int64_t tile) {
    real* const pivot = sums + tile * 3 * r.channels;
    train_kernels().norm.statistics(x + first, count, r.channels, pivot, pivot + r.channels, pivot + 2 * r.channels);
  });

  std::vector<double, PoolAllocator<double>> joined(static_cast<size_t>(2 * r.channels));
  double* const a_sum = joined.data();
  double* const b_sum = a_sum + r.channels;
  for (int64_t tile = 0; tile < r.tiles(); ++tile) {
    const auto count = static_cast<double>(r.count(tile));
    const real* const pivot = sums + tile * 3 * r.channels;
    for (int64_t c = 0; c < r.channels; ++c) {
      const auto sum = static_cast<double>(pivot[r.channels + c]);
      const auto square = static_cast<double>(pivot[2 * r.channels + c]);
      const double apart = static_cast<double>(pivot[c]) - static_cast<double>(sums[c]);  // seen from the first pivot
      a_sum[c] += count * apart + sum;
      b_sum[c] += square + apart * (count * apart + 2 * sum);
    }
  }
  Statistics result{Tensor::empty({r.channels}), Tensor::empty({r.channels})};
  const auto n = static_cast<double>(r.rows);
  for (int64_t c = 0; c < r.channels; ++c) {
    const double offset = a_sum[c] / n;
    result.mean.mutable_data()[c] = static_cast<real>(static_cast<double>(sums[c]) + offset);
    result.variance.mutable_data()[c] = static_cast<real>(std::max(b_sum[c] / n - offset * offset, 0.0));
  }
  return result;
}

// What forward and backward read, per channel: t = (x - mean) scale + beta.
struct Channels {
  Tensor mean, inverse, scale, beta;  // inverse = 1 / sqrt(variance + epsilon), scale = gamma inverse

  kernels::Norm<real> norm(Act act) const {
    return {mean.dim(0), mean.data(), scale.data(), beta.data(), clamp_of(act)};
  }
};

void check_arguments(const char* op, const Variable& x, const Variable& gamma, const Variable& beta, real epsilon,
                     const Variable& residual) {
  require_defined(op, x);
  require_defined(op, gamma);
  require_defined(op, beta);
  require(x.shape().rank() >= 2, op, "input has shape ", x.shape(), ", expected [..., C] of rank 2 or more");
  const Shape expected{x.shape()[-1]};
  require(gamma.shape() == expected && beta.shape() == expected, op, "gamma ", gamma.shape(), " and beta ",
          beta.shape(), " are not both ", expected, " (input ", x.shape(), ")");
  require(!residual.defined() || residual.shape() == x.shape(), op, "residual has shape ", residual.shape(),
          ", input has ", x.shape());
  require(epsilon > 0 && std::isfinite(epsilon), op, "epsilon ", epsilon, " is not positive (input ", x.shape(), ")");
}

// The op itself. In training mean and variance depend on x, and two more terms flow back through them.
Variable batch_norm(const char* op, const Variable& x, const Variable& gamma, const Variable& beta,
                    const Statistics& statistics, real epsilon, Act act, const Variable& residual, bool training,
                    const Tensor& input_scale = {}) {
  // (x / s - m / s) / sqrt(v / s^2 + epsilon) = (x - m) / (sign(s) sqrt(v + epsilon s^2))
  const Tensor inverse = input_scale.defined()
                             ? map(statistics.variance, input_scale,
                                   [=](real v, real s) { return std::copysign(1 / std::sqrt(v + epsilon * s * s), s); })
                             : map(statistics.variance, [=](real v) { return 1 / std::sqrt(v + epsilon); });
  const Channels channels{.mean = statistics.mean,
                          .inverse = inverse,
                          .scale = map(gamma.value(), inverse, [](real a, real b) { return a * b; }),
                          .beta = beta.value()};
  const Rows rows(x.shape());
  Tensor y = Tensor::empty(x.shape());
  rows.for_each_tile([=, in = x.value().data(), added = residual.value().data(), norm = channels.norm(act),
                      out = y.mutable_data()](int64_t first, int64_t count, int64_t) {
    train_kernels().norm.normalise(norm, in + first, added == nullptr ? nullptr : added + first, count, out + first);
  });
  return make_op(
      op, y, {x, gamma, beta, residual},
      [x = x.value(), y = residual.defined() ? y : Tensor(), channels, act, rows, training, want_x = x.requires_grad(),
       want_gamma = gamma.requires_grad(), want_beta = beta.requires_grad(),
       want_residual = residual.requires_grad()](const Tensor& g) -> Gradients {
        Gradients grads(4);
        const int64_t c = rows.channels;
        Tensor passed = g;                     // through the activation, where that is known from y
        Act still = act;                       // what it has yet to go through
        Tensor means = Tensor::zeros({2, c});  // of g, and the slope along x; 0 where the statistics are constants
        if (training || want_gamma || want_beta || y.defined()) {
          Tensor partial = Tensor::empty({rows.tiles(), 2, c});
          real* const sums = partial.mutable_data();
          real* gone_through = nullptr;
          if (y.defined()) {
            passed = Tensor::empty(x.shape());
            gone_through = passed.mutable_data();
            still = Act::kNone;
          }
          rows.for_each_tile([&, norm = channels.norm(act)](int64_t first, int64_t count, int64_t tile) {
            const auto at = [first](auto* p) { return p == nullptr ? p : p + first; };
            real* const sum = sums + tile * 2 * c;
            train_kernels().norm.gradient_sums(norm, at(x.data()), at(g.data()), at(y.data()), count, at(gone_through),
                                               sum, sum + c);
          });
          tree_add(sums, rows.tiles(), 2 * c);
          Tensor by_gamma = Tensor::empty({c});
          for (int64_t k = 0; k < c; ++k) {
            const real inv = channels.inverse.data()[k];
            const auto n = static_cast<real>(rows.rows);
            by_gamma.mutable_data()[k] = inv * sums[c + k];
            if (training) {
              means.mutable_data()[k] = sums[k] / n;
              means.mutable_data()[c + k] = inv * by_gamma.data()[k] / n;
            }
          }
          grads[1] = want_gamma ? by_gamma : Tensor();
          grads[2] = want_beta ? Tensor::from({c}, partial.values().first(static_cast<size_t>(c))) : Tensor();
          grads[3] = want_residual ? passed : Tensor();
        }
        if (want_x) {
          grads[0] = Tensor::empty(x.shape());
          rows.for_each_tile([=, in = x.data(), in_g = passed.data(), norm = channels.norm(still), m = means.data(),
                              gx = grads[0].mutable_data()](int64_t first, int64_t count, int64_t) {
            train_kernels().norm.input_gradient(norm, in + first, in_g + first, m, m + c, count, gx + first);
          });
        }
        return grads;
      });
}

}  // namespace

BatchNormResult batch_norm_train(const Variable& x, const Variable& gamma, const Variable& beta, real epsilon, Act act,
                                 const Variable& residual) {
  check_arguments("batch_norm_train", x, gamma, beta, epsilon, residual);
  const Rows rows(x.shape());
  require(rows.rows >= 2, "batch_norm_train", "input ", x.shape(),
          " has one element per channel; a variance needs at least two");
  const Statistics batch = batch_statistics(x.value().data(), rows);
  return {.y = batch_norm("batch_norm_train", x, gamma, beta, batch, epsilon, act, residual, true),
          .mean = batch.mean,
          .variance = batch.variance};
}

BatchNormResult batch_norm_train_scaled(const Variable& x, const Tensor& input_scale, const Variable& gamma,
                                        const Variable& beta, real epsilon, Act act) {
  constexpr char kOp[] = "batch_norm_train_scaled";
  check_arguments(kOp, x, gamma, beta, epsilon, {});
  require(input_scale.defined() && input_scale.shape() == gamma.shape(), kOp, "the scale has shape ",
          input_scale.shape(), ", gamma ", gamma.shape());
  require(std::ranges::none_of(input_scale.values(), [](real s) { return s == 0 || !std::isfinite(s); }), kOp,
          "a scale is 0 or not finite (input ", x.shape(), ")");
  const Rows rows(x.shape());
  require(rows.rows >= 2, kOp, "input ", x.shape(), " has one element per channel; a variance needs at least two");
  const Statistics batch = batch_statistics(x.value().data(), rows);
  return {.y = batch_norm(kOp, x, gamma, beta, batch, epsilon, act, {}, true, input_scale),
          .mean = map(batch.mean, input_scale, [](real m, real s) { return m / s; }),
          .variance = map(batch.variance, input_scale, [](real v, real s) { return v / s / s; })};
}

Variable batch_norm_eval(const Variable& x, const Variable& gamma, const Variable& beta, const Tensor& mean,
                         const Tensor& variance, real epsilon, Act act, const Variable& residual) {
  check_arguments("batch_norm_eval", x, gamma, beta, epsilon, residual);
  require(mean.defined() && variance.defined() && mean.shape() == gamma.shape() && variance.shape() == gamma.shape(),
          "batch_norm_eval", "mean ", mean.shape(), " and variance ", variance.shape(), " are not both ", gamma.shape(),
          " (input ", x.shape(), ")");
  for (const real v : variance.values()) {
    require(v >= 0, "batch_norm_eval", "a variance of ", v, " is not a variance (input ", x.shape(), ")");
  }
  return batch_norm("batch_norm_eval", x, gamma, beta, {mean, variance}, epsilon, act, residual, false);
}

}  // namespace whittle::inline WHITTLE_PRECISION
