// Programs of real nets, damaged: every truncation and every flipped bit is refused.
//
// Every 97th bit, that is; all of them, which takes minutes, where WHITTLE_TEST_FULL is set.

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <vector>

#include "layers/zoo/zoo.h"
#include "tests/deploy/run_program.h"
#include "tests/quant/nets.h"
#include "tests/support/full.h"
#include "tests/support/sanitized.h"

namespace whittle {

namespace {

using Bytes = std::vector<uint8_t>;

struct Real {
  const char* name;
  zoo::Options options;
  int bits;
};

Bytes program(const Real& real) {
  const auto model = zoo::make(real.name, real.options);
  const Shape sample = *zoo::describe(real.name, real.options).options.input;
  std::vector<int64_t> batch{2};
  batch.insert(batch.end(), sample.dims().begin(), sample.dims().end());
  scatter(*model, {.seed = 5});
  quant::QuantSpec spec;
  spec.weights.bits = real.bits;
  quantize_static(*model, Shape(batch), spec, noise_batches(Shape(batch), 1, {.seed = 6}));
  return deploy::program_of(*model, sample);
}

runtime::Status load_status(const uint8_t* bytes, size_t size) {
  runtime::Program p;
  return load(bytes, size, {}, p);
}

}  // namespace

TEST_SUITE("damage") {
  TEST_CASE("five real programs: no truncation and no flipped bit gets through") {
    const bool full = full_test();
    const size_t bit_step = full ? 1 : kSanitized ? 997 : 97;
    const size_t cut_step = full ? 1 : kSanitized ? 131 : 13;
    const Shape image{16, 16, 3};
    const std::vector<Real> nets{{"edge-simple", {.classes = 2, .input = Shape{10}}, 8},
                                 {"edge-complex", {.classes = 2, .input = Shape{10}}, 4},
                                 {"ds-cnn", {}, 8},
                                 {"resnet8", {.input = image}, 8},
                                 {"resnet8", {.input = image}, 4}};
    int64_t files = 0;
    for (const Real& real : nets) {
      CAPTURE(std::string(real.name));
      Bytes file = program(real);
      CHECK(file.size() <= 100'000);
      REQUIRE(load_status(file.data(), file.size()) == runtime::Status::kOk);
      int64_t accepted = 0;
      for (size_t size = 0; size < file.size(); size += cut_step, ++files) {
        const Bytes cut(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(size));  // its end is its end
        accepted += load_status(size == 0 ? file.data() : cut.data(), size) == runtime::Status::kOk ? 1 : 0;
      }
      for (size_t bit = 0; bit < 8 * file.size(); bit += bit_step, ++files) {
        const auto mask = static_cast<uint8_t>(1u << bit % 8);
        file[bit / 8] ^= mask;
        accepted += load_status(file.data(), file.size()) == runtime::Status::kOk ? 1 : 0;
        file[bit / 8] ^= mask;
      }
      CHECK(accepted == 0);
      CHECK(load_status(file.data(), file.size()) == runtime::Status::kOk);
      MESSAGE(std::string(real.name) << ", " << real.bits << " bits: " << file.size() << " bytes");
    }
    MESSAGE(files << " damaged files, 0 accepted");
  }
}

}  // namespace whittle
