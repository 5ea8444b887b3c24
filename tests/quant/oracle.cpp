#include "tests/quant/oracle.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <sstream>

#include "core/error.h"
#include "core/json.h"
#include "layers/batch_norm.h"
#include "layers/conv2d.h"
#include "layers/leaves.h"
#include "layers/linear.h"
#include "layers/trace.h"
#include "quant/fake_quant.h"

namespace whittle {

namespace {

// fl(e) of the page. Each of + - * / and sqrt of two binary32 numbers, computed in binary64 and rounded once more, is
// what binary32 would give (53 >= 2 * 24 + 2).
double fl(double e) { return static_cast<double>(static_cast<float>(e)); }

double rne(double x) { return std::nearbyint(x); }

double clamp(double x, double low, double high) {
  if (!(x > low)) {
    return low;
  }
  return x < high ? x : high;
}

// A2, and the codes that a grid's memory holds.
int64_t quantize(double x, const Grid& g) {
  const double q = rne(clamp(fl(x / static_cast<double>(g.scale)), g.qmin - g.zero_point, g.qmax - g.zero_point));
  return static_cast<int64_t>(q) + g.zero_point;
}
double dequantize(int64_t q, const Grid& g) {  // A3
  return fl(static_cast<double>(g.scale) * static_cast<double>(q - g.zero_point));
}

// A9
int64_t requantize(int64_t acc, double m, const Grid& y, int64_t lo, int64_t hi) {
  const double scaled = fl(fl(static_cast<double>(acc)) * m);
  return static_cast<int64_t>(
             rne(clamp(scaled, static_cast<double>(lo - y.zero_point), static_cast<double>(hi - y.zero_point)))) +
         y.zero_point;
}

// A11
struct Cut {
  int64_t lo, hi;
};
Cut cut(const Grid& y, Act act) {
  Cut c{y.qmin, y.qmax};
  if (act != Act::kNone) {
    c.lo = std::max<int64_t>(c.lo, y.zero_point);
  }
  if (act == Act::kRelu6) {
    c.hi = std::min(c.hi, quantize(6, y));
  }
  return c;
}

bool has_8_bits(const Grid& g) { return g.qmin >= -128 && g.qmax <= 127; }

Grid grid_of(const TransformChain& chain) {
  const auto* const quantizer = chain.find<quant::FakeQuant>();
  require(quantizer != nullptr && quantizer->grids() != nullptr && quantizer->grids()->size() == 1, "oracle",
          "a result has no grid");
  return (*quantizer->grids())[0];
}

// A layer's weight and bias as numbers, masked and folded: f = gamma (1 / sqrt(variance + epsilon)), in this order.
struct Numbers {
  std::vector<double> w, b;
};
Numbers numbers_of(WeightedLayer& layer) {
  Numbers n;
  const Tensor masked = layer.weight.chain.before(Stage::kFold, layer.weight.raw).value();
  n.w.assign(masked.values().begin(), masked.values().end());
  const auto channels = static_cast<size_t>(layer.weight.shape()[0]);
  n.b.assign(channels, 0);
  for (size_t c = 0; c < channels && layer.bias.defined(); ++c) {
    n.b[c] = static_cast<double>(layer.bias.raw.value().data()[c]);
  }
  if (layer.norm.defined()) {
    const size_t row = n.w.size() / channels;
    for (size_t c = 0; c < channels; ++c) {
      const auto at = [c](const Tensor& t) { return static_cast<double>(t.data()[c]); };
      const double inverse =
          fl(1 / fl(std::sqrt(fl(at(layer.norm.running_variance) + fl(layer.norm.options.epsilon)))));
      const double f = fl(at(layer.norm.gamma.raw.value()) * inverse);
      for (size_t i = c * row; i < (c + 1) * row; ++i) {
        n.w[i] = fl(n.w[i] * f);
      }
      const double apart = fl(n.b[c] - at(layer.norm.running_mean));
      n.b[c] = fl(at(layer.norm.beta.raw.value()) + fl(apart * f));
    }
  }
  return n;
}

// q - Z of a layer's weights. One bit: the sign (docs: binary weights); 0 stays 0.
std::vector<int64_t> weight_codes(const WeightedLayer& layer, const Numbers& n, const Grids& grids) {
  const auto* const quantizer = layer.weight.chain.find<quant::FakeQuant>();
  const bool binary = quantizer->tensor_spec().bits == 1 && quantizer->tensor_spec().symmetric;
  std::vector<int64_t> codes;
  const size_t run = n.w.size() / grids.size();
  for (size_t i = 0; i < n.w.size(); ++i) {
    const Grid& g = grids[i / run];
    codes.push_back(binary ? (n.w[i] > 0) - (n.w[i] < 0) : quantize(n.w[i], g) - g.zero_point);
  }
  return codes;
}

// The sums of A12 or A14 over centred codes, [..., O], without bias.
std::vector<int64_t> sums_of(WeightedLayer& layer, const std::vector<int64_t>& x, const Shape& in,
                             const std::vector<int64_t>& w, const Shape& out) {
  std::vector<int64_t> sums(static_cast<size_t>(out.elements()), 0);
  if (const auto* const conv = dynamic_cast<const Conv2d*>(&layer)) {
    const Conv2dOptions& o = conv->options();
    const int64_t per_in = o.in / o.groups;
    const int64_t per_out = o.out / o.groups;
    size_t at = 0;
    for (int64_t n = 0; n < out[0]; ++n) {
      for (int64_t p = 0; p < out[1]; ++p) {
        for (int64_t r = 0; r < out[2]; ++r) {
          for (int64_t c = 0; c < o.out; ++c, ++at) {
            for (int64_t u = 0; u < o.kernel.h; ++u) {
              for (int64_t v = 0; v < o.kernel.w; ++v) {
                const int64_t h = p * o.stride.h + u * o.dilation.h - o.padding.top;
                const int64_t k = r * o.stride.w + v * o.dilation.w - o.padding.left;
                if (h < 0 || h >= in[1] || k < 0 || k >= in[2]) {
                  continue;
                }
                const int64_t pixel = ((n * in[1] + h) * in[2] + k) * o.in + c / per_out * per_in;
                const int64_t tap = ((c * o.kernel.h + u) * o.kernel.w + v) * per_in;
                for (int64_t i = 0; i < per_in; ++i) {
                  sums[at] += x[static_cast<size_t>(pixel + i)] * w[static_cast<size_t>(tap + i)];
                }
              }
            }
          }
        }
      }
    }
    return sums;
  }
  const int64_t inputs = layer.weight.shape()[1];
  const int64_t outputs = layer.weight.shape()[0];
  for (int64_t n = 0; n < in.elements() / inputs; ++n) {
    for (int64_t c = 0; c < outputs; ++c) {
      for (int64_t i = 0; i < inputs; ++i) {
        sums[static_cast<size_t>(n * outputs + c)] +=
            x[static_cast<size_t>(n * inputs + i)] * w[static_cast<size_t>(c * inputs + i)];
      }
    }
  }
  return sums;
}

Codes64 weighted(WeightedLayer& layer, const Codes64& x, const Shape& shape) {
  const Numbers n = numbers_of(layer);
  const Grids grids = *layer.weight.chain.find<quant::FakeQuant>()->grids();
  const auto channels = static_cast<size_t>(layer.weight.shape()[0]);
  Codes64 y{shape, {}, grid_of(layer.output)};
  std::vector<int64_t> centred = x.codes;
  std::ranges::transform(centred, centred.begin(), [&](int64_t q) { return q - x.grid.zero_point; });
  const std::vector<int64_t> sums = sums_of(layer, centred, x.shape, weight_codes(layer, n, grids), shape);
  const Cut limits = cut(y.grid, layer.act());
  for (size_t i = 0; i < sums.size(); ++i) {
    const size_t c = i % channels;
    const double s_b = fl(static_cast<double>(x.grid.scale) *  // A5
                          static_cast<double>(grids[grids.size() == 1 ? 0 : c].scale));
    const double bias = rne(clamp(fl(n.b[c] / s_b), -0x1p30, 0x1p30));
    const double m = fl(s_b / static_cast<double>(y.grid.scale));  // A8
    y.codes.push_back(requantize(sums[i] + static_cast<int64_t>(bias), m, y.grid, limits.lo, limits.hi));
  }
  return y;
}

// A15
Codes64 normed(const BatchNorm& leaf, const Codes64& x, const Shape& shape) {
  const auto channels = static_cast<size_t>(leaf.options().channels);
  Codes64 y{shape, {}, grid_of(leaf.output)};
  const Cut limits = cut(y.grid, leaf.options().act);
  const double s_x = static_cast<double>(x.grid.scale);
  std::vector<double> w, b;
  double largest = 0;
  for (size_t c = 0; c < channels; ++c) {
    const auto at = [c](const Tensor& t) { return static_cast<double>(t.data()[c]); };
    const double deviation = fl(std::sqrt(fl(at(leaf.norm.running_variance) + fl(leaf.options().epsilon))));
    w.push_back(fl(at(leaf.norm.gamma.raw.value()) / deviation));
    b.push_back(fl(at(leaf.norm.beta.raw.value()) - fl(at(leaf.norm.running_mean) * w[c])));
    largest = std::max(largest, std::abs(w[c]));
  }
  for (size_t i = 0; i < x.codes.size(); ++i) {
    const size_t c = i % channels;
    double s_w = largest < 0x1p-100 ? 1 : fl(std::max(std::abs(w[c]), fl(largest / 256)) / 127);  // A4
    if (fl(std::abs(b[c]) / fl(s_x * s_w)) > 0x1p30) {                                            // A5
      s_w = fl(fl(std::abs(b[c]) / s_x) * 0x1p-30);
    }
    const double w_q = rne(clamp(fl(w[c] / s_w), -127, 127));
    const double b_q = rne(clamp(fl(b[c] / fl(s_x * s_w)), -0x1p30, 0x1p30));
    const double m = fl(fl(s_x * s_w) / static_cast<double>(y.grid.scale));
    const int64_t acc = (x.codes[i] - x.grid.zero_point) * static_cast<int64_t>(w_q) + static_cast<int64_t>(b_q);
    y.codes.push_back(requantize(acc, m, y.grid, limits.lo, limits.hi));
  }
  return y;
}

// A16
Codes64 addition(const Codes64& a, const Codes64& b, const Grid& to, Act act) {
  const double r_a = fl(static_cast<double>(a.grid.scale) / static_cast<double>(to.scale));
  const double r_b = fl(static_cast<double>(b.grid.scale) / static_cast<double>(to.scale));
  const double c = fl(to.zero_point - fl(fl(r_a * a.grid.zero_point) + fl(r_b * b.grid.zero_point)));
  const Cut limits = cut(to, act);
  Codes64 y{a.shape, {}, to};
  for (size_t i = 0; i < a.codes.size(); ++i) {
    const double first = fl(c + fl(static_cast<double>(a.codes[i]) * r_a));
    const double sum = fl(first + fl(static_cast<double>(b.codes[i]) * r_b));
    y.codes.push_back(
        static_cast<int64_t>(rne(clamp(sum, static_cast<double>(limits.lo), static_cast<double>(limits.hi)))));
  }
  return y;
}

// A17 and A18
Codes64 pooled(const Codes64& x, const PoolGeometry& g, const Shape& shape, const Grid& to, bool is_max) {
  const Size2 stride = g.stride == Size2{0, 0} ? g.kernel : g.stride;
  const int64_t rows = shape.rank() == 4 ? shape[1] : 1;
  const int64_t columns = shape.rank() == 4 ? shape[2] : 1;
  const int64_t channels = x.shape[3];
  Codes64 y{shape, {}, to};
  for (int64_t n = 0; n < x.shape[0]; ++n) {
    for (int64_t p = 0; p < rows; ++p) {
      for (int64_t r = 0; r < columns; ++r) {
        for (int64_t c = 0; c < channels; ++c) {
          int64_t taps = 0;
          int64_t sum = 0;
          int64_t most = INT64_MIN;
          for (int64_t u = 0; u < g.kernel.h; ++u) {
            for (int64_t v = 0; v < g.kernel.w; ++v) {
              const int64_t h = p * stride.h + u - g.padding.top;
              const int64_t k = r * stride.w + v - g.padding.left;
              if (h >= 0 && h < x.shape[1] && k >= 0 && k < x.shape[2]) {
                const int64_t q = x.codes[static_cast<size_t>(((n * x.shape[1] + h) * x.shape[2] + k) * channels + c)];
                ++taps;
                sum += q - x.grid.zero_point;
                most = std::max(most, q);
              }
            }
          }
          const double m =
              fl(static_cast<double>(x.grid.scale) / fl(static_cast<double>(to.scale) * fl(static_cast<double>(taps))));
          y.codes.push_back(is_max ? most : requantize(sum, m, to, to.qmin, to.qmax));
        }
      }
    }
  }
  return y;
}

// A19, A20, and A21 for f(r) = r
Codes64 concatenated(const std::vector<const Codes64*>& parts, int axis, const Shape& shape, const Grid& to) {
  Codes64 y{shape, std::vector<int64_t>(static_cast<size_t>(shape.elements())), to};
  const int at = axis < 0 ? axis + shape.rank() : axis;
  int64_t outer = 1;
  int64_t inner = 1;
  for (int i = 0; i < shape.rank(); ++i) {
    (i < at ? outer : inner) *= i == at ? 1 : shape[i];
  }
  int64_t offset = 0;
  for (const Codes64* part : parts) {
    const int64_t extent = part->shape[at];
    for (int64_t o = 0; o < outer; ++o) {
      for (int64_t i = 0; i < extent * inner; ++i) {
        const int64_t q = part->codes[static_cast<size_t>(o * extent * inner + i)];
        int64_t& code = y.codes[static_cast<size_t>((o * shape[at] + offset) * inner + i)];
        if (part->grid == to) {
          code = q;
        } else if (has_8_bits(part->grid)) {
          code = quantize(dequantize(q, part->grid), to);
        } else {
          code = requantize(q - part->grid.zero_point,
                            fl(static_cast<double>(part->grid.scale) / static_cast<double>(to.scale)), to, to.qmin,
                            to.qmax);
        }
      }
    }
    offset += extent;
  }
  return y;
}

// The functions of A21, in more than binary64.
double function(const ActivationOptions& o, double at) {
  const auto r = static_cast<long double>(at);
  switch (o.function) {
    case Function::kRelu6:
      return std::min(std::max(at, 0.0), 6.0);
    case Function::kLeakyRelu:
      return static_cast<double>(r > 0 ? r : static_cast<long double>(fl(o.slope)) * r);
    case Function::kSigmoid:
      return static_cast<double>(1 / (1 + std::exp(-r)));
    case Function::kTanh:
      return static_cast<double>(std::tanh(r));
    case Function::kHardSwish:
      return static_cast<double>(r * std::min(std::max(r + 3, 0.0L), 6.0L) / 6);
    case Function::kGelu:
      return static_cast<double>(r * (1 + std::erf(r / std::sqrt(2.0L))) / 2);
    default:
      fail("oracle", "no table for ", function_name(o.function));
  }
}

Codes64 activated(const Codes64& x, const Activation& leaf) {
  Codes64 y = x;
  if (leaf.options().function == Function::kRelu) {  // cuts codes, on the input's grid
    std::ranges::transform(y.codes, y.codes.begin(),
                           [&](int64_t q) { return std::max<int64_t>(q, x.grid.zero_point); });
    return y;
  }
  y.grid = grid_of(leaf.output);
  std::ranges::transform(x.codes, y.codes.begin(), [&](int64_t q) {
    return quantize(fl(function(leaf.options(), dequantize(q, x.grid))), y.grid);
  });
  return y;
}

Codes64 quantized(const Tensor& x, const Grid& grid) {
  Codes64 y{x.shape(), {}, grid};
  for (const real v : x.values()) {
    y.codes.push_back(quantize(static_cast<double>(v), grid));
  }
  return y;
}

Codes64 computed(const TracedCall& call, const std::vector<const Codes64*>& in, const Shape& shape) {
  if (auto* const layer = dynamic_cast<WeightedLayer*>(call.module)) {
    return weighted(*layer, *in[0], shape);
  }
  if (const auto* const leaf = dynamic_cast<const BatchNorm*>(call.module)) {
    return normed(*leaf, *in[0], shape);
  }
  if (const auto* const leaf = dynamic_cast<const Activation*>(call.module)) {
    const Function f = leaf->options().function;
    return f == Function::kSoftmax || f == Function::kLogSoftmax ? Codes64{shape, {}} : activated(*in[0], *leaf);
  }
  if (const auto* const leaf = dynamic_cast<const Add*>(call.module)) {
    return addition(*in[0], *in[1], grid_of(leaf->output), leaf->options().act);
  }
  if (const auto* const leaf = dynamic_cast<const MaxPool*>(call.module)) {
    return pooled(*in[0], leaf->options(), shape, in[0]->grid, true);
  }
  if (const auto* const leaf = dynamic_cast<const AvgPool*>(call.module)) {
    return pooled(*in[0], leaf->options(), shape, grid_of(leaf->output), false);
  }
  if (call.module->kind() == "global_avg_pool") {
    return pooled(*in[0], {.kernel = {in[0]->shape[1], in[0]->shape[2]}}, shape, grid_of(call.module->output), false);
  }
  if (const auto* const leaf = dynamic_cast<const Concat*>(call.module)) {
    return concatenated(in, leaf->options().axis, shape, grid_of(leaf->output));
  }
  require(call.module->kind() == "flatten" || call.module->kind() == "dropout", "oracle", "no rule for ",
          call.module->kind());
  return {shape, in[0]->codes, in[0]->grid};
}

// Remembers what a leaf reads.
class Tap : public Transform {
 public:
  std::string_view kind() const override { return "tap"; }
  Stage stage() const override { return Stage::kMask; }
  Variable apply(const Variable& x) override {
    seen.push_back(x.value());
    return x;
  }
  Json spec() const override { return {}; }
  std::vector<Tensor> seen;
};

}  // namespace

std::vector<Codes64> oracle_run(Module& model, const Tensor& batch) {
  const Trace traced = trace(model, batch.shape());
  std::vector<Codes64> values(traced.values.size());
  for (const TracedCall& call : traced.calls) {
    const Shape& shape = traced.output_shape(call);
    Codes64& y = values[static_cast<size_t>(call.output)];
    if (call.module->kind() == "input") {
      y = quantized(batch, grid_of(call.module->output));
      continue;
    }
    std::vector<Codes64> made(call.inputs.size());
    std::vector<const Codes64*> in;
    for (size_t i = 0; i < call.inputs.size(); ++i) {
      if (call.inputs[i] == 0) {  // no Input leaf in front
        made[i] = quantized(batch, grid_of(call.module->input));
        in.push_back(&made[i]);
      } else {
        in.push_back(&values[static_cast<size_t>(call.inputs[i])]);
      }
    }
    y = computed(call, in, shape);
  }
  return values;
}

std::vector<float> oracle_dynamic(WeightedLayer& layer, const Tensor& x, const Shape& result) {
  const Numbers n = numbers_of(layer);
  const Grids grids = *layer.weight.chain.find<quant::FakeQuant>()->grids();
  const auto channels = static_cast<size_t>(layer.weight.shape()[0]);
  const int64_t samples = x.dim(0);
  const int64_t length = x.elements() / samples;
  std::vector<double> scales;
  std::vector<int64_t> codes;
  for (int64_t s = 0; s < samples; ++s) {
    const auto values = x.values().subspan(static_cast<size_t>(s * length), static_cast<size_t>(length));
    double lo = 0;
    double hi = 0;
    for (const real v : values) {
      lo = std::min(lo, clamp(static_cast<double>(v), -0x1p126, 0x1p126));
      hi = std::max(hi, clamp(static_cast<double>(v), -0x1p126, 0x1p126));
    }
    double scale = fl(fl(hi - lo) / 255);
    double zero = -128;
    if (scale >= 0x1p-126) {
      zero = rne(clamp(fl(-128 - fl(lo / scale)), -128, 127));
    } else {
      scale = 1;
    }
    scales.push_back(scale);
    const Grid grid{static_cast<float>(scale), static_cast<int32_t>(zero), -128, 127};
    for (const real v : values) {
      codes.push_back(quantize(static_cast<double>(v), grid) - grid.zero_point);
    }
  }
  const std::vector<int64_t> sums = sums_of(layer, codes, x.shape(), weight_codes(layer, n, grids), result);
  std::vector<float> y;
  const size_t per_sample = sums.size() / static_cast<size_t>(samples);
  for (size_t i = 0; i < sums.size(); ++i) {
    const size_t c = i % channels;
    const double scale = fl(scales[i / per_sample] * static_cast<double>(grids[grids.size() == 1 ? 0 : c].scale));
    double v = fl(fl(static_cast<double>(sums[i])) * scale);
    v = layer.bias.defined() || layer.norm.defined() ? fl(v + n.b[c]) : v;
    v = layer.act() == Act::kNone ? v : clamp(v, 0, layer.act() == Act::kRelu6 ? 6 : INFINITY);
    y.push_back(static_cast<float>(v));
  }
  return y;
}

std::string oracle_differences(Module& model, const Tensor& batch, int64_t* compared) {
  const Trace traced = trace(model, batch.shape());
  const std::vector<Codes64> expected = oracle_run(model, batch);
  std::map<const Module*, std::shared_ptr<Tap>> taps;
  for (const TracedCall& call : traced.calls) {
    taps[call.module] = std::make_shared<Tap>();
    call.module->input.attach(taps[call.module]);
  }
  const EvaluationMode evaluation(model);
  const Tensor result = model(batch).value();
  for (const TracedCall& call : traced.calls) {
    call.module->input.detach(Stage::kMask);
  }

  std::ostringstream text;
  const auto compare = [&](const Tensor& got, int value) {
    const Codes64& want = expected[static_cast<size_t>(value)];
    if (value == 0 || want.codes.empty()) {
      return;
    }
    int64_t wrong = 0;
    size_t first = 0;
    for (size_t i = want.codes.size(); i-- > 0;) {
      // The very number that A3 gives for the code.
      if (got.data()[i] != static_cast<real>(dequantize(want.codes[i], want.grid))) {
        ++wrong;
        first = i;
      }
    }
    if (compared != nullptr) {
      *compared += static_cast<int64_t>(want.codes.size());
    }
    if (wrong > 0) {
      const TracedCall& by = traced.calls[static_cast<size_t>(traced.values[static_cast<size_t>(value)].producer)];
      text << by.path << " (" << by.module->kind() << ' ' << by.module->details() << "): " << wrong << " of "
           << want.codes.size() << " codes differ, first number " << first << ": "
           << static_cast<double>(got.data()[first]) / static_cast<double>(want.grid.scale) + want.grid.zero_point
           << " instead of " << want.codes[first] << "; ";
    }
  };
  for (const TracedCall& call : traced.calls) {
    for (size_t i = 0; i < call.inputs.size(); ++i) {
      compare(taps[call.module]->seen.at(i), call.inputs[i]);
    }
  }
  compare(result, traced.output);
  return text.str();
}

}  // namespace whittle
