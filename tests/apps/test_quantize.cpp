// whittle quantize: what it prints, saves and refuses, and that what it saved evaluates alike.

#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "core/checkpoint.h"
#include "tests/apps/command.h"
#include "tests/datasets/files.h"

namespace whittle {

namespace {

// A net that tells moons apart, trained in a second.
std::string trained(const TempFolder& folder) {
  const std::string file = folder / "m.safetensors";
  const Result result =
      whittle_command(folder, {"train", "--model", "mlp", "--hidden", "16,8", "--data", "moons", "--threads", "1",
                               "--epochs", "20", "--seed", "2", "--quiet", "--out", file});
  REQUIRE(result.exit_code == 0);
  return file;
}

std::string refusal(const TempFolder& folder, const Words& arguments) {
  const Result result = whittle_command(folder, Words{"quantize"} + arguments);
  CAPTURE(result.out);
  CAPTURE(result.err);
  CHECK(result.exit_code != 0);
  CHECK(one_line(result.err));
  return result.err;
}

}  // namespace

TEST_SUITE("quantize") {
  TEST_CASE("every method: the last line is one object, and eval of the saved file agrees") {
    const TempFolder folder;
    const std::string model = trained(folder);
    const double before =
        whittle_command(folder, {"eval", model, "--json"}).json().at("test").at("accuracy").get<double>();
    for (const std::string method : {"static", "dynamic", "hybrid", "fp16"}) {
      CAPTURE(method);
      const std::string out = folder / (method + ".safetensors");
      const Result result = whittle_command(folder, {"quantize", model, "--method", method, "--json", "--out", out});
      CAPTURE(result.err);
      REQUIRE(result.exit_code == 0);
      CHECK(result.err.empty());
      CHECK(contains(result.out, "saved as " + out));
      const Json json = result.json();
      CHECK(json.at("method") == method);
      CHECK(json.at("float").at("test").at("accuracy").get<double>() == before);
      CHECK(json.at("calibration_samples") == (method == "static" ? 512 : 0));
      CHECK(json.at("test").at("accuracy").get<double>() > before - 0.02);
      CHECK(whittle_command(folder, {"eval", out, "--json"}).json().at("test") == json.at("test"));
      CHECK(refusal(folder, {out}) == "whittle: [quantize] the model is quantized already\n");
    }
  }

  TEST_CASE("the same command gives the same bytes, for any thread count; quiet prints nothing") {
    const TempFolder folder;
    const std::string model = trained(folder);
    for (const std::string threads : {"1", "2"}) {
      const Result result = whittle_command(folder, {"quantize", model, "--bits", "4", "--equalize", "--correct-biases",
                                                     "--quiet", "--threads", threads, "--out", folder / threads});
      CHECK(result.exit_code == 0);
      CHECK(result.out.empty());
    }
    CHECK(contents(folder / "1") == contents(folder / "2"));
  }

  TEST_CASE("sensitivity lists every layer") {
    const TempFolder folder;
    const Result result =
        whittle_command(folder, {"quantize", trained(folder), "--bits", "3", "--sensitivity", "--json"});
    CAPTURE(result.err);
    REQUIRE(result.exit_code == 0);
    const Json rows = result.json().at("sensitivity");
    CHECK(rows.size() == 4);  // the input and three layers
    for (const Json& row : rows) {
      CHECK(contains(result.out, "  " + row.at("layer").get<std::string>() + " "));
      CHECK(row.at("sqnr_db").get<double>() > 0);
      CHECK(row.at("accuracy").get<double>() > 0.5);
    }
  }

  TEST_CASE("grids of weights: every layer is listed, and eval of the saved file agrees") {
    const TempFolder folder;
    const std::string model = trained(folder);
    struct Case {
      Words words;
      int64_t most_codes;
    };
    for (const Case& one : {Case{{"--bits", "3", "--grid", "kmeans", "--per", "tensor"}, 8},
                            Case{{"--bits", "3", "--grid", "power-of-two", "--per", "tensor"}, 8},
                            Case{{"--bits", "1", "--grid", "binary"}, 2},
                            Case{{"--bits", "4", "--rounding", "stochastic", "--seed", "3"}, 15},
                            Case{{"--bits", "3", "--grid", "multipoint", "--output-error", "0.01"}, 7},
                            Case{{"--bits", "4", "--layers"}, 15}}) {
      CAPTURE(one.words.back());
      const std::string out = folder / "grid.safetensors";
      const Result result =
          whittle_command(folder, Words{"quantize", model, "--method", "hybrid", "--json", "--out", out} + one.words);
      CAPTURE(result.err);
      REQUIRE(result.exit_code == 0);
      const Json weights = result.json().at("weights");
      CHECK(weights.at("layers").size() == 3);
      for (const Json& row : weights.at("layers")) {
        CHECK(contains(result.out, "  " + row.at("layer").get<std::string>() + " "));
        CHECK(row.at("distinct_codes").get<int64_t>() <= one.most_codes);
        CHECK(row.at("mse").get<double>() > 0);
      }
      CHECK(weights.at("bits_per_weight").get<double>() > 1);
      CHECK(whittle_command(folder, {"eval", out, "--json"}).json().at("test") == result.json().at("test"));
    }
  }

  TEST_CASE("learned rounding: layers gain, the same bytes for any thread count, and eval agrees") {
    const TempFolder folder;
    const std::string model = trained(folder);
    for (const std::string method : {"hybrid", "static"}) {
      for (const std::string threads : {"1", "2"}) {
        const Result result =
            whittle_command(folder, {"quantize", model, "--method", method, "--bits", "3", "--rounding", "adaround",
                                     "--steps", "100", "--json", "--threads", threads, "--out", folder / threads});
        CAPTURE(result.err);
        REQUIRE(result.exit_code == 0);
        const Json json = result.json();
        CHECK(json.at("adaround").size() == 3);
        for (const Json& row : json.at("adaround")) {
          CHECK(row.at("learned").get<double>() <= row.at("nearest").get<double>());
        }
        CHECK(whittle_command(folder, {"eval", folder / threads, "--json"}).json().at("test") == json.at("test"));
      }
      CHECK(contents(folder / "1") == contents(folder / "2"));
    }
  }

  TEST_CASE("Edge's methods: rows of its telescope tables, to the sample") {
    const auto data = real_data();
    if (!data || !std::filesystem::is_directory(*data / "edge-weights")) {
      return;
    }
    struct Row {
      std::string method;
      std::string bits;
      double accuracy;
    };
    const std::map<std::string, std::vector<Row>> tables = {
        {"simple",
         {{"mr", "8", 0.8578}, {"rr:uniform", "8", 0.8588}, {"rr:normal", "4", 0.8094}, {"mr:iqr", "4", 0.6399}}},
        {"complex",
         {{"mr", "4", 0.8654}, {"rr:uniform", "4", 0.8638}, {"rr:histogram", "6", 0.8659}, {"rr:iqr", "4", 0.8630}}}};
    const TempFolder folder;
    for (const auto& [size, rows] : tables) {
      // A net of this kind, with Edge's weights in it.
      const std::string file = folder / size;
      REQUIRE(whittle_command(folder, {"train", "--model", "edge-" + size, "--data", "telescope", "--protocol", "edge",
                                       "--data-dir", *data, "--epochs", "1", "--quiet", "--out", file})
                  .exit_code == 0);
      Checkpoint net = load_checkpoint(file);
      const Checkpoint edge =
          load_checkpoint(*data / "edge-weights" / ("telescope_" + size + ".safetensors"), {.allow_foreign = true});
      std::map<int, std::string> layers;  // net.0, net.3, ... are the linear layers in their order
      for (const auto& [name, tensor] : edge.tensors) {
        layers[std::stoi(name.substr(4))] = name.substr(0, name.rfind('.'));
      }
      auto own = net.tensors.begin();  // fc1.bias, fc1.weight, fc2.bias, ...
      for (const auto& [number, path] : layers) {
        for (const char* part : {".bias", ".weight"}) {
          while (own != net.tensors.end() && !own->first.ends_with(part)) {  // dropout has a position
            ++own;
          }
          REQUIRE(own != net.tensors.end());
          own->second = edge.at(path + part);
          ++own;
        }
      }
      save_checkpoint(file, net);
      for (const Row& row : rows) {
        CAPTURE(row.method);
        const std::string out = folder / "edge.safetensors";
        const Result result = whittle_command(folder, {"quantize", file, "--edge-compatible", row.method, "--bits",
                                                       row.bits, "--data-dir", *data, "--json", "--out", out});
        CAPTURE(result.err);
        REQUIRE(result.exit_code == 0);
        const double accuracy = result.json().at("test").at("accuracy").get<double>();
        CHECK(std::llround(accuracy * 3804) == std::llround(row.accuracy * 3804));
        CHECK(result.json().at("edge_compatible") == row.method);
      }
    }
  }

  TEST_CASE("bad arguments and files: one sentence, nothing written") {
    const TempFolder folder;
    const std::string model = trained(folder);
    const std::string out = folder / "out";
    const auto says = [&](const Words& arguments, const std::string& sentence) {
      CAPTURE(sentence);
      const std::string text = refusal(folder, Words{model, "--out", out} + arguments);
      CAPTURE(text);
      CHECK(contains(text, sentence));
      CHECK_FALSE(std::filesystem::exists(out));
    };
    says({"--bits", "17"}, "bits of weights are 17, expected 1 to 16, or 0 for float");
    says({"--bits", "-1"}, "bits of weights are -1");
    says({"--activation-bits", "33"}, "bits of activations are 33, expected 2 to 16, or 0 for float");
    says({"--activation-bits", "1"}, "bits of activations are 1, expected 2 to 16, or 0 for float");
    says({"--sum-bits", "1"}, "bits of activations are 1");
    says({"--edge-bits", "1"}, "bits of activations are 1");
    says({"--bits", "0", "--activation-bits", "0"}, "--bits 0 and --activation-bits 0 leave nothing to quantize");
    says({"--method", "magic"}, "there is no method 'magic'; there are static, dynamic, hybrid and fp16");
    says({"--per", "pixel"}, "there is no granularity 'pixel'");
    says({"--per", "group"}, "--per group wants a number: group:32");
    says({"--per", "group:x"}, "--per group:x is not group:N");
    says({"--per", "group:0"}, "--per group:0 is not group:N");
    says({"--per", "group:3"}, "groups of 3 do not divide");
    says({"--weight-range", "entropy"}, "'entropy' is for activations, not for weights");
    says({"--activation-range", "lsq"}, "'lsq' is learned in training");
    says({"--activation-range", "wild"}, "there is no range rule 'wild'");
    says({"--activation-range", "percentile", "--percentile", "20"}, "percentile 20 is outside (50, 100]");
    says({"--skip", "fc1,conv7"}, "skip 'conv7' fits no layer of the model");
    says({"--method", "fp16", "--skip", "conv7"}, "skip 'conv7' fits no layer of the model");
    const Words half = {"--method", "fp16"};
    for (const Words& words :
         {Words{"--bits", "4"}, Words{"--per", "tensor"}, Words{"--layer-bits", "fc1=4"}, Words{"--correct-biases"}}) {
      says(half + words, words.front() + " is for grids, and --method fp16 has none");
    }
    says(half + Words{"--sum-bits", "16"}, "--sum-bits is for --method static and dynamic");
    for (const std::string method : {"dynamic", "hybrid", "fp16"}) {
      says({"--method", method, "--activation-bits", "8"}, "--activation-bits is for --method static");
      says({"--method", method, "--symmetric-activations"}, "--symmetric-activations is for --method static");
    }
    for (const std::string method : {"dynamic", "hybrid", "fp16"}) {
      says({"--method", method, "--samples", "5"}, "--samples is for what looks at data");
    }
    says({"--percentile", "99"}, "--percentile is for --weight-range or --activation-range percentile");
    says({"--steps", "9"}, "--steps is for --rounding adaround");
    says({"--edge-compatible", "mr", "--equalize"}, "--equalize is not for --edge-compatible, which takes --bits");
    says({"--edge-compatible", "mr", "--skip", "fc1"}, "--skip is not for --edge-compatible");
    says({"--samples", "0"}, "--samples 0 is not at least 1");
    says({"--method", "dynamic", "--sensitivity"}, "--sensitivity is for static and hybrid quantization");
    const Words hybrid = {"--method", "hybrid"};
    says(hybrid + Words{"--grid", "magic"}, "there is no grid 'magic'; there are affine, mid-rise");
    says(hybrid + Words{"--grid", "binary"}, "binary weights have 1 bit, not 8");
    says(hybrid + Words{"--rounding", "up"}, "'up' is none of nearest");
    says(hybrid + Words{"--terms", "2"}, "--zero, --terms and --output-error go with a --grid");
    says(hybrid + Words{"--grid", "kmeans", "--terms", "2"}, "--terms is for --grid multipoint");
    says(hybrid + Words{"--grid", "kmeans", "--rounding", "adaround"}, "--rounding adaround is for the grid of");
    says(hybrid + Words{"--grid", "kmeans", "--sensitivity"}, "--sensitivity is for the grid of the integer program");
    says(hybrid + Words{"--rounding", "adaround", "--steps", "0"}, "--steps 0 is not at least 1");
    says(hybrid + Words{"--rounding", "adaround", "--correct-biases"}, "--correct-biases has nothing to correct");
    says({"--method", "dynamic", "--rounding", "adaround"}, "--rounding adaround is for static and hybrid");
    says({"--grid", "kmeans"}, "which is the method hybrid, not static");
    says({"--edge-compatible", "xr"}, "'xr'");
    says({"--edge-compatible", "rr:magic"}, "magic");
    says({"--edge-compatible", "mr", "--terms", "3"}, "--terms is for multipoint, not for mr");
    says({"--edge-compatible", "mr", "--bits", "17"}, "17");
    says({"--calib", "nowhere"}, "nowhere");
    says({"--calib", "mnist", "--data-dir", folder / "empty"}, "mnist");
    says({"--calib", "glyphs"}, "glyphs");  // of another shape

    CHECK(contains(refusal(folder, {folder / "none.safetensors"}), "none.safetensors"));
    std::ofstream(folder / "junk") << "this is no checkpoint";
    CHECK(contains(refusal(folder, {folder / "junk"}), "junk"));
  }

  TEST_CASE("a checkpoint with malformed quantizers is refused by eval, too") {
    const TempFolder folder;
    const std::string model = trained(folder);
    const std::string out = folder / "q";
    REQUIRE(whittle_command(folder, {"quantize", model, "--quiet", "--out", out}).exit_code == 0);
    const Checkpoint good = load_checkpoint(out);
    std::string name;
    for (const auto& [tensor, value] : good.tensors) {
      name = tensor.ends_with("weight/fake_quant.scale") ? tensor : name;
    }
    REQUIRE_FALSE(name.empty());
    const auto eval_says = [&](const Tensor& value) {
      Checkpoint bad = good;
      bad.tensors[name] = StoredTensor::from(value);
      save_checkpoint(folder / "bad", bad);
      const Result result = whittle_command(folder, {"eval", folder / "bad"});
      CHECK(result.exit_code == 1);
      CHECK(one_line(result.err));
      return result.err;
    };
    const Shape shape = good.at(name).to_tensor().shape();
    CHECK(contains(eval_says(Tensor::full(shape, -1)), "scale -1 is not a positive normal number"));
    CHECK(contains(eval_says(Tensor::full(shape, NAN)), "scale nan is not a positive normal number"));
    CHECK(contains(eval_says(Tensor::full({1}, 1)), "scales of shape [1]"));
  }
}

}  // namespace whittle
