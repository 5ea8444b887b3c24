// Small nets for tests: each call adds an op to a program and, beside it, computes by the
// oracle (tests/kernels/oracle.h) what the op must give. finish() plans, builds and returns
// the file; `expected` holds what its outputs must be.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "deploy/plan.h"
#include "runtime/hosted/builder.h"
#include "runtime/hosted/choose.h"
#include "tests/kernels/draw.h"
#include "tests/kernels/oracle.h"
#include "tests/support/aligned_bytes.h"

namespace whittle {

// A value of the net with the codes, or for floats the numbers, that it must hold.
struct NetValue {
  uint32_t id = 0;
  std::vector<int64_t> dims;
  runtime::Type type = runtime::Type::kS8;
  Grid grid{};
  oracle::Codes codes;
  std::vector<double> numbers;

  int64_t elements() const {
    int64_t product = 1;
    for (const int64_t d : dims) {
      product *= d;
    }
    return product;
  }
  int64_t lowest() const { return type == runtime::Type::kS8 ? -128 : -32768; }
  int64_t highest() const { return type == runtime::Type::kS8 ? 127 : 32767; }
};

class Net {
 public:
  using Type = runtime::Type;
  using OpKind = runtime::OpKind;

  explicit Net(const RngKey& key) : draw(key) {}

  Draw draw;
  runtime::ProgramSpec spec;
  std::vector<uint8_t> input_bytes;     // all inputs, one after the other
  std::vector<uint8_t> expected_bytes;  // all outputs
  int64_t largest_weight = 127;         // of products to come: 7 fits into 4 bits, 1 into 2

  // ---- Values -----------------------------------------------------------------------

  Grid draw_grid(Type type) {
    const int limit = type == Type::kS8 ? 127 : 32767;
    return {draw.scale(-6, -3), static_cast<int32_t>(draw.in(-limit - 1, limit)), -limit - 1, limit};
  }

  NetValue input(const std::vector<int64_t>& dims, Type type = Type::kS8) {
    NetValue v = value("input", dims, type, type == Type::kF32 ? Grid{} : draw_grid(type));
    if (type == Type::kF32) {
      for (int64_t i = 0; i < v.elements(); ++i) {
        v.numbers.push_back(static_cast<double>(static_cast<float>(draw.real_in(-2, 2))));
      }
    } else {
      v.codes = draw.codes(v.elements(), v.lowest(), v.highest());
    }
    append(input_bytes, v);
    spec.inputs.push_back(v.id);
    return v;
  }

  // ---- Integer ops --------------------------------------------------------------------

  // `fit`: the padding; dims of the result follow.
  NetValue conv(const NetValue& x, int64_t out, int64_t groups, oracle::Geometry g, bool relu) {
    g.n = x.dims[0];
    g.h = x.dims[1];
    g.w = x.dims[2];
    g.c = x.dims[3];
    const int64_t products = g.kh * g.kw * g.c / groups;
    NetValue y = value("conv", {g.n, g.oh(), g.ow(), out}, x.type, draw_grid(x.type));
    runtime::OpSpec op{.kind = OpKind::kConv,
                       .groups = u(groups),
                       .kernel = {u(g.kh), u(g.kw)},
                       .stride = {u(g.sh), u(g.sw)},
                       .dilation = {u(g.dh), u(g.dw)},
                       .padding = {u(g.top), u(g.left), u(g.bottom), u(g.right)}};
    const Product p = product(op, x, y, {u(out), u(g.kh), u(g.kw), u(g.c / groups)}, out, products, relu);
    y.codes =
        oracle::convolution(g, out, groups, x.codes, x.grid.zero_point, p.weights, p.bias, p.multipliers, p.range);
    return add(std::move(op), {x}, y);
  }

  NetValue fully_connected(const NetValue& x, int64_t out) {
    const int64_t in = x.elements() / x.dims[0];
    NetValue y = value("fc", {x.dims[0], out}, x.type, draw_grid(x.type));
    runtime::OpSpec op{.kind = OpKind::kFullyConnected};
    const Product p = product(op, x, y, {u(out), u(in)}, out, in, false);
    const oracle::Geometry pixel{x.dims[0], 1, 1, in, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0};
    y.codes = oracle::convolution(pixel, out, 1, x.codes, x.grid.zero_point, p.weights, p.bias, p.multipliers, p.range);
    return add(std::move(op), {x}, y);
  }

  NetValue sum(const NetValue& a, const NetValue& b) {
    NetValue y = value("add", a.dims, a.type, draw_grid(a.type));
    const volatile float ratio_a = a.grid.scale / y.grid.scale;
    const volatile float ratio_b = b.grid.scale / y.grid.scale;
    const volatile float first = ratio_a * static_cast<float>(a.grid.zero_point);
    const volatile float second = ratio_b * static_cast<float>(b.grid.zero_point);
    const volatile float both = first + second;
    const float c = static_cast<float>(y.grid.zero_point) - both;
    const oracle::Range range = range_of(y, true);
    for (size_t i = 0; i < a.codes.size(); ++i) {
      y.codes.push_back(oracle::add(a.codes[i], b.codes[i], c, ratio_a, ratio_b, range));
    }
    return add({.kind = OpKind::kAdd,
                .lo = runtime::code(static_cast<int32_t>(range.lo)),
                .hi = runtime::code(static_cast<int32_t>(range.hi)),
                .parameters = {oracle::bits(c), oracle::bits(ratio_a), oracle::bits(ratio_b)}},
               {a, b}, y);
  }

  NetValue pool(const NetValue& x, oracle::Geometry g, bool average, bool flat = false) {
    g.n = x.dims[0];
    g.h = x.dims[1];
    g.w = x.dims[2];
    g.c = x.dims[3];
    g.dh = g.dw = 1;
    NetValue y = value("pool", flat ? std::vector<int64_t>{g.n, g.c} : std::vector<int64_t>{g.n, g.oh(), g.ow(), g.c},
                       x.type, average ? draw_grid(x.type) : x.grid);
    const oracle::Range range = range_of(y, false);
    runtime::OpSpec op{.kind = average ? OpKind::kAveragePool : OpKind::kMaxPool,
                       .kernel = {u(g.kh), u(g.kw)},
                       .stride = {u(g.sh), u(g.sw)},
                       .padding = {u(g.top), u(g.left), u(g.bottom), u(g.right)},
                       .lo = runtime::code(static_cast<int32_t>(range.lo)),
                       .hi = runtime::code(static_cast<int32_t>(range.hi))};
    if (average) {
      y.codes = oracle::average_pool(g, x.codes, x.grid.zero_point, x.grid.scale, y.grid.scale, range);
      const bool padded = g.top + g.left + g.bottom + g.right > 0;
      std::vector<float> multipliers;
      for (int64_t n = padded ? 1 : g.kh * g.kw; n <= g.kh * g.kw; ++n) {
        multipliers.push_back(oracle::average_multiplier(x.grid.scale, y.grid.scale, n));
      }
      op.multipliers = numbers(Type::kU32, multipliers);
    } else {
      y.codes = oracle::max_pool(g, x.codes, range);
    }
    return add(std::move(op), {x}, y);
  }

  NetValue concat(const std::vector<NetValue>& parts, int64_t axis) {
    std::vector<int64_t> dims = parts[0].dims;
    const auto at = static_cast<size_t>(axis);
    dims[at] = 0;
    for (const NetValue& part : parts) {
      dims[at] += part.dims[at];
    }
    NetValue y = value("concat", dims, parts[0].type, parts[0].grid);
    int64_t inner = 1;
    for (size_t i = at + 1; i < dims.size(); ++i) {
      inner *= dims[i];
    }
    for (int64_t i = 0; i < y.elements(); ++i) {  // which part does number i come from?
      const int64_t outer = i / (dims[at] * inner);
      int64_t within = i / inner % dims[at];
      size_t part = 0;
      for (; within >= parts[part].dims[at]; ++part) {
        within -= parts[part].dims[at];
      }
      y.codes.push_back(
          parts[part].codes[static_cast<size_t>((outer * parts[part].dims[at] + within) * inner + i % inner)]);
    }
    return add({.kind = OpKind::kConcat, .parameters = {u(axis)}}, parts, y);
  }

  NetValue table(const NetValue& x) {
    NetValue y = value("table", x.dims, x.type, draw_grid(x.type));
    const oracle::Codes entries = draw.codes(256, -128, 127);
    for (const int64_t code : x.codes) {
      y.codes.push_back(entries[static_cast<size_t>(code + 128)]);
    }
    const auto bytes = converted<int8_t>(entries);
    return add({.kind = OpKind::kTable,
                .table = spec.add_constant<int8_t>("table/codes", Type::kS8, {256}, std::span<const int8_t>(bytes))},
               {x}, y);
  }

  NetValue rescale(const NetValue& x, const Grid& grid) {
    NetValue y = value("rescale", x.dims, x.type, grid);
    const volatile float m = x.grid.scale / grid.scale;
    const oracle::Range range = range_of(y, false);
    for (const int64_t code : x.codes) {
      y.codes.push_back(oracle::requantize(code - x.grid.zero_point, m, range));
    }
    return add({.kind = OpKind::kRescale,
                .multipliers = numbers(Type::kU32, {m}),
                .lo = runtime::code(static_cast<int32_t>(range.lo)),
                .hi = runtime::code(static_cast<int32_t>(range.hi))},
               {x}, y);
  }

  NetValue softmax(const NetValue& x) {
    NetValue y = value("softmax", x.dims, x.type, {1.0f / 256, -128, -128, 127});
    std::vector<uint32_t> exponentials;
    for (int64_t d = 0; d < 256; ++d) {
      exponentials.push_back(oracle::exponential(x.grid.scale, d));
    }
    const auto count = static_cast<size_t>(x.dims.back());
    for (size_t row = 0; row < x.codes.size(); row += count) {
      const auto at = [&](size_t i) { return x.codes.begin() + static_cast<std::ptrdiff_t>(i); };
      const oracle::Codes part = oracle::softmax({at(row), at(row + count)}, exponentials, 8, {-128, -128, 127});
      y.codes.insert(y.codes.end(), part.begin(), part.end());
    }
    return add({.kind = OpKind::kSoftmax,
                .table = spec.add_constant<uint32_t>("softmax/table", Type::kU32, {256},
                                                     std::span<const uint32_t>(exponentials)),
                .lo = runtime::code(-128),
                .hi = runtime::code(127)},
               {x}, y);
  }

  NetValue reshape(const NetValue& x, const std::vector<int64_t>& dims) {
    NetValue y = value("reshape", dims, x.type, x.grid);
    y.codes = x.codes;
    y.numbers = x.numbers;
    return add({.kind = OpKind::kReshape}, {x}, y);
  }

  NetValue dequantize(const NetValue& x) {
    NetValue y = value("dequantize", x.dims, Type::kF32, {});
    for (const int64_t code : x.codes) {
      y.numbers.push_back(static_cast<double>(x.grid.scale * static_cast<float>(code - x.grid.zero_point)));
    }
    return add({.kind = OpKind::kDequantize}, {x}, y);
  }

  NetValue quantize(const NetValue& x, Type type) {
    NetValue y = value("quantize", x.dims, type, draw_grid(type));
    for (const double number : x.numbers) {
      const double steps = std::nearbyint(static_cast<double>(static_cast<float>(number) / y.grid.scale));
      const double low = static_cast<double>(y.lowest()), high = static_cast<double>(y.highest());
      y.codes.push_back(static_cast<int64_t>(std::clamp(steps + y.grid.zero_point, low, high)));
    }
    return add({.kind = OpKind::kQuantize}, {x}, y);
  }

  // ---- The program --------------------------------------------------------------------

  // Adds an op with its operands and returns its result.
  NetValue add(runtime::OpSpec op, const std::vector<NetValue>& inputs, NetValue y) {
    for (const NetValue& x : inputs) {
      op.inputs.push_back(x.id);
    }
    op.output = y.id;
    op.name = spec.values[y.id].name;
    spec.ops.push_back(std::move(op));
    return y;
  }

  NetValue value(const std::string& name, const std::vector<int64_t>& dims, Type type, const Grid& grid) {
    NetValue v;
    v.dims = dims;
    v.type = type;
    v.grid = grid;
    v.id = spec.add_activation({.name = name + std::to_string(spec.values.size()),
                                .type = type,
                                .dims = converted<uint32_t>(dims),
                                .grid = grid});
    return v;
  }

  uint32_t numbers(Type type, const std::vector<float>& values) {
    return spec.add_constant<float>("numbers", type, {u(static_cast<int64_t>(values.size()))},
                                    std::span<const float>(values));
  }

  void output(const NetValue& v) {
    append(expected_bytes, v);
    spec.outputs.push_back(v.id);
  }

  // Lays the values out and writes the file. With `in_place`, ops that may write over an
  // input that is needed no more do so.
  std::vector<uint8_t> finish(bool in_place = true) {
    const std::vector<runtime::Life> lives = runtime::lives(spec);
    std::vector<deploy::Block> blocks;
    std::vector<uint32_t> value_of;
    std::map<uint32_t, int> block_of;
    std::map<uint32_t, bool> taken;
    const auto block = [&](uint32_t v, int replaces) {
      block_of[v] = static_cast<int>(blocks.size());
      value_of.push_back(v);
      blocks.push_back({.name = spec.values[v].name,
                        .bytes = bytes_of(v),
                        .first = lives[v].first,
                        .last = lives[v].last,
                        .replaces = replaces});
    };
    for (const uint32_t v : spec.inputs) {
      block(v, deploy::Block::kNothing);
    }
    for (size_t i = 0; i < spec.ops.size(); ++i) {
      const runtime::OpSpec& op = spec.ops[i];
      int replaces = deploy::Block::kNothing;
      for (const uint32_t x : op.inputs) {
        if (in_place && runtime::works_in_place(op.kind) && lives[x].last == static_cast<int>(i) && !taken[x] &&
            bytes_of(x) == bytes_of(op.output) && replaces == deploy::Block::kNothing) {
          replaces = block_of.at(x);
          taken[x] = true;
        }
      }
      block(op.output, replaces);
      if (op.scratch != runtime::kNone) {
        block(op.scratch, deploy::Block::kNothing);
      }
    }
    plan = deploy::plan_memory(blocks);
    for (size_t i = 0; i < blocks.size(); ++i) {
      spec.values[value_of[i]].offset = static_cast<uint64_t>(plan.offsets[i]);
    }
    return runtime::build(spec);
  }

  deploy::MemoryPlan plan;

  static uint32_t u(int64_t x) { return static_cast<uint32_t>(x); }

 private:
  struct Product {
    oracle::Codes weights, bias;
    std::vector<float> multipliers;
    oracle::Range range;
  };

  // Draws the constants of a product and hangs them on the op.
  Product product(runtime::OpSpec& op, const NetValue& x, const NetValue& y, std::vector<uint32_t> dims, int64_t out,
                  int64_t products, bool relu) {
    Product p{.weights = draw.codes(out * products, -largest_weight, largest_weight),
              .bias = draw.codes(out, -5000, 5000),
              .multipliers = {},
              .range = {}};
    for (int64_t o = 0; o < out; ++o) {
      const volatile float step = x.grid.scale * draw.scale(-9, -6);
      p.multipliers.push_back(step / y.grid.scale / std::sqrt(static_cast<float>(products)));
    }
    p.range = range_of(y, relu);
    const auto weights = converted<int8_t>(p.weights);
    const auto bias = converted<int32_t>(p.bias);
    op.weights = spec.add_weights("weight", std::move(dims), weights);
    op.bias = spec.add_constant<int32_t>("bias", Type::kS32, {u(out)}, std::span<const int32_t>(bias));
    op.multipliers = numbers(Type::kU32, p.multipliers);
    op.lo = runtime::code(static_cast<int32_t>(p.range.lo));
    op.hi = runtime::code(static_cast<int32_t>(p.range.hi));
    return p;
  }

  static oracle::Range range_of(const NetValue& y, bool relu) {
    const int64_t lo = relu ? y.grid.zero_point : y.grid.qmin;
    return {y.grid.zero_point, lo, y.grid.qmax};
  }

  int64_t bytes_of(uint32_t v) const { return static_cast<int64_t>(runtime::bytes_of(spec.values[v])); }

  static void append(std::vector<uint8_t>& bytes, const NetValue& v) {
    const auto put = [&](const auto& number) {
      const auto* from = reinterpret_cast<const uint8_t*>(&number);
      bytes.insert(bytes.end(), from, from + sizeof number);
    };
    for (const int64_t code : v.codes) {
      if (v.type == Type::kS8) {
        put(static_cast<int8_t>(code));
      } else {
        put(static_cast<int16_t>(code));
      }
    }
    for (const double number : v.numbers) {
      put(static_cast<float>(number));
    }
  }
};

// conv - relu - pool - fc - softmax, residual addition, depthwise, concat, table: every
// integer op, in one small net of the shape that nets have.
inline Net small_net(const RngKey& key, int64_t largest_weight = 127) {
  Net net(key);
  net.largest_weight = largest_weight;
  const oracle::Geometry same3{0, 0, 0, 0, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1};
  const oracle::Geometry half2{0, 0, 0, 0, 2, 2, 2, 2, 1, 1, 0, 0, 0, 0};
  const NetValue x = net.input({1, 6, 6, 3});
  const NetValue a = net.conv(x, 4, 1, same3, true);
  const NetValue b = net.conv(a, 4, 4, same3, true);  // depthwise
  const NetValue c = net.sum(a, b);
  const NetValue d = net.pool(c, half2, false);
  const NetValue e = net.table(d);
  const NetValue f = net.rescale(e, d.grid);
  const NetValue g = net.concat({f, d}, 3);
  const NetValue h = net.pool(g, {0, 0, 0, 0, 3, 3, 1, 1, 1, 1, 0, 0, 0, 0}, true, true);
  const NetValue i = net.fully_connected(h, 5);
  net.output(net.softmax(i));
  return net;
}

// A net drawn at random: ops on values drawn from those there are.
inline Net random_net(const RngKey& key, runtime::Type type, int64_t most_ops = 8) {
  Net net(key);
  Draw& draw = net.draw;
  std::vector<NetValue> images;
  images.push_back(net.input({draw.in(1, 2), draw.in(2, 7), draw.in(2, 7), draw.in(1, 6)}, type));
  if (draw.once_in(4)) {
    images.push_back(net.input(images[0].dims, type));
  }
  const auto any = [&] { return images[static_cast<size_t>(draw.in(0, static_cast<int64_t>(images.size()) - 1))]; };
  const int64_t ops = draw.in(1, most_ops);
  for (int64_t k = 0; k < ops; ++k) {
    const NetValue x = any();
    net.largest_weight = std::array{127, 7, 1}[static_cast<size_t>(draw.in(0, 2))];
    const auto window = [&](bool dilated) {  // one that fits x
      for (;;) {
        oracle::Geometry g = draw.geometry(x.dims[3], dilated, !dilated);
        g.h = x.dims[1];
        g.w = x.dims[2];
        if (g.h + g.top + g.bottom >= (g.kh - 1) * g.dh + 1 && g.w + g.left + g.right >= (g.kw - 1) * g.dw + 1) {
          return g;
        }
      }
    };
    switch (draw.in(0, 7)) {
      case 0:
        images.push_back(net.conv(x, draw.in(1, 6), 1, window(true), draw.once_in(2)));
        break;
      case 1:
        images.push_back(net.conv(x, x.dims[3] * draw.in(1, 2), x.dims[3], window(true), draw.once_in(2)));
        break;
      case 2: {
        NetValue other = x;
        for (const NetValue& candidate : images) {
          other = candidate.dims == x.dims && draw.once_in(2) ? candidate : other;
        }
        images.push_back(net.sum(x, other));
        break;
      }
      case 3:
        images.push_back(net.pool(x, window(false), draw.once_in(2)));
        break;
      case 4:
        images.push_back(type == runtime::Type::kS8 ? net.table(x) : net.rescale(x, net.draw_grid(type)));
        break;
      case 5:
        images.push_back(net.rescale(x, net.draw_grid(type)));
        break;
      case 6: {
        const NetValue other = net.rescale(x, x.grid);
        images.push_back(net.concat({x, other, x}, draw.in(0, 3)));
        break;
      }
      default:
        images.push_back(net.reshape(x, {x.dims[0], x.dims[2], x.dims[1], x.dims[3]}));
        break;
    }
  }
  const NetValue last = images.back();
  net.output(last);
  if (draw.once_in(2)) {
    const NetValue scores = net.fully_connected(any(), draw.in(1, 9));
    net.output(scores);
    if (type == runtime::Type::kS8 && draw.once_in(2)) {
      net.output(net.softmax(scores));
    }
  }
  return net;
}

// The outputs of a program, run by given kernels, with weights in their own order or in the program's.
enum class Weights { kPacked, kAsStored };
inline std::vector<uint8_t> run_program(const std::vector<uint8_t>& file, const std::vector<uint8_t>& inputs,
                                        runtime::Kernels kernels, Weights weights = Weights::kPacked) {
  runtime::Program program;
  if (load(file.data(), file.size(), {}, program) != runtime::Status::kOk) {
    return {};
  }
  constexpr size_t kGuard = 64;
  std::vector<uint8_t> memory(static_cast<size_t>(program.arena_bytes()) + 2 * kGuard, 0xa5);
  uint8_t* arena = memory.data() + kGuard;
  const uint8_t* from = inputs.data();
  for (uint32_t i = 0; i < program.input_count(); ++i) {
    const auto bytes = static_cast<size_t>(runtime::bytes_of(program.value(program.input(i))));
    std::memcpy(program.data(program.input(i), arena), from, bytes);
    from += bytes;
  }
  const runtime::PackSize size = runtime::pack_size(program, kernels);
  const AlignedBytes packed(size.packed_bytes);
  const AlignedBytes scratch(size.scratch_bytes);
  if (weights == Weights::kPacked) {
    runtime::pack(program, kernels, packed.data);
    kernels.packed = packed.data;
    kernels.scratch = scratch.data;
  }
  if (run(program, kernels, arena, static_cast<size_t>(program.arena_bytes())) != runtime::Status::kOk) {
    return {};
  }
  std::vector<uint8_t> outputs;
  for (uint32_t i = 0; i < program.output_count(); ++i) {
    const uint8_t* data = program.data(program.output(i), arena);
    outputs.insert(outputs.end(), data, data + runtime::bytes_of(program.value(program.output(i))));
  }
  for (size_t i = 0; i < kGuard; ++i) {
    if (memory[i] != 0xa5 || memory[memory.size() - 1 - i] != 0xa5) {
      return {};
    }
  }
  return outputs;
}

}  // namespace whittle
