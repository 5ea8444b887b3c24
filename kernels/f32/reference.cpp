// The reference of the float kernels: the formulas of docs/arithmetic.md, A23 to A26, in
// plain loops.

#include "kernels/f32/table.h"
#include "kernels/f32/widen.h"
#include "kernels/functions.h"

namespace whittle::kernels {

namespace {

constexpr float limited(float x, const Limits& limits) {
  return x < limits.lo ? limits.lo : x > limits.hi ? limits.hi : x;  // NaN stays
}

// ---- Weights ----------------------------------------------------------------------

// From the sum of products to the result, for channel o.
template <class Weight>
struct Finish {
  const float* bias;
  const float* scales;
  Limits limits;
  float operator()(float sum, int32_t o) const {
    if constexpr (sizeof(Weight) == 1) {
      sum = scales[o] * sum;
    }
    return limited(sum + bias[o], limits);
  }
};

// ---- Products ---------------------------------------------------------------------

// Sum is float, or int32_t over codes less their zero-point; finish(sum, o) makes the result.
template <class Sum, class X, class Rows, class Done>
void convolve(const ConvShape& s, const X* x, int32_t zero_point, const Rows& rows, const Done& finish, float* y) {
  const Window& w = s.window;
  const int32_t group_in = s.in_channels / s.groups;
  const int32_t group_out = s.out_channels / s.groups;
  for (int32_t n = 0; n < s.batch; ++n) {
    const X* image = x + n * w.in_h * w.in_w * s.in_channels;
    for (int32_t p = 0; p < w.out_h; ++p) {
      for (int32_t r = 0; r < w.out_w; ++r) {
        for (int32_t o = 0; o < s.out_channels; ++o) {
          const auto weights = rows[o];
          int32_t tap = 0;
          Sum sum = 0;
          for (int32_t u = 0; u < w.kernel_h; ++u) {
            for (int32_t v = 0; v < w.kernel_w; ++v, tap += group_in) {
              if (!w.inside(w.row(p, u), w.column(r, v))) {
                continue;
              }
              const X* at = image + (w.row(p, u) * w.in_w + w.column(r, v)) * s.in_channels + o / group_out * group_in;
              for (int32_t i = 0; i < group_in; ++i) {
                if constexpr (sizeof(X) == 1) {
                  sum += (at[i] - zero_point) * weights[tap + i];
                } else {
                  sum += at[i] * widen(weights[tap + i]);
                }
              }
            }
          }
          *y++ = finish(sum, o);
        }
      }
    }
  }
}

template <class Weight>
void conv(const ConvF32<Weight>& op) {
  with_rows(op.weights, op.shape.filter(), [&](const auto& rows) {
    convolve<float>(op.shape, op.x, 0, rows, Finish<Weight>{op.bias, op.scales, op.limits}, op.y);
  });
}
template <class Weight>
void fully_connected(const FullyConnectedF32<Weight>& op) {
  conv(as_conv(op));
}

// ---- Grids found at run time (A24) ---------------------------------------------------

constexpr bool normal(float x) {
  const uint32_t exponent = (__builtin_bit_cast(uint32_t, x) >> 23) & 0xff;
  return exponent != 0 && exponent != 255;
}

Grid dynamic_grid(const float* x, int32_t count) {
  float lo = 0;
  float hi = 0;
  for (int32_t i = 0; i < count; ++i) {
    lo = x[i] < lo ? x[i] : lo;
    hi = x[i] > hi ? x[i] : hi;
  }
  lo = lo < -0x1p126f ? -0x1p126f : lo;
  hi = hi > 0x1p126f ? 0x1p126f : hi;
  const float scale = (hi - lo) / 255.0f;
  if (!normal(scale)) {
    return {1.0f, -128, -128, 127};
  }
  const float zero_point = arithmetic::clamp(-128.0f - lo / scale, -128.0f, 127.0f);
  return {scale, arithmetic::round_half_even(zero_point), -128, 127};
}

void conv_dynamic(const ConvDynamic& op) {
  ConvF32<int8_t> conv = op.conv;
  const Window& w = conv.shape.window;
  const int32_t sample = w.in_h * w.in_w * conv.shape.in_channels;
  const int32_t result = w.out_h * w.out_w * conv.shape.out_channels;
  const int32_t batch = conv.shape.batch;
  conv.shape.batch = 1;
  for (int32_t n = 0; n < batch; ++n, conv.x += sample, conv.y += result) {
    const Grid grid = dynamic_grid(conv.x, sample);
    for (int32_t i = 0; i < sample; ++i) {
      op.codes[i] = static_cast<int8_t>(arithmetic::quantize(conv.x[i], grid));
    }
    const auto finish = [&](int32_t acc, int32_t o) {
      const float scale = grid.scale * conv.scales[o];
      return limited(static_cast<float>(acc) * scale + conv.bias[o], conv.limits);
    };
    with_rows(conv.weights, conv.shape.filter(), [&](const auto& rows) {
      convolve<int32_t>(conv.shape, op.codes, grid.zero_point, rows, finish, conv.y);
    });
  }
}
void fully_connected_dynamic(const FullyConnectedDynamic& op) { conv_dynamic({as_conv(op.product), op.codes}); }

// ---- The rest -----------------------------------------------------------------------

void add(const AddF32& op) {
  for (int32_t i = 0; i < op.count; ++i) {
    op.y[i] = limited(op.a[i] + op.b[i], op.limits);
  }
}

// window(begin, taps) for each number of the result, where tap(k) finds the k-th tap inside.
template <class Start, class Step, class Done>
void pool(const PoolF32& op, Start start, Step step, Done done) {
  const PoolShape& s = op.shape;
  const Window& w = s.window;
  float* y = op.y;
  for (int32_t n = 0; n < s.batch; ++n) {
    const float* image = op.x + n * w.in_h * w.in_w * s.channels;
    for (int32_t p = 0; p < w.out_h; ++p) {
      for (int32_t r = 0; r < w.out_w; ++r) {
        for (int32_t c = 0; c < s.channels; ++c) {
          float value = start;
          int32_t taps = 0;
          for (int32_t u = 0; u < w.kernel_h; ++u) {
            for (int32_t v = 0; v < w.kernel_w; ++v) {
              if (w.inside(w.row(p, u), w.column(r, v))) {
                value = step(value, image[(w.row(p, u) * w.in_w + w.column(r, v)) * s.channels + c]);
                ++taps;
              }
            }
          }
          *y++ = limited(done(value, taps), op.limits);
        }
      }
    }
  }
}

void max_pool(const PoolF32& op) {
  pool(
      op, -__builtin_huge_valf(), [](float a, float b) { return b > a || b != b ? b : a; },  // NaN is the largest
      [](float value, int32_t) { return value; });
}
void average_pool(const PoolF32& op) {
  pool(
      op, 0.0f, [](float a, float b) { return a + b; },
      [](float value, int32_t taps) { return value / static_cast<float>(taps); });
}

double apply(Function function, double x, double slope) {
  switch (function) {
    case Function::kRelu:
      return functions::relu(x);
    case Function::kRelu6:
      return functions::relu6(x);
    case Function::kLeakyRelu:
      return functions::leaky_relu(x, slope);
    case Function::kSigmoid:
      return functions::sigmoid(x);
    case Function::kTanh:
      return functions::tanh(x);
    case Function::kHardSwish:
      return functions::hard_swish(x);
    case Function::kGelu:
      return functions::gelu(x);
  }
  return x;
}

void activation(const ActivationF32& op) {
  for (int32_t i = 0; i < op.count; ++i) {
    const auto y = static_cast<float>(apply(op.function, static_cast<double>(op.x[i]), static_cast<double>(op.slope)));
    op.y[i] = op.x[i] != op.x[i] ? op.x[i] : y;
  }
}

float largest_of(const float* x, int32_t count) {
  float largest = x[0];
  for (int32_t i = 1; i < count; ++i) {
    largest = x[i] > largest ? x[i] : largest;
  }
  return largest;
}

float exp_f32(float x) { return static_cast<float>(functions::exp(static_cast<double>(x))); }

void softmax(const SoftmaxF32& op) {
  for (int32_t row = 0; row < op.rows; ++row) {
    const float* x = op.x + row * op.count;
    float* y = op.y + row * op.count;
    const float largest = largest_of(x, op.count);
    float sum = 0;
    for (int32_t i = 0; i < op.count; ++i) {
      y[i] = exp_f32(x[i] - largest);
      sum += y[i];
    }
    for (int32_t i = 0; i < op.count; ++i) {
      y[i] = y[i] / sum;
    }
  }
}

void log_softmax(const SoftmaxF32& op) {
  for (int32_t row = 0; row < op.rows; ++row) {
    const float* x = op.x + row * op.count;
    const float largest = largest_of(x, op.count);
    float sum = 0;
    for (int32_t i = 0; i < op.count; ++i) {
      sum += exp_f32(x[i] - largest);
    }
    const auto logarithm = static_cast<float>(functions::log(static_cast<double>(sum)));
    for (int32_t i = 0; i < op.count; ++i) {
      op.y[row * op.count + i] = (x[i] - largest) - logarithm;
    }
  }
}

template <class Code>
void quantize(const Quantize<Code>& op) {
  for (int32_t i = 0; i < op.count; ++i) {
    op.y[i] = static_cast<Code>(arithmetic::quantize(op.x[i], op.grid));
  }
}
template <class Code>
void dequantize(const Dequantize<Code>& op) {
  for (int32_t i = 0; i < op.count; ++i) {
    op.y[i] = arithmetic::dequantize(op.x[i], op.grid);
  }
}

bool always() { return true; }

}  // namespace

constinit const F32Table kF32Reference = {
    .name = "reference",
    .runs_here = always,
    .conv = conv<float>,
    .conv_half = conv<Half>,
    .conv_hybrid = conv<int8_t>,
    .conv_dynamic = conv_dynamic,
    .fully_connected = fully_connected<float>,
    .fully_connected_half = fully_connected<Half>,
    .fully_connected_hybrid = fully_connected<int8_t>,
    .fully_connected_dynamic = fully_connected_dynamic,
    .add = add,
    .max_pool = max_pool,
    .average_pool = average_pool,
    .activation = activation,
    .softmax = softmax,
    .log_softmax = log_softmax,
    .quantize8 = quantize<int8_t>,
    .quantize16 = quantize<int16_t>,
    .dequantize8 = dequantize<int8_t>,
    .dequantize16 = dequantize<int16_t>,
    .packed = nullptr,
};

}  // namespace whittle::kernels
