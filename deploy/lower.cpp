#include "deploy/lower.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

#include "core/error.h"
#include "layers/conv2d.h"
#include "layers/leaves.h"
#include "layers/linear.h"
#include "layers/norm_product.h"
#include "layers/trace.h"
#include "quant/fake_quant.h"
#include "quant/half.h"

namespace whittle::deploy {

namespace {

using runtime::bits_of;
using runtime::kNone;
using runtime::OpKind;
using runtime::OpSpec;
using runtime::Type;

std::vector<uint32_t> dims_of(const Shape& shape) {
  std::vector<uint32_t> dims;
  for (const int64_t extent : shape.dims()) {
    dims.push_back(static_cast<uint32_t>(extent));
  }
  return dims;
}

// What a value lies on; none: it is numbers.
using OnGrid = std::optional<Grid>;

OnGrid single(const GridsPtr& grids) { return grids != nullptr && grids->size() == 1 ? OnGrid((*grids)[0]) : OnGrid(); }

Type type_of(const OnGrid& grid) {
  if (!grid.has_value()) {
    return Type::kF32;
  }
  return grid->qmin >= -128 && grid->qmax <= 127 ? Type::kS8 : Type::kS16;
}

// Limits of an activation, as codes or as bits of floats (A11).
std::pair<uint32_t, uint32_t> limits(const OnGrid& grid, Act act) {
  if (!grid.has_value()) {
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    return {bits_of(act == Act::kNone ? -kInfinity : 0.0F), bits_of(act == Act::kRelu6 ? 6.0F : kInfinity)};
  }
  const int32_t low = act == Act::kNone ? grid->qmin : std::max(grid->qmin, grid->zero_point);
  const int32_t high = act == Act::kRelu6 ? std::min(grid->qmax, arithmetic::quantize(6.0F, *grid)) : grid->qmax;
  return {runtime::code(low), runtime::code(high)};
}

uint32_t function_number(Function function) {
  switch (function) {
    case Function::kRelu:
      return 0;
    case Function::kRelu6:
      return 1;
    case Function::kLeakyRelu:
      return 2;
    case Function::kSigmoid:
      return 3;
    case Function::kTanh:
      return 4;
    case Function::kHardSwish:
      return 5;
    case Function::kGelu:
      return 6;
    default:
      return kNone;
  }
}

class Lowering {
 public:
  Lowering(Module& model, const Shape& sample, const LowerOptions& options) {
    require(options.batch >= 1, "export", "a batch of ", options.batch, " samples is none");
    std::vector<int64_t> extents{options.batch};
    std::ranges::copy(sample.dims(), std::back_inserter(extents));
    traced_ = trace(model, Shape(extents));
    require(!traced_.calls.empty(), "export", "the model computes nothing");
    spec_.metadata = options.metadata;
  }

  Lowered run() {
    const NoGrad no_grad;
    begin();
    for (const TracedCall& call : traced_.calls) {
      try {
        values_[call.output] = lower(call);
      } catch (const Error& error) {
        const std::string reason = error.what();
        constexpr std::string_view kOurs = "[export] ";
        fail("export", "'", call.path, "': ", reason.starts_with(kOurs) ? reason.substr(kOurs.size()) : reason);
      }
    }
    require(!spec_.ops.empty(), "export", "the model computes nothing");
    spec_.outputs = {values_.at(traced_.output)};
    return planned();
  }

 private:
  // ---- Values ----

  const TracedValue& traced(int value) const { return traced_.values[static_cast<size_t>(value)]; }
  Shape shape_in(uint32_t value) const {
    const std::vector<uint32_t>& dims = spec_.values[value].dims;
    return Shape(std::vector<int64_t>(dims.begin(), dims.end()));
  }
  OnGrid grid_of(uint32_t value) const {
    const runtime::ValueSpec& of = spec_.values[value];
    return of.type == Type::kF32 ? OnGrid() : OnGrid(of.grid);
  }

  uint32_t activation(const std::string& name, const Shape& shape, const OnGrid& grid) {
    return spec_.add_activation(
        {.name = name, .type = type_of(grid), .dims = dims_of(shape), .grid = grid.value_or(Grid{})});
  }

  template <class T>
  uint32_t constant(const std::string& name, Type type, const std::vector<uint32_t>& dims, const std::vector<T>& of) {
    return spec_.add_constant<T>(name, type, dims, std::span<const T>(of));
  }

  uint32_t add(OpSpec op, const std::string& path, std::vector<uint32_t> inputs, uint32_t output) {
    op.name = path;
    op.inputs = std::move(inputs);
    op.output = output;
    spec_.ops.push_back(std::move(op));
    return output;
  }

  // The model's input: codes where its first leaf puts it on a grid, else numbers.
  void begin() {
    const TracedCall& first = traced_.calls.front();
    const TracedValue& input = traced(0);
    const bool through_input_leaf = first.module->kind() == "input" && input.readers.size() == 1;
    const OnGrid grid = single(through_input_leaf ? first.module->output.grids() : first.module->input.grids());
    values_[0] = activation("input", input.shape, input.readers.size() == 1 ? grid : OnGrid());
    spec_.inputs = {values_[0]};
  }

  // The value as codes of a grid, or as numbers.
  uint32_t as_codes(uint32_t value, const Grid& grid, const std::string& path) {
    const OnGrid from = grid_of(value);
    if (from.has_value() && *from == grid) {
      return value;
    }
    const uint32_t result = activation(path, shape_in(value), grid);
    if (!from.has_value()) {
      return add({.kind = OpKind::kQuantize}, path, {value}, result);
    }
    check_width(*from, grid);
    if (type_of(grid) == Type::kS8) {
      return table(path, value, result, [](double r) { return r; });
    }
    return rescale(path, value, result, Act::kNone);
  }
  uint32_t as_numbers(uint32_t value, const std::string& path) {
    return !grid_of(value).has_value()
               ? value
               : add({.kind = OpKind::kDequantize}, path, {value}, activation(path, shape_in(value), {}));
  }

  // A20.
  uint32_t rescale(const std::string& path, uint32_t from, uint32_t to, Act act) {
    const float multiplier = grid_of(from)->scale / grid_of(to)->scale;
    const auto [lo, hi] = limits(grid_of(to), act);
    return add({.kind = OpKind::kRescale,
                .multipliers = constant<uint32_t>(path + "/multiplier", Type::kU32, {1}, {bits_of(multiplier)}),
                .lo = lo,
                .hi = hi},
               path, {from}, to);
  }

  // T[q + 128] of A21.
  template <class F>
  uint32_t table(const std::string& path, uint32_t from, uint32_t to, F f) {
    std::vector<int8_t> codes;
    const Grid in = *grid_of(from);
    const Grid out = *grid_of(to);
    for (int32_t q = -128; q <= 127; ++q) {
      const auto value = static_cast<float>(f(static_cast<double>(arithmetic::dequantize(q, in))));
      codes.push_back(static_cast<int8_t>(arithmetic::quantize(value, out)));
    }
    return add({.kind = OpKind::kTable, .table = constant(path + "/table", Type::kS8, {256}, codes)}, path, {from}, to);
  }

  // ---- Leaves ----

  uint32_t lower(const TracedCall& call) {
    std::vector<uint32_t> inputs;
    for (const int input : call.inputs) {
      inputs.push_back(values_.at(input));
    }
    // A grid of the leaf's own for what it reads.
    const OnGrid own = single(call.module->input.grids());
    for (size_t i = 0; own.has_value() && i < inputs.size(); ++i) {
      inputs[i] = as_codes(inputs[i], *own, call.path);
    }
    const std::string_view kind = call.module->kind();
    if (kind == "dropout") {
      return inputs[0];
    }
    if (kind == "input") {
      const OnGrid grid = single(call.module->output.grids());
      return !grid.has_value() ? inputs[0] : as_codes(inputs[0], *grid, call.path);
    }
    if (auto* const layer = dynamic_cast<WeightedLayer*>(call.module)) {
      return weighted(call, *layer, inputs[0]);
    }
    if (const auto* const norm = dynamic_cast<const BatchNorm*>(call.module)) {
      return normed(call, *norm, inputs[0]);
    }
    if (const auto* const sum = dynamic_cast<const Add*>(call.module)) {
      return addition(call, *sum, inputs);
    }
    if (const auto* const function = dynamic_cast<const Activation*>(call.module)) {
      return activated(call, *function, inputs[0]);
    }
    if (const auto* const pool = dynamic_cast<const MaxPool*>(call.module)) {
      return max_pool(call, pool->options(), inputs[0]);
    }
    if (const auto* const pool = dynamic_cast<const AvgPool*>(call.module)) {
      return average_pool(call, pool->options(), inputs[0]);
    }
    if (kind == "global_avg_pool") {
      const Shape& x = traced(call.inputs[0]).shape;
      return average_pool(call, {.kernel = {x[1], x[2]}}, inputs[0]);
    }
    if (kind == "flatten") {
      return finished(call, reshaped(call.path, inputs[0], shape_of(call)));
    }
    if (const auto* const join = dynamic_cast<const Concat*>(call.module)) {
      return concatenation(call, join->options().axis, inputs);
    }
    fail("export", "a leaf of kind '", kind, "' has no op in a program yet");
  }

  // Between codes: 8 and 16 bits do not meet in one op.
  static void check_width(const Grid& from, const Grid& to) {
    const auto bits = [](const Grid& grid) { return type_of(grid) == Type::kS8 ? 8 : 16; };
    require(bits(from) == bits(to), "export", "reads codes of ", bits(from), " bits and gives codes of ", bits(to),
            "; an op has one width");
  }

  const Shape& shape_of(const TracedCall& call) const { return traced(call.output).shape; }
  uint32_t result(const TracedCall& call, const OnGrid& grid) { return activation(call.path, shape_of(call), grid); }

  // What the leaf's output chain wants, if the op has not given it already.
  uint32_t finished(const TracedCall& call, uint32_t value) {
    const OnGrid to = single(call.module->output.grids());
    return !to.has_value() ? value : as_codes(value, *to, call.path);
  }

  uint32_t weighted(const TracedCall& call, WeightedLayer& layer, uint32_t x) {
    OpSpec op{.kind = OpKind::kFullyConnected};
    if (const auto* const conv = dynamic_cast<const Conv2d*>(&layer)) {
      const Conv2dOptions& o = conv->options();
      const auto u = [](int64_t n) { return static_cast<uint32_t>(n); };
      op = {.kind = OpKind::kConv,
            .groups = u(o.groups),
            .kernel = {u(o.kernel.h), u(o.kernel.w)},
            .stride = {u(o.stride.h), u(o.stride.w)},
            .dilation = {u(o.dilation.h), u(o.dilation.w)},
            .padding = {u(o.padding.top), u(o.padding.left), u(o.padding.bottom), u(o.padding.right)}};
    } else {
      const Shape& x_shape = traced(call.inputs[0]).shape;
      require(x_shape.rank() == 2, "export", "a linear layer over ", x_shape, " has no op; flatten it first");
    }
    const auto [weight, bias] = folded(layer);
    return finished(call, product(call, std::move(op),
                                  {.weight = weight,
                                   .bias = bias,
                                   .act = layer.act(),
                                   .dynamic = is_dynamic(layer),
                                   .half = layer.weight.chain.find<quant::Half>() != nullptr},
                                  x, shape_of(call)));
  }

  // A norm that stands alone: a depthwise 1x1 convolution (A15), of an image of one pixel if it reads rows.
  uint32_t normed(const TracedCall& call, const BatchNorm& leaf, uint32_t x) {
    const Shape& shape = shape_of(call);
    require(shape.rank() == 4 || shape.rank() == 2, "export", "a norm over ", shape, " has no op");
    const Shape image = shape.rank() == 4 ? shape : Shape{shape[0], 1, 1, shape[1]};
    const OnGrid from = grid_of(x);
    Factors factors{.act = leaf.options().act};
    if (from.has_value() && leaf.output.grids() != nullptr) {
      const NormProduct exact = norm_product(leaf.norm, from->scale);
      factors.weight = exact.weight;
      factors.bias = exact.bias;
    } else {
      factors.weight = reshape(leaf.norm.factor(), {shape[-1], 1, 1, 1});
      factors.bias = leaf.norm.shift({});
    }
    if (image != shape) {
      x = reshaped(call.path, x, image);
    }
    const uint32_t y = product(call,
                               {.kind = OpKind::kConv,
                                .groups = static_cast<uint32_t>(shape[-1]),
                                .kernel = {1, 1},
                                .stride = {1, 1},
                                .dilation = {1, 1}},
                               factors, x, image);
    return finished(call, image != shape ? reshaped(call.path, y, shape) : y);
  }

  uint32_t reshaped(const std::string& path, uint32_t x, const Shape& shape) {
    return add({.kind = OpKind::kReshape}, path, {x}, activation(path, shape, grid_of(x)));
  }

  // What a product multiplies by and adds.
  struct Factors {
    Variable weight{}, bias{};
    Act act = Act::kNone;
    bool dynamic = false;
    bool half = false;
  };

  // The op with its constants: in integers where x, weights and the leaf's result have grids; else in float.
  uint32_t product(const TracedCall& call, OpSpec op, const Factors& factors, uint32_t x, const Shape& shape) {
    const auto& [weights, bias, act, dynamic, half] = factors;
    const GridsPtr& grids = weights.grids();
    const OnGrid to = single(call.module->output.grids());
    const OnGrid from = grid_of(x);
    const std::vector<uint32_t> weight_dims = dims_of(weights.shape());
    const auto channels = static_cast<uint32_t>(weights.shape()[0]);
    const std::vector<float> scales = grids == nullptr ? std::vector<float>() : channel_scales(grids, channels);

    if (grids != nullptr && from.has_value() && to.has_value()) {
      check_width(*from, *to);
      std::vector<int32_t> bias_codes(channels, 0);
      std::vector<uint32_t> multipliers;
      for (uint32_t c = 0; c < channels; ++c) {
        if (bias.defined()) {
          bias_codes[c] = arithmetic::quantize_bias(bias.value().data()[c], from->scale * scales[c]);
        }
        multipliers.push_back(bits_of(arithmetic::multiplier(from->scale, scales[c], to->scale)));
      }
      op.weights = spec_.add_weights(call.path + "/weight", weight_dims, weight_codes(weights));
      op.bias = constant(call.path + "/bias", Type::kS32, {channels}, bias_codes);
      op.multipliers = constant(call.path + "/multipliers", Type::kU32, {channels}, multipliers);
      std::tie(op.lo, op.hi) = limits(to, act);
      return add(std::move(op), call.path, {x}, activation(call.path, shape, to));
    }
    require(!from.has_value() || grids == nullptr, "export",
            "reads codes and has weights on a grid, but its result is on none; quantize the result or skip the layer");
    const uint32_t numbers = as_numbers(x, call.path);
    std::vector<float> biases(channels, 0);
    for (uint32_t c = 0; c < channels && bias.defined(); ++c) {
      biases[c] = bias.value().data()[c];
    }
    if (grids != nullptr) {
      op.weights = spec_.add_weights(call.path + "/weight", weight_dims, weight_codes(weights));
      op.multipliers = constant(call.path + "/scales", Type::kF32, {channels}, scales);
      if (dynamic) {
        op.scratch = activation(call.path + "/codes", shape_in(x), Grid{1, 0, -128, 127});
      }
    } else if (half) {
      op.weights = constant(call.path + "/weight", Type::kF16, weight_dims, half_bits(weights.value()));
    } else {
      const auto values = weights.value().values();
      op.weights =
          constant(call.path + "/weight", Type::kF32, weight_dims, std::vector<float>(values.begin(), values.end()));
    }
    op.bias = constant(call.path + "/bias", Type::kF32, {channels}, biases);
    std::tie(op.lo, op.hi) = limits({}, act);
    return add(std::move(op), call.path, {numbers}, activation(call.path, shape, {}));
  }

  static bool is_dynamic(const WeightedLayer& layer) {
    const auto* const quantizer = layer.input.find<quant::FakeQuant>();
    return quantizer != nullptr && quantizer->tensor_spec().dynamic;
  }

  // Weight and bias with the norm in them, whether it was folded or not.
  static std::pair<Variable, Variable> folded(WeightedLayer& layer) {
    if (!layer.norm.defined() || layer.fold() != nullptr) {
      return {layer.effective_weight(), layer.effective_bias()};
    }
    std::vector<int64_t> per_channel(static_cast<size_t>(layer.weight.shape().rank()), 1);
    per_channel[0] = layer.weight.shape()[0];
    return {mul(layer.weight.value(), reshape(layer.norm.factor(), Shape(per_channel))),
            layer.norm.shift(layer.bias.defined() ? layer.bias.value() : Variable())};
  }

  static std::vector<float> channel_scales(const GridsPtr& grids, uint32_t channels) {
    require(grids->size() == 1 || grids->size() == channels, "export",
            "weights with grids per group are simulation only");
    std::vector<float> scales;
    for (uint32_t c = 0; c < channels; ++c) {
      const Grid& grid = (*grids)[grids->size() == 1 ? 0 : c];
      require(grid.zero_point == 0 && grid.qmin == -grid.qmax, "export",
              "weights with zero-points are simulation only");
      require(grid.qmax <= 127, "export", "weights of more than 8 bits are simulation only");
      scales.push_back(grid.scale);
    }
    return scales;
  }

  static std::vector<int8_t> weight_codes(const Variable& weights) {
    const Grids& grids = *weights.grids();
    const auto length = weights.value().elements() / static_cast<int64_t>(grids.size());
    std::vector<int8_t> codes;
    for (int64_t i = 0; i < weights.value().elements(); ++i) {
      const Grid& grid = grids[static_cast<size_t>(i / length)];
      codes.push_back(static_cast<int8_t>(arithmetic::quantize(weights.value().data()[i], grid)));
    }
    return codes;
  }

  static std::vector<uint16_t> half_bits(const Tensor& weights) {
    std::vector<uint16_t> bits;
    for (const float w : weights.values()) {
      bits.push_back(quant::half_bits(w));
    }
    return bits;
  }

  uint32_t addition(const TracedCall& call, const Add& sum, const std::vector<uint32_t>& inputs) {
    const OnGrid to = single(sum.output.grids());
    const OnGrid a = grid_of(inputs[0]);
    const OnGrid b = grid_of(inputs[1]);
    OpSpec op{.kind = OpKind::kAdd};
    if (a.has_value() && b.has_value() && to.has_value()) {
      check_width(*a, *to);
      check_width(*b, *to);
      const arithmetic::Addition terms = arithmetic::addition(*a, *b, *to);
      op.parameters = {bits_of(terms.offset), bits_of(terms.ra), bits_of(terms.rb)};
      std::tie(op.lo, op.hi) = limits(to, sum.options().act);
      return add(std::move(op), call.path, inputs, result(call, to));
    }
    std::tie(op.lo, op.hi) = limits({}, sum.options().act);
    std::vector<uint32_t> numbers;
    for (size_t i = 0; i < inputs.size(); ++i) {
      numbers.push_back(as_numbers(inputs[i], call.path));
    }
    return finished(call, add(std::move(op), call.path, numbers, result(call, {})));
  }

  uint32_t activated(const TracedCall& call, const Activation& leaf, uint32_t x) {
    const Function function = leaf.options().function;
    const OnGrid from = grid_of(x);
    const OnGrid own = single(leaf.output.grids());
    const OnGrid to = !own.has_value() && function == Function::kRelu ? from : own;  // a ReLU keeps its input's grid
    if (from.has_value() && to.has_value() && type_of(from) == Type::kS8 && type_of(to) == Type::kS8 &&
        leaf.of_one_number()) {
      return table(call.path, x, result(call, to), leaf.of_one_number());
    }
    if (from.has_value() && !own.has_value() && function == Function::kRelu) {
      return rescale(call.path, x, result(call, from), Act::kRelu);  // by 1: it cuts
    }
    OpSpec op{.kind = OpKind::kActivation,
              .parameters = {function_number(function), bits_of(static_cast<float>(leaf.options().slope))}};
    if (function == Function::kSoftmax || function == Function::kLogSoftmax) {
      op = {.kind = function == Function::kSoftmax ? OpKind::kSoftmax : OpKind::kLogSoftmax};
    } else if (function != Function::kLeakyRelu) {
      op.parameters[1] = 0;
    }
    const uint32_t numbers = as_numbers(x, call.path);
    return finished(call, add(std::move(op), call.path, {numbers}, result(call, {})));
  }

  static OpSpec pool(OpKind kind, const PoolGeometry& g) {
    const Size2 stride = g.stride == Size2{0, 0} ? g.kernel : g.stride;
    const auto u = [](int64_t n) { return static_cast<uint32_t>(n); };
    return {.kind = kind,
            .kernel = {u(g.kernel.h), u(g.kernel.w)},
            .stride = {u(stride.h), u(stride.w)},
            .padding = {u(g.padding.top), u(g.padding.left), u(g.padding.bottom), u(g.padding.right)}};
  }

  uint32_t max_pool(const TracedCall& call, const PoolGeometry& geometry, uint32_t x) {
    OpSpec op = pool(OpKind::kMaxPool, geometry);
    const OnGrid grid = grid_of(x);
    std::tie(op.lo, op.hi) = limits(grid, Act::kNone);
    return finished(call, add(std::move(op), call.path, {x}, result(call, grid)));
  }

  uint32_t average_pool(const TracedCall& call, const PoolGeometry& geometry, uint32_t x) {
    OpSpec op = pool(OpKind::kAveragePool, geometry);
    const OnGrid from = grid_of(x);
    const OnGrid to = single(call.module->output.grids());
    if (!from.has_value() || !to.has_value()) {
      std::tie(op.lo, op.hi) = limits({}, Act::kNone);
      const uint32_t numbers = as_numbers(x, call.path);
      return finished(call, add(std::move(op), call.path, {numbers}, result(call, {})));
    }
    check_width(*from, *to);
    const int64_t window = geometry.kernel.h * geometry.kernel.w;
    std::vector<uint32_t> multipliers;
    for (int64_t n = geometry.padding == Padding{} ? window : 1; n <= window; ++n) {
      multipliers.push_back(bits_of(arithmetic::mean_multiplier(from->scale, to->scale, n)));
    }
    op.multipliers =
        constant(call.path + "/multipliers", Type::kU32, {static_cast<uint32_t>(multipliers.size())}, multipliers);
    std::tie(op.lo, op.hi) = limits(to, Act::kNone);
    return add(std::move(op), call.path, {x}, result(call, to));
  }

  uint32_t concatenation(const TracedCall& call, int axis, std::vector<uint32_t> inputs) {
    OnGrid to = single(call.module->output.grids());
    const OnGrid first = grid_of(inputs[0]);
    if (!to.has_value() && std::ranges::all_of(inputs, [&](uint32_t x) { return grid_of(x) == first; })) {
      to = first;
    }
    for (size_t i = 0; i < inputs.size(); ++i) {
      inputs[i] = to.has_value() ? as_codes(inputs[i], *to, call.path) : as_numbers(inputs[i], call.path);
    }
    const auto along = static_cast<uint32_t>(shape_of(call).normal_axis(axis, "concat"));
    return add({.kind = OpKind::kConcat, .parameters = {along}}, call.path, std::move(inputs), result(call, to));
  }

  // ---- Memory ----

  Lowered planned() {
    Lowered lowered;
    const std::vector<runtime::Life> lives = runtime::lives(spec_);
    std::map<uint32_t, int> block_of;
    for (uint32_t v = 0; v < spec_.values.size(); ++v) {
      if (!spec_.values[v].is_constant()) {
        block_of[v] = static_cast<int>(lowered.blocks.size());
        lowered.blocks.push_back({.name = spec_.values[v].name,
                                  .bytes = static_cast<int64_t>(runtime::bytes_of(spec_.values[v])),
                                  .first = lives[v].first,
                                  .last = lives[v].last});
        lowered.arena.push_back(v);
      }
    }
    std::vector<bool> replaced(spec_.values.size(), false);
    for (size_t i = 0; i < spec_.ops.size(); ++i) {
      const OpSpec& op = spec_.ops[i];
      for (const uint32_t x : op.inputs) {
        const bool fits = runtime::works_in_place(op.kind) && !spec_.values[x].is_constant() && !replaced[x] &&
                          lives[x].last == static_cast<int>(i) &&
                          runtime::bytes_of(spec_.values[x]) == runtime::bytes_of(spec_.values[op.output]);
        if (fits) {
          lowered.blocks[static_cast<size_t>(block_of.at(op.output))].replaces = block_of.at(x);
          replaced[x] = true;
          break;
        }
      }
    }
    lowered.plan = plan_memory(lowered.blocks);
    for (size_t b = 0; b < lowered.arena.size(); ++b) {
      spec_.values[lowered.arena[b]].offset = static_cast<uint64_t>(lowered.plan.offsets[b]);
    }
    lowered.spec = std::move(spec_);
    return lowered;
  }

  Trace traced_;
  runtime::ProgramSpec spec_;
  std::map<int, uint32_t> values_;  // of the trace, as values of the program
};

}  // namespace

Lowered lower(Module& model, const Shape& sample, const LowerOptions& options) {
  return Lowering(model, sample, options).run();
}

std::vector<uint8_t> program_of(Module& model, const Shape& sample, const LowerOptions& options) {
  return bytes_of(lower(model, sample, options));
}

std::vector<uint8_t> bytes_of(const Lowered& lowered) {
  try {
    return runtime::build(lowered.spec);
  } catch (const std::invalid_argument& refused) {
    fail("export", refused.what());
  }
}

}  // namespace whittle::deploy
