#include "runtime/hosted/explain.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <stdexcept>

#include "runtime/run.h"

namespace whittle::runtime {

namespace {

float number(uint32_t bits) { return __builtin_bit_cast(float, bits); }

std::vector<uint32_t> index_of(const ValueRecord& v, uint64_t element) {
  std::vector<uint32_t> index(v.rank);
  for (uint32_t i = v.rank; i-- > 0;) {
    index[i] = static_cast<uint32_t>(element % v.dims[i]);
    element /= v.dims[i];
  }
  return index;
}

uint64_t element_of(const ValueRecord& v, const std::vector<uint32_t>& index) {
  uint64_t element = 0;
  for (uint32_t i = 0; i < v.rank; ++i) {
    element = element * v.dims[i] + index[i];
  }
  return element;
}

// Writes an Explanation of one element.
class Writer {
 public:
  Writer(const Program& program, void* arena, const OpRecord& op, uint64_t element)
      : call_(program, op, arena), element_(element) {
    e_.kind = op.kind;
    e_.op = program.name(op.name);
    e_.index = index_of(call_.y, element);
    e_.range = {call_.y.zero_point, call_.y.qmin, call_.y.qmax};
  }

  Explanation write() {
    switch (call_.op.kind) {
      case OpKind::kConv:
        write_conv();
        break;
      case OpKind::kFullyConnected:
        write_fully_connected();
        break;
      case OpKind::kAdd:
        write_add();
        break;
      case OpKind::kMaxPool:
      case OpKind::kAveragePool:
        write_pool();
        break;
      case OpKind::kConcat:
        write_concat();
        break;
      case OpKind::kTable:
        add_term(0, element_, 1);
        step("T[q + 128]", call_.constant<int8_t>(call_.op.table)[e_.terms[0].code + 128]);
        break;
      case OpKind::kRescale:
        e_.range = call_.range();
        add_term(0, element_, 1);
        requantize(*call_.constant<uint32_t>(call_.op.multipliers));
        break;
      case OpKind::kSoftmax:
        write_softmax();
        break;
      default:  // reshape
        add_term(0, element_, 1);
        step("copied", e_.terms[0].code);
        break;
    }
    e_.code = static_cast<int32_t>(e_.steps.back().value);
    return e_;
  }

 private:
  void step(const char* what, double value) { e_.steps.push_back({what, value}); }

  // A number of input `i`, times a weight.
  void add_term(uint32_t i, uint64_t element, int32_t weight) {
    const ValueRecord x = call_.p.value(call_.p.operand(call_.op, i));
    const int32_t code =
        x.type == Type::kS8 ? call_.input<int8_t>(i)[element] : read<int16_t>(call_.input<uint8_t>(i) + 2 * element);
    const int64_t product = static_cast<int64_t>(code - x.zero_point) * weight;
    e_.terms.push_back({index_of(x, element), i, code, x.zero_point, weight, product});
    e_.accumulator += product;
  }
  void add_padding(int32_t weight) { e_.terms.push_back({{}, 0, call_.x.zero_point, call_.x.zero_point, weight, 0}); }

  // A9, one line a step.
  void requantize(uint32_t multiplier) {
    e_.multiplier = multiplier;
    const auto accumulator = static_cast<float>(e_.accumulator);
    const float scaled = accumulator * number(multiplier);
    const auto low = static_cast<float>(e_.range.lo - e_.range.zero_point);
    const auto high = static_cast<float>(e_.range.hi - e_.range.zero_point);
    const float limited = std::min(std::max<float>(scaled, low), high);
    const float nearest = std::nearbyint(limited);
    step("fl(acc)", static_cast<double>(accumulator));
    step("fl(fl(acc) M)", static_cast<double>(scaled));
    step("clamp to [lo - Z, hi - Z]", static_cast<double>(limited));
    step("rne", static_cast<double>(nearest));
    step("+ Z", static_cast<double>(nearest) + e_.range.zero_point);
  }

  void start_product(uint32_t channel) {
    e_.range = call_.range();
    e_.bias = call_.constant<int32_t>(call_.op.bias)[channel];
    e_.bound = call_.p.bound(call_.op, channel);
    e_.accumulator = e_.bias;
  }

  std::vector<int8_t> weights_of(uint32_t channel, int32_t count) const {
    std::vector<int8_t> codes;
    kernels::with_rows(call_.p.codes(call_.op.weights), count, [&](const auto& rows) {
      for (int32_t i = 0; i < count; ++i) {
        codes.push_back(rows[channel][i]);
      }
    });
    return codes;
  }

  void write_conv() {
    const kernels::ConvShape s = call_.conv_shape();
    const kernels::Window& w = s.window;
    const uint32_t o = e_.index[3];
    const auto group_in = static_cast<uint32_t>(s.in_channels / s.groups);
    const uint32_t first = o / static_cast<uint32_t>(s.out_channels / s.groups) * group_in;
    const std::vector<int8_t> weights = weights_of(o, s.filter());
    auto weight = weights.begin();
    start_product(o);
    for (int32_t u = 0; u < w.kernel_h; ++u) {
      for (int32_t v = 0; v < w.kernel_w; ++v) {
        const int32_t row = w.row(static_cast<int32_t>(e_.index[1]), u);
        const int32_t column = w.column(static_cast<int32_t>(e_.index[2]), v);
        for (uint32_t i = 0; i < group_in; ++i, ++weight) {
          if (w.inside(row, column)) {
            add_term(0,
                     element_of(call_.x,
                                {e_.index[0], static_cast<uint32_t>(row), static_cast<uint32_t>(column), first + i}),
                     *weight);
          } else {
            add_padding(*weight);
          }
        }
      }
    }
    requantize(call_.constant<uint32_t>(call_.op.multipliers)[o]);
  }

  void write_fully_connected() {
    const uint32_t o = e_.index[1];
    const std::vector<int8_t> weights = weights_of(o, call_.in());
    start_product(o);
    uint64_t element = e_.index[0] * weights.size();
    for (const int8_t weight : weights) {
      add_term(0, element++, weight);
    }
    requantize(call_.constant<uint32_t>(call_.op.multipliers)[o]);
  }

  // A16: the zero-points are in c, so the codes themselves are multiplied.
  void write_add() {
    e_.range = call_.range();
    add_term(0, element_, 1);
    add_term(1, element_, 1);
    const float c = number(call_.op.parameters[0]);
    const float ratio_a = number(call_.op.parameters[1]);
    const float ratio_b = number(call_.op.parameters[2]);
    const float first = static_cast<float>(e_.terms[0].code) * ratio_a;
    const float partly = c + first;
    const float second = static_cast<float>(e_.terms[1].code) * ratio_b;
    const float sum = partly + second;
    const float limited =
        std::min(std::max<float>(sum, static_cast<float>(e_.range.lo)), static_cast<float>(e_.range.hi));
    step("c", static_cast<double>(c));
    step("r_a", static_cast<double>(ratio_a));
    step("r_b", static_cast<double>(ratio_b));
    step("fl(a r_a)", static_cast<double>(first));
    step("fl(c + a r_a)", static_cast<double>(partly));
    step("fl(b r_b)", static_cast<double>(second));
    step("fl(... + b r_b)", static_cast<double>(sum));
    step("clamp to [lo, hi]", static_cast<double>(limited));
    step("rne", static_cast<double>(std::nearbyint(limited)));
  }

  void write_pool() {
    e_.range = call_.range();
    const kernels::Window w = call_.window();
    const bool flat = call_.y.rank != 4;
    const auto p = static_cast<int32_t>(flat ? 0 : e_.index[1]);
    const auto r = static_cast<int32_t>(flat ? 0 : e_.index[2]);
    for (int32_t u = 0; u < w.kernel_h; ++u) {
      for (int32_t v = 0; v < w.kernel_w; ++v) {
        if (w.inside(w.row(p, u), w.column(r, v))) {
          add_term(0,
                   element_of(call_.x, {e_.index[0], static_cast<uint32_t>(w.row(p, u)),
                                        static_cast<uint32_t>(w.column(r, v)), e_.index.back()}),
                   1);
        }
      }
    }
    if (call_.op.kind == OpKind::kAveragePool) {
      const uint64_t multipliers = elements(call_.p.value(call_.op.multipliers));
      requantize(call_.constant<uint32_t>(call_.op.multipliers)[multipliers == 1 ? 0 : e_.terms.size() - 1]);
      return;
    }
    int32_t largest = e_.terms[0].code;
    for (const Explanation::Term& term : e_.terms) {
      largest = std::max(largest, term.code);
    }
    e_.accumulator = largest;
    step("largest code", largest);
    step("clamp to [lo, hi]", std::clamp(largest, e_.range.lo, e_.range.hi));
  }

  void write_concat() {
    const uint32_t axis = call_.op.parameters[0];
    std::vector<uint32_t> index = e_.index;
    for (uint32_t k = 0; k < call_.op.inputs; ++k) {
      const ValueRecord x = call_.p.value(call_.p.operand(call_.op, k));
      if (index[axis] < x.dims[axis]) {
        add_term(k, element_of(x, index), 1);
        break;
      }
      index[axis] -= x.dims[axis];
    }
    step("copied", e_.terms[0].code);
  }

  void write_softmax() {
    e_.range = call_.range();
    const auto count = static_cast<uint64_t>(call_.last_extent());
    const uint64_t row = element_ / count * count;
    for (uint64_t i = 0; i < count; ++i) {
      add_term(0, row + i, 1);
    }
    int32_t largest = e_.terms[0].code;
    for (const Explanation::Term& term : e_.terms) {
      largest = std::max(largest, term.code);
    }
    const auto* exponentials = call_.constant<uint32_t>(call_.op.table);
    uint64_t total = 0;
    for (size_t i = 0; i < count; ++i) {
      total += exponentials[largest - e_.terms[i].code];
    }
    const uint32_t part = exponentials[largest - e_.terms[element_ - row].code];
    const int k = 127 - static_cast<int>(call_.y.scale >> 23);
    e_.accumulator = static_cast<int64_t>(total);
    const uint64_t whole = (uint64_t{part} << k) / total;
    const uint64_t rest = (uint64_t{part} << k) % total;
    const auto nearest =
        static_cast<int64_t>(whole + (2 * rest > total || (2 * rest == total && whole % 2 == 1) ? 1 : 0));
    step("largest code m", largest);
    step("E[m - q]", part);
    step("2^k", static_cast<double>(uint64_t{1} << k));
    step("T, the sum of the row's E", static_cast<double>(total));
    step("rne(2^k E / T)", static_cast<double>(nearest));
    step("+ Z", static_cast<double>(nearest + e_.range.zero_point));
    step("clamp to [lo, hi]",
         static_cast<double>(std::clamp<int64_t>(nearest + e_.range.zero_point, e_.range.lo, e_.range.hi)));
  }

  Call call_;
  uint64_t element_;
  Explanation e_;
};

std::string list(const std::vector<uint32_t>& index) {
  std::string text = "[";
  for (const uint32_t i : index) {
    text += (text.size() > 1 ? "," : "") + std::to_string(i);
  }
  return text + "]";
}

std::string exact(double x) {  // enough digits to read the same number back
  char text[32];
  std::snprintf(text, sizeof text, "%.17g", x);
  return text;
}

}  // namespace

Explanation explain(const Program& program, void* arena, uint32_t op, uint64_t element) {
  if (op >= program.op_count()) {
    throw std::invalid_argument("[explain] there is no op " + std::to_string(op) + ", the program has " +
                                std::to_string(program.op_count()));
  }
  const OpRecord record = program.op(op);
  const ValueRecord y = program.value(record.output);
  if (element >= elements(y)) {
    throw std::invalid_argument("[explain] there is no number " + std::to_string(element) + ", op " +
                                std::to_string(op) + " makes " + std::to_string(elements(y)));
  }
  if (y.type == Type::kF32 || program.value(program.operand(record, 0)).type == Type::kF32) {
    throw std::invalid_argument("[explain] op " + std::to_string(op) + " touches floats; only codes are explained");
  }
  return Writer(program, arena, record, element).write();
}

int32_t replay(const Explanation& e) {
  const auto limited = [&](double x, int32_t zero_point) {
    return std::min(std::max(x, static_cast<double>(e.range.lo - zero_point)),
                    static_cast<double>(e.range.hi - zero_point));
  };
  // A binary64 sum or product of two binary32 numbers, rounded to binary32, is the binary32 one.
  const auto fl = [](double x) { return static_cast<double>(static_cast<float>(x)); };
  switch (e.kind) {
    case OpKind::kAdd: {
      const double partly = fl(e.steps[0].value + fl(e.terms[0].code * e.steps[1].value));
      const double sum = fl(partly + fl(e.terms[1].code * e.steps[2].value));
      return static_cast<int32_t>(std::nearbyint(limited(sum, 0)));
    }
    case OpKind::kMaxPool: {
      int32_t largest = e.terms[0].code;
      for (const Explanation::Term& term : e.terms) {
        largest = std::max(largest, term.code);
      }
      return std::clamp(largest, e.range.lo, e.range.hi);
    }
    case OpKind::kSoftmax: {  // 2^k E / T is no tie unless it is exact in binary64
      const double quotient = std::nearbyint(e.steps[1].value * e.steps[2].value / e.steps[3].value);
      return static_cast<int32_t>(limited(quotient + e.range.zero_point, 0));
    }
    case OpKind::kTable:
    case OpKind::kConcat:
    case OpKind::kReshape:
      return static_cast<int32_t>(e.steps[0].value);
    default: {
      int64_t accumulator = e.bias;
      for (const Explanation::Term& term : e.terms) {
        accumulator += static_cast<int64_t>(term.code - term.zero_point) * term.weight;
      }
      const double scaled =
          fl(static_cast<double>(static_cast<float>(accumulator)) * static_cast<double>(number(e.multiplier)));
      return static_cast<int32_t>(std::nearbyint(limited(scaled, e.range.zero_point))) + e.range.zero_point;
    }
  }
}

std::string Explanation::text() const {
  std::string text = "op '" + op + "', output " + list(index) + "\n";
  for (const Term& term : terms) {
    text += "  input " + std::to_string(term.input) + " " + (term.index.empty() ? "padding" : list(term.index)) +
            ": (" + std::to_string(term.code) + " - " + std::to_string(term.zero_point) + ") * " +
            std::to_string(term.weight) + " = " + std::to_string(term.product) + "\n";
  }
  if (multiplier != 0) {
    text += "  bias " + std::to_string(bias) + ", accumulator " + std::to_string(accumulator) +
            (bound == 0 ? "" : " (of this channel at most +-" + std::to_string(bound) + ")") +
            "\n  multiplier M = " + exact(static_cast<double>(number(multiplier))) + " = " +
            std::to_string(multiplier_mantissa()) + " * 2^" + std::to_string(multiplier_exponent()) + "\n";
  }
  text += "  limits lo " + std::to_string(range.lo) + ", hi " + std::to_string(range.hi) + ", zero-point Z " +
          std::to_string(range.zero_point) + "\n";
  for (const Step& step : steps) {
    text += "  " + step.what + " = " + exact(step.value) + "\n";
  }
  return text + "  code " + std::to_string(code) + "\n";
}

}  // namespace whittle::runtime
