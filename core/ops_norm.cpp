// Batch normalisation, with the activation behind it done in the same pass.
//
// x is seen as rows of C channels. Every loop runs over memory in order with the
// channels innermost; a channel at a time would stride through memory and be
// several times slower.
//
// Kept for backward: x, and four numbers per channel. The normalised value and
// which elements the activation let through are computed again from them, in the
// very expressions of the forward pass, so neither y nor a mask is kept.

#include <cmath>
#include <limits>

#include "core/error.h"
#include "core/loops.h"
#include "core/ops.h"
#include "core/pool.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

// All activations allowed here are clamps: y = min(max(t, low), high).
struct Clamp {
  real low = -std::numeric_limits<real>::infinity();
  real high = std::numeric_limits<real>::infinity();

  explicit Clamp(Act act) {
    low = act == Act::kNone ? low : real(0);
    high = act == Act::kRelu6 ? real(6) : high;
  }
  real operator()(real t) const {  // a NaN stays one
    const real raised = t <= low ? low : t;
    return raised >= high ? high : raised;
  }
  real gradient(real g, real t) const { return ((t <= low) | (t >= high)) ? real(0) : g; }
};

// A matrix [rows, channels] in tiles of rows: a few thousand numbers, which stay in cache for a second look.
struct Rows {
  int64_t rows, channels, per_tile;

  explicit Rows(const Shape& shape)
      : rows(shape.elements() / shape[-1]),
        channels(shape[-1]),
        per_tile(std::clamp<int64_t>(kElementGrain / channels, 64, 1024)) {}
  int64_t tiles() const { return (rows + per_tile - 1) / per_tile; }

  // body(first, tile) for each row: where its numbers start, and the tile it belongs to.
  template <class Body>
  void for_each(Body body) const {
    parallel_ranges(rows, per_tile, [=, *this](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        body(row * channels, begin / per_tile);
      }
    });
  }
};

struct Statistics {
  Tensor mean;
  Tensor variance;
};

// Each tile finds its mean and the squares about it, while it is in cache: E[x^2] - E[x]^2 would lose all digits when
// the mean is large. The tiles are then joined in double, one after another:
//   mean = sum n_t m_t / n        variance = sum (S_t + n_t (m_t - mean)^2) / n
Statistics batch_statistics(const real* x, const Rows& r) {
  Tensor means = Tensor::zeros({r.tiles(), r.channels});
  Tensor squares = Tensor::zeros({r.tiles(), r.channels});
  Tensor rests = Tensor::zeros({r.tiles(), r.channels});
  real* all_means = means.mutable_data();
  real* all_squares = squares.mutable_data();
  real* all_rests = rests.mutable_data();
  parallel_ranges(r.rows, r.per_tile, [=](int64_t begin, int64_t end) {
    const int64_t first = begin / r.per_tile * r.channels;
    real* __restrict mean = all_means + first;
    real* __restrict square = all_squares + first;
    real* __restrict rest = all_rests + first;
    const auto count = static_cast<real>(end - begin);
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t c = 0; c < r.channels; ++c) {
        mean[c] += x[row * r.channels + c];
      }
    }
    for (int64_t c = 0; c < r.channels; ++c) {
      mean[c] /= count;
    }
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t c = 0; c < r.channels; ++c) {
        const real d = x[row * r.channels + c] - mean[c];
        rest[c] += d;
        square[c] += d * d;
      }
    }
    // The rounded mean is a little off; what its differences add up to says by how much.
    for (int64_t c = 0; c < r.channels; ++c) {
      square[c] -= rest[c] * (rest[c] / count);
      rest[c] /= count;
    }
  });

  Tensor mean = Tensor::empty({r.channels});
  Tensor variance = Tensor::empty({r.channels});
  std::vector<double, PoolAllocator<double>> joined(static_cast<size_t>(2 * r.channels));
  double* joined_mean = joined.data();
  double* joined_square = joined.data() + r.channels;
  const auto join = [&](auto add) {
    for (int64_t tile = 0; tile < r.tiles(); ++tile) {
      const auto count = static_cast<double>(std::min(r.per_tile, r.rows - tile * r.per_tile));
      for (int64_t c = 0; c < r.channels; ++c) {
        const int64_t k = tile * r.channels + c;
        add(c, count, static_cast<double>(all_means[k]) + static_cast<double>(all_rests[k]), all_squares[k]);
      }
    }
  };
  const auto n = static_cast<double>(r.rows);
  join([=](int64_t c, double count, double m, real) { joined_mean[c] += count / n * m; });
  join([=](int64_t c, double count, double m, real square) {
    const double d = m - joined_mean[c];
    joined_square[c] += static_cast<double>(square) + count * d * d;
  });
  for (int64_t c = 0; c < r.channels; ++c) {
    mean.mutable_data()[c] = static_cast<real>(joined_mean[c]);
    variance.mutable_data()[c] = static_cast<real>(std::max(joined_square[c] / n, 0.0));
  }
  return {mean, variance};
}

// What forward and backward read, per channel: t = gamma h + beta with h = (x - mean) inverse.
struct Channels {
  Tensor mean, inverse, gamma, beta;  // inverse = 1 / sqrt(variance + epsilon)

  struct Pointers {
    const real *mean, *inverse, *gamma, *beta;
    real h(real x, int64_t c) const { return (x - mean[c]) * inverse[c]; }
    real t(real h, int64_t c) const { return gamma[c] * h + beta[c]; }
  };
  Pointers pointers() const { return {mean.data(), inverse.data(), gamma.data(), beta.data()}; }
};

// The three loops over the channels of a row. Functions for the sake of __restrict: without it there are more pairs of
// arrays that might overlap than a compiler is willing to check, and the loops stay scalar.

void normalise_row(const real* x, const Channels::Pointers& p, const Clamp& clamp, int64_t channels,
                   real* __restrict y) {
  for (int64_t c = 0; c < channels; ++c) {
    y[c] = clamp(p.t(p.h(x[c], c), c));
  }
}

// Adds up g, taken through the activation, and g h.
void add_row(const real* x, const real* g, const Channels::Pointers& p, const Clamp& clamp, int64_t channels,
             real* __restrict sum_g, real* __restrict sum_gh) {
  for (int64_t c = 0; c < channels; ++c) {
    const real h = p.h(x[c], c);
    const real passed = clamp.gradient(g[c], p.t(h, c));
    sum_g[c] += passed;
    sum_gh[c] += passed * h;
  }
}

// gx = gamma inverse (g - mean_g - h mean_gh)
void gradient_row(const real* x, const real* g, const Channels::Pointers& p, const Clamp& clamp, int64_t channels,
                  const real* mean_g, const real* mean_gh, real* __restrict gx) {
  for (int64_t c = 0; c < channels; ++c) {
    const real h = p.h(x[c], c);
    const real passed = clamp.gradient(g[c], p.t(h, c));
    gx[c] = p.gamma[c] * p.inverse[c] * (passed - mean_g[c] - h * mean_gh[c]);
  }
}

// [2, C]: what add_row() adds up, over all rows.
Tensor gradient_sums(const Tensor& x, const Tensor& g, const Channels& channels, const Clamp& clamp) {
  const Rows r(x.shape());
  const auto p = channels.pointers();
  const real* in = x.data();
  const real* in_g = g.data();
  Tensor partial = Tensor::zeros({r.tiles(), 2, r.channels});
  real* sums = partial.mutable_data();
  r.for_each([=](int64_t first, int64_t tile) {
    real* sum = sums + tile * 2 * r.channels;
    add_row(in + first, in_g + first, p, clamp, r.channels, sum, sum + r.channels);
  });
  tree_add(sums, r.tiles(), 2 * r.channels);
  return Tensor::from({2, r.channels}, partial.values().first(static_cast<size_t>(2 * r.channels)));
}

void check_arguments(const char* op, const Variable& x, const Variable& gamma, const Variable& beta, real epsilon) {
  require_defined(op, x);
  require_defined(op, gamma);
  require_defined(op, beta);
  require(x.shape().rank() >= 2, op, "input has shape ", x.shape(), ", expected [..., C] of rank 2 or more");
  const Shape expected{x.shape()[-1]};
  require(gamma.shape() == expected && beta.shape() == expected, op, "gamma ", gamma.shape(), " and beta ",
          beta.shape(), " are not both ", expected, " (input ", x.shape(), ")");
  require(epsilon > 0 && std::isfinite(epsilon), op, "epsilon ", epsilon, " is not positive (input ", x.shape(), ")");
}

// The op itself. In training mean and variance depend on x, and two more terms flow back through them.
Variable batch_norm(const char* op, const Variable& x, const Variable& gamma, const Variable& beta,
                    const Statistics& statistics, real epsilon, Act act, bool training) {
  const Channels channels{.mean = statistics.mean,
                          .inverse = map(statistics.variance, [=](real v) { return 1 / std::sqrt(v + epsilon); }),
                          .gamma = gamma.value(),
                          .beta = beta.value()};
  const Clamp clamp(act);
  const Rows rows(x.shape());
  Tensor y = Tensor::empty(x.shape());
  rows.for_each([=, in = x.value().data(), p = channels.pointers(), out = y.mutable_data()](int64_t first, int64_t) {
    normalise_row(in + first, p, clamp, rows.channels, out + first);
  });
  return make_op(
      op, std::move(y), {x, gamma, beta},
      [x = x.value(), channels, clamp, rows, training, want_x = x.requires_grad(), want_gamma = gamma.requires_grad(),
       want_beta = beta.requires_grad()](const Tensor& g) -> Gradients {
        Gradients grads(3);
        Tensor means = Tensor::zeros({2, rows.channels});  // of g and g h, and 0 where the statistics are constants
        if (training || want_gamma || want_beta) {
          const Tensor sums = gradient_sums(x, g, channels, clamp);
          const auto width = static_cast<size_t>(rows.channels);
          grads[1] = want_gamma ? Tensor::from({rows.channels}, sums.values().last(width)) : Tensor();
          grads[2] = want_beta ? Tensor::from({rows.channels}, sums.values().first(width)) : Tensor();
          if (training) {
            means = map(sums, [n = static_cast<real>(rows.rows)](real sum) { return sum / n; });
          }
        }
        if (want_x) {
          grads[0] = Tensor::empty(x.shape());
          rows.for_each([=, in = x.data(), in_g = g.data(), p = channels.pointers(), m = means.data(),
                         gx = grads[0].mutable_data()](int64_t first, int64_t) {
            gradient_row(in + first, in_g + first, p, clamp, rows.channels, m, m + rows.channels, gx + first);
          });
        }
        return grads;
      });
}

}  // namespace

BatchNormResult batch_norm_train(const Variable& x, const Variable& gamma, const Variable& beta, real epsilon,
                                 Act act) {
  check_arguments("batch_norm_train", x, gamma, beta, epsilon);
  const Rows rows(x.shape());
  require(rows.rows >= 2, "batch_norm_train", "input ", x.shape(),
          " has one element per channel; a variance needs at least two");
  const Statistics batch = batch_statistics(x.value().data(), rows);
  return {.y = batch_norm("batch_norm_train", x, gamma, beta, batch, epsilon, act, true),
          .mean = batch.mean,
          .variance = batch.variance};
}

Variable batch_norm_eval(const Variable& x, const Variable& gamma, const Variable& beta, const Tensor& mean,
                         const Tensor& variance, real epsilon, Act act) {
  check_arguments("batch_norm_eval", x, gamma, beta, epsilon);
  require(mean.defined() && variance.defined() && mean.shape() == gamma.shape() && variance.shape() == gamma.shape(),
          "batch_norm_eval", "mean ", mean.shape(), " and variance ", variance.shape(), " are not both ", gamma.shape(),
          " (input ", x.shape(), ")");
  for (const real v : variance.values()) {
    require(v >= 0, "batch_norm_eval", "a variance of ", v, " is not a variance (input ", x.shape(), ")");
  }
  return batch_norm("batch_norm_eval", x, gamma, beta, {mean, variance}, epsilon, act, false);
}

}  // namespace whittle::inline WHITTLE_PRECISION
