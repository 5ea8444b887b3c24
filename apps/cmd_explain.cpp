// whittle explain: one number of a program, and every integer on its way.

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <iostream>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "apps/cli.h"
#include "apps/data_options.h"
#include "apps/file_kind.h"
#include "apps/program.h"
#include "apps/text.h"
#include "core/error.h"
#include "core/file.h"
#include "core/json.h"
#include "runtime/hosted/explain.h"
#include "runtime/hosted/names.h"

namespace whittle::apps {

namespace {

using runtime::Explanation;
using runtime::Program;
using runtime::Status;
using runtime::Type;
using runtime::ValueRecord;

struct Options {
  std::string model;
  std::string layer;
  std::vector<int64_t> index;
  std::string input;
  DataArguments data;
  std::string split = "test";
  std::optional<int64_t> sample;
  bool json = false;
};

// By its name or else by its number; the last one if nothing is said.
uint32_t layer_of(const Program& program, const Options& options) {
  if (options.layer.empty()) {
    return program.op_count() - 1;
  }
  for (uint32_t i = 0; i < program.op_count(); ++i) {
    if (options.layer == program.name(program.op(i).name)) {
      return i;
    }
  }
  uint32_t number = 0;
  const char* end = options.layer.data() + options.layer.size();
  const auto [read, error] = std::from_chars(options.layer.data(), end, number);
  require(error == std::errc{} && read == end, "explain", options.model, " has no layer '", options.layer,
          "'; whittle inspect lists them");
  require(number < program.op_count(), "explain", options.model, " has no layer ", number, ", it has ",
          program.op_count());
  return number;
}

int64_t elements_of(const ValueRecord& value) {
  return std::accumulate(value.dims, value.dims + value.rank, int64_t{1}, std::multiplies<>());
}

std::string extents_of(const ValueRecord& value) {
  return Shape(std::vector<int64_t>(value.dims, value.dims + value.rank)).str();
}

uint64_t element_of(const Options& options, const std::string& layer, const ValueRecord& y) {
  std::vector<int64_t> index = options.index;
  if (index.size() + 1 == y.rank && y.dims[0] == 1) {
    index.insert(index.begin(), 0);  // the only sample
  }
  require(index.size() == y.rank, "explain", "--index has ", options.index.size(), " numbers, layer '", layer,
          "' makes ", extents_of(y));
  uint64_t element = 0;
  for (uint32_t i = 0; i < y.rank; ++i) {
    require(index[i] >= 0 && index[i] < y.dims[i], "explain", "--index ", index[i], " is outside of ", extents_of(y));
    element = element * y.dims[i] + static_cast<uint64_t>(index[i]);
  }
  return element;
}

int32_t code_at(const uint8_t* codes, Type type, uint64_t element) {
  return type == Type::kS8 ? runtime::read<int8_t>(codes + element) : runtime::read<int16_t>(codes + 2 * element);
}

// Puts the input where the program reads it; says what it was.
std::string read_input(const Options& options, const ProgramFile& program, std::span<uint8_t> to) {
  if (!options.input.empty()) {
    require(!options.sample.has_value() && !options.data.said(), "explain",
            "--input is a sample of its own; leave --data and --sample out, and what belongs to them");
    const std::vector<std::byte> bytes = read_file(options.input);
    require(bytes.size() == to.size(), "explain", options.input, " has ", bytes.size(), " bytes, the program reads ",
            to.size());
    std::memcpy(to.data(), bytes.data(), bytes.size());
    return options.input;
  }
  const SavedData saved = data_of("explain", options.model, program.about(), options.data);
  const data::Dataset& chosen = split_named("explain", saved, options.split);
  const int64_t number = options.sample.value_or(0);
  require(number >= 0 && number < chosen.size(), "explain", "there is no ", options.split, " sample ", number,
          ", there are ", chosen.size());
  const std::vector<int64_t> indices{number};
  program.write_input(chosen.batch(indices).inputs, to);
  return saved.arguments.name + ' ' + options.split + " sample " + std::to_string(number);
}

Json json_of(const Explanation& e) {
  Json json = {{"kind", name_of(e.kind)}, {"layer", e.op}, {"index", e.index}, {"terms", Json::array()}};
  for (const Explanation::Term& term : e.terms) {
    json["terms"].push_back({{"input", term.input},
                             {"index", term.index.empty() ? Json() : Json(term.index)},
                             {"code", term.code},
                             {"zero_point", term.zero_point},
                             {"weight", term.weight},
                             {"product", term.product}});
  }
  if (e.multiplier != 0) {
    json["bias"] = e.bias;
    json["accumulator"] = e.accumulator;
    json["multiplier"] = {
        {"bits", e.multiplier}, {"mantissa", e.multiplier_mantissa()}, {"exponent", e.multiplier_exponent()}};
  }
  json["lo"] = e.range.lo;
  json["hi"] = e.range.hi;
  json["zero_point"] = e.range.zero_point;
  json["steps"] = Json::array();
  for (const Explanation::Step& step : e.steps) {
    json["steps"].push_back({{"what", step.what}, {"value", step.value}});
  }
  json["code"] = e.code;
  return json;
}

void explain(const Options& options) {
  require(kind_of(options.model) == FileKind::kProgram, "explain", options.model,
          " is no program; whittle export makes one");
  const ProgramFile file(options.model);
  file.require_one_each();
  const Program& program = file.engine().program();
  const runtime::Kernels& kernels = file.engine().kernels();
  const uint32_t layer = layer_of(program, options);
  const std::string name = printable(program.name(program.op(layer).name));
  const ValueRecord y = program.value(program.op(layer).output);

  struct alignas(runtime::kAlignment) Line {
    uint8_t bytes[runtime::kAlignment];
  };
  std::vector<Line> arena(static_cast<size_t>(program.arena_bytes() / runtime::kAlignment));
  const size_t arena_bytes = arena.size() * sizeof(Line);
  const uint32_t x = program.input(0);
  const std::string about = read_input(
      options, file, {program.data(x, arena.data()), static_cast<size_t>(runtime::bytes_of(program.value(x)))});
  const auto run = [&](uint32_t first, uint32_t end) {
    const Status status = run_ops(program, kernels, arena.data(), arena_bytes, first, end);
    require(status == Status::kOk, "explain", options.model, ": ", status_text(status));
  };

  // Which number: as said, or the largest.
  run(0, layer);
  const std::vector<Line> before = arena;
  run(layer, layer + 1);
  const uint8_t* made = program.data(program.op(layer).output, arena.data());
  uint64_t element = 0;
  if (!options.index.empty()) {
    element = element_of(options, name, y);
  } else if (y.type != Type::kF32) {
    for (uint64_t i = 1; i < static_cast<uint64_t>(elements_of(y)); ++i) {
      element = code_at(made, y.type, i) > code_at(made, y.type, element) ? i : element;
    }
  }
  arena = before;
  std::optional<Explanation> told;
  try {
    told = runtime::explain(program, arena.data(), layer, element);
  } catch (const std::invalid_argument& refused) {
    fail("explain", options.model, ", layer '", name, "': ", refused.what());
  }
  run(layer, layer + 1);
  const int32_t code = code_at(program.data(program.op(layer).output, arena.data()), y.type, element);
  require(code == told->code && code == replay(*told), "explain", "the program makes ", code,
          ", the explanation ends in ", told->code, "; this is a defect of whittle");

  const Grid grid{__builtin_bit_cast(float, y.scale), y.zero_point, y.qmin, y.qmax};
  const float number = arithmetic::dequantize(code, grid);
  std::cout << printable(about) << '\n'
            << told->text() << "  real number " << grid.scale << " * (" << code << " - " << y.zero_point
            << ") = " << number << '\n';
  if (options.json) {
    Json json = json_of(*told);
    json["model"] = options.model;
    json["about"] = about;
    json["scale"] = grid.scale;
    json["real"] = number;
    std::cout << json_line(json) << '\n';
  }
}

}  // namespace

void add_explain(CLI::App& program) {
  CLI::App* verb = program.add_subcommand("explain", "Show how one number of a program comes about");
  const auto options = std::make_shared<Options>();
  verb->add_option("MODEL", options->model, "A program (.wtl)")->required();
  verb->add_option("--layer", options->layer, "Its name or number, as inspect lists them (default: the last)");
  verb->add_option("--index", options->index,
                   "Which of the layer's numbers: row,column,channel or channel (default: the largest)")
      ->delimiter(',');
  verb->add_option("--split", options->split, "Where the sample is: train, validation or test")->capture_default_str();
  verb->add_option("--sample", options->sample, "Number of the sample (default: 0)");
  verb->add_option("--input", options->input, "A file with the input's bytes, as whittle-run reads, and no data set");
  add_data_arguments(*verb, options->data);
  verb->add_flag("--json", options->json, "The last line is a JSON object with the results");
  verb->callback([options] { explain(*options); });
  set_example(*verb, "whittle explain q.wtl\n  whittle explain q.wtl --layer conv1 --index 3,4,0 --sample 7");
}

}  // namespace whittle::apps
