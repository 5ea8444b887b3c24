#include "tests/deploy/run_program.h"

#include <cstring>
#include <span>
#include <sstream>

#include "runtime/hosted/engine.h"

namespace whittle {

namespace {

using runtime::Type;
using runtime::ValueRecord;

Grid grid_of(const ValueRecord& value) {
  return {__builtin_bit_cast(float, value.scale), value.zero_point, value.qmin, value.qmax};
}

template <class Code>
void store(uint8_t* to, size_t at, Code code) {
  std::memcpy(to + at * sizeof code, &code, sizeof code);
}
template <class Code>
Code fetch(const uint8_t* from, size_t at) {
  Code code;
  std::memcpy(&code, from + at * sizeof code, sizeof code);
  return code;
}

}  // namespace

Tensor run_program(const std::vector<uint8_t>& file, const Tensor& batch, const Shape& result) {
  const runtime::Engine engine(file);
  const runtime::Program& program = engine.program();
  const ValueRecord in = program.value(program.input(0));
  const ValueRecord out = program.value(program.output(0));
  const auto samples = static_cast<size_t>(batch.dim(0));
  const size_t reads = batch.values().size() / samples;
  const size_t gives = static_cast<size_t>(result.elements()) / samples;
  Tensor y = Tensor::empty(result);
  runtime::Engine::Lease lease = engine.acquire();
  for (size_t s = 0; s < samples; ++s) {
    uint8_t* const to = lease.input(0).data();
    for (size_t i = 0; i < reads; ++i) {
      const float x = batch.data()[s * reads + i];
      if (in.type == Type::kF32) {
        store(to, i, x);
      } else if (in.type == Type::kS8) {
        store(to, i, static_cast<int8_t>(arithmetic::quantize(x, grid_of(in))));
      } else {
        store(to, i, static_cast<int16_t>(arithmetic::quantize(x, grid_of(in))));
      }
    }
    lease.run();
    const uint8_t* const from = lease.output(0).data();
    for (size_t i = 0; i < gives; ++i) {
      y.mutable_data()[s * gives + i] = out.type == Type::kF32 ? fetch<float>(from, i)
                                        : out.type == Type::kS8
                                            ? arithmetic::dequantize(fetch<int8_t>(from, i), grid_of(out))
                                            : arithmetic::dequantize(fetch<int16_t>(from, i), grid_of(out));
    }
  }
  return y;
}

Shape sample_of(const Tensor& batch) { return Shape(batch.shape().dims().subspan(1)); }

std::string program_differences(Module& model, const Tensor& batch, Tally* tally) {
  const std::vector<uint8_t> file = deploy::program_of(model, sample_of(batch));
  const EvaluationMode evaluation(model);
  const NoGrad no_grad;
  const Tensor expected = model(batch).value();
  const Tensor got = run_program(file, batch, expected.shape());
  if (tally != nullptr) {
    tally->numbers += expected.elements();
    tally->integer_only += (runtime::Engine(file).program().features() & ~runtime::kIntegerFeatures) == 0;
  }
  int64_t differ = 0;
  std::ostringstream text;
  for (int64_t i = 0; i < expected.elements(); ++i) {
    if (std::memcmp(expected.data() + i, got.data() + i, sizeof(float)) != 0 && differ++ == 0) {
      text << "number " << i << " is " << got.data()[i] << ", should be " << expected.data()[i];
    }
  }
  if (differ > 0) {
    text << "; " << differ << " of " << expected.elements() << " differ";
  }
  return text.str();
}

}  // namespace whittle
