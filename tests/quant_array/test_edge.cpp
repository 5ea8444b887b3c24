// Edge's quantizers against slow ones written from its description, and against what it published.

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/checkpoint.h"
#include "datasets/registry.h"
#include "layers/zoo/zoo.h"
#include "quant/array/edge.h"
#include "quant/array/edge_model.h"
#include "tests/datasets/files.h"
#include "tests/quant_array/samples.h"
#include "tests/support/message.h"
#include "tests/support/sanitized.h"
#include "tests/support/seed.h"
#include "train/evaluate.h"

namespace whittle {

namespace {

using namespace quant;  // NOLINT(google-build-using-namespace)
using edge::Set;

constexpr Set kSets[] = {Set::kUniform, Set::kHistogram, Set::kNormal, Set::kIqr};

// Edge's rule by walking through the list.
float slow_regular(float value, const std::vector<double>& levels) {
  const auto w = static_cast<double>(value);
  bool any_below = false;
  bool any_above = false;
  double low = -INFINITY;
  double high = INFINITY;
  for (const double level : levels) {
    if (level == w) {
      low = high = w;
    }
  }
  for (const double level : levels) {
    any_below = any_below || level < w;
    any_above = any_above || level > w;
    if (low != high || std::isinf(low)) {
      low = level < w ? std::max(low, level) : low;
      high = level > w ? std::min(high, level) : high;
    }
  }
  if (!any_below) {
    return static_cast<float>(levels.front());
  }
  if (!any_above) {
    return static_cast<float>(levels.back());
  }
  return static_cast<float>(high - w <= w - low ? high : low);
}

}  // namespace

TEST_SUITE("edge") {
  TEST_CASE("mid-rise in float, one rounding after the other") {
    CAPTURE(test_seed());
    for (const int bits : {1, 2, 4, 8, 12, 16}) {
      const std::vector<float> w = normal_array(300, {test_seed(), 1}, 0.05);
      float low = w[0];
      float high = w[0];
      for (const float x : w) {
        low = std::min(low, x);
        high = std::max(high, x);
      }
      const float d = (high - low) / static_cast<float>(1 << bits);
      const std::vector<float> q = edge::mid_rise(w, 10, bits);
      std::set<float> levels;
      for (size_t i = 0; i < w.size(); ++i) {
        const float quotient = w[i] / d;
        CHECK(q[i] == d * (std::floor(quotient) + 0.5F));
        levels.insert(q[i]);
      }
      CHECK(static_cast<int>(levels.size()) <= (1 << bits) + 1);  // one more than bits allow
      const std::vector<float> row = edge::mid_rise(w, 1, bits);
      for (size_t i = 0; i < w.size(); ++i) {
        CHECK(row[i] == doctest::Approx(w[i] * (1 + std::pow(2.0, -bits - 1))).epsilon(1e-6));
      }
    }
    // The top edge of a range that is a whole number of steps below 0 gets a level of its own.
    const std::vector<float> q = edge::mid_rise(std::vector<float>{-2, -1, 0, 1, 2}, 5, 2);
    CHECK(q == std::vector<float>{-1.5F, -0.5F, 0.5F, 1.5F, 2.5F});
  }

  TEST_CASE("mid-rise without a range is NaN, and its fences clip nothing") {
    for (const float x : edge::mid_rise(std::vector<float>{0.5F, 0.5F}, 2, 4)) {
      CHECK(std::isnan(x));
    }
    for (const float x :
         edge::mid_rise(std::vector<float>{0.1F, 0.7F}, 2, 4, Set::kIqr)) {  // midpoint quartiles coincide
      CHECK(std::isnan(x));
    }
    std::vector<float> w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1000};
    const std::vector<float> q = edge::mid_rise(w, 10, 2, Set::kIqr);
    // Quartiles 3.5 and 7.5 (NumPy, method midpoint), fences -2.5 and 13.5, step 4.
    CHECK(q == std::vector<float>{2, 2, 2, 6, 6, 6, 6, 10, 10, 1002});
  }

  TEST_CASE("level sets of a small layer, worked out by hand") {
    const std::vector<float> layer = {-1, 0, 0.5F, 3};
    CHECK(edge::level_set(layer, Set::kUniform, 2) == std::vector<double>{-1, -1 + 4.0 / 3, -1 + 8.0 / 3, 3});
    CHECK(edge::level_set(layer, Set::kHistogram, 2) == std::vector<double>{-0.5, 0.5, 1.5, 2.5});
    // Quartiles -0.5 and 1.75.
    CHECK(edge::level_set(layer, Set::kIqr, 1) == std::vector<double>{-3.875, 5.125});
    const std::vector<double> normal_set = edge::level_set(layer, Set::kNormal, 2);
    REQUIRE(normal_set.size() == 4);
    const double deviation = std::sqrt((1.625 * 1.625 + 0.625 * 0.625 + 0.125 * 0.125 + 2.375 * 2.375) / 3);
    CHECK(normal_set[0] == doctest::Approx(0.625 - 0.430727299295457 * deviation).epsilon(1e-12));
    CHECK(normal_set[1] == doctest::Approx(0.625 + 0.430727299295457 * deviation).epsilon(1e-12));
    CHECK(normal_set[2] == -1);
    CHECK(normal_set[3] == 3);
  }

  TEST_CASE("regular rounding against a walk through the list") {
    CAPTURE(test_seed());
    for (int64_t round = 0; round < 30; ++round) {
      Rng rng(RngKey{test_seed(), 2}.child(static_cast<uint64_t>(round)));
      const std::vector<float> layer = normal_array(rng.between(4, 200), rng.key().child("v"));
      for (const Set set : kSets) {
        const std::vector<double> levels = edge::level_set(layer, set, static_cast<int>(rng.between(1, 6)));
        const std::vector<float> q = edge::regular_rounding(layer, levels);
        for (size_t i = 0; i < layer.size(); ++i) {
          CHECK(q[i] == slow_regular(layer[i], levels));
        }
      }
    }
  }

  TEST_CASE("the prior-normal list begins with a quantile, so the smallest weight goes there") {
    const std::vector<double> levels = {-0.5, 0.5, -2, 2};
    CHECK(edge::regular_rounding(std::vector<float>{-2, -1.9F, 1.5F, 2, 3}, levels) ==
          std::vector<float>{-0.5F, -2, 2, 2, 2});
    CHECK(edge::stochastic_rounding(std::vector<float>{-2, -3, 2, 0.5F}, levels, {1, 2}) ==
          std::vector<float>{-0.5F, -0.5F, 2, 0.5F});
  }

  TEST_CASE("stochastic rounding: one of the two neighbours, as often as the distances say") {
    CAPTURE(test_seed());
    const std::vector<double> levels = {-1, 0, 4};
    constexpr int64_t kDraws = 1000000;
    const std::vector<float> w(kDraws, 1.0F);
    double sum = 0;
    for (const float q : edge::stochastic_rounding(w, levels, {test_seed(), 3})) {
      CHECK_FALSE((q != 0 && q != 4));
      sum += static_cast<double>(q) - 1;
    }
    CHECK(std::abs(sum) <= 4 * std::sqrt(3.0 * kDraws));  // variance of one draw: (4 - 1) (1 - 0)
  }

  TEST_CASE("multi-point: its search range keeps it from reaching the weights") {
    CAPTURE(test_seed());
    const std::vector<float> w = normal_array(400, {test_seed(), 4}, 0, 0.2);
    double norm = 0;
    for (const float x : w) {
      norm += static_cast<double>(x) * static_cast<double>(x);
    }
    std::map<int, double> left;  // share of the norm that is not fitted
    for (const int bits : {2, 4, 6, 8}) {
      const std::vector<float> q = edge::multipoint(w, {.bits = bits}, {test_seed(), 5});
      double error = 0;
      for (size_t i = 0; i < w.size(); ++i) {
        error += std::pow(static_cast<double>(w[i]) - static_cast<double>(q[i]), 2);
      }
      left[bits] = std::sqrt(error / norm);
    }
    CHECK(left[2] > 0.9);
    CHECK(left[4] > 0.5);
    CHECK(left[8] < 0.05);
  }

  TEST_CASE("the surrogate of training: values of the method, slope of the ranges") {
    CAPTURE(test_seed());
    const std::vector<float> w = normal_array(100, {test_seed(), 6});
    const auto [low, high] = std::ranges::minmax(w);
    for (const char* name :
         {"mr", "rr:uniform", "rr:histogram", "rr:normal", "sr:uniform", "sr:histogram", "sr:normal"}) {
      const edge::Surrogate s = edge::training_surrogate(w, 10, edge::parse_edge_method(name), 4, {1, 2});
      CAPTURE(name);
      REQUIRE(s.values.size() == w.size());
      const auto [qlow, qhigh] = std::ranges::minmax(s.values);
      CHECK(s.slope == doctest::Approx((static_cast<double>(qhigh) - static_cast<double>(qlow)) /
                                       (static_cast<double>(high) - static_cast<double>(low))));
    }
    const auto slope = [&](const char* name) {
      return edge::training_surrogate(w, 10, edge::parse_edge_method(name), 4, {}).slope;
    };
    CHECK(slope("rr:uniform") == 1);
    CHECK(slope("rr:histogram") == doctest::Approx(1 - std::pow(2.0, -4)));
    CHECK(std::abs(slope("mr") - 1) < 0.1);
    CHECK(message_of([&] { return edge::training_surrogate(w, 10, {edge::Rounding::kMultiPoint}, 4, {}).slope; }) ==
          "[edge] Edge did not train with multi-point");
  }

  TEST_CASE("methods as text") {
    for (const char* name : {"mr", "mr:iqr", "multipoint", "rr:uniform", "rr:histogram", "rr:normal", "rr:iqr",
                             "sr:uniform", "sr:histogram", "sr:normal", "sr:iqr"}) {
      CHECK(edge::method_name(edge::parse_edge_method(name)) == name);
    }
    for (const char* name : {"", "rr", "rr:", "rr:cubic", "mr:normal", "xr:uniform", "RR:uniform"}) {
      CHECK(message_of([&] { return edge::parse_edge_method(name); }) ==
            "[edge] '" + std::string(name) +
                "' is no method of Edge: take mr, mr:iqr, multipoint, or rr:SET or sr:SET with SET one of uniform, "
                "histogram, normal, iqr");
    }
  }

  TEST_CASE("a model: layers of weight and bias, all or nothing") {
    const auto weights = [](Module& model) {
      std::map<std::string, std::vector<float>> all;
      for (const NamedParameter& named : model.parameters()) {
        const auto values = named.parameter->raw.value().values();
        all[named.name] = {values.begin(), values.end()};
      }
      return all;
    };
    const auto model = zoo::make("edge-cnn", {.classes = 10, .input = Shape{8, 8, 3}});
    const auto before = weights(*model);
    edge::edge_quantize(*model, {.method = edge::parse_edge_method("rr:uniform"), .bits = 3});
    const auto after = weights(*model);
    for (const auto& entry : before) {
      const std::string& name = entry.first;
      const std::vector<float>& values = entry.second;
      if (!name.ends_with("weight")) {
        continue;
      }
      CAPTURE(name);
      const std::string bias = name.substr(0, name.size() - 6) + "bias";
      std::vector<float> layer = values;
      layer.insert(layer.end(), before.at(bias).begin(), before.at(bias).end());
      const std::vector<double> levels = edge::level_set(layer, Set::kUniform, 3);
      CHECK(after.at(name) == edge::regular_rounding(values, levels));
      CHECK(after.at(bias) == edge::regular_rounding(before.at(bias), levels));
    }

    // Multi-point: all weights but the first, gamma too, no bias and no beta.
    const auto second = zoo::make("edge-cnn", {.classes = 10, .input = Shape{8, 8, 3}});
    const auto original = weights(*second);
    edge::edge_quantize(*second, {.method = edge::parse_edge_method("multipoint"), .bits = 2, .terms = 1});
    bool first = true;
    for (const NamedParameter& named : second->parameters()) {
      const bool changes = !first && (named.name.ends_with("weight") || named.name.ends_with("gamma"));
      CAPTURE(named.name);
      CHECK((weights(*second).at(named.name) != original.at(named.name)) == changes);
      first = false;
    }

    const auto without_bias = zoo::make("resnet8", {.norm_bias = false});
    const auto kept = weights(*without_bias);
    CHECK(message_of([&] {
            edge::edge_quantize(*without_bias, {.bits = 4});
            return 0;
          }).find("has no bias with it") != std::string::npos);
    CHECK(weights(*without_bias) == kept);
    CHECK(message_of([&] {
            edge::edge_quantize(*model, {.bits = 17});
            return 0;
          }) == "[edge] bits must be 1 to 16, got 17");
  }

  TEST_CASE("bad arrays") {
    const std::vector<float> none;
    CHECK(message_of([&] { return edge::mid_rise(none, 1, 4); }) == "[edge] the array is empty");
    CHECK(message_of([&] { return edge::level_set(std::vector<float>{NAN}, Set::kUniform, 4); }) ==
          "[edge] element 0 is nan");
    CHECK(message_of([&] { return edge::multipoint(std::vector<float>{1}, {.bits = 1}, {}); }) ==
          "[edge] bits must be 2 to 16, got 1");
    CHECK(message_of([&] { return edge::mid_rise(std::vector<float>{1}, 1, 4, Set::kNormal); }) ==
          "[edge] mid-rise has no set normal");
  }
}

// ---- Edge's own nets and numbers ------------------------------------------------------

namespace {

constexpr std::array<const char*, 10> kColumns = {"mr",     "mr:iqr",     "rr:uniform",   "rr:histogram", "rr:normal",
                                                  "rr:iqr", "sr:uniform", "sr:histogram", "sr:normal",    "sr:iqr"};
struct Row {
  int bits;
  std::array<double, 10> accuracy;  // of 3804 samples, as published
};
struct Table {
  const char* model;
  const char* file;
  double full_precision;
  std::array<Row, 6> rows;
};
constexpr Table kTables[] = {
    {"edge-simple",
     "telescope_simple.safetensors",
     0.8575,
     {{
         {16, {0.8575, 0.6399, 0.8575, 0.8575, 0.8575, 0.8223, 0.8575, 0.8575, 0.8575, 0.8223}},
         {12, {0.8575, 0.6399, 0.8575, 0.8575, 0.8567, 0.8220, 0.8578, 0.8575, 0.8565, 0.8220}},
         {10, {0.8573, 0.6399, 0.8578, 0.8578, 0.8533, 0.8218, 0.8575, 0.8578, 0.8536, 0.8223}},
         {8, {0.8578, 0.6399, 0.8588, 0.8575, 0.8494, 0.8197, 0.8580, 0.8583, 0.8496, 0.8218}},
         {6, {0.8583, 0.6399, 0.8586, 0.8562, 0.8386, 0.8194, 0.8567, 0.8570, 0.8339, 0.8141}},
         {4, {0.8557, 0.6399, 0.8520, 0.8552, 0.8094, 0.7934, 0.8473, 0.8580, 0.8183, 0.8128}},
     }}},
    {"edge-complex",
     "telescope_complex.safetensors",
     0.867,
     {{
         {16, {0.8670, 0.6399, 0.8670, 0.8670, 0.8670, 0.8583, 0.8670, 0.8670, 0.8670, 0.8583}},
         {12, {0.8670, 0.6399, 0.8670, 0.8670, 0.8675, 0.8583, 0.8670, 0.8672, 0.8670, 0.8583}},
         {10, {0.8675, 0.6399, 0.8672, 0.8675, 0.8662, 0.8586, 0.8672, 0.8670, 0.8657, 0.8586}},
         {8, {0.8680, 0.6399, 0.8678, 0.8675, 0.8625, 0.8583, 0.8675, 0.8672, 0.8633, 0.8583}},
         {6, {0.8672, 0.6399, 0.8675, 0.8659, 0.8591, 0.8583, 0.8672, 0.8628, 0.8546, 0.8573}},
         {4, {0.8654, 0.6399, 0.8638, 0.8638, 0.8478, 0.8630, 0.8573, 0.8509, 0.8404, 0.8573}},
     }}},
};

// The folder of the data, if it has Edge's nets and the data set.
std::optional<std::filesystem::path> edge_data() {
  const auto folder = real_data();
  if (folder && !(std::filesystem::is_regular_file(*folder / "edge-weights" / kTables[0].file) &&
                  std::filesystem::is_regular_file(*folder / "tabular" / "telescope.dat"))) {
    MESSAGE("skipped: no data");
    return std::nullopt;
  }
  return folder;
}

std::shared_ptr<Module> stored_net(const Table& table, const std::filesystem::path& folder) {
  const Checkpoint stored = load_checkpoint(folder / table.file, {.allow_foreign = true});
  const auto model = zoo::make(table.model, {.classes = 2, .input = Shape{10}});
  // net.0, net.3, ... are the linear layers in their order.
  std::map<int, std::string> layers;
  for (const auto& [name, tensor] : stored.tensors) {
    const std::string number = name.substr(4, name.rfind('.') - 4);
    layers[std::stoi(number)] = "net." + number + ".";
  }
  const std::vector<NamedParameter> parameters = model->parameters();
  REQUIRE(parameters.size() == 2 * layers.size());
  size_t i = 0;
  for (const auto& [number, prefix] : layers) {
    for (const char* part : {"weight", "bias"}) {
      const NamedParameter& named = parameters[i++];
      REQUIRE(named.name.ends_with(part));
      const Tensor values = stored.at(prefix + part).to_tensor();
      REQUIRE(values.shape() == named.parameter->shape());
      std::ranges::copy(values.values(), named.parameter->raw.mutable_data());
    }
  }
  return model;
}

int64_t correct(Module& model, const data::Dataset& test) {
  const Metrics metrics = evaluate(model, test);
  return std::llround(metrics.accuracy * static_cast<double>(metrics.samples));
}

}  // namespace

TEST_SUITE("edge's telescope tables") {
  TEST_CASE("every deterministic row has the published number of right answers; stochastic ones are a likely draw") {
    const auto folder = edge_data();
    if (!folder) {
      return;
    }
    const data::Splits splits = data::load("telescope", {.data_dir = *folder, .protocol = data::Protocol::kEdge});
    REQUIRE(splits.test.size() == 3804);
    int rows_equal = 0;
    for (const Table& table : kTables) {
      CAPTURE(table.model);
      const auto net = stored_net(table, *folder / "edge-weights");
      CHECK(correct(*net, splits.test) == std::llround(table.full_precision * 3804));
      for (const Row& row : table.rows) {
        for (size_t column = 0; column < kColumns.size(); ++column) {
          const edge::Method method = edge::parse_edge_method(kColumns[column]);
          const int64_t published = std::llround(row.accuracy[column] * 3804);
          CAPTURE(row.bits);
          CAPTURE(kColumns[column]);
          if (method.rounding != edge::Rounding::kStochastic) {
            const auto model = stored_net(table, *folder / "edge-weights");
            edge::edge_quantize(*model, {.method = method, .bits = row.bits});
            const int64_t counted = correct(*model, splits.test);
            CHECK(counted == published);
            rows_equal += counted == published ? 1 : 0;
            continue;
          }
          const int draws = kSanitized ? 4 : 20;
          double sum = 0;
          double squares = 0;
          for (int draw = 0; draw < draws; ++draw) {
            const auto model = stored_net(table, *folder / "edge-weights");
            edge::edge_quantize(
                *model, {.method = method, .bits = row.bits, .seed = test_seed() + static_cast<uint64_t>(draw)});
            const auto right = static_cast<double>(correct(*model, splits.test));
            sum += right;
            squares += right * right;
          }
          const double mean = sum / draws;
          const double deviation = std::sqrt(std::max(0.0, (squares - sum * mean) / (draws - 1)));
          CAPTURE(published);
          CAPTURE(mean);
          CAPTURE(deviation);
          // Four sigma of one draw, and of our estimate of its mean; counts are whole numbers.
          if (!kSanitized) {
            CHECK(std::abs(static_cast<double>(published) - mean) <= 4 * deviation * std::sqrt(1 + 1.0 / draws) + 1);
          }
        }
      }
    }
    CHECK(rows_equal == 72);
  }

  TEST_CASE("multi-point leaves of the last layer's weights what Edge's code left") {
    const auto folder = edge_data();
    if (!folder) {
      return;
    }
    const auto net = stored_net(kTables[0], *folder / "edge-weights");
    const auto weight = net->parameters()[2].parameter->raw.value().values();
    const std::vector<float> w(weight.begin(), weight.end());
    for (const auto& [bits, norm_left] : std::map<int, double>{{0, 2.70}, {2, 2.65}, {4, 2.21}}) {  // to two digits
      const std::vector<float> q =
          bits == 0 ? std::vector<float>(w.size()) : edge::multipoint(w, {.bits = bits}, {test_seed(), 1});
      double left = 0;
      for (size_t i = 0; i < w.size(); ++i) {
        left += std::pow(static_cast<double>(w[i]) - static_cast<double>(q[i]), 2);
      }
      CHECK(std::abs(std::sqrt(left) - norm_left) < 0.01);
    }
  }
}

}  // namespace whittle
