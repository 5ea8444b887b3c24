// Losses: cross-entropy on logits, and three on differences. All return the mean.
//
// The gradient of a loss by its input costs little once the loss is known, so
// cross_entropy computes it on the way and keeps it instead of the probabilities.

#include <cmath>

#include "core/elementwise.h"
#include "core/error.h"
#include "core/loops.h"
#include "core/ops.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

void check_logits(const Variable& logits) {
  require_defined("cross_entropy", logits);
  require(logits.shape().rank() == 2, "cross_entropy", "logits have shape ", logits.shape(), ", expected [N,C]");
}

// sum_n sum_c -target(n, c) ln p[n,c] / divisor, with p = softmax of the rows.
// By logit z: (p sum_c target(n, c) - target(n, c)) / divisor.
template <class Target>
Variable cross_entropy_with(const Variable& logits, Target target, real divisor) {
  const int64_t samples = logits.shape()[0];
  const int64_t classes = logits.shape()[1];
  Tensor losses = Tensor::empty({samples});
  Tensor by_logit = Tensor::empty(logits.shape());
  const auto one_sample = [&, z = logits.value().data(), loss = losses.mutable_data(),
                           grad = by_logit.mutable_data()](int64_t n) {
    const real* row_z = z + n * classes;
    real* row = grad + n * classes;
    const auto [largest, sum] = exp_row(row_z, classes, row);  // row holds sum * p
    const real log_sum = std::log(sum);
    double total = 0;  // two sums over the classes, in double since they are plain ones
    double mass = 0;
    for (int64_t c = 0; c < classes; ++c) {
      const real t = target(n, c);
      if (t != 0) {  // a class that is ruled out (logit -inf) costs nothing unless it is asked for
        total -= static_cast<double>(t) * static_cast<double>((row_z[c] - largest) - log_sum);
        mass += static_cast<double>(t);
      }
    }
    loss[n] = static_cast<real>(total);
    for (int64_t c = 0; c < classes; ++c) {
      row[c] = (row[c] / sum * static_cast<real>(mass) - target(n, c)) / divisor;
    }
  };
  parallel_rows(samples, classes, one_sample);
  return make_op(
      "cross_entropy", Tensor::scalar(tree_sum(losses.data(), samples) / divisor), {logits},
      [by_logit](const Tensor& g) -> Gradients { return {map(by_logit, [g = g.item()](real d) { return g * d; })}; });
}

}  // namespace

Variable cross_entropy(const Variable& logits, std::span<const int32_t> labels, const CrossEntropyOptions& options) {
  check_logits(logits);
  const int64_t classes = logits.shape()[1];
  const std::span<const real> weights = options.class_weights;
  const real smoothing = options.label_smoothing;
  require(static_cast<int64_t>(labels.size()) == logits.shape()[0], "cross_entropy", labels.size(),
          " labels for logits ", logits.shape());
  require(smoothing >= 0 && smoothing < 1, "cross_entropy", "label smoothing ", smoothing,
          " is outside [0, 1) (logits ", logits.shape(), ")");
  require(weights.empty() || static_cast<int64_t>(weights.size()) == classes, "cross_entropy", weights.size(),
          " class weights for logits ", logits.shape());
  for (size_t c = 0; c < weights.size(); ++c) {
    require(std::isfinite(weights[c]) && weights[c] >= 0, "cross_entropy", "class weight ", c, " is ", weights[c],
            ", expected a finite number >= 0 (logits ", logits.shape(), ")");
  }
  const auto weight = [weights](int64_t c) { return weights.empty() ? real(1) : weights[static_cast<size_t>(c)]; };

  double divisor = 0;
  for (size_t n = 0; n < labels.size(); ++n) {
    require(labels[n] >= 0 && labels[n] < classes, "cross_entropy", "label ", labels[n], " of sample ", n,
            " is outside [0, ", classes, ") (logits ", logits.shape(), ")");
    divisor += static_cast<double>(weight(labels[n]));
  }
  require(divisor > 0, "cross_entropy", "the class weights of all ", labels.size(), " labels are 0 (logits ",
          logits.shape(), ")");

  const real everywhere = smoothing / static_cast<real>(classes);
  const auto target = [&](int64_t n, int64_t c) {
    const bool hit = c == labels[static_cast<size_t>(n)];
    return weight(c) * ((hit ? 1 - smoothing : 0) + everywhere);
  };
  return cross_entropy_with(logits, target, static_cast<real>(divisor));
}

Variable cross_entropy(const Variable& logits, const Tensor& targets) {
  check_logits(logits);
  require(targets.defined(), "cross_entropy", "the targets are undefined (logits ", logits.shape(), ")");
  require(targets.shape() == logits.shape(), "cross_entropy", "targets have shape ", targets.shape(), ", logits have ",
          logits.shape());
  const int64_t samples = logits.shape()[0];
  const int64_t classes = logits.shape()[1];
  for (int64_t n = 0; n < samples; ++n) {
    for (const real t : targets.values().subspan(static_cast<size_t>(n * classes), static_cast<size_t>(classes))) {
      require(std::isfinite(t) && t >= 0, "cross_entropy", "target ", t, " of sample ", n,
              " is not a finite number >= 0 (targets ", targets.shape(), ")");
    }
  }
  return cross_entropy_with(
      logits, [t = targets.data(), classes](int64_t n, int64_t c) { return t[n * classes + c]; },
      static_cast<real>(samples));
}

Variable distillation_loss(const Variable& student, const Tensor& teacher, real temperature) {
  check_logits(student);
  require(student.shape() == teacher.shape(), "distillation_loss", "the student's logits have shape ", student.shape(),
          ", the teacher's ", teacher.shape());
  require(std::isfinite(temperature) && temperature > 0, "distillation_loss", "the temperature ", temperature,
          " is not a finite number > 0");
  const Tensor p = [&] {
    const NoGrad no_grad;
    return softmax((1 / temperature) * Variable(teacher)).value();
  }();
  // KL is the cross-entropy less the teacher's own entropy, in which the student has no part.
  double entropy = 0;
  for (const real share : p.values()) {
    entropy -= share > 0 ? static_cast<double>(share) * std::log(static_cast<double>(share)) : 0;
  }
  entropy /= static_cast<double>(teacher.dim(0));
  const Variable cross = cross_entropy((1 / temperature) * student, p);
  const double square = static_cast<double>(temperature) * static_cast<double>(temperature);
  return affine(cross, static_cast<real>(square), static_cast<real>(-square * entropy));
}

namespace {

// mean of f(d) with d = prediction - target; by d: g df(d) / count.
template <class F, class D>
Variable mean_over_differences(const char* op, const Variable& prediction, const Variable& target, F f, D df) {
  require_defined(op, prediction);
  require_defined(op, target);
  require(prediction.shape() == target.shape(), op, "prediction has shape ", prediction.shape(), ", target has ",
          target.shape());
  const Tensor d = map(prediction.value(), target.value(), [](real p, real t) { return p - t; });
  const real count = static_cast<real>(d.elements());
  const Tensor terms = map(d, f);
  return make_op(op, Tensor::scalar(tree_sum(terms.data(), terms.elements()) / count), {prediction, target},
                 [d, df, count, want_p = prediction.requires_grad(),
                  want_t = target.requires_grad()](const Tensor& g) -> Gradients {
                   const auto by_d = [&](real sign) {
                     return map(d, [df, scale = sign * g.item() / count](real v) { return scale * df(v); });
                   };
                   return {want_p ? by_d(1) : Tensor(), want_t ? by_d(-1) : Tensor()};
                 });
}

}  // namespace

Variable mse_loss(const Variable& prediction, const Variable& target) {
  return mean_over_differences(
      "mse_loss", prediction, target, [](real d) { return d * d; }, [](real d) { return 2 * d; });
}

Variable l1_loss(const Variable& prediction, const Variable& target) {
  return mean_over_differences(
      "l1_loss", prediction, target, [](real d) { return std::abs(d); }, [](real d) { return sign(d); });
}

Variable huber_loss(const Variable& prediction, const Variable& target, real delta) {
  require(std::isfinite(delta) && delta > 0, "huber_loss", "delta ", delta, " is not a finite number > 0 (prediction ",
          prediction.shape(), ", target ", target.shape(), ")");
  return mean_over_differences(
      "huber_loss", prediction, target,
      [delta](real d) {
        const real size = std::abs(d);
        return size <= delta ? d * d / 2 : delta * (size - delta / 2);
      },
      [delta](real d) { return std::abs(d) <= delta ? d : delta * sign(d); });
}

}  // namespace whittle::inline WHITTLE_PRECISION
