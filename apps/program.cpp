#include "apps/program.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <stdexcept>
#include <utility>

#include "apps/data_options.h"
#include "apps/file_kind.h"
#include "apps/models.h"
#include "apps/text.h"
#include "core/error.h"
#include "core/file.h"
#include "core/json.h"
#include "core/parallel.h"
#include "layers/zoo/zoo.h"

namespace whittle::apps {

namespace {

using runtime::Type;

Grid grid_of(const runtime::ValueRecord& value) {
  return {__builtin_bit_cast(float, value.scale), value.zero_point, value.qmin, value.qmax};
}

int64_t elements_of(const runtime::ValueRecord& value) {
  int64_t elements = 1;
  for (uint32_t i = 0; i < value.rank; ++i) {
    elements *= value.dims[i];
  }
  return elements;
}

template <class Code>
void write_codes(std::span<const real> x, const Grid& grid, uint8_t* to) {
  for (size_t i = 0; i < x.size(); ++i) {
    const auto code = static_cast<Code>(arithmetic::quantize(static_cast<float>(x[i]), grid));
    std::memcpy(to + i * sizeof code, &code, sizeof code);
  }
}

template <class Code>
void read_codes(const uint8_t* from, const Grid& grid, std::span<real> y) {
  for (size_t i = 0; i < y.size(); ++i) {
    Code code;
    std::memcpy(&code, from + i * sizeof code, sizeof code);
    y[i] = static_cast<real>(arithmetic::dequantize(code, grid));
  }
}

std::vector<uint8_t> bytes_in(const std::filesystem::path& file) {
  const std::vector<std::byte> raw = read_file(file);
  std::vector<uint8_t> bytes(raw.size());
  std::memcpy(bytes.data(), raw.data(), raw.size());
  return bytes;
}

}  // namespace

Checkpoint load_net(const char* verb, const std::string& file) {
  require(kind_of(file) != FileKind::kProgram, verb, file, " is a program; give the checkpoint it was made of");
  return load_checkpoint(file);
}

runtime::Threads threads_for_engine(int count) {
  return {.count = count, .run = [](void*, int32_t tasks, void (*body)(void* work, int32_t i), void* work) {
            parallel_for(tasks, [=](int64_t i) { body(work, static_cast<int32_t>(i)); });
          }};
}

ProgramFile::ProgramFile(const std::filesystem::path& file, const runtime::Threads& threads)
    : ProgramFile(bytes_in(file), file.string(), threads) {}

ProgramFile::ProgramFile(std::vector<uint8_t> bytes, std::string name, const runtime::Threads& threads)
    : bytes_(std::move(bytes)), file_(std::move(name)) {
  try {
    engine_ = std::make_unique<runtime::Engine>(bytes_, runtime::EngineOptions{.threads = threads});
  } catch (const std::invalid_argument& refused) {
    fail("program", file_, ": ", refused.what());
  }
  const runtime::Program& program = engine_->program();
  const Json json = Json::parse(program.metadata(), program.metadata() + program.metadata_bytes(), nullptr, false);
  if (json.is_object()) {
    for (const auto& [key, value] : json.items()) {
      about_.metadata[key] = value.is_string() ? value.get<std::string>() : value.dump();
    }
  }
}

int64_t ProgramFile::batch() const {
  require_one_each();
  const runtime::Program& program = engine_->program();
  return program.value(program.input(0)).dims[0];
}

void ProgramFile::require_one_each() const {
  const runtime::Program& program = engine_->program();
  require(program.input_count() == 1 && program.output_count() == 1, "program", file_, " has ", program.input_count(),
          " inputs and ", program.output_count(), " outputs; verbs run programs of one each");
}

void ProgramFile::write_input(const Tensor& sample, std::span<uint8_t> to) const {
  require_one_each();
  const runtime::Program& program = engine_->program();
  const runtime::ValueRecord in = program.value(program.input(0));
  require(sample.elements() == elements_of(in), "program", file_, " reads ", elements_of(in), " numbers, a sample has ",
          sample.elements());
  switch (static_cast<Type>(in.type)) {
    case Type::kS8:
      write_codes<int8_t>(sample.values(), grid_of(in), to.data());
      break;
    case Type::kS16:
      write_codes<int16_t>(sample.values(), grid_of(in), to.data());
      break;
    default:
      std::memcpy(to.data(), sample.data(), to.size());
  }
}

Tensor ProgramFile::run(const Tensor& sample, const Bytes& bytes) const {
  const runtime::Program& program = engine_->program();
  const runtime::ValueRecord out = program.value(program.output(0));
  runtime::Engine::Lease lease = engine_->acquire();
  const std::span<uint8_t> to = lease.input(0);
  write_input(sample, to);
  std::copy_n(to.begin(), bytes.input.size(), bytes.input.begin());
  lease.run();
  Tensor y = Tensor::empty({1, elements_of(out)});
  const std::span<const uint8_t> from = lease.output(0);
  std::copy_n(from.begin(), bytes.output.size(), bytes.output.begin());
  switch (static_cast<Type>(out.type)) {
    case Type::kS8:
      read_codes<int8_t>(from.data(), grid_of(out), y.mutable_values());
      break;
    case Type::kS16:
      read_codes<int16_t>(from.data(), grid_of(out), y.mutable_values());
      break;
    default:
      std::memcpy(y.mutable_data(), from.data(), from.size());
  }
  return y;
}

std::string program_metadata_of(const Checkpoint& checkpoint) {
  Json json = Json::object();
  for (const char* key : {zoo::kModelKey, kDataKey, kPreprocessingKey}) {
    const auto found = checkpoint.metadata.find(key);
    if (found != checkpoint.metadata.end()) {
      json[key] = found->second;
    }
  }
  return json_line(json);
}

Metrics evaluate(const ProgramFile& program, const data::Dataset& data, RunBytes* bytes, std::vector<bool>* right) {
  require(!data.empty(), "eval", "the data set '", data.name(), "' has no samples");
  const runtime::Program& p = program.engine().program();
  const int64_t outputs = elements_of(p.value(p.output(0)));
  const auto in_bytes = static_cast<size_t>(runtime::bytes_of(p.value(p.input(0))));
  const auto out_bytes = static_cast<size_t>(runtime::bytes_of(p.value(p.output(0))));
  if (bytes != nullptr) {
    bytes->inputs.resize(in_bytes * static_cast<size_t>(data.size()));
    bytes->outputs.resize(out_bytes * static_cast<size_t>(data.size()));
  }
  MetricSums sums;
  sums.each = right;
  constexpr int64_t kBatch = 256;
  for (int64_t begin = 0; begin < data.size(); begin += kBatch) {
    std::vector<int64_t> indices(static_cast<size_t>(std::min(kBatch, data.size() - begin)));
    std::iota(indices.begin(), indices.end(), begin);
    const data::Batch batch = data.batch(indices);
    const auto count = static_cast<int64_t>(indices.size());
    const auto length = static_cast<size_t>(batch.inputs.elements() / count);
    Tensor y = Tensor::empty({count, outputs});
    parallel_for(count, [&](int64_t i) {
      const Tensor sample = Tensor::from({1, static_cast<int64_t>(length)},
                                         batch.inputs.values().subspan(static_cast<size_t>(i) * length, length));
      ProgramFile::Bytes of_sample;
      if (bytes != nullptr) {
        const auto number = static_cast<size_t>(begin + i);
        of_sample = {std::span(bytes->inputs).subspan(number * in_bytes, in_bytes),
                     std::span(bytes->outputs).subspan(number * out_bytes, out_bytes)};
      }
      std::ranges::copy(program.run(sample, of_sample).values(), y.mutable_data() + i * outputs);
    });
    sums.add(static_cast<double>(loss_of(Variable(y), batch).value().item()), y, batch, data.preprocessing());
  }
  return sums.metrics();
}

void RunBytes::save(const std::string& name) const {
  replace_file(name + ".in", std::as_bytes(std::span(inputs)));
  replace_file(name + ".out", std::as_bytes(std::span(outputs)));
}

SavedModel::SavedModel(const std::string& file) {
  if (kind_of(file) == FileKind::kProgram) {
    program.emplace(file);
    checkpoint = program->about();
  } else {
    checkpoint = load_checkpoint(file);
    model = load_model(checkpoint);
  }
}

Tensor SavedModel::run(const Tensor& sample, RunBytes* bytes) const {
  if (!program.has_value()) {
    const EvaluationMode evaluation(*model);
    const NoGrad no_grad;
    return (*model)(sample).value();
  }
  if (bytes == nullptr) {
    return program->run(sample);
  }
  program->require_one_each();
  const runtime::Program& p = program->engine().program();
  const auto room = [](std::vector<uint8_t>& all, const runtime::ValueRecord& value) {
    const auto size = static_cast<size_t>(runtime::bytes_of(value));
    all.resize(all.size() + size);
    return std::span(all).last(size);
  };
  return program->run(sample, {.input = room(bytes->inputs, p.value(p.input(0))),
                               .output = room(bytes->outputs, p.value(p.output(0)))});
}

}  // namespace whittle::apps
