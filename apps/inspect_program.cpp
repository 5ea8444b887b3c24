#include "apps/inspect_program.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <iomanip>
#include <iostream>
#include <utility>
#include <vector>

#include "apps/data_options.h"
#include "apps/program.h"
#include "apps/text.h"
#include "core/json.h"
#include "deploy/plan.h"
#include "runtime/hosted/names.h"

namespace whittle::apps {

namespace {

using runtime::kNone;
using runtime::OpRecord;
using runtime::Place;
using runtime::Program;
using runtime::Type;
using runtime::ValueRecord;

// ---- Numbers ----------------------------------------------------------------------------

struct OpRow {
  const char* kind;
  std::string name;
  std::string result;     // "s8[1,32,32,16]"
  const char* type = "";  // of its weights
  uint64_t weights = 0;
  uint64_t others = 0;  // biases, multipliers, bounds, tables
  uint64_t bound = 0;   // the largest of its accumulators; 0 where there is none
};

std::string text_of(const ValueRecord& value) {
  std::string text = name_of(value.type);
  for (uint32_t i = 0; i < value.rank; ++i) {
    text += (i == 0 ? "[" : ",") + std::to_string(value.dims[i]);
  }
  return text + "]";
}

std::vector<OpRow> rows_of(const Program& program) {
  std::vector<OpRow> rows;
  for (uint32_t i = 0; i < program.op_count(); ++i) {
    const OpRecord op = program.op(i);
    OpRow row{.kind = name_of(op.kind), .name = program.name(op.name), .result = text_of(program.value(op.output))};
    if (op.weights != kNone) {
      row.type = name_of(program.value(op.weights).type);
      row.weights = runtime::bytes_of(program.value(op.weights));
    }
    for (const uint32_t v : {op.bias, op.multipliers, op.bounds, op.table}) {
      row.others += v == kNone ? 0 : runtime::bytes_of(program.value(v));
    }
    for (uint32_t c = 0; op.bounds != kNone && c < program.value(op.bounds).dims[0]; ++c) {
      row.bound = std::max(row.bound, program.bound(op, c));
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

std::vector<std::string> features_of(const Program& program) {
  std::vector<std::string> names;
  for (size_t bit = 0; bit < std::size(runtime::kFeatureNames); ++bit) {
    if ((program.features() >> bit & 1) != 0) {
      names.emplace_back(runtime::kFeatureNames[bit]);
    }
  }
  return names;
}

// ---- Memory -----------------------------------------------------------------------------

struct Memory {
  std::vector<deploy::Block> blocks;  // in the order in which they are written
  deploy::MemoryPlan plan;            // as the file says, with the bound that the planner knows
};

// Whether block `a` is an operand that the op writing `b` puts its result over.
bool takes_over(const Program& program, uint32_t a, uint32_t b) {
  const ValueRecord from = program.value(a);
  const ValueRecord to = program.value(b);
  if (to.first == kNone || to.first != from.last || from.offset != to.offset ||
      runtime::bytes_of(from) != runtime::bytes_of(to)) {
    return false;
  }
  const OpRecord op = program.op(to.first);
  for (uint32_t k = 0; k < op.inputs; ++k) {
    if (program.operand(op, k) == a && op.output == b) {
      return true;
    }
  }
  return false;
}

Memory memory_of(const Program& program) {
  std::vector<uint32_t> order;
  for (uint32_t i = 0; i < program.value_count(); ++i) {
    if (program.value(i).place == Place::kArena) {
      order.push_back(i);
    }
  }
  const auto first_of = [&](uint32_t v) {
    const uint32_t first = program.value(v).first;
    return first == kNone ? -1 : static_cast<int>(first);
  };
  std::ranges::stable_sort(order, {}, first_of);
  Memory memory;
  std::vector<int64_t> offsets;
  for (size_t i = 0; i < order.size(); ++i) {
    const ValueRecord value = program.value(order[i]);
    deploy::Block block{.name = printable(program.name(value.name)),
                        .bytes = static_cast<int64_t>(runtime::bytes_of(value)),
                        .first = first_of(order[i]),
                        .last = static_cast<int>(value.last)};
    for (size_t k = 0; k < i && block.replaces == deploy::Block::kNothing; ++k) {
      if (takes_over(program, order[k], order[i])) {
        block.replaces = static_cast<int>(k);
      }
    }
    memory.blocks.push_back(std::move(block));
    offsets.push_back(static_cast<int64_t>(value.offset));
  }
  memory.plan = deploy::plan_memory(memory.blocks);
  memory.plan.offsets = std::move(offsets);
  memory.plan.arena_bytes = static_cast<int64_t>(program.arena_bytes());
  return memory;
}

// ---- Text and JSON ------------------------------------------------------------------------

// Where "at" is in the file for constants, and in the arena for the others.
Json json_of(const Program& program, uint32_t value) {
  const ValueRecord v = program.value(value);
  const bool constant = v.place == Place::kConstant;
  Json json = {{"name", program.name(v.name)},
               {"type", name_of(v.type)},
               {"shape", std::vector<uint32_t>(v.dims, v.dims + v.rank)},
               {"constant", constant},
               {"at", v.offset + (constant ? program.header().sections[runtime::kConstants].offset : 0)}};
  if (!constant && v.type != Type::kF32) {
    json["scale"] = __builtin_bit_cast(float, v.scale);
    json["zero_point"] = v.zero_point;
    json["qmin"] = v.qmin;
    json["qmax"] = v.qmax;
  }
  return json;
}

// The record as docs/format.md has it; what it has no use for is left out.
Json json_of(const Program& program, const OpRecord& op) {
  Json json = {{"inputs", Json::array()}, {"output", op.output}, {"parameters", op.parameters}};
  for (uint32_t i = 0; i < op.inputs; ++i) {
    json["inputs"].push_back(program.operand(op, i));
  }
  const std::pair<const char*, uint32_t> values[] = {
      {"weights", op.weights}, {"bias", op.bias},   {"multipliers", op.multipliers},
      {"bounds", op.bounds},   {"table", op.table}, {"scratch", op.scratch}};
  for (const auto& [field, value] : values) {
    if (value != kNone) {
      json[field] = value;
    }
  }
  if (op.kernel[0] != 0) {
    json["kernel"] = op.kernel;
    json["stride"] = op.stride;
    json["padding"] = op.padding;
  }
  if (op.groups != 0) {
    json["groups"] = op.groups;
    json["dilation"] = op.dilation;
  }
  if (program.value(op.output).type == Type::kF32) {
    json["lo"] = __builtin_bit_cast(float, op.lo);  // infinities become null
    json["hi"] = __builtin_bit_cast(float, op.hi);
  } else {
    json["lo"] = static_cast<int32_t>(op.lo);
    json["hi"] = static_cast<int32_t>(op.hi);
  }
  return json;
}

std::vector<uint32_t> list_of(const Program& program, uint32_t first, uint32_t count) {
  std::vector<uint32_t> list(count);
  for (uint32_t i = 0; i < count; ++i) {
    list[i] = program.list(first + i);
  }
  return list;
}

void print_json(const ProgramFile& file, const std::string& name) {
  const Program& program = file.engine().program();
  Json ops = Json::array();
  for (const OpRow& row : rows_of(program)) {
    Json op = json_of(program, program.op(static_cast<uint32_t>(ops.size())));
    op.update({{"kind", row.kind},
               {"name", row.name},
               {"result", row.result},
               {"bytes", row.weights + row.others},
               {"bound", row.bound}});
    ops.push_back(std::move(op));
  }
  Json values = Json::array();
  for (uint32_t i = 0; i < program.value_count(); ++i) {
    values.push_back(json_of(program, i));
  }
  Json parts = Json::object();
  for (const auto& [part, bytes] : parts_of(program)) {
    parts[part] = bytes;
  }
  const Json json = {{"file", name},
                     {"checksums", "ok"},
                     {"bytes", file.bytes().size()},
                     {"parts", std::move(parts)},
                     {"features", features_of(program)},
                     {"integer_only", (program.features() & ~runtime::kIntegerFeatures) == 0},
                     {"arena_bytes", program.arena_bytes()},
                     {"arena_lower_bound", memory_of(program).plan.lower_bound},
                     {"input", json_of(program, program.input(0))},
                     {"output", json_of(program, program.output(0))},
                     {"values", std::move(values)},
                     {"inputs", list_of(program, 0, program.input_count())},
                     {"outputs", list_of(program, program.input_count(), program.output_count())},
                     {"ops", std::move(ops)},
                     {"metadata", file.about().metadata}};
  std::cout << json_line(json) << '\n';
}

void print_value(const char* title, const Program& program, uint32_t value) {
  const ValueRecord v = program.value(value);
  std::cout << title << printable(program.name(v.name)) << "  " << text_of(v);
  if (v.type != Type::kF32) {
    std::cout << "  real = " << std::setprecision(9) << __builtin_bit_cast(float, v.scale) << " (code - "
              << v.zero_point << ")";
  }
  std::cout << '\n';
}

void print_ops(const Program& program) {
  const std::vector<OpRow> rows = rows_of(program);
  size_t name_width = 4;
  for (const OpRow& row : rows) {
    name_width = std::max(name_width, printable(row.name).size());
  }
  const auto name = [&](const std::string& text) {
    std::cout << std::left << std::setw(static_cast<int>(name_width)) << text << "  ";
  };
  std::cout << "\n  op  kind             ";
  name("name");
  std::cout << "type" << std::right << std::setw(10) << "weights" << std::setw(10) << "others"
            << "  bits  result\n";
  for (size_t i = 0; i < rows.size(); ++i) {
    std::cout << std::right << std::setw(4) << i << "  " << std::left << std::setw(17) << rows[i].kind;
    name(printable(rows[i].name));
    std::cout << std::setw(4) << rows[i].type << std::right << std::setw(10) << rows[i].weights << std::setw(10)
              << rows[i].others << std::setw(6)
              << (rows[i].bound == 0 ? "" : std::to_string(1 + std::bit_width(rows[i].bound))) << "  " << rows[i].result
              << '\n';
  }
}

// What the numbers of the input and output stand for, as far as the program says.
void print_meaning(const Checkpoint& about) {
  const auto found = about.metadata.find(kPreprocessingKey);
  if (found == about.metadata.end()) {
    return;
  }
  const data::Preprocessing read = data::preprocessing_from_json(found->second);
  std::cout << std::setprecision(9);
  for (size_t i = 0; i < read.centre.size(); ++i) {
    const data::InputColumn column =
        read.columns.empty() ? data::InputColumn{(read.sample.rank() == 3 ? "channel " : "column ") + std::to_string(i)}
                             : read.columns[i];
    std::cout << (i == 0 ? "reads   " : "        ") << printable(column.name);
    if (column.category.empty()) {
      std::cout << ": real = (" << (read.sample.rank() == 3 ? "byte" : "value") << " - " << read.centre[i] << ") / "
                << read.spread[i] << '\n';
    } else {
      std::cout << " '" << printable(column.category) << "': real = 1 where it is that, else 0\n";
    }
  }
  if (read.classes.empty()) {
    std::cout << "answers real * " << read.target_spread << " + " << read.target_centre << '\n';
  } else {
    std::cout << "answers ";
    for (const std::string& name : read.classes) {
      std::cout << (&name == &read.classes.front() ? "" : ", ") << in_list(name);
    }
    std::cout << "; the largest number counts\n";
  }
}

void print_text(const ProgramFile& file) {
  const Program& program = file.engine().program();
  for (uint32_t i = 0; i < program.input_count(); ++i) {
    print_value("input   ", program, program.input(i));
  }
  for (uint32_t i = 0; i < program.output_count(); ++i) {
    print_value("output  ", program, program.output(i));
  }
  print_meaning(file.about());
  std::cout << "needs  ";
  for (const std::string& feature : features_of(program)) {
    std::cout << ' ' << feature;
  }
  std::cout << ((program.features() & ~runtime::kIntegerFeatures) == 0 ? ", integers only\n" : "\n");
  print_ops(program);
  const Memory memory = memory_of(program);
  std::cout << '\n' << deploy::draw_plan(memory.blocks, memory.plan) << "\nbytes of the file\n";
  for (const auto& [part, bytes] : parts_of(program)) {
    std::cout << "  " << std::left << std::setw(36) << part << std::right << std::setw(12) << bytes << '\n';
  }
  std::cout << "  " << std::left << std::setw(36) << "together" << std::right << std::setw(12) << file.bytes().size()
            << ", checksums ok\n";
}

}  // namespace

std::vector<std::pair<const char*, uint64_t>> parts_of(const Program& program) {
  const runtime::FileHeader& h = program.header();
  uint64_t weights = 0;
  uint64_t others = 0;
  for (uint32_t i = 0; i < program.value_count(); ++i) {
    const ValueRecord value = program.value(i);
    if (value.place == Place::kConstant) {
      (value.rank > 1 ? weights : others) += runtime::bytes_of(value);
    }
  }
  std::vector<std::pair<const char*, uint64_t>> parts{
      {"weights", weights},
      {"biases, multipliers, bounds, tables", others},
      {"value records", h.sections[runtime::kValues].bytes},
      {"op records", h.sections[runtime::kOps].bytes},
      {"lists", h.sections[runtime::kLists].bytes},
      {"names", h.sections[runtime::kNames].bytes},
      {"metadata", h.sections[runtime::kMetadata].bytes},
      {"header and trailer", sizeof(runtime::FileHeader) + sizeof(runtime::FileTrailer)}};
  uint64_t sum = 0;
  for (const auto& [name, bytes] : parts) {
    sum += bytes;
  }
  parts.emplace_back("padding", h.file_bytes - sum);
  return parts;
}

void inspect_program(const std::string& file, bool json) {
  const ProgramFile program(file);
  if (json) {
    print_json(program, file);
  } else {
    print_text(program);
  }
}

}  // namespace whittle::apps
