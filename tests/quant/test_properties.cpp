// What every quantizer promises, at the places where it is easiest to break. Float twin.

#include <doctest/doctest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "core/ops.h"
#include "layers/conv2d.h"
#include "layers/leaves.h"
#include "layers/linear.h"
#include "layers/sequential.h"
#include "quant/fake_quant.h"
#include "quant/post_training.h"
#include "tests/quant/nets.h"
#include "tests/quant/oracle.h"
#include "tests/support/seed.h"

namespace whittle {

namespace {

RngKey key_of(std::string_view name) { return RngKey{.seed = test_seed()}.child(name); }

// Each number with its five neighbours on both sides.
Tensor with_neighbours(const std::vector<float>& around) {
  std::vector<real> all;
  for (const float centre : around) {
    float low = centre;
    float high = centre;
    all.push_back(centre);
    for (int step = 0; step < 5; ++step) {
      low = std::nextafter(low, -INFINITY);
      high = std::nextafter(high, INFINITY);
      all.push_back(low);
      all.push_back(high);
    }
  }
  return Tensor::from({1, static_cast<int64_t>(all.size())}, all);
}

}  // namespace

TEST_SUITE("properties") {
  TEST_CASE(
      "activations at the clip's edges: values are codes' numbers, the gradient is the surrogate's to the last bit") {
    CAPTURE(test_seed());
    for (const int bits : {2, 4, 8, 16}) {
      for (const bool symmetric : {false, true}) {
        for (const quant::Phase phase : {quant::Phase::kAdapt, quant::Phase::kFixed}) {
          CAPTURE(bits);
          CAPTURE(symmetric);
          quant::FakeQuant quantizer(quant::Role::kActivation, {.bits = bits, .symmetric = symmetric}, {1});
          quantizer.train(true);
          (void)quantizer.apply(
              Variable(Tensor::normal({4, 50}, key_of("seen").child(static_cast<uint64_t>(bits)), real(0.3))));
          phase == quant::Phase::kAdapt ? quantizer.adapt() : quantizer.fix();
          quantizer.train(false);  // ranges stand
          const Grid grid = (*quantizer.grids())[0];
          const float low = grid.scale * static_cast<float>(grid.qmin - grid.zero_point);
          const float high = grid.scale * static_cast<float>(grid.qmax - grid.zero_point);
          const Tensor numbers = with_neighbours(
              {low, high, low - grid.scale / 2, high + grid.scale / 2, 0, grid.scale / 2, low / 2, high / 3});
          Variable x = Variable::leaf(numbers);
          const Variable y = quantizer.apply(x);
          const Tensor g = Tensor::normal(numbers.shape(), key_of("g"));
          backward(sum(mul(y, Variable(g))));
          int masked = 0;
          for (int64_t i = 0; i < numbers.elements(); ++i) {
            const float v = numbers.data()[i];
            const int32_t code = arithmetic::quantize(v, grid);
            CHECK(y.value().data()[i] == arithmetic::dequantize(code, grid));
            const float ratio = v / grid.scale;
            const bool inside = ratio >= static_cast<float>(grid.qmin - grid.zero_point) &&
                                ratio <= static_cast<float>(grid.qmax - grid.zero_point);
            CHECK(x.grad().data()[i] == (inside ? g.data()[i] : 0));
            masked += inside ? 0 : 1;
            if (inside) {  // a scale's own rounding beside half a step
              CHECK(std::abs(y.value().data()[i] - v) <= grid.scale * 0.5F * (1 + 1e-4F));
            }
          }
          CHECK(masked >= 22);  // half a step beyond both ends
          CHECK(arithmetic::quantize(0, grid) == grid.zero_point);
          CHECK(quantizer.apply(Variable(Tensor::zeros({1, 1}))).value().item() == 0);
          const Tensor again = quantizer.apply(y.detach()).value();
          for (int64_t i = 0; i < again.elements(); ++i) {
            CHECK(again.data()[i] == y.value().data()[i]);
          }
        }
      }
    }
  }

  TEST_CASE("pruned, dead and nearly dead channels: nothing explodes, at any number of bits") {
    CAPTURE(test_seed());
    for (const int bits : {2, 4, 8}) {
      for (const quant::Granularity per : {quant::Granularity::kTensor, quant::Granularity::kChannel}) {
        CAPTURE(bits);
        const auto make = [] {
          const auto net = std::make_shared<Sequential>();
          net->add<Input>("input");
          net->add<Conv2d>("conv1", {.in = 3, .out = 8, .padding = Padding::all(1), .norm = true, .act = Act::kRelu});
          net->add<Conv2d>("conv2", {.in = 8, .out = 8, .norm = true, .act = Act::kRelu});
          net->add<Flatten>("flatten");
          net->add<Linear>("fc", {.in = 8 * 16, .out = 4});
          scatter(*net, key_of("net"));
          const auto layers = weighted_layers(*net);
          for (size_t l = 0; l < 2; ++l) {
            Tensor w = layers[l]->weight.raw.value().clone();
            Tensor& variance = layers[l]->norm.running_variance;
            Tensor fresh = variance.clone();
            const int64_t row = w.elements() / 8;
            for (int64_t i = 0; i < row; ++i) {
              w.mutable_data()[i] = 0;                   // pruned
              w.mutable_data()[row + i] *= real(1e-30);  // dead, with a norm that blows it up 316 times
              w.mutable_data()[2 * row + i] *= real(1e-6);
            }
            fresh.mutable_data()[1] = 0;
            fresh.mutable_data()[2] = real(1e-12);
            variance = fresh;
            layers[l]->weight.raw.assign(w);
            real* const gamma = layers[l]->norm.gamma.raw.mutable_data();
            gamma[3] = 0;
            gamma[4] = real(1e-20);
          }
          return net;
        };
        const auto net = make();
        const auto plain = make();
        const auto batches = noise_batches({8, 6, 6, 3}, 2, key_of("data"));
        quant::quantize(*net, {1, 6, 6, 3},
                        {.method = quant::Method::kStatic, .spec = {.weights = {.bits = bits, .per = per}}}, batches);
        const Tensor x = batches()();
        const Tensor wanted = evaluated(*plain, x);
        const Tensor found = evaluated(*net, x);
        REQUIRE(found.all_finite());
        double signal = 0;
        double noise = 0;
        double most = 0;
        for (int64_t i = 0; i < wanted.elements(); ++i) {
          const auto y = static_cast<double>(wanted.data()[i]);
          const double d = y - static_cast<double>(found.data()[i]);
          signal += y * y;
          noise += d * d;
          most = std::max(most, std::abs(static_cast<double>(found.data()[i])) - 4 * std::abs(y));
        }
        CHECK(most < 4 * std::sqrt(signal / static_cast<double>(wanted.elements())));
        CHECK((bits < 8 || noise < 1e-2 * signal));
        CHECK(oracle_differences(*net, x) == "");
        // A dead channel's weights have a scale, and are as small as they were on it.
        const Tensor w = weighted_layers(*net)[0]->effective_weight().value();
        for (int64_t i = 0; i < w.elements() / 8; ++i) {
          CHECK(w.data()[i] == 0);
          CHECK(w.data()[w.elements() / 8 + i] == 0);
        }
      }
    }
  }
}

}  // namespace whittle
