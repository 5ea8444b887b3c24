// The zoo against what was published, and each net forward and backward. Float twin.

#include <doctest/doctest.h>

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "core/ops.h"
#include "layers/linear.h"
#include "layers/summary.h"
#include "layers/trace.h"
#include "layers/zoo/zoo.h"
#include "tests/layers/plugs.h"
#include "tests/support/message.h"
#include "tests/support/seed.h"

namespace whittle {

namespace {

using Widths = std::vector<int64_t>;

Shape batch_of(int64_t n, const Shape& sample) {
  std::vector<int64_t> dims{n};
  dims.insert(dims.end(), sample.dims().begin(), sample.dims().end());
  return Shape(dims);
}

std::shared_ptr<Module> build(std::string_view name, const zoo::Options& options = {}) {
  return zoo::build(zoo::describe(name, options));
}

}  // namespace

TEST_SUITE("zoo") {
  TEST_CASE("every model has as many parameters as its entry says, and a result for every class") {
    std::set<std::string> names;
    for (const zoo::Entry& entry : zoo::list()) {
      CAPTURE(entry.name);
      CHECK(names.insert(entry.name).second);
      CHECK_FALSE(entry.summary.empty());
      CHECK_FALSE(entry.source.empty());
      if (entry.trainable > 30'000'000) {
        continue;  // VGG-16 would take half a gigabyte; the next test counts it in two parts
      }
      const auto model = build(entry.name);
      CHECK(trainable_count(*model) == entry.trainable);
      CHECK(total_count(*model) == entry.total);
    }
    CHECK(names.size() == 21);
  }

  // Numbers from the papers and from the implementations everybody uses.
  TEST_CASE("published parameter counts") {
    struct Published {
      const char* name;
      zoo::Options options;
      int64_t trainable;
    };
    const Shape telescope{10};
    const std::vector<Published> table{
        {"edge-simple", {}, 132},  // telescope
        {"edge-complex", {}, 5412},
        {"edge-simple", {.input = Shape{13}}, 162},  // churn
        {"edge-complex", {.input = Shape{13}}, 5472},
        {"edge-simple", {.classes = 1, .input = Shape{6}}, 81},  // California
        {"edge-complex", {.classes = 1, .input = Shape{6}}, 20651},
        {"edge-simple", {.classes = 1}, 121},  // MV
        {"edge-complex", {.classes = 1}, 20851},
        {"lenet-300-100", {}, 266610},
        {"lenet5", {}, 431080},
        {"edge-cnn", {}, 3230474},
        {"edge-cnn", {.classes = 100}, 3276644},
        {"resnet9", {}, 6575370},
        {"resnet9", {.classes = 100}, 6621540},
        {"resnet8", {}, 78186},
        {"resnet20", {}, 272474},
        {"resnet18", {}, 11181642},
        {"resnet18", {.classes = 1000}, 11689512},
        {"resnet50", {}, 25557032},
        {"conv2", {}, 4300992 + 64 + 64 + 256 + 256 + 10},  // weights + biases
        {"conv4", {}, 2425024 + 2 * 64 + 2 * 128 + 256 + 256 + 10},
        {"conv6", {}, 2261184 + 2 * 64 + 2 * 128 + 2 * 256 + 256 + 256 + 10},
        {"mobilenet-v1", {}, 4231976},
        {"mobilenet-v2", {}, 3504872},
        {"ds-cnn", {}, 23756},
    };
    for (const auto& [model, options, count] : table) {
      const std::string name = model;
      const int64_t trainable = count;
      CAPTURE(name);
      CAPTURE(trainable);
      CHECK(trainable_count(*build(name, options)) == trainable);
    }
    CHECK(total_count(*build("resnet8")) == 78666);
    CHECK(total_count(*build("ds-cnn")) == 24908);          // MLPerf Tiny's reference
    CHECK(total_count(*build("mobilenet-v1")) == 4253864);  // Keras' total
    // VGG-16, 138,357,544: the head of a small input, and the part that the input decides.
    const auto vgg = build("vgg16", {.classes = 10, .input = Shape{32, 32, 3}});
    CHECK(trainable_count(*vgg) + (49 - 1) * 512 * 4096 + (1000 - 10) * 4097 == 138357544);
    CHECK(zoo::entry("vgg16").trainable == 138357544);
  }

  TEST_CASE("published multiply-accumulates") {
    struct Published {
      const char* name;
      zoo::Options options;
      int64_t macs;
    };
    const std::vector<Published> table{
        {"mlp", {}, 784 * 256 + 256 * 128 + 128 * 10},
        {"small-cnn", {}, 11'992'448},
        {"resnet9", {}, 379'261'952},
        {"resnet18-3x3", {}, 555'422'720},
        {"resnet8", {}, 12'501'632},
        {"mobilenet-v1", {.classes = 2, .input = Shape{96, 96, 3}, .width = 0.25}, 7'489'664},
        {"ds-cnn", {}, 2'656'768},
    };
    for (const auto& [model, options, macs] : table) {
      const std::string name = model;
      CAPTURE(name);
      const zoo::Description description = zoo::describe(name, options);
      CHECK(summarize(*zoo::build(description), batch_of(1, *description.options.input)).macs == macs);
    }
    // 224 = 7 * 32: there a convolution does 49 times the work, and a head of 1000 classes on what the
    // global pool leaves does the same. VGG-16's dense layers see 7x7 pixels.
    const auto at_224 = [](const char* name, int64_t dense) {
      int64_t convolutions = 0;
      for (const SummaryRow& row :
           summarize(*build(name, {.classes = 10, .input = Shape{32, 32, 3}}), {1, 32, 32, 3}).rows) {
        convolutions += row.kind == "conv2d" ? row.macs : 0;
      }
      return 49 * convolutions + dense;
    };
    CHECK(at_224("mobilenet-v1", 1024 * 1000) == 568'740'352);
    CHECK(at_224("mobilenet-v2", 1280 * 1000) == 300'774'272);
    CHECK(at_224("resnet18", 512 * 1000) == 1'814'073'344);
    CHECK(at_224("resnet50", 2048 * 1000) == 4'089'184'256);
    CHECK(at_224("vgg16", 49 * 512 * 4096 + 4096 * 4096 + 4096 * 1000) == 15'470'264'320);
  }

  TEST_CASE("forward and backward: finite gradients reach every parameter") {
    const Shape small{32, 32, 3};
    const std::vector<std::pair<const char*, zoo::Options>> nets{
        {"mlp", {.input = Shape{5, 3, 2}, .hidden = Widths{7, 8, 9}, .dropout = 0.1}},
        {"mlp", {.input = Shape{4}, .hidden = Widths{}}},
        {"edge-simple", {}},
        {"edge-complex", {}},
        {"lenet-300-100", {}},
        {"lenet5", {}},
        {"small-cnn", {.input = Shape{12, 10, 2}}},
        {"edge-cnn", {.input = Shape{16, 16, 3}}},
        {"resnet9", {.input = Shape{32, 32, 1}}},
        {"resnet8", {}},
        {"resnet8", {.norm_bias = false}},
        {"resnet20", {}},
        {"resnet18", {.input = Shape{64, 64, 3}}},
        {"resnet18-3x3", {.input = Shape{16, 16, 3}}},
        {"conv2", {.input = Shape{8, 8, 3}}},
        {"conv4", {.input = Shape{8, 8, 3}, .norm = true}},
        {"conv6", {.input = Shape{8, 8, 3}}},
        {"mobilenet-v1", {.classes = 3, .input = Shape{64, 64, 3}, .width = 0.25}},
        {"mobilenet-v2", {.classes = 3, .input = Shape{64, 64, 3}, .width = 0.35}},
        {"ds-cnn", {}},
        {"ds-cnn-l", {.norm_bias = false}},
    };
    CAPTURE(test_seed());
    for (const auto& [net, options] : nets) {
      const std::string name = net;
      CAPTURE(name);
      const zoo::Description description = zoo::describe(name, options);
      const auto model = zoo::build(description);
      initialize(*model, {.seed = test_seed()});
      constexpr int64_t kSamples = 2;
      const Tensor x = Tensor::normal(batch_of(kSamples, *description.options.input), {.seed = test_seed()});
      const Variable y = (*model)(x);
      CHECK(y.shape() == Shape{kSamples, *description.options.classes});
      backward(cross_entropy(y, std::vector<int32_t>{0, 1}));
      for (const auto& [name_of, parameter] : model->parameters()) {
        const std::string path = name_of;
        CAPTURE(path);
        REQUIRE(parameter->raw.grad().defined());
        CHECK(parameter->raw.grad().all_finite());
        CHECK(std::ranges::any_of(parameter->raw.grad().values(), [](real g) { return g != 0; }));
      }
      CHECK(trace(*model, batch_of(1, *description.options.input)).calls.front().path == "input");
    }
  }

  TEST_CASE("large nets run forward") {
    for (const char* name : {"resnet50", "vgg16"}) {
      CAPTURE(name);
      const auto model = build(name, {.classes = 10, .input = Shape{32, 32, 3}});
      const Trace traced = trace(*model, {1, 32, 32, 3});
      CHECK(traced.values[static_cast<size_t>(traced.output)].shape == Shape{1, 10});
    }
  }

  TEST_CASE("make() initializes with seed 0, build() not at all") {
    const auto made = zoo::make("edge-simple");
    const auto built = build("edge-simple");
    CHECK(numbers(made->parameters()[0].parameter->raw.value()) !=
          numbers(built->parameters()[0].parameter->raw.value()));
    initialize(*built, {.seed = 0});
    CHECK(numbers(made->parameters()[0].parameter->raw.value()) ==
          numbers(built->parameters()[0].parameter->raw.value()));
    CHECK(Linear({.in = 1, .out = 1}).weight.raw.value().item() != 0);  // the guard is gone
  }

  TEST_CASE("layers have the names one would guess") {
    const auto names = [](const char* model) {
      std::set<std::string> all;
      for (const auto& [path, parameter] : build(model)->parameters()) {
        all.insert(path);
      }
      return all;
    };
    CHECK(names("resnet18").contains("layer2.0.shortcut.weight"));
    CHECK(names("resnet18").contains("layer4.1.conv2.gamma"));
    CHECK(names("mobilenet-v2").contains("block17.project.weight"));
    CHECK(names("resnet9").contains("res2.conv1.bias"));
    CHECK(names("lenet-300-100") ==
          std::set<std::string>{"fc1.bias", "fc1.weight", "fc2.bias", "fc2.weight", "fc3.bias", "fc3.weight"});
  }

  TEST_CASE("descriptions go through text unchanged, for every model") {
    for (const zoo::Entry& entry : zoo::list()) {
      CAPTURE(entry.name);
      const zoo::Description description = zoo::describe(entry.name);
      CHECK(zoo::from_text(zoo::to_text(description)) == description);
    }
    const zoo::Description odd =
        zoo::describe("mlp", {.classes = 3, .input = Shape{7, 5, 1}, .hidden = Widths{31, 17}, .dropout = 0.1});
    CHECK(zoo::from_text(zoo::to_text(odd)) == odd);
    CHECK(zoo::to_text(odd) ==
          R"({"name":"mlp","options":{"classes":3,"dropout":0.1,"hidden":[31,17],"input":[7,5,1]}})");
    CHECK(zoo::from_text(R"({"name":"resnet8"})") == zoo::describe("resnet8"));
  }

  TEST_CASE("a description cannot ask for more memory than its checkpoint has numbers, or than anyone wants") {
    const zoo::Options wide{.input = Shape{1}, .hidden = Widths{1 << 16, 1 << 16, 1 << 16}};
    CHECK(message_of([&] { zoo::build(zoo::describe("mlp", wide)); }) ==
          "[layers] the model would have more than 2147483648 weights, which is the most the zoo builds");
    Checkpoint checkpoint;
    const zoo::Options small{.classes = 2, .input = Shape{3}, .hidden = Widths{4}};
    zoo::store(checkpoint, zoo::describe("mlp", small), *zoo::make("mlp", small));
    CHECK_NOTHROW(zoo::load(checkpoint, {}));
    // 26 numbers in the file; the first layer of this one alone has 3 x 60000.
    checkpoint.metadata["whittle.model"] = R"({"name":"mlp","options":{"classes":2,"hidden":[60000],"input":[3]}})";
    CHECK(message_of([&] { return zoo::load(checkpoint, {}); }) ==
          "[layers] the model would have more than 26 weights, which is all the numbers that its checkpoint holds");
  }

  TEST_CASE("wrong names and options are refused with what there is") {
    const std::string unknown = message_of([] { zoo::make("resnet19"); });
    CHECK(unknown.starts_with("[zoo] there is no model 'resnet19'; there are mlp, edge-simple, "));
    CHECK(unknown.find("ds-cnn-l") != std::string::npos);
    CHECK(message_of([] { zoo::make("resnet8", {.width = 2}); }) ==
          "[zoo] 'resnet8' takes no width; it takes classes, input, norm_bias");
    CHECK(message_of([] { zoo::make("resnet8", {.classes = 0}); }) ==
          "[zoo] classes 0 of 'resnet8' is not between 1 and 65536");
    CHECK(message_of([] {
            zoo::make("resnet8", {.input = Shape{32, 32}});
          }) == "[zoo] input [32,32] of 'resnet8' is not an image {height, width, channels}");
    CHECK(message_of([] {
            zoo::make("vgg16", {.input = Shape{31, 40, 3}});
          }) == "[zoo] 'vgg16' needs images of at least 32x32, the input is [31,40,3]");
    CHECK(message_of([] { zoo::make("lenet5", {.input = Shape{15, 40, 3}}); }).starts_with("[zoo] 'lenet5' needs"));
    CHECK(message_of([] { zoo::make("mobilenet-v1", {.width = 0}); }) ==
          "[zoo] width 0 of 'mobilenet-v1' is not above 0 and at most 16");
    CHECK(message_of([] { zoo::make("edge-complex", {.dropout = 1}); }) ==
          "[zoo] dropout 1 of 'edge-complex' is outside [0, 1)");
    CHECK(message_of([] {
            zoo::make("mlp", {.hidden = Widths{3, -1}});
          }) == "[zoo] a hidden width of 'mlp' is not between 1 and 65536");
    CHECK(message_of([] {
            zoo::make("mlp", {.input = Shape{1 << 12, 1 << 11, 1}});
          }) == "[zoo] input [4096,2048,1] of 'mlp' has more than 4194304 elements");
    for (const char* text :
         {"", "[]", "{}", R"({"name":3})", R"({"name":"mlp","options":[]})",
          R"({"name":"mlp","options":{"classes":2.5}})", R"({"name":"mlp","options":{"classes":true}})",
          R"({"name":"mlp","options":{"input":[4,0]}})", R"({"name":"mlp","options":{"input":4}})",
          R"({"name":"mlp","options":{"hidden":[2.5]}})", R"({"name":"mlp","options":{"depth":2}})",
          R"({"name":"vgg16","options":{"norm":1}})", R"({"name":"mlp","options":{"dropout":"x"}})",
          R"({"name":"mlp","options":{"input":[1,1,1,1,1,1,1,1,1]}})", R"({"name":"mlq"})"}) {
      CAPTURE(text);
      CHECK(message_of([&] { zoo::from_text(text); }).starts_with("[zoo] "));
    }
    CHECK(message_of([] {
            zoo::from_text(R"({"name":"mlp","options":{"depth":2}})");
          }).find("none of classes, input, hidden, width, dropout, norm, norm_bias") != std::string::npos);
  }
}

}  // namespace whittle
