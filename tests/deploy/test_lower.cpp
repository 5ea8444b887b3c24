// Models and the programs made of them: no code differs, float parts stay within their bound,
// and what has no op is refused by name.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "layers/batch_norm.h"
#include "layers/conv2d.h"
#include "layers/dropout.h"
#include "layers/leaves.h"
#include "layers/linear.h"
#include "layers/sequential.h"
#include "layers/trace.h"
#include "layers/zoo/zoo.h"
#include "prune/mask.h"
#include "tests/deploy/run_program.h"
#include "tests/kernels/stored_codes.h"
#include "tests/quant/nets.h"
#include "tests/support/message.h"
#include "tests/support/sanitized.h"
#include "tests/support/seed.h"

namespace whittle {

namespace {

using runtime::OpKind;
using runtime::Type;

bool has_op(const runtime::ProgramSpec& spec, OpKind kind) {
  return std::ranges::any_of(spec.ops, [kind](const auto& op) { return op.kind == kind; });
}

const runtime::ValueSpec& constant_named(const runtime::ProgramSpec& spec, const std::string& name) {
  const auto found = std::ranges::find(spec.values, name, &runtime::ValueSpec::name);
  REQUIRE(found != spec.values.end());
  return *found;
}

// Of weights.
std::vector<int8_t> codes_of(const runtime::ValueSpec& value) {
  const size_t row = std::accumulate(value.dims.begin() + 1, value.dims.end(), size_t{1}, std::multiplies<>());
  const uint32_t bits = value.type == Type::kS8 ? 8 : value.type == Type::kS4 ? 4 : 2;
  return codes_stored(value.constant, value.dims[0], row, bits);
}

// Of so many samples of a net of the zoo.
Shape batch_of(const char* name, const zoo::Options& options, int64_t samples) {
  const Shape sample = *zoo::describe(name, options).options.input;
  std::vector<int64_t> extents{samples};
  extents.insert(extents.end(), sample.dims().begin(), sample.dims().end());
  return Shape(extents);
}

// Ends in a function of whole rows, which runs in float.
bool ends_in_softmax(Module& net, const Shape& input) {
  const auto* const last = dynamic_cast<const Activation*>(trace(net, input).calls.back().module);
  return last != nullptr && last->of_one_number() == nullptr;
}

double largest_difference(const Tensor& a, const Tensor& b) {
  double most = 0;
  for (int64_t i = 0; i < a.elements(); ++i) {
    const double apart = std::abs(double{a.data()[i]} - double{b.data()[i]});
    most = apart <= most ? most : apart;  // NaN counts
  }
  return most;
}

Tensor absolute(const Tensor& x) {
  Tensor y = Tensor::empty(x.shape());
  std::ranges::transform(x.values(), y.mutable_data(), [](real v) { return std::abs(v); });
  return y;
}

// Multiples of 2^-bits near x.
Tensor rounded(const Tensor& x, int bits) {
  Tensor y = Tensor::empty(x.shape());
  std::ranges::transform(x.values(), y.mutable_data(),
                         [bits](real v) { return std::ldexp(std::nearbyint(std::ldexp(v, bits)), -bits); });
  return y;
}

Tensor noise(const Shape& shape, RngKey key, double deviation = 1) {
  return Tensor::normal(shape, key, 0, static_cast<real>(deviation));
}

std::string refusal(Module& model, const Shape& sample) {
  return message_of([&] { return deploy::program_of(model, sample); });
}

// How far a product's float forms may lie apart, number by number: 4 K 2^-24 sum |x w| |f|
// for a sum of K products, with bias and norm as further terms.
Tensor bound_of(WeightedLayer& layer, const Tensor& x) {
  const NoGrad no_grad;
  const Tensor sums = layer.sum_of(Variable(absolute(x)), Variable(absolute(layer.weight.value().value()))).value();
  const int64_t channels = sums.dim(-1);
  const auto terms = static_cast<double>(layer.weight.shape().elements() / layer.weight.shape()[0] + 6);
  Tensor bound = Tensor::empty(sums.shape());
  for (int64_t i = 0; i < sums.elements(); ++i) {
    const int64_t c = i % channels;
    double most = double{sums.data()[i]};
    if (layer.bias.defined()) {
      most += std::abs(double{layer.bias.value().value().data()[c]});
    }
    if (layer.norm.defined()) {
      most = (most + std::abs(double{layer.norm.running_mean.data()[c]})) *
                 std::abs(double{layer.norm.factor().value().data()[c]}) +
             std::abs(double{layer.norm.beta.value().value().data()[c]});
    }
    bound.mutable_data()[i] = static_cast<real>(4 * terms * 0x1p-24 * most);
  }
  return bound;
}

}  // namespace

TEST_SUITE("lower") {
  TEST_CASE("random nets of all leaves, weights of 1 to 8 bits, codes of 2 to 8 and 16: 0 numbers differ") {
    CAPTURE(test_seed());
    Tally tally;
    const int nets = kSanitized ? 20 : 250;
    for (int i = 0; i < nets; ++i) {
      CAPTURE(i);
      const RngKey key = RngKey{.seed = test_seed()}.child("lower").child(static_cast<uint64_t>(i));
      Rng rng(key);
      const Shape input = some_input(rng);
      const auto net = some_net(rng, input, i % 2 == 0);
      scatter(*net, key);
      quant::QuantSpec spec = some_spec(rng);
      spec.weights.symmetric = true;
      CAPTURE(spec.weights.bits);
      CAPTURE(spec.activations.bits);
      quantize_static(*net, input, spec, noise_batches(with_batch(input, 5), 2, key.child("calibration")));
      const Tensor batch = noise(with_batch(input, 3), key.child("data"), 1.5);
      if (ends_in_softmax(*net, input)) {
        const Tensor expected = evaluated(*net, batch);
        const Tensor got = run_program(deploy::program_of(*net, sample_of(batch)), batch, expected.shape());
        CHECK(largest_difference(expected, got) < 1e-6);
      } else {
        CHECK(program_differences(*net, batch, &tally) == "");
      }
    }
    MESSAGE(tally.numbers << " numbers compared, " << tally.integer_only << " of " << nets << " programs integer only");
    CHECK(tally.numbers > nets * 20);
  }

  TEST_CASE("nets of the zoo, pruned and not: 0 numbers differ, and pruned weights are code 0") {
    CAPTURE(test_seed());
    struct Net {
      const char* name;
      zoo::Options options;
      int images;
    };
    const std::vector<Net> nets{{"edge-simple", {.input = Shape{10}}, 20},
                                {"edge-complex", {.input = Shape{10}}, 20},
                                {"lenet5", {}, 2},
                                {"resnet8", {.input = Shape{16, 16, 3}}, 2},
                                {"ds-cnn", {}, 1},
                                {"mobilenet-v1", {.input = Shape{32, 32, 3}, .width = 0.25}, 1},
                                {"mobilenet-v2", {.input = Shape{32, 32, 3}, .width = 0.25}, 1},
                                {"edge-cnn", {.input = Shape{8, 8, 3}}, 1}};
    for (const Net& net : nets) {
      CAPTURE(net.name);
      const auto model = zoo::make(net.name, net.options);
      const RngKey key = RngKey{.seed = test_seed()}.child(net.name);
      const Shape input = batch_of(net.name, net.options, net.images);
      scatter(*model, key);
      const quant::Batches batches = noise_batches(input, 2, key.child("calibration"));
      struct Form {
        int weights, activations;
        bool pruned;
      };
      for (const Form& form : {Form{8, 8, false}, Form{4, 8, true}, Form{8, 16, true}}) {
        const int weights = form.weights;
        const int activations = form.activations;
        CAPTURE(weights);
        CAPTURE(activations);
        if (kSanitized && weights != 4) {
          continue;
        }
        quant::strip(*model);
        if (form.pruned) {
          prune::MaskSet masks;
          for (const prune::SparsityRow& row : prune::sparsity(*model)) {
            prune::Mask mask = prune::Mask::ones(row.shape);
            for (size_t k = 0; k < mask.keep.size(); k += 3) {
              mask.keep[k] = 0;
            }
            masks.emplace(row.name, std::move(mask));
          }
          prune::replace_masks(*model, masks);
        }
        quant::quantize(*model, input, {.spec = quant::usual_spec(weights, activations)}, batches);
        const Tensor batch = noise(input, key.child("x"));
        Tally tally;
        CHECK(program_differences(*model, batch, &tally) == "");
        CHECK(tally.integer_only == 1);

        const deploy::Lowered lowered = deploy::lower(*model, sample_of(batch));
        CHECK(lowered.plan.arena_bytes >= lowered.plan.lower_bound);
        int64_t wrong = 0;
        for (const auto& [name, mask] : prune::masks(*model)) {
          const size_t dot = name.rfind('.');
          const runtime::ValueSpec& codes =
              constant_named(lowered.spec, name.substr(0, dot) + "/" + name.substr(dot + 1));
          const std::vector<int8_t> stored = codes_of(codes);
          REQUIRE(stored.size() == mask.keep.size());
          for (size_t k = 0; k < mask.keep.size(); ++k) {
            wrong += mask.keep[k] == 0 && stored[k] != 0;
          }
        }
        CHECK(wrong == 0);
      }
    }
  }

  TEST_CASE("weights of 4 and 2 bits take 4 and 2 bits of the file, and 0 numbers differ") {
    CAPTURE(test_seed());
    for (const char* name : {"edge-complex", "lenet5", "resnet8", "ds-cnn"}) {
      for (const int bits : {4, 2}) {
        CAPTURE(name);
        CAPTURE(bits);
        const auto model = zoo::make(name);
        const RngKey key = RngKey{.seed = test_seed()}.child(name).child(static_cast<uint64_t>(bits));
        const Shape input = batch_of(name, {}, 2);
        scatter(*model, key);
        quant::quantize(*model, input, {.spec = quant::usual_spec(bits, bits)}, noise_batches(input, 1, key));
        const Tensor batch = noise(input, key.child("x"));
        CHECK(program_differences(*model, batch) == "");

        // The same program with a byte for each weight.
        const deploy::Lowered lowered = deploy::lower(*model, sample_of(batch));
        runtime::ProgramSpec wide = lowered.spec;
        uint64_t constants = 0, wide_constants = 0;
        const auto next = [](uint64_t end, uint64_t bytes) { return (end + 15) / 16 * 16 + bytes; };
        for (runtime::ValueSpec& value : wide.values) {
          if (!value.is_constant()) {
            continue;
          }
          constants = next(constants, value.constant.size());
          if (value.type == Type::kS4 || value.type == Type::kS2) {
            const std::vector<int8_t> codes = codes_of(value);
            value.type = Type::kS8;
            value.constant.assign(codes.begin(), codes.end());
          }
          wide_constants = next(wide_constants, value.constant.size());
        }
        const std::vector<uint8_t> file = deploy::bytes_of(lowered);
        const std::vector<uint8_t> wide_file = runtime::build(wide);
        for (const runtime::OpSpec& op : wide.ops) {  // their bounds lie behind the other constants
          const uint64_t bytes = 4 * runtime::bounds(wide, op).size();
          constants = bytes == 0 ? constants : next(constants, bytes);
          wide_constants = bytes == 0 ? wide_constants : next(wide_constants, bytes);
          if (op.weights != runtime::kNone) {
            CHECK(lowered.spec.values[op.weights].type == (bits == 4 ? Type::kS4 : Type::kS2));
          }
        }
        const auto sections = [](uint64_t bytes) { return (bytes + 63) / 64 * 64; };
        CHECK(wide_file.size() - file.size() == sections(wide_constants) - sections(constants));
        const Tensor expected = evaluated(*model, batch);
        CHECK(largest_difference(run_program(wide_file, batch, expected.shape()), expected) == 0);
        MESSAGE(name << ", " << bits << " bits: " << wide_file.size() << " -> " << file.size() << " bytes");
      }
    }
  }

  TEST_CASE("every subset of layers left in float: exact where the float sums are") {
    CAPTURE(test_seed());
    const std::vector<std::string> layers{"n1", "n2", "n4", "n8"};
    for (uint32_t subset = 1; subset < 16; ++subset) {
      for (const int bits : {8, 16}) {
        CAPTURE(subset);
        CAPTURE(bits);
        const RngKey key = RngKey{.seed = test_seed()}.child("mixed").child(subset);
        Wired net;
        net.then(std::make_shared<Input>(), {-1});
        net.add<Conv2d>({.in = 2, .out = 4, .padding = {1, 1, 1, 1}, .act = Act::kRelu}, {0});
        net.add<Conv2d>({.in = 4, .out = 4, .padding = {1, 1, 1, 1}}, {1});
        net.add<Add>({.act = Act::kRelu6}, {1, 2});
        net.add<Conv2d>({.in = 4, .out = 4, .padding = {1, 0, 1, 2}, .groups = 4, .act = Act::kRelu6}, {3});
        net.add<MaxPool>({}, {4});
        net.add<Concat>({}, {5, 5});
        net.then(std::make_shared<Flatten>(), {6});
        net.add<Linear>({.in = 8 * 3 * 3, .out = 5}, {7});
        scatter(net, key);
        // Numbers with few bits: then every float sum is exact, in any order.
        for (WeightedLayer* const layer : weighted_layers(net)) {
          layer->weight.raw.assign(rounded(layer->weight.raw.value(), 5));
          layer->bias.raw.assign(rounded(layer->bias.raw.value(), 5));
        }
        const Shape input{3, 6, 6, 2};
        quant::QuantSpec spec = quant::usual_spec(8, bits);
        for (size_t k = 0; k < layers.size(); ++k) {
          if ((subset >> k & 1) != 0) {
            spec.skip.push_back(layers[k]);
          }
        }
        quantize_static(net, input, spec, noise_batches(input, 2, key.child("c")));
        for (const auto& [name, quantizer] : quant::quantizers(net)) {
          if (quantizer->role() == quant::Role::kActivation) {
            Grid grid = (*quantizer->grids())[0];
            grid.scale = std::ldexp(1.0F, bits == 8 ? -5 : -9);
            quantizer->fix_on(make_grids({grid}));
          }
        }
        CHECK(program_differences(net, noise(input, key.child("x"))) == "");
      }
    }
  }

  TEST_CASE("concatenations of one grid copy, of several rescale") {
    CAPTURE(test_seed());
    const RngKey key = RngKey{.seed = test_seed()}.child("concat");
    for (const int bits : {4, 8, 16}) {
      CAPTURE(bits);
      Wired net;
      net.then(std::make_shared<Input>(), {-1});
      net.add<Conv2d>({.in = 3, .out = 4, .act = Act::kRelu}, {0});
      net.add<Conv2d>({.in = 3, .out = 4}, {0});
      net.add<Concat>({.axis = 2}, {1, 2});
      net.add<Concat>({}, {3, 3, 3});
      scatter(net, key);
      const Shape input{2, 9, 9, 3};
      quantize_static(net, input, quant::usual_spec(8, bits), noise_batches(input, 2, key.child("c")));
      CHECK(program_differences(net, noise(input, key.child("x"))) == "");
      const auto& spec = deploy::lower(net, {9, 9, 3}).spec;
      CHECK(has_op(spec, bits == 16 ? OpKind::kRescale : OpKind::kTable));
    }
  }

  // Where input and result have one scale, a slope of 0.1 puts every tenth code on a tie.
  TEST_CASE("functions of one number, on 8 and on 16 bits: ties too") {
    const Shape input{1, 6000};
    Tensor sweep = Tensor::empty(input);
    for (int64_t i = 0; i < 6000; ++i) {
      sweep.mutable_data()[i] = static_cast<real>(static_cast<double>(i - 2999) / 1000);
    }
    for (const int bits : {8, 16}) {
      CAPTURE(bits);
      for (int f = 0; f < static_cast<int>(Function::kSoftmax); ++f) {
        CAPTURE(f);
        Wired net;
        net.then(std::make_shared<Input>(), {-1});
        net.add<Activation>({.function = static_cast<Function>(f), .slope = 0.1}, {0});
        quantize_static(net, input, quant::usual_spec(8, bits), [&] {
          return [&, given = false]() mutable { return std::exchange(given, true) ? Tensor() : sweep; };
        });
        CHECK(program_differences(net, sweep) == "");
      }
    }
  }

  TEST_CASE("norms that stand alone, over images and rows, are depthwise products") {
    CAPTURE(test_seed());
    const RngKey key = RngKey{.seed = test_seed()}.child("norm");
    for (const int bits : {8, 16}) {
      CAPTURE(bits);
      Wired net;
      net.add<BatchNorm>({.channels = 3, .act = Act::kRelu6}, {-1});
      net.add<Conv2d>({.in = 3, .out = 4}, {0});
      net.then(std::make_shared<Flatten>(), {1});
      auto& last = net.add<BatchNorm>({.channels = 36}, {2});
      scatter(net, key);
      last.norm.gamma.raw.assign(rounded(last.norm.gamma.raw.value(), 0));  // some are 0
      const Shape input{4, 5, 5, 3};
      const Tensor batch = noise(input, key.child("x"));
      const Tensor expected = evaluated(net, batch);
      CHECK(largest_difference(expected, run_program(deploy::program_of(net, {5, 5, 3}), batch, expected.shape())) <
            1e-5);
      quantize_static(net, input, quant::usual_spec(8, bits), [&] {
        return [&, given = false]() mutable { return std::exchange(given, true) ? Tensor() : batch; };
      });
      Tally tally;
      CHECK(program_differences(net, batch, &tally) == "");
      CHECK(tally.integer_only == 1);
      CHECK(largest_difference(expected, evaluated(net, batch)) < 0.2);  // and means what it did
    }
  }

  TEST_CASE("dynamic layers: bits are equal") {
    CAPTURE(test_seed());
    for (int i = 0; i < (kSanitized ? 10 : 80); ++i) {
      CAPTURE(i);
      const RngKey key = RngKey{.seed = test_seed()}.child("dynamic").child(static_cast<uint64_t>(i));
      Rng rng(key);
      const Shape input = some_input(rng);
      Wired net;
      const Conv2dOptions first = some_conv(rng, input);
      net.add<Conv2d>(first, {-1});
      net.add<Add>({.act = some_act(rng)}, {0, 0});
      net.then(std::make_shared<Flatten>(), {1});
      const Shape flat = trace(net, input).output_shape(trace(net, input).calls.back());
      net.add<Linear>({.in = flat[1], .out = rng.between(1, 7), .act = some_act(rng)}, {2});
      scatter(net, key);
      quant::QuantSpec spec = some_spec(rng);
      spec.weights.symmetric = true;
      spec.weights.bits = static_cast<int>(rng.between(2, 8));
      quant::quantize(net, input, {.method = quant::Method::kDynamic, .spec = spec});
      const Tensor batch = noise(with_batch(input, 4), key.child("x"), rng.below(2) == 0 ? 30 : 1e-3);
      CHECK(program_differences(net, batch) == "");
    }
  }

  TEST_CASE("float, hybrid and binary16 layers stay within 4 K 2^-24 sum |x w|") {
    CAPTURE(test_seed());
    for (int i = 0; i < (kSanitized ? 12 : 120); ++i) {
      CAPTURE(i);
      const RngKey key = RngKey{.seed = test_seed()}.child("float").child(static_cast<uint64_t>(i));
      Rng rng(key);
      const Shape input = some_input(rng);
      Wired net;
      WeightedLayer* layer = nullptr;
      if (i % 4 == 0) {
        net.then(std::make_shared<Flatten>(), {-1});
        layer = &net.add<Linear>(
            {.in = input.elements(), .out = rng.between(1, 7), .norm = rng.below(2) == 0, .act = some_act(rng)}, {0});
      } else {
        layer = &net.add<Conv2d>(some_conv(rng, input), {-1});
      }
      scatter(net, key);
      const Tensor batch = noise(with_batch(input, 3), key.child("x"));
      const Tensor bound = bound_of(*layer, i % 4 == 0 ? batch.reshape({3, input.elements()}) : batch);
      const int form = i % 3;
      if (form > 0) {
        quant::QuantSpec spec;
        spec.weights.bits = static_cast<int>(rng.between(2, 8));
        quant::quantize(net, input,
                        {.method = form == 1 ? quant::Method::kHybrid : quant::Method::kHalf, .spec = spec});
      }
      const deploy::Lowered lowered = deploy::lower(net, sample_of(batch));
      const runtime::OpSpec& op = lowered.spec.ops.back();
      const Type type = lowered.spec.values[op.weights].type;
      CHECK((form == 1 ? runtime::is_weight_code(type) : type == (form == 0 ? Type::kF32 : Type::kF16)));
      const Tensor expected = evaluated(net, batch);
      const Tensor got = run_program(deploy::bytes_of(lowered), batch, expected.shape());
      int64_t beyond = 0;
      for (int64_t k = 0; k < expected.elements(); ++k) {
        beyond += !(std::abs(double{expected.data()[k]} - double{got.data()[k]}) <= double{bound.data()[k]});
      }
      CHECK(beyond == 0);
    }
  }

  TEST_CASE("random float nets: every leaf has a float op") {
    CAPTURE(test_seed());
    for (int i = 0; i < (kSanitized ? 10 : 100); ++i) {
      CAPTURE(i);
      const RngKey key = RngKey{.seed = test_seed()}.child("float nets").child(static_cast<uint64_t>(i));
      Rng rng(key);
      const Shape input = some_input(rng);
      const auto net = some_net(rng, input, i % 2 == 0);
      scatter(*net, key);
      const Tensor batch = noise(with_batch(input, 3), key.child("x"));
      const Tensor expected = evaluated(*net, batch);
      const Tensor got = run_program(deploy::program_of(*net, sample_of(batch)), batch, expected.shape());
      const Tensor sizes = absolute(expected);
      const double largest = *std::ranges::max_element(sizes.values());
      CHECK(largest_difference(expected, got) <= 1e-5 * std::max(largest, 1.0));
    }
  }

  TEST_CASE("a model in the middle of quantization-aware training exports as it evaluates") {
    CAPTURE(test_seed());
    const RngKey key = RngKey{.seed = test_seed()}.child("training");
    const Shape input{3, 6, 6, 3};
    for (const quant::RangeRule range :
         {quant::RangeRule::kMovingAverage, quant::RangeRule::kLearnedStep, quant::RangeRule::kLearnedClip}) {
      const bool step = range == quant::RangeRule::kLearnedStep;
      Wired net;
      net.then(std::make_shared<Input>(), {-1});
      net.add<Conv2d>({.in = 3, .out = 4, .norm = true, .act = Act::kRelu}, {0});
      net.add<Conv2d>({.in = 4, .out = 4, .padding = {1, 1, 1, 1}, .act = Act::kRelu}, {1});
      net.add<Add>({.act = Act::kRelu}, {1, 2});
      net.then(std::make_shared<Flatten>(), {3});
      net.add<Linear>({.in = 64, .out = 3}, {4});
      scatter(net, key);
      quant::prepare(net, input,
                     {.weights = {.bits = 4,
                                  .per = quant::Granularity::kChannel,
                                  .range = step ? range : quant::RangeRule::kMinMax},
                      .activations = {.bits = 4, .symmetric = false, .range = range}},
                     {.live_norms = true});
      quant::calibrate(net, noise_batches(input, 2, key.child("c"))());
      quant::adapt(net);
      Tally tally;
      CHECK(program_differences(net, noise(input, key.child("x")), &tally) == "");
      CHECK(tally.integer_only == 1);
    }
  }

  TEST_CASE("a program of a batch computes what one of a sample computes: 0 codes differ") {
    CAPTURE(test_seed());
    const RngKey key = RngKey{.seed = test_seed()}.child("batch");
    for (const char* name : {"mlp", "resnet8", "ds-cnn"}) {
      CAPTURE(name);
      const auto model = zoo::make(name);
      scatter(*model, key);
      const Shape sample = *zoo::describe(name).options.input;
      const Shape input{3, sample[0], sample[1], sample[2]};
      const Tensor x = noise(input, key);
      for (const bool integers : {false, true}) {
        CAPTURE(integers);
        if (integers) {
          quant::quantize(*model, input, {.spec = quant::usual_spec(8, 8)}, noise_batches(input, 1, key));
        }
        const int64_t outputs = evaluated(*model, x).elements();
        const Tensor one_by_one = run_program(deploy::program_of(*model, sample), x, {3, outputs / 3});
        const Tensor at_once =
            run_program(deploy::program_of(*model, sample, {.batch = 3}), x.reshape({1, x.elements()}), {1, outputs});
        const double largest = largest_difference(one_by_one, Tensor::zeros({3, outputs / 3}));
        CHECK(largest_difference(one_by_one, at_once) <= (integers ? 0 : 1e-4 * largest));
      }
    }
  }

  TEST_CASE("a program of one model is always the same, and the model stays as it was") {
    const RngKey key = RngKey{.seed = test_seed()}.child("same");
    const auto model = zoo::make("resnet8", {.input = Shape{16, 16, 3}});
    scatter(*model, key);
    const Shape input{2, 16, 16, 3};
    quant::quantize(*model, input, {.spec = quant::usual_spec(8, 8)}, noise_batches(input, 1, key));
    const Tensor before = evaluated(*model, noise(input, key));
    model->train(true);
    const std::vector<uint8_t> file = deploy::program_of(*model, {16, 16, 3});
    CHECK(model->training());
    CHECK(file == deploy::program_of(*model, {16, 16, 3}));
    CHECK(largest_difference(before, evaluated(*model, noise(input, key))) == 0);
    CHECK(file.size() < deploy::program_of(*model, {16, 16, 3}, {.metadata = std::string(1000, ' ')}).size());
  }

  TEST_CASE("what has no op is refused, with the leaf's path and one sentence") {
    const RngKey key = RngKey{.seed = test_seed()}.child("refused");
    const auto net = [&] {
      auto model = std::make_shared<Sequential>();
      model->add<Input>("input");
      model->add<Conv2d>("conv", {.in = 4, .out = 4, .act = Act::kRelu});
      model->add<Flatten>("flatten");
      model->add<Linear>("fc", {.in = 16, .out = 3});
      scatter(*model, key);
      return model;
    };
    const Shape input{2, 4, 4, 4};
    const quant::Batches batches = noise_batches(input, 1, key);
    const auto refused = [&](const quant::QuantSpec& spec) {
      const auto model = net();
      quantize_static(*model, input, spec, batches);
      return refusal(*model, {4, 4, 4});
    };
    CHECK(refused({.weights = {.bits = 12}}) == "[export] 'conv': weights of more than 8 bits are simulation only");
    CHECK(refused({.weights = {.symmetric = false}}) ==
          "[export] 'conv': weights with zero-points are simulation only");
    CHECK(refused({.weights = {.per = quant::Granularity::kGroup, .group = 2}}) ==
          "[export] 'conv': weights with grids per group are simulation only");
    CHECK(refused({.bits = {{.layer = "fc", .activations = 16}}}) ==
          "[export] 'fc': reads codes of 8 bits and gives codes of 16; an op has one width");

    const auto model = net();
    quantize_static(*model, input, {}, batches);
    weighted_layers(*model)[0]->output.detach(Stage::kFakeQuant);
    CHECK(refusal(*model, {4, 4, 4}) ==
          "[export] 'conv': reads codes and has weights on a grid, but its result is on none; quantize the result or "
          "skip the layer");

    Sequential rows;
    rows.add<Linear>("fc", {.in = 4, .out = 3});
    CHECK(refusal(rows, {4, 4, 4}) == "[export] 'fc': a linear layer over [1,4,4,4] has no op; flatten it first");
    Sequential nothing;
    nothing.add<Dropout>("drop", {.p = 0.5});
    CHECK(refusal(nothing, {4}) == "[export] the model computes nothing");
  }
}

}  // namespace whittle
