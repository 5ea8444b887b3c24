// Matrix products: matmul and the fully connected layer.

#include "core/blas.h"
#include "core/error.h"
#include "core/loops.h"
#include "core/ops.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

// A tensor as a matrix whose columns are the last axis.
MatrixIn as_matrix(const Tensor& t) { return {t.data(), t.elements() / t.dim(-1), t.dim(-1)}; }

// a b as a new tensor of `shape`.
Tensor product(const MatrixIn& a, const MatrixIn& b, const Shape& shape) {
  Tensor c = Tensor::empty(shape);
  multiply(a, b, MatrixOut(c.mutable_data(), a.rows, b.cols));
  return c;
}

}  // namespace

Variable matmul(const Variable& a, const Variable& b) {
  require_defined("matmul", a);
  require_defined("matmul", b);
  require(a.shape().rank() == 2 && b.shape().rank() == 2 && a.shape()[1] == b.shape()[0], "matmul", "shapes ",
          a.shape(), " and ", b.shape(), " do not multiply; expected [M,K] and [K,N]");
  Tensor y = product(as_matrix(a.value()), as_matrix(b.value()), {a.shape()[0], b.shape()[1]});
  // Each side's gradient needs the other side's value.
  return make_op("matmul", std::move(y), {a, b},
                 [a = b.requires_grad() ? a.value() : Tensor(),
                  b = a.requires_grad() ? b.value() : Tensor()](const Tensor& g) -> Gradients {
                   const int64_t k = b.defined() ? b.dim(0) : a.dim(1);
                   return {b.defined() ? product(as_matrix(g), as_matrix(b).t(), {g.dim(0), k}) : Tensor(),
                           a.defined() ? product(as_matrix(a).t(), as_matrix(g), {k, g.dim(1)}) : Tensor()};
                 });
}

Variable linear(const Variable& x, const Variable& weight, const Variable& bias) {
  require_defined("linear", x);
  require_defined("linear", weight);
  require(weight.shape().rank() == 2, "linear", "weight has shape ", weight.shape(), ", expected [O,I]");
  require(x.shape().rank() >= 1 && x.shape()[-1] == weight.shape()[1], "linear", "input ", x.shape(),
          " does not end in the ", weight.shape()[1], " inputs of weight ", weight.shape());
  const int64_t outputs = weight.shape()[0];
  require(!bias.defined() || bias.shape() == Shape{outputs}, "linear", "bias has shape ", bias.shape(), ", weight ",
          weight.shape(), " expects [", outputs, "]");

  Tensor y = Tensor::empty(x.shape().with(-1, outputs));
  const int64_t rows = y.elements() / outputs;
  multiply(as_matrix(x.value()), as_matrix(weight.value()).t(), MatrixOut(y.mutable_data(), rows, outputs),
           Store::kOverwrite, bias.defined() ? bias.value().data() : nullptr);

  return make_op("linear", std::move(y), {x, weight, bias},
                 [x = weight.requires_grad() ? x.value() : Tensor(),
                  weight = x.requires_grad() ? weight.value() : Tensor(), x_shape = x.shape(),
                  weight_shape = weight.shape(), want_bias = bias.requires_grad()](const Tensor& g) -> Gradients {
                   Gradients grads(3);
                   if (weight.defined()) {
                     grads[0] = product(as_matrix(g), as_matrix(weight), x_shape);
                   }
                   if (x.defined()) {
                     grads[1] = product(as_matrix(g).t(), as_matrix(x), weight_shape);
                   }
                   if (want_bias) {
                     grads[2] = Tensor::empty({g.dim(-1)});
                     column_sums(g.data(), g.elements() / g.dim(-1), g.dim(-1), grads[2].mutable_data());
                   }
                   return grads;
                 });
}

}  // namespace whittle::inline WHITTLE_PRECISION
