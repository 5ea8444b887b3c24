// The differentiable operations.
//
// Each declaration gives the formula, the shapes and the gradient. `g` is the
// gradient of the result, gx that of input x. Every op checks its arguments
// first and throws whittle::Error with its name and the shapes; it never changes
// an input. Forward and backward of an op stand together in ops_*.cpp.
//
// Images are NHWC, filters OHWI, matrices row-major. "Row" means the last axis.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string_view>
#include <vector>

#include "core/variable.h"

namespace whittle::inline WHITTLE_PRECISION {

// The activations a convolution, linear, norm or add layer may carry inside, because
// an integer kernel can apply them as a clamp.
enum class Act : uint8_t { kNone, kRelu, kRelu6 };

// ---- Arithmetic (ops_arith.cpp) -------------------------------------------
// Two operands broadcast as in NumPy: shapes are aligned at the last axis and an
// extent of 1 (or a missing axis) repeats. So [N,H,W,C] + [C] adds per channel,
// [M,N] * [M,1] scales rows, and a scalar goes with anything. The gradient of a
// repeated operand is summed over its repetitions.

Variable add(const Variable& a, const Variable& b, Act act = Act::kNone);  // act(a + b)   ga = gb = g through act
Variable sub(const Variable& a, const Variable& b);                        // a - b        ga = g, gb = -g
Variable mul(const Variable& a, const Variable& b);                        // a * b        ga = g b, gb = g a
Variable div(const Variable& a, const Variable& b);                        // a / b        ga = g / b, gb = -g a / b^2

Variable affine(const Variable& x, real scale, real shift);  // scale x + shift   gx = scale g
Variable exp(const Variable& x);                             // e^x               gx = g e^x
Variable log(const Variable& x);                             // ln x              gx = g / x
Variable sqrt(const Variable& x);                            // x^(1/2)           gx = g / (2 sqrt x)
Variable abs(const Variable& x);                             // |x|               gx = g sign(x), 0 at 0
Variable clamp(const Variable& x, real low, real high);      // min(max(x, low), high)   gx = g [low <= x <= high]

inline Variable operator+(const Variable& a, const Variable& b) { return add(a, b); }
inline Variable operator-(const Variable& a, const Variable& b) { return sub(a, b); }
inline Variable operator*(const Variable& a, const Variable& b) { return mul(a, b); }
inline Variable operator/(const Variable& a, const Variable& b) { return div(a, b); }
inline Variable operator-(const Variable& x) { return affine(x, -1, 0); }
inline Variable operator*(real s, const Variable& x) { return affine(x, s, 0); }

// ---- Activations (ops_activation.cpp) ---------------------------------------
// Elementwise; gx = g f'(x). At a kink the derivative is that of the left side,
// but for relu6 at 6, where it is 0: the mask can then be read off the result.

Variable relu(const Variable& x);                                 // max(x, 0)
Variable relu6(const Variable& x);                                // min(max(x, 0), 6)
Variable leaky_relu(const Variable& x, real slope = real(0.01));  // x > 0 ? x : slope x
Variable sigmoid(const Variable& x);                              // 1 / (1 + e^-x)
Variable tanh(const Variable& x);                                 // tanh x
Variable hard_swish(const Variable& x);                           // x relu6(x + 3) / 6
Variable gelu(const Variable& x);                                 // x (1 + erf(x / sqrt 2)) / 2, exact form

// Over the last axis, shifted by the row maximum so that no exp overflows.
Variable softmax(const Variable& x);      // y = e^x / sum e^x       gx = y (g - sum g y)
Variable log_softmax(const Variable& x);  // y = x - ln sum e^x      gx = g - e^y sum g

// What an op applies when it carries an activation inside: x, relu(x) or relu6(x).
Variable activate(const Variable& x, Act act);

// ---- Matrices (ops_matmul.cpp) ----------------------------------------------

Variable matmul(const Variable& a, const Variable& b);  // [M,K] [K,N] -> [M,N]    ga = g b^T, gb = a^T g

// x [..., I], weight [O, I], bias [O] or undefined -> x weight^T + bias [..., O].
// gx = g weight, gweight = g^T x, gbias = sum of g over rows.
Variable linear(const Variable& x, const Variable& weight, const Variable& bias = {});

// ---- Convolution (ops_conv.cpp) ---------------------------------------------

struct Size2 {
  int64_t h = 1;
  int64_t w = 1;
  friend bool operator==(const Size2&, const Size2&) = default;
};

struct Padding {
  int64_t top = 0;
  int64_t left = 0;
  int64_t bottom = 0;
  int64_t right = 0;
  static Padding all(int64_t n) { return {n, n, n, n}; }
  friend bool operator==(const Padding&, const Padding&) = default;
};

struct ConvGeometry {
  Size2 stride{1, 1};
  Padding padding{};
  Size2 dilation{1, 1};
  int64_t groups = 1;  // groups == channels: depthwise
  // Only plain sums of products. Where all are whole numbers below 2^24, the result is exact.
  bool plain = false;
};

// The spatial extent of a convolution's or pool's output:
// floor((in + before + after - (dilation (kernel - 1) + 1)) / stride) + 1.
// Throws where no window fits. Strides, dilations and paddings are at most 2^31.
int64_t window_positions(int64_t in, int64_t before, int64_t after, int64_t kernel, int64_t stride, int64_t dilation);

// x [N,H,W,I], filter [O,KH,KW,I/groups], bias [O] or undefined -> [N,OH,OW,O].
// y[n,i,j,o] = bias[o] + sum_{u,v,c} x[n, i sh + u dh - top, j sw + v dw - left, c] filter[o,u,v,c],
// with zeros outside x; output channel o reads the input channels of its group.
// gx and gfilter are the same sum read in the other two directions; gbias = sum g.
Variable conv2d(const Variable& x, const Variable& filter, const Variable& bias = {},
                const ConvGeometry& geometry = {});

// How 3x3 convolutions of stride 1 are computed, by the whole process. Winograd's forms need 2.25 and 4 times fewer
// multiplications and round a little more (core/winograd.h); kAuto takes whichever does least work for the shapes.
enum class Convolution : uint8_t { kAuto, kDirect, kWinograd2, kWinograd4 };
void set_convolution(Convolution algorithm);           // not during a computation
Convolution convolution_named(std::string_view name);  // "auto", "direct", "winograd2", "winograd4"; else throws

// ---- Pooling (ops_pool.cpp) ---------------------------------------------------

struct PoolGeometry {
  Size2 kernel{2, 2};
  Size2 stride{0, 0};  // 0: as the kernel
  Padding padding{};   // smaller than the kernel on each side
};

// x [N,H,W,C] -> [N,OH,OW,C]. Padding never wins, a NaN always does. The gradient
// goes to the first largest element of a window in row order.
Variable max_pool(const Variable& x, const PoolGeometry& geometry = {});
// Mean over the part of the window that lies inside x; g is spread evenly over it.
Variable avg_pool(const Variable& x, const PoolGeometry& geometry = {});
// x [N,H,W,C] -> [N,C], the mean over H and W.      gx = g / (H W)
Variable global_avg_pool(const Variable& x);

// ---- Normalisation (ops_norm.cpp) ---------------------------------------------

struct BatchNormResult {
  Variable y;
  Tensor mean;      // [C], of this batch
  Tensor variance;  // [C], of this batch, biased (divided by the count)
};

// Training: x [..., C] with at least two elements per channel; gamma, beta [C].
// m, v = mean and biased variance per channel;  h = (x - m) / sqrt(v + eps);
// y = act(gamma h + beta + residual), residual shaped as x or undefined.  With g taken through act: gresidual = g,
// gbeta = sum g, ggamma = sum g h, gx = gamma / sqrt(v + eps) (g - mean(g) - h mean(g h)).
// The op is pure; the caller updates running statistics from mean and variance.
BatchNormResult batch_norm_train(const Variable& x, const Variable& gamma, const Variable& beta,
                                 real epsilon = real(1e-5), Act act = Act::kNone, const Variable& residual = {});

// Evaluation: the same with given mean and variance [C], which are constants;
// no variance may be negative or NaN.
Variable batch_norm_eval(const Variable& x, const Variable& gamma, const Variable& beta, const Tensor& mean,
                         const Tensor& variance, real epsilon = real(1e-5), Act act = Act::kNone,
                         const Variable& residual = {});

// x is taken as `input_scale` [C] times what is to be normalised: batch_norm_train(x / input_scale, ...) without the
// division, and with mean and variance of the quotient. No scale may be 0.
BatchNormResult batch_norm_train_scaled(const Variable& x, const Tensor& input_scale, const Variable& gamma,
                                        const Variable& beta, real epsilon = real(1e-5), Act act = Act::kNone);

// ---- Fake quantization (ops_fake_quant.cpp) ----------------------------------------

// x on grids: y = S (q - Z) with q = clamp(rne(x / S) + Z, qmin, qmax), the functions of kernels/arithmetic.h. Each of
// the grids covers an equal run of consecutive elements (core/grids.h); the result is on them.
// gx = g where qmin - Z <= x / S <= qmax - Z, else 0: straight through, with the clip's mask.
Variable fake_quant(const Variable& x, const GridsPtr& grids);

// The same with learned scales, one element per run; the scales in `grids` are not looked at.
// gscale = scale_factor sum of g d, d = rne(x / S) - x / S inside the clip and its limit outside (Esser et al. 2020).
Variable fake_quant_learned(const Variable& x, const Variable& scale, const GridsPtr& grids, real scale_factor = 1);

// ---- Losses (ops_loss.cpp) ------------------------------------------------------
// All return a scalar, the mean over the batch.

struct CrossEntropyOptions {
  real label_smoothing = 0;               // e in [0, 1)
  std::span<const real> class_weights{};  // empty: all 1; else one per class, >= 0, not all 0 over the batch
};

// logits [N,C], labels: N class numbers. With p = softmax(logits), w the class
// weights and the target t = (1 - e) onehot(label) + e / C:
// loss = sum_n sum_c -t[n,c] w[c] ln p[n,c] / sum_n w[label_n].
Variable cross_entropy(const Variable& logits, std::span<const int32_t> labels,
                       const CrossEntropyOptions& options = {});
// Targets [N,C] as probabilities (mixed images, distillation), finite and >= 0;
// rows need not sum to 1. No gradient to them.
// loss = mean_n sum_c -t[n,c] ln p[n,c].
Variable cross_entropy(const Variable& logits, const Tensor& targets);

// Student and teacher: logits [N,C]. With p = softmax(teacher / T) and q = softmax(student / T), T > 0:
// loss = T^2 mean_n sum_c p[n,c] ln (p[n,c] / q[n,c]); gstudent = g T (q - p) / N. No gradient to the teacher.
Variable distillation_loss(const Variable& student, const Tensor& teacher, real temperature);

// Shapes of prediction and target must be equal; the mean is over all elements.
Variable mse_loss(const Variable& prediction, const Variable& target);  // mean (p - t)^2
Variable l1_loss(const Variable& prediction, const Variable& target);   // mean |p - t|
// mean of d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2); d = p - t
Variable huber_loss(const Variable& prediction, const Variable& target, real delta = 1);

// ---- Shape (ops_shape.cpp) ------------------------------------------------------

Variable reshape(const Variable& x, const Shape& shape);           // shares storage; gx = g reshaped
Variable flatten(const Variable& x);                               // [N, ...] -> [N, rest]
Variable transpose(const Variable& x, std::span<const int> axes);  // result axis i is x's axis axes[i]
Variable transpose(const Variable& x, std::initializer_list<int> axes);
Variable concat(std::span<const Variable> parts, int axis);  // all other extents equal
Variable concat(std::initializer_list<Variable> parts, int axis);
Variable slice(const Variable& x, int axis, int64_t begin, int64_t end);  // [begin, end), never empty
Variable pad(const Variable& x, const Padding& padding, real value = 0);  // NHWC, around H and W

// ---- Reductions (ops_reduce.cpp) --------------------------------------------------
// Over the given axes, or all of them when none are named. keep_dims leaves an
// extent of 1 in their place. Sums run over a fixed tree.

struct ReduceOptions {
  std::vector<int> axes{};
  bool keep_dims = false;
};

Variable sum(const Variable& x, const ReduceOptions& options = {});   // gx = g repeated
Variable mean(const Variable& x, const ReduceOptions& options = {});  // gx = g repeated / count
Variable max(const Variable& x, const ReduceOptions& options = {});   // g goes to the first largest element;
                                                                      // a NaN is larger than any number

// ---- Lookup and noise (ops_random.cpp) ---------------------------------------------

// table [V,D], V > every index >= 0 -> [indices.size(), D], row i is table[indices[i]].
// gtable: rows of g added up in index order.
Variable embedding(const Variable& table, std::span<const int32_t> indices);

// For training: element i is kept with probability 1 - p and scaled by 1 / (1 - p),
// decided by (key, i) alone. Give every call its own key.   gx = g keep / (1 - p)
Variable dropout(const Variable& x, real p, RngKey key);

}  // namespace whittle::inline WHITTLE_PRECISION
