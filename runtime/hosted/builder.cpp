#include "runtime/hosted/builder.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <numeric>
#include <optional>
#include <stdexcept>

namespace whittle::runtime {

namespace {

[[noreturn]] void refuse(const std::string& reason) { throw std::invalid_argument("[program] " + reason); }

template <class Record>
void append(std::vector<uint8_t>& bytes, const Record& record) {
  const auto* from = reinterpret_cast<const uint8_t*>(&record);
  bytes.insert(bytes.end(), from, from + sizeof record);
}

void pad(std::vector<uint8_t>& bytes, uint64_t alignment) { bytes.resize(round_up(bytes.size(), alignment)); }

// Names, each once. The empty one is at 0.
class Names {
 public:
  uint32_t at(const std::string& name) {
    if (name.find('\0') != std::string::npos) {
      refuse("a name holds a zero byte");
    }
    const auto [entry, added] = offsets_.try_emplace(name, static_cast<uint32_t>(bytes.size()));
    if (added) {
      bytes.insert(bytes.end(), name.begin(), name.end());
      bytes.push_back(0);
    }
    return entry->second;
  }

  std::vector<uint8_t> bytes{0};

 private:
  std::map<std::string, uint32_t> offsets_{{"", 0}};
};

const ValueSpec& value_of(const ProgramSpec& spec, uint32_t value, const std::string& user) {
  if (value >= spec.values.size()) {
    refuse(user + " names value " + std::to_string(value) + " of " + std::to_string(spec.values.size()));
  }
  return spec.values[value];
}

std::string title(const OpSpec& op) { return "op '" + op.name + "'"; }

// A constant with A7 for each output channel of the op; none for ops that have none.
std::optional<ValueSpec> bounds_of(const ProgramSpec& spec, const OpSpec& op) {
  const std::vector<uint64_t> wide = bounds(spec, op);
  if (wide.empty()) {
    return std::nullopt;
  }
  const bool codes_of_16_bits = spec.values[op.inputs.front()].type == Type::kS16;
  ValueSpec value{.name = op.name + "/bounds",
                  .type = codes_of_16_bits ? Type::kU64 : Type::kU32,
                  .dims = {static_cast<uint32_t>(wide.size())}};
  for (const uint64_t bound : wide) {
    if (codes_of_16_bits) {
      append(value.constant, bound);
    } else {
      append(value.constant, static_cast<uint32_t>(std::min<uint64_t>(bound, UINT32_MAX)));  // which load() refuses
    }
  }
  return value;
}

// What the loader will note while it looks at the operands.
uint32_t features(const ProgramSpec& spec) {
  const auto of = [](Type type) -> uint32_t {
    return type == Type::kS8 ? kInt8 : type == Type::kS16 ? kInt16 : kFloat32;
  };
  uint32_t result = 0;
  for (const OpSpec& op : spec.ops) {
    const Type x = spec.values[op.inputs.front()].type;
    result |= of(x) | of(spec.values[op.output].type);
    if (op.weights != kNone && x == Type::kF32) {
      const Type weights = spec.values[op.weights].type;
      result |= weights == Type::kF16 ? kHalf : 0;
      result |= is_weight_code(weights) ? (op.scratch == kNone ? kHybrid : kDynamic) : 0;
    }
  }
  return result;
}

}  // namespace

uint32_t ProgramSpec::add_activation(ValueSpec value) {
  values.push_back(std::move(value));
  return static_cast<uint32_t>(values.size() - 1);
}

uint32_t ProgramSpec::add_weights(std::string name, std::vector<uint32_t> dims, std::span<const int8_t> codes) {
  const auto fits = [&](int most) {
    return std::ranges::all_of(codes, [most](int8_t code) { return -most <= code && code <= most; });
  };
  const Type type = fits(1) ? Type::kS2 : fits(7) ? Type::kS4 : Type::kS8;
  ValueSpec value{.name = std::move(name), .type = type, .dims = std::move(dims)};
  const uint64_t rows = value.dims.empty() ? 0 : value.dims[0];
  if (rows == 0 || codes.size() % rows != 0) {
    refuse("weights '" + value.name + "' have " + std::to_string(codes.size()) + " codes for " + std::to_string(rows) +
           " channels");
  }
  const uint64_t row = codes.size() / rows;
  const uint32_t width = width_of(type);
  const uint64_t row_bytes = kernels::bytes_of_row(row, width);
  value.constant.resize(rows * row_bytes);
  for (uint64_t i = 0; i < codes.size(); ++i) {
    const uint64_t bit = i % row * width;
    const uint32_t code = static_cast<uint8_t>(codes[i]) & ((1U << width) - 1);
    value.constant[i / row * row_bytes + bit / 8] |= static_cast<uint8_t>(code << bit % 8);
  }
  values.push_back(std::move(value));
  return static_cast<uint32_t>(values.size() - 1);
}

uint64_t bytes_of(const ValueSpec& value) {
  return value.dims.empty() ? 0 : bytes_of(value.type, value.dims.data(), value.dims.size());
}

std::vector<Life> lives(const ProgramSpec& spec) {
  const auto ops = static_cast<int>(spec.ops.size());
  std::vector<Life> result(spec.values.size(), {0, -1});
  const auto at = [&](uint32_t v, const std::string& user) -> Life& {
    value_of(spec, v, user);
    return result[v];
  };
  for (const uint32_t v : spec.inputs) {
    at(v, "the list of inputs") = {-1, 0};
  }
  for (int i = 0; i < ops; ++i) {
    const OpSpec& op = spec.ops[static_cast<size_t>(i)];
    if (op.inputs.empty()) {
      refuse(title(op) + " has no input");
    }
    for (const uint32_t v : op.inputs) {
      Life& life = at(v, title(op));
      life.last = std::max(life.last, i);
    }
    at(op.output, title(op)) = {i, i};
    if (op.scratch != kNone) {
      at(op.scratch, title(op)) = {i, i};
    }
  }
  for (const uint32_t v : spec.outputs) {
    at(v, "the list of outputs").last = ops;
  }
  for (size_t v = 0; v < result.size(); ++v) {
    if (spec.values[v].is_constant()) {
      result[v] = {0, -1};
    }
  }
  return result;
}

std::vector<uint64_t> bounds(const ProgramSpec& spec, const OpSpec& op) {
  if (op.weights == kNone || !is_weight_code(spec.values[op.weights].type) || op.inputs.empty()) {
    return {};
  }
  const ValueSpec& x = value_of(spec, op.inputs.front(), title(op));
  const bool codes = x.type != Type::kF32;
  if (!codes && op.scratch == kNone) {
    return {};
  }
  const int64_t largest = x.type == Type::kS16 ? 32767 : 127;
  const int64_t zero_point = codes ? x.grid.zero_point : -128;
  const auto farthest = static_cast<uint64_t>(std::max(largest - zero_point, zero_point + largest + 1));
  const ValueSpec& weights = spec.values[op.weights];
  if (weights.constant.size() != bytes_of(weights)) {
    return {};  // build() refuses it
  }
  std::vector<uint64_t> result(weights.dims[0]);
  const auto count = std::accumulate(weights.dims.begin() + 1, weights.dims.end(), int64_t{1}, std::multiplies<>());
  const auto* const stored = reinterpret_cast<const int8_t*>(weights.constant.data());
  kernels::with_rows({stored, width_of(weights.type)}, count, [&](const auto& rows) {
    for (size_t o = 0; o < result.size(); ++o) {
      const auto row = rows[static_cast<ptrdiff_t>(o)];
      for (int64_t k = 0; k < count; ++k) {
        result[o] += farthest * static_cast<uint64_t>(std::abs(int{row[k]}));
      }
    }
  });
  for (size_t o = 0; o < result.size(); ++o) {
    const bool has_bias = codes && op.bias != kNone && spec.values[op.bias].constant.size() >= 4 * (o + 1);
    if (has_bias) {
      int32_t bias = 0;
      std::memcpy(&bias, spec.values[op.bias].constant.data() + 4 * o, sizeof bias);
      result[o] += static_cast<uint64_t>(std::abs(static_cast<int64_t>(bias)));
    }
  }
  return result;
}

std::vector<uint8_t> build(const ProgramSpec& spec) {
  const std::vector<Life> life = lives(spec);
  Names names;
  std::array<std::vector<uint8_t>, kSections> sections;

  uint64_t arena = 0;
  uint32_t written = 0;
  const auto write = [&](const ValueSpec& v, Life during) {
    ValueRecord record{};
    record.type = v.type;
    record.rank = static_cast<uint8_t>(std::min<size_t>(v.dims.size(), 255));
    record.name = names.at(v.name);
    if (v.dims.empty() || v.dims.size() > kMaxRank) {
      refuse("value '" + v.name + "' has " + std::to_string(v.dims.size()) + " extents, not 1 to 8");
    }
    std::copy(v.dims.begin(), v.dims.end(), record.dims);
    if (v.is_constant()) {
      record.place = Place::kConstant;
      if (bytes_of(v) != v.constant.size()) {
        refuse("constant '" + v.name + "' has " + std::to_string(v.constant.size()) + " bytes, its extents say " +
               std::to_string(bytes_of(v)));
      }
      pad(sections[kConstants], kAlignment);
      record.offset = sections[kConstants].size();
      sections[kConstants].insert(sections[kConstants].end(), v.constant.begin(), v.constant.end());
    } else {
      record.place = Place::kArena;
      if (v.type != Type::kF32) {
        record.scale = bits_of(v.grid.scale);
        record.zero_point = v.grid.zero_point;
        record.qmin = v.grid.qmin;
        record.qmax = v.grid.qmax;
      }
      record.offset = v.offset;
      record.first = during.first < 0 ? kNone : static_cast<uint32_t>(during.first);
      record.last = static_cast<uint32_t>(std::max(during.last, 0));
      arena = std::max(arena, v.offset + bytes_of(v));
    }
    append(sections[kValues], record);
    return written++;
  };
  for (size_t i = 0; i < spec.values.size(); ++i) {
    write(spec.values[i], life[i]);
  }

  for (const auto* listed : {&spec.inputs, &spec.outputs}) {
    for (const uint32_t v : *listed) {
      append(sections[kLists], v);
    }
  }
  for (const OpSpec& op : spec.ops) {
    OpRecord record{};
    record.kind = op.kind;
    record.name = names.at(op.name);
    record.inputs_at = static_cast<uint32_t>(sections[kLists].size() / sizeof(uint32_t));
    record.inputs = static_cast<uint32_t>(op.inputs.size());
    record.output = op.output;
    record.weights = op.weights;
    record.bias = op.bias;
    record.multipliers = op.multipliers;
    record.table = op.table;
    record.scratch = op.scratch;
    record.groups = op.groups;
    std::copy(op.kernel.begin(), op.kernel.end(), record.kernel);
    std::copy(op.stride.begin(), op.stride.end(), record.stride);
    std::copy(op.dilation.begin(), op.dilation.end(), record.dilation);
    std::copy(op.padding.begin(), op.padding.end(), record.padding);
    record.lo = op.lo;
    record.hi = op.hi;
    std::copy(op.parameters.begin(), op.parameters.end(), record.parameters);
    for (const uint32_t v : {op.weights, op.bias}) {
      if (v != kNone) {
        value_of(spec, v, title(op));
      }
    }
    const std::optional<ValueSpec> most = bounds_of(spec, op);
    record.bounds = most ? write(*most, {0, -1}) : kNone;
    append(sections[kOps], record);
    for (const uint32_t v : op.inputs) {
      append(sections[kLists], v);
    }
  }
  sections[kNames] = names.bytes;
  sections[kMetadata].assign(spec.metadata.begin(), spec.metadata.end());

  FileHeader header{};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = kVersion;
  header.header_bytes = sizeof header;
  header.arena_bytes = round_up(arena, kAlignment);
  header.features = features(spec);
  header.inputs = static_cast<uint32_t>(spec.inputs.size());
  header.outputs = static_cast<uint32_t>(spec.outputs.size());

  std::vector<uint8_t> file(sizeof header);
  for (uint32_t s = 0; s < kSections; ++s) {
    pad(file, kSectionAlignment);
    header.sections[s] = {.offset = file.size(),
                          .bytes = sections[s].size(),
                          .crc = crc32c(sections[s].data(), sections[s].size()),
                          .zero = 0};
    file.insert(file.end(), sections[s].begin(), sections[s].end());
  }
  pad(file, kSectionAlignment);
  header.file_bytes = file.size() + sizeof(FileTrailer);
  std::memcpy(file.data(), &header, sizeof header);
  FileTrailer trailer{
      .file_bytes = header.file_bytes, .header_crc = crc32c(file.data(), sizeof header), .end_mark = {}};
  std::memcpy(trailer.end_mark, kEndMark, sizeof kEndMark);
  append(file, trailer);

  Program program;
  if (const Status status = load(file.data(), file.size(), {}, program); status != Status::kOk) {
    const uint32_t at = program.fault();
    const bool of_op =
        status == Status::kOp || status == Status::kType || status == Status::kShape || status == Status::kBound;
    refuse(std::string(status_text(status)) + (of_op && at < spec.ops.size() ? " (" + title(spec.ops[at]) + ")"
                                               : at < spec.values.size()     ? " (record " + std::to_string(at) + ")"
                                                                             : ""));
  }
  return file;
}

}  // namespace whittle::runtime
