// whittle inspect: models by name and models in files.

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "core/checkpoint.h"
#include "tests/apps/command.h"

namespace whittle {

namespace {

// A small model, trained for two epochs.
std::string trained(const TempFolder& folder) {
  const std::string file = folder / "m.safetensors";
  const Result result = whittle_command(folder, {"train", "--model", "mlp", "--hidden", "5", "--data", "moons",
                                                 "--first", "500", "--epochs", "2", "--quiet", "--out", file});
  CAPTURE(result.err);
  REQUIRE(result.exit_code == 0);
  return file;
}

}  // namespace

TEST_SUITE("inspect") {
  TEST_CASE("a name of the zoo: layers, shapes, parameters, work") {
    const TempFolder folder;
    const Result text = whittle_command(folder, {"inspect", "resnet8"});
    CAPTURE(text.out);
    CHECK(text.exit_code == 0);
    CHECK(contains(text.out, "input [1,32,32,3]"));
    CHECK(contains(text.out, "layer1.0.conv1"));
    CHECK(contains(text.out, "78,186"));
    CHECK(contains(text.out, "12,501,632"));

    const Json json = whittle_command(folder, {"inspect", "resnet8", "--json"}).json().at("model");
    CHECK(json.at("name") == "resnet8");
    CHECK(json.at("options").at("classes") == 10);
    CHECK(json.at("input") == Json({1, 32, 32, 3}));
    CHECK(json.at("trainable") == 78186);
    CHECK(json.at("total") == 78666);
    CHECK(json.at("macs") == 12501632);
    int64_t trainable = 0, macs = 0;
    for (const Json& layer : json.at("layers")) {
      trainable += layer.at("trainable").get<int64_t>();
      macs += layer.at("macs").get<int64_t>();
    }
    CHECK(trainable == 78186);
    CHECK(macs == 12501632);
    CHECK(json.at("layers")[1].at("path") == "conv1");
    CHECK(json.at("layers")[1].at("kind") == "conv2d");
    CHECK(json.at("layers")[1].at("output") == Json({1, 32, 32, 16}));
  }

  TEST_CASE("the shape of a zoo model can be chosen") {
    const TempFolder folder;
    const Json json = whittle_command(folder, {"inspect", "--hidden", "7,5", "mlp", "--input", "3", "--classes", "2",
                                               "--dropout", "0.1", "--json"})
                          .json()
                          .at("model");
    CHECK(json.at("trainable") == 3 * 7 + 7 + 7 * 5 + 5 + 5 * 2 + 2);
    CHECK(json.at("input") == Json({1, 3}));
    const Json person = whittle_command(folder, {"inspect", "mobilenet-v1", "--input", "96,96,3", "--classes", "2",
                                                 "--width", "0.25", "--json"})
                            .json()
                            .at("model");
    CHECK(person.at("macs") == 7489664);
  }

  TEST_CASE("a file: its model, its data, its metrics, its tensors") {
    const TempFolder folder;
    const std::string file = trained(folder);
    const Result text = whittle_command(folder, {"inspect", file});
    CAPTURE(text.out);
    CHECK(text.exit_code == 0);
    CHECK(contains(text.out, "input [1,2]"));
    CHECK(contains(text.out, "2->5 relu"));
    CHECK(contains(text.out, "trained on moons, protocol own, data seed 0, the first 500 samples\n"));
    CHECK(contains(text.out, ": validation accuracy "));
    CHECK(contains(text.out, "4 tensors, "));
    CHECK_FALSE(contains(text.out, "fc1.weight"));
    CHECK(contains(whittle_command(folder, {"inspect", file, "--tensors"}).out, "fc1.weight"));

    const Json json = whittle_command(folder, {"inspect", file, "--json"}).json();
    CHECK(json.at("model").at("trainable") == 27);
    CHECK(json.at("data").at("name") == "moons");
    CHECK(json.at("data").at("first") == 500);
    CHECK(json.at("best").at("validation").at("samples") == 400);
    CHECK(json.at("resumable") == false);
    CHECK(json.at("tensors").size() == 4);
    CHECK(whittle_command(folder, {"inspect", file + ".last", "--json"}).json().at("resumable") == true);
  }

  TEST_CASE("bad input: one sentence") {
    const TempFolder folder;
    const std::string file = trained(folder);
    const auto refused = [&](const std::vector<std::string>& arguments, const std::string& sentence) {
      std::vector<std::string> words{"inspect"};
      words.insert(words.end(), arguments.begin(), arguments.end());
      const Result result = whittle_command(folder, words);
      CAPTURE(result.err);
      CHECK(result.exit_code == 1);
      CHECK(one_line(result.err));
      CHECK(contains(result.err, sentence));
      CHECK(result.out.empty());
    };
    refused({"resent8"}, "there is no file resent8, and no model of that name");
    refused({"resnet8", "--width", "2"}, "'resnet8' takes no width");
    refused({"resnet8", "--input", "10"}, "is not an image");
    refused({"mlp", "--input", "3,0"}, "is not positive");
    refused({"mlp", "--classes", "0"}, "classes 0");
    refused({"mlp", "--tensors"}, "are for files");
    refused({file, "--classes", "3"}, "the file says what its model is");

    // A file that lies about its model.
    Checkpoint checkpoint = load_checkpoint(file);
    const auto with = [&](const char* key, const std::string& text) {
      Checkpoint changed = checkpoint;
      changed.metadata[key] = text;
      save_checkpoint(folder / "changed", changed);
      return (folder / "changed").string();
    };
    refused({with("whittle.model", "[]")}, (folder / "changed").string());
    refused({with("whittle.model", R"({"name":"lenet5"})")}, "which is all the numbers that its checkpoint holds");
    refused({with("whittle.metrics", "{}")}, "metrics of the checkpoint are damaged");
    refused({with("whittle.data", "7")}, "description of its data is damaged");
  }
}

}  // namespace whittle
