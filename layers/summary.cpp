#include "layers/summary.h"

#include <algorithm>
#include <array>
#include <set>

#include "layers/trace.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

int64_t elements_of(const std::vector<NamedParameter>& parameters) {
  int64_t count = 0;
  for (const NamedParameter& named : parameters) {
    count += named.parameter->shape().elements();
  }
  return count;
}

int64_t elements_of(const std::vector<NamedState>& states) {
  int64_t count = 0;
  for (const NamedState& named : states) {
    count += named.state->elements();
  }
  return count;
}

}  // namespace

int64_t trainable_count(Module& model) { return elements_of(model.parameters()); }
int64_t total_count(Module& model) { return trainable_count(model) + elements_of(model.states()); }

Summary summarize(Module& model, const Shape& input) {
  Summary summary{.input = input, .rows = {}, .trainable = trainable_count(model), .total = total_count(model)};
  const Trace traced = trace(model, input);
  std::set<const Module*> counted;
  for (const TracedCall& call : traced.calls) {
    const Shape& output = traced.output_shape(call);
    SummaryRow row{.path = call.path,
                   .kind = std::string(call.module->kind()),
                   .details = call.module->details(),
                   .output = output,
                   .macs = call.module->macs(traced.input_shapes(call), output)};
    if (counted.insert(call.module).second) {
      row.trainable = elements_of(call.module->own_parameters());
      row.total = row.trainable + elements_of(call.module->own_states());
    }
    summary.macs += row.macs;
    summary.rows.push_back(std::move(row));
  }
  return summary;
}

std::string with_thousands(int64_t n) {
  std::string digits = std::to_string(n);
  const size_t first = n < 0 ? 1 : 0;
  for (size_t i = digits.size(); i > first + 3;) {
    i -= 3;
    digits.insert(i, ",");
  }
  return digits;
}

std::string to_text(const Summary& summary) {
  constexpr size_t kColumns = 7;
  constexpr size_t kFirstNumber = 4;  // columns from here on are flush right
  using Line = std::array<std::string, kColumns>;
  std::vector<Line> lines{{"layer", "kind", "", "output", "trainable", "total", "MACs"}};
  for (const SummaryRow& row : summary.rows) {
    lines.push_back({row.path, row.kind, row.details, row.output.str(), with_thousands(row.trainable),
                     with_thousands(row.total), with_thousands(row.macs)});
  }
  lines.push_back({"total", "", "", "", with_thousands(summary.trainable), with_thousands(summary.total),
                   with_thousands(summary.macs)});

  std::array<size_t, kColumns> widths{};
  for (const Line& line : lines) {
    for (size_t c = 0; c < kColumns; ++c) {
      widths[c] = std::max(widths[c], line[c].size());
    }
  }
  std::string text;
  for (const Line& line : lines) {
    for (size_t c = 0; c < kColumns; ++c) {
      const std::string fill(widths[c] - line[c].size(), ' ');
      text += c >= kFirstNumber ? fill + line[c] : line[c] + fill;
      text += c + 1 < kColumns ? "  " : "\n";
    }
  }
  return text;
}

}  // namespace whittle::inline WHITTLE_PRECISION
