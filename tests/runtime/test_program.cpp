// Programs give what the oracle gives, whatever the kernels.

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "kernels/f32/table.h"
#include "kernels/functions.h"
#include "runtime/best.h"
#include "runtime/whittle_runtime.h"
#include "tests/kernels/stored_codes.h"
#include "tests/runtime/net.h"
#include "tests/support/aligned_bytes.h"
#include "tests/support/sanitized.h"
#include "tests/support/seed.h"

namespace whittle {

namespace {

using runtime::Kernels;
using runtime::OpKind;
using runtime::Program;
using runtime::Status;
using runtime::Type;

std::vector<Kernels> all_kernels() {
  std::vector<Kernels> result;
  const kernels::Int8Tables tables = kernels::int8_tables();
  for (int i = 0; i < tables.count; ++i) {
    if (tables.tables[i]->runs_here()) {
      result.push_back({.int8 = tables.tables[i], .f32 = &kernels::kF32Reference});
    }
  }
  return result;
}

// Those of floats, with the best of the integer ones.
std::vector<Kernels> all_float_kernels() {
  std::vector<Kernels> result;
  const kernels::F32Tables tables = kernels::f32_tables();
  for (int i = 0; i < tables.count; ++i) {
    if (tables.tables[i]->runs_here()) {
      result.push_back({.int8 = runtime::best_kernels().int8, .f32 = tables.tables[i]});
    }
  }
  return result;
}

std::vector<float> as_floats(const std::vector<uint8_t>& bytes) {
  std::vector<float> result(bytes.size() / sizeof(float));
  std::memcpy(result.data(), bytes.data(), bytes.size());
  return result;
}

}  // namespace

TEST_SUITE("program") {
  TEST_CASE("a small net of every integer op gives the oracle's codes") {
    for (uint64_t seed = 0; seed < 30; ++seed) {
      const int largest_weight = std::array{127, 7, 1}[seed % 3];
      Net net = small_net(RngKey{.seed = test_seed()}.child(seed), largest_weight);
      for (const bool in_place : {false, true}) {
        const auto file = net.finish(in_place);
        for (const Kernels& kernels : all_kernels()) {
          CAPTURE(std::string(kernels.int8->name));
          CHECK(run_program(file, net.input_bytes, kernels) == net.expected_bytes);
        }
      }
    }
  }

  TEST_CASE("random nets of 8-bit and 16-bit codes give the oracle's codes") {
    CAPTURE(test_seed());
    int64_t numbers = 0;
    int in_place_saves = 0;
    for (uint64_t seed = 0; seed < (kSanitized ? 60 : 1500); ++seed) {
      CAPTURE(seed);
      Net net =
          random_net(RngKey{.seed = test_seed()}.child("net").child(seed), seed % 3 == 2 ? Type::kS16 : Type::kS8);
      const auto plain = net.finish(false);
      const int64_t plain_arena = net.plan.arena_bytes;
      const auto file = net.finish(true);
      in_place_saves += net.plan.arena_bytes < plain_arena ? 1 : 0;
      CHECK(net.plan.arena_bytes >= net.plan.lower_bound);
      for (const Kernels& kernels : all_kernels()) {
        REQUIRE(run_program(file, net.input_bytes, kernels) == net.expected_bytes);
        REQUIRE(run_program(plain, net.input_bytes, kernels) == net.expected_bytes);
      }
      numbers += static_cast<int64_t>(net.expected_bytes.size());
    }
    MESSAGE(numbers << " bytes of outputs; writing in place saved arena in " << in_place_saves << " nets");
    CHECK(in_place_saves > 0);
  }

  TEST_CASE("weights take the bits that their codes need, and lie as docs/format.md says") {
    CAPTURE(test_seed());
    Draw draw(RngKey{.seed = test_seed()}.child("stored"));
    for (int i = 0; i < 300; ++i) {
      const auto rows = static_cast<size_t>(draw.in(1, 5)), row = static_cast<size_t>(draw.in(1, 19));
      const uint32_t bits = draw_bits(draw);
      auto codes = converted<int8_t>(draw.codes(static_cast<int64_t>(rows * row), -largest_of(bits), largest_of(bits)));
      codes.back() = static_cast<int8_t>(largest_of(bits));
      runtime::ProgramSpec spec;
      const auto& value = spec.values[spec.add_weights("w", {Net::u(rows), Net::u(row)}, codes)];
      CHECK(value.type == (bits == 8 ? Type::kS8 : bits == 4 ? Type::kS4 : Type::kS2));
      CHECK(value.constant.size() == rows * ((row * bits + 7) / 8));
      CHECK(value.constant.size() == runtime::bytes_of(value));
      CHECK(codes_stored(value.constant, rows, row, bits) == codes);
      CHECK(converted<int8_t>(value.constant) == stored_codes(codes, rows, bits));
    }
  }

  TEST_CASE("what only integers need is marked, and features decide") {
    Net net = small_net(RngKey{.seed = 5});
    const auto file = net.finish();
    Program program;
    REQUIRE(load(file.data(), file.size(), {}, program) == Status::kOk);
    CHECK(program.features() == runtime::kInt8);
    CHECK(load(file.data(), file.size(), {.features = runtime::kFloat32}, program) == Status::kUnsupported);
    CHECK(load(file.data(), file.size(), {.features = runtime::kInt8, .max_arena_bytes = 16}, program) ==
          Status::kTooLarge);
    REQUIRE(load(file.data(), file.size(), {.features = runtime::kInt8}, program) == Status::kOk);
    alignas(16) std::array<uint8_t, 4096> arena{};
    REQUIRE(program.arena_bytes() <= arena.size());
    CHECK(run(program, {}, arena.data(), arena.size()) == Status::kUnsupported);
    CHECK(run(program, runtime::choose_kernels(), nullptr, arena.size()) == Status::kNull);
    CHECK(run(program, runtime::choose_kernels(), arena.data() + 1, arena.size() - 1) == Status::kMisaligned);
    CHECK(run(program, runtime::choose_kernels(), arena.data(), program.arena_bytes() - 1) == Status::kArenaTooSmall);
    std::vector<uint8_t> scores(net.expected_bytes.size());
    CHECK(run(program, runtime::choose_kernels(), arena.data(), arena.size(), net.input_bytes.data(), scores.data()) ==
          Status::kOk);
    CHECK(scores == net.expected_bytes);
    CHECK(runtime::kernels_named("integer").int8 == &kernels::kInt8Integer);
    CHECK(runtime::kernels_named("integer").f32 != nullptr);
    CHECK(runtime::kernels_named("no such table").features() == 0);
    for (uint32_t s = 0; s < runtime::kStatuses + 1; ++s) {
      const std::string text = status_text(static_cast<Status>(s));
      CHECK((text != "unknown status") == (s < runtime::kStatuses));
    }
  }

  TEST_CASE("the C interface") {
    Net net = small_net(RngKey{.seed = 6});
    const auto file = net.finish();
    whittle_program program;
    CHECK(whittle_load(nullptr, file.data(), file.size()) != 0);
    CHECK(whittle_load(&program, nullptr, file.size()) != 0);
    CHECK(std::string(whittle_status_text(whittle_load(&program, file.data(), file.size() - 1))) ==
          "the program is cut off");
    REQUIRE(whittle_load(&program, file.data(), file.size()) == 0);
    std::vector<uint8_t> arena(whittle_arena_bytes(&program));
    REQUIRE(whittle_input_count(&program) == 1);
    REQUIRE(whittle_output_count(&program) == 1);
    CHECK(whittle_input(&program, 1, arena.data(), nullptr) == nullptr);
    CHECK(whittle_output(&program, 1, arena.data(), nullptr) == nullptr);
    const whittle_value in = whittle_input_value(&program, 0);
    const whittle_value out = whittle_output_value(&program, 0);
    Program opened;
    REQUIRE(load(file.data(), file.size(), {}, opened) == Status::kOk);
    for (const auto& [told, number] : {std::pair{in, opened.input(0)}, {out, opened.output(0)}}) {
      const runtime::ValueRecord record = opened.value(number);
      CHECK(told.type == static_cast<uint32_t>(record.type));
      CHECK(told.rank == record.rank);
      CHECK(std::equal(std::begin(told.dims), std::end(told.dims), record.dims));
      CHECK(std::bit_cast<uint32_t>(told.scale) == record.scale);
      CHECK(told.zero_point == record.zero_point);
    }
    CHECK(in.type == WHITTLE_S8);
    CHECK(whittle_input_value(&program, 1).type == 0);
    CHECK(whittle_output_value(&program, 7).type == 0);
    size_t bytes = 0;
    void* input = whittle_input(&program, 0, arena.data(), &bytes);
    REQUIRE(bytes == net.input_bytes.size());
    std::memcpy(input, net.input_bytes.data(), bytes);
    CHECK(whittle_run(&program, arena.data(), arena.size() - 1) != 0);
    REQUIRE(whittle_run(&program, arena.data(), arena.size()) == 0);
    const auto* output = static_cast<const uint8_t*>(whittle_output(&program, 0, arena.data(), &bytes));
    CHECK(std::vector<uint8_t>(output, output + bytes) == net.expected_bytes);

    const whittle_pack_sizes sizes = whittle_pack_size(&program);
    const runtime::PackSize same = pack_size(opened, runtime::best_kernels());
    CHECK(sizes.packed_bytes == same.packed_bytes);
    CHECK(sizes.scratch_bytes == same.scratch_bytes);
    const AlignedBytes packed(sizes.packed_bytes);
    const AlignedBytes scratch(sizes.scratch_bytes);
    whittle_pack(&program, packed.data);
    std::fill(arena.begin(), arena.end(), uint8_t{0});
    std::memcpy(whittle_input(&program, 0, arena.data(), nullptr), net.input_bytes.data(), net.input_bytes.size());
    CHECK(whittle_run_packed(&program, packed.data, scratch.data, arena.data(), arena.size() - 1) != 0);
    REQUIRE(whittle_run_packed(&program, packed.data, scratch.data, arena.data(), arena.size()) == 0);
    CHECK(std::vector<uint8_t>(output, output + bytes) == net.expected_bytes);
  }

  TEST_CASE("integers between floats: quantize, an integer layer, dequantize") {
    for (const Type type : {Type::kS8, Type::kS16}) {
      Net net(RngKey{.seed = test_seed()}.child("mixed"));
      const NetValue x = net.input({2, 3, 3, 2}, Type::kF32);
      net.output(net.dequantize(net.fully_connected(net.quantize(x, type), 7)));
      const auto file = net.finish();
      Program program;
      REQUIRE(load(file.data(), file.size(), {}, program) == Status::kOk);
      CHECK(program.features() == (runtime::kFloat32 | (type == Type::kS8 ? runtime::kInt8 : runtime::kInt16)));
      CHECK(load(file.data(), file.size(), {.features = runtime::kIntegerFeatures}, program) == Status::kUnsupported);
      for (const Kernels& kernels : all_kernels()) {
        CHECK(run_program(file, net.input_bytes, kernels) == net.expected_bytes);
      }
    }
  }

  TEST_CASE("a float program: every float op, within rounding of binary64") {
    constexpr float kInf = std::numeric_limits<float>::infinity();
    Net net(RngKey{.seed = test_seed()}.child("float"));
    Draw& draw = net.draw;
    const auto floats = [&](int64_t count) {
      std::vector<float> result;
      for (int64_t i = 0; i < count; ++i) {
        result.push_back(static_cast<float>(draw.real_in(-1, 1)));
      }
      return result;
    };
    const auto limits = [&](runtime::OpSpec op, float lo, float hi) {
      op.lo = runtime::bits_of(lo);
      op.hi = runtime::bits_of(hi);
      return op;
    };
    const NetValue x = net.input({1, 4, 4, 2}, Type::kF32);
    const auto image = [&](const char* name, int64_t c) { return net.value(name, {1, 4, 4, c}, Type::kF32, {}); };

    // A 1x1 convolution in each of four forms, so that the expected numbers are short to write.
    const std::vector<float> w = floats(6), bias = floats(3), scales{0.01f, 0.02f, 0.03f};
    const std::vector<int8_t> codes{100, -50, 7, 127, -127, 1};
    const std::vector<uint16_t> half{0x3c00, 0xb800, 0x4000, 0x0001, 0x2e66, 0xc500};
    const std::array half_values{1.0, -0.5, 2.0, 0x1p-24, 0.0999755859375, -5.0};
    const runtime::OpSpec form{
        .kind = OpKind::kConv, .groups = 1, .kernel = {1, 1}, .stride = {1, 1}, .dilation = {1, 1}};
    const auto bias_id = net.numbers(Type::kF32, bias);
    const auto conv = [&](const char* name, uint32_t weights, bool scaled, bool dynamic, auto weight) {
      runtime::OpSpec op = limits(form, 0, 6);
      op.weights = weights;
      op.bias = bias_id;
      NetValue y = image(name, 3);
      if (scaled) {
        op.multipliers = net.numbers(Type::kF32, scales);
      }
      if (dynamic) {
        op.scratch = net.value("scratch", {1, 4, 4, 2}, Type::kS8, {1.0f, 0, -128, 127}).id;
      }
      for (size_t i = 0; i < 16 * 3; ++i) {
        const double sum = x.numbers[i / 3 * 2] * weight(i % 3 * 2) + x.numbers[i / 3 * 2 + 1] * weight(i % 3 * 2 + 1);
        y.numbers.push_back(std::clamp(sum + static_cast<double>(bias[i % 3]), 0.0, 6.0));
      }
      return net.add(op, {x}, y);
    };
    const NetValue a =
        conv("f32", net.spec.add_constant<float>("w", Type::kF32, {3, 1, 1, 2}, std::span<const float>(w)), false,
             false, [&](size_t i) { return static_cast<double>(w[i]); });
    const NetValue b =
        conv("f16", net.spec.add_constant<uint16_t>("h", Type::kF16, {3, 1, 1, 2}, std::span<const uint16_t>(half)),
             false, false, [&](size_t i) { return half_values[i]; });
    const auto quantized = net.spec.add_constant<int8_t>("q", Type::kS8, {3, 1, 1, 2}, std::span<const int8_t>(codes));
    const auto real_weight = [&](size_t i) { return codes[i] * static_cast<double>(scales[i / 2]); };
    const NetValue c = conv("hybrid", quantized, true, false, real_weight);
    const NetValue d = conv("dynamic", quantized, true, true, real_weight);
    const std::vector<int8_t> four{7, -7, 0, 2, -1, 5}, two{1, -1, 0, 1, 1, 0};
    const NetValue narrow = conv("hybrid4", net.spec.add_weights("q4", {3, 1, 1, 2}, four), true, false,
                                 [&](size_t i) { return four[i] * static_cast<double>(scales[i / 2]); });
    const NetValue narrow_dynamic = conv("dynamic2", net.spec.add_weights("q2", {3, 1, 1, 2}, two), true, true,
                                         [&](size_t i) { return two[i] * static_cast<double>(scales[i / 2]); });

    NetValue sum = image("sum", 3);
    for (size_t i = 0; i < a.numbers.size(); ++i) {
      sum.numbers.push_back(a.numbers[i] + b.numbers[i]);
    }
    sum = net.add(limits({.kind = OpKind::kAdd}, -kInf, kInf), {a, b}, sum);
    NetValue largest = net.value("largest", {1, 2, 2, 3}, Type::kF32, {});
    NetValue mean = net.value("mean", {1, 3}, Type::kF32, {});
    for (size_t i = 0; i < 12; ++i) {
      const auto at = [&](size_t u, size_t v) {
        return sum.numbers[((i / 6 * 2 + u) * 4 + i / 3 % 2 * 2 + v) * 3 + i % 3];
      };
      largest.numbers.push_back(std::max({at(0, 0), at(0, 1), at(1, 0), at(1, 1)}));
    }
    largest =
        net.add(limits({.kind = OpKind::kMaxPool, .kernel = {2, 2}, .stride = {2, 2}}, -kInf, kInf), {sum}, largest);
    for (size_t k = 0; k < 3; ++k) {
      mean.numbers.push_back(
          (largest.numbers[k] + largest.numbers[k + 3] + largest.numbers[k + 6] + largest.numbers[k + 9]) / 4);
    }
    mean = net.add(limits({.kind = OpKind::kAveragePool, .kernel = {2, 2}, .stride = {1, 1}}, -kInf, kInf), {largest},
                   mean);
    NetValue activated = net.value("tanh", {1, 3}, Type::kF32, {});
    for (const double v : mean.numbers) {
      activated.numbers.push_back(std::tanh(v));
    }
    activated = net.add({.kind = OpKind::kActivation, .parameters = {static_cast<uint32_t>(kernels::Function::kTanh)}},
                        {mean}, activated);
    NetValue both = net.value("both", {1, 6}, Type::kF32, {});
    both.numbers = activated.numbers;
    both.numbers.insert(both.numbers.end(), mean.numbers.begin(), mean.numbers.end());
    both = net.add({.kind = OpKind::kConcat, .parameters = {1}}, {activated, mean}, both);
    NetValue p = net.value("p", {1, 6}, Type::kF32, {}), logs = net.value("logs", {1, 6}, Type::kF32, {});
    double total = 0;
    for (const double v : both.numbers) {
      total += std::exp(v);
    }
    for (const double v : both.numbers) {
      p.numbers.push_back(std::exp(v) / total);
      logs.numbers.push_back(v - std::log(total));
    }
    p = net.add({.kind = OpKind::kSoftmax}, {both}, p);
    logs = net.add({.kind = OpKind::kLogSoftmax}, {both}, logs);
    for (const NetValue& v : {c, narrow, p, logs}) {
      net.output(v);
    }
    net.output(net.reshape(d, {48}));
    net.output(net.reshape(narrow_dynamic, {48}));

    const auto file = net.finish();
    Program program;
    REQUIRE(load(file.data(), file.size(), {}, program) == Status::kOk);
    CHECK(program.features() == (runtime::kFloat32 | runtime::kHalf | runtime::kHybrid | runtime::kDynamic));
    const auto expected = as_floats(net.expected_bytes);
    for (const Kernels& kernels : all_float_kernels()) {
      for (const Weights weights : {Weights::kAsStored, Weights::kPacked}) {
        CAPTURE(std::string(kernels.f32->name));
        CAPTURE(static_cast<int>(weights));
        const auto got = as_floats(run_program(file, net.input_bytes, kernels, weights));
        REQUIRE(got.size() == expected.size());
        for (size_t i = 0; i < got.size(); ++i) {
          const bool dynamic = i >= got.size() - 96;  // the input was rounded to 8 bits
          CAPTURE(i);
          CHECK(std::abs(got[i] - expected[i]) <= (dynamic ? 0.06f : 1e-5f));
        }
      }
    }
  }

  // Each of the forms that tables may choose for products, behind one another.
  TEST_CASE("float convolutions of every form, packed, agree with the reference") {
    constexpr float kInf = std::numeric_limits<float>::infinity();
    Net net(RngKey{.seed = test_seed()}.child("forms"));
    const auto floats = [&](uint32_t count, double size) {
      std::vector<float> result(count);
      for (float& v : result) {
        v = static_cast<float>(net.draw.real_in(-size, size));
      }
      return result;
    };
    int64_t ops = 0;
    const auto layer = [&](const NetValue& x, OpKind kind, uint32_t kernel, uint32_t stride, uint32_t groups,
                           uint32_t out) {
      const bool conv = kind == OpKind::kConv;
      const auto in = static_cast<uint32_t>(conv ? x.dims[3] : x.dims[1]);
      const uint32_t depth = kernel * kernel * in / groups;
      const uint32_t pad = kernel / 2;
      runtime::OpSpec op{.kind = kind, .lo = runtime::bits_of(0), .hi = runtime::bits_of(kInf)};
      const std::string name = "layer" + std::to_string(ops++);
      const auto weights = floats(depth * out, 2 / std::sqrt(depth));
      op.bias = net.numbers(Type::kF32, floats(out, 1));
      std::vector<uint32_t> dims{out, in};
      std::vector<int64_t> result{x.dims[0], out};
      if (conv) {
        dims = {out, kernel, kernel, in / groups};
        op.groups = groups;
        op.kernel = {kernel, kernel};
        op.stride = {stride, stride};
        op.dilation = {1, 1};
        op.padding = {pad, pad, pad, pad};
        result = {x.dims[0], (x.dims[1] - 1) / stride + 1, (x.dims[2] - 1) / stride + 1, out};
      }
      op.weights = net.spec.add_constant<float>(name + "/weight", Type::kF32, dims, std::span<const float>(weights));
      NetValue y = net.value(name.c_str(), result, Type::kF32, {});
      y.numbers.assign(static_cast<size_t>(y.elements()), 0.0);
      return net.add(op, {x}, y);
    };
    NetValue x = net.input({2, 13, 11, 3}, Type::kF32);
    x = layer(x, OpKind::kConv, 3, 1, 1, 24);
    x = layer(x, OpKind::kConv, 3, 1, 1, 40);  // Winograd
    x = layer(x, OpKind::kConv, 3, 2, 1, 40);
    x = layer(x, OpKind::kConv, 3, 1, 40, 40);
    x = layer(x, OpKind::kConv, 1, 1, 1, 20);
    x = layer(x, OpKind::kConv, 3, 1, 4, 12);
    x = net.reshape(x, {2, 7 * 6 * 12});
    x = layer(x, OpKind::kFullyConnected, 1, 1, 1, 33);
    net.output(x);
    const auto file = net.finish();
    const auto expected = as_floats(
        run_program(file, net.input_bytes, {.int8 = runtime::best_kernels().int8, .f32 = &kernels::kF32Reference}));
    REQUIRE(expected.size() == 66);
    for (const Kernels& kernels : all_float_kernels()) {
      CAPTURE(std::string(kernels.f32->name));
      const auto got = as_floats(run_program(file, net.input_bytes, kernels));
      REQUIRE(got.size() == expected.size());
      for (size_t i = 0; i < got.size(); ++i) {
        CHECK(std::abs(got[i] - expected[i]) <= 1e-4f);
      }
    }
  }
}

}  // namespace whittle
