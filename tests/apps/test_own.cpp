// Data of one's own on the command line: from a table or a folder of pictures to the answer for one row or picture.

#include <doctest/doctest.h>

#include <fstream>
#include <string>

#include "tests/apps/command.h"
#include "tests/support/bmp.h"

namespace whittle {

namespace {

// Two classes that one column tells apart, another column that says nothing, and one of text.
void write_table(const std::filesystem::path& path, int rows, char separator = ',') {
  std::ofstream file(path);
  const char s[] = {separator, '\0'};
  file << "noise" << s << "kind" << s << "size" << s << "colour\n";
  for (int i = 0; i < rows; ++i) {
    const bool large = i % 2 == 0;
    file << (i * 7) % 11 << s << (large ? "large" : "small") << s << (large ? 3.5 : -3.5) + (i % 5) * 0.25 << s
         << (i % 3 == 0 ? "red" : "blue") << '\n';
  }
}

Words training(const std::filesystem::path& data, const std::filesystem::path& out) {
  return {"train", "--model", "mlp", "--hidden", "8",    "--data", data, "--epochs",
          "8",     "--batch", "16",  "--rate",   "0.05", "--out",  out,  "--quiet"};
}

}  // namespace

TEST_SUITE("own") {
  TEST_CASE("a table: looked at, trained on, evaluated, made a program, asked about one row") {
    const TempFolder folder;
    const std::string table = folder / "own.csv", model = folder / "m.safetensors", program = folder / "m.wtl";
    write_table(table, 200);
    const Result info = whittle_command(folder, {"data", "info", table, "--target", "kind", "--json"});
    CAPTURE(info.err);
    CHECK(info.json()["samples"] == 200);
    CHECK(info.json()["train"] == 120);
    CHECK(info.json()["classes"] == Json{{"large", 100}, {"small", 100}});
    CHECK(info.json()["input"] == Json({4}));
    CHECK(info.json()["columns"] == Json{"colour=blue", "colour=red", "noise", "size"});

    CHECK(contains(refused(folder, training(table, model)),
                   "which column is to be predicted? It has noise, kind, size, colour (--target)"));
    const Result trained =
        whittle_command(folder, training(table, model) + Words{"--target", "kind", "--drop", "noise", "--json"});
    CAPTURE(trained.err);
    REQUIRE(trained.exit_code == 0);
    CHECK(trained.json()["test"]["accuracy"] == 1);

    // The checkpoint knows what it was trained on, and reads another file of such rows.
    CHECK(whittle_command(folder, {"eval", model, "--json"}).json()["test"]["samples"] == 40);
    const std::string other = folder / "other.csv";
    write_table(other, 30, ';');
    CHECK(whittle_command(folder, {"eval", model, "--data", other, "--split", "all", "--json"})
              .json()["all"]["samples"] == 30);
    CHECK(contains(refused(folder, {"eval", model, "--data", "glyphs", "--split", "all"}), "has parts of its own"));
    CHECK(contains(whittle_command(folder, {"inspect", model}).out, "validation accuracy 100.00 %"));

    const std::string quantized = folder / "q.safetensors";
    REQUIRE(whittle_command(folder, {"quantize", model, "--out", quantized}).exit_code == 0);
    const Result exported =
        whittle_command(folder, {"export", quantized, "--out", program, "--verify", "100", "--json"});
    CHECK(exported.json()["verified"]["differing"] == 0);

    std::ofstream(folder / "new.csv") << "colour,size\nred,3.6\nblue,-3.1\n";
    for (const std::string& file : {model, program}) {
      const Result said = whittle_command(folder, {"predict", file, folder / "new.csv", "--top", "2", "--json"});
      CAPTURE(said.err);
      CHECK(said.json()["answers"][0]["class"] == "large");
      CHECK(said.json()["answers"][1]["class"] == "small");
      const Json shares = said.json()["answers"][0]["classes"];
      CHECK(shares[0]["probability"].get<double>() + shares[1]["probability"].get<double>() == doctest::Approx(1));
      CHECK(contains(said.out, "new.csv row 1: large "));
    }
    REQUIRE(
        whittle_command(folder, {"predict", program, folder / "new.csv", "--save-codes", folder / "codes"}).exit_code ==
        0);
    const std::string shown = whittle_command(folder, {"inspect", program}).out;
    CHECK(contains(shown, "colour 'red': real = 1 where it is that, else 0\n"));
    CHECK(contains(shown, "size: real = (value - "));
    CHECK(contains(shown, "answers large, small; the largest number counts\n"));
    CHECK(contents(folder / "codes.in").size() == 2 * 3);
    CHECK(contents(folder / "codes.out").size() == 2 * 2);

    CHECK(contains(refused(folder, {"predict", model, folder / "new.csv", "--save-codes", "x"}), "is for programs"));
    CHECK(contains(refused(folder, {"quantize", program}), "is a program; give the checkpoint it was made of"));
    for (const Words& words : {Words{"quantize"}, Words{"compress", "--max-drop", "1"}, Words{"export"}}) {
      CHECK(contains(refused(folder, words + Words{model, "--out", folder / "no/such"}),
                     "in a folder that does not exist"));
    }
    CHECK_FALSE(std::filesystem::exists(folder / "no"));
    CHECK(contains(refused(folder, {"predict", model, folder / "new.csv", "--top", "0"}), "--top 0"));
    std::ofstream(folder / "new.csv") << "colour,size,kind\ngreen,3.6,large\n";
    for (const Words& words :
         {Words{"predict", model, folder / "new.csv"}, Words{"eval", model, "--data", folder / "new.csv"},
          Words{"quantize", model, "--data", folder / "new.csv", "--out", folder / "x"}}) {
      CHECK(contains(refused(folder, words), "'green', which the network has never seen"));
    }
  }

  TEST_CASE("data that have changed or moved since the training") {
    const TempFolder folder;
    std::filesystem::create_directory(folder / "data");
    const std::string table = folder / "data/own.csv", model = folder / "m.safetensors";
    write_table(table, 200);
    const Words train = training("own.csv", model) + Words{"--target", "kind", "--data-dir", folder / "data"};
    REQUIRE(whittle_command(folder, train).exit_code == 0);
    CHECK(contains(refused(folder, {"eval", model}), "own.csv: there is no such file or folder"));
    CHECK(whittle_command(folder, {"eval", model, "--data-dir", folder / "data"}).exit_code == 0);
    const std::string program = folder / "m.wtl";
    CHECK(contains(whittle_command(folder, {"export", model, "--out", program, "--verify", "9", "--data", table}).out,
                   "on 9 test samples: their results are at most "));

    std::ofstream(table, std::ios::app) << "1,large,3.5,red\n";
    const Words where = {"--data-dir", folder / "data"};
    CHECK(contains(refused(folder, Words{"eval", model} + where), "own.csv has changed since"));
    CHECK(contains(refused(folder, Words{"eval", program} + where), "own.csv has changed since"));
    CHECK(contains(refused(folder, Words{"quantize", model, "--out", folder / "q"} + where), "has changed since"));
    CHECK(contains(refused(folder, train + Words{"--resume"}), "resume with the same settings"));
    CHECK(whittle_command(folder, Words{"eval", model, "--split", "all"} + where).exit_code == 0);
    CHECK(whittle_command(folder, {"eval", model, "--data", table}).exit_code == 0);
  }

  TEST_CASE("what is of no use to a table or a folder is said") {
    const TempFolder folder;
    const std::string table = folder / "own.csv";
    write_table(table, 20);
    const Words info = {"data", "info", table, "--target", "kind"};
    CHECK(contains(refused(folder, info + Words{"--image-size", "8,8"}), "is a table; --image-size and --grey"));
    CHECK(contains(refused(folder, info + Words{"--grey"}), "is a table; --image-size and --grey"));
    CHECK(contains(refused(folder, {"data", "info", folder / ".", "--target", "kind"}), "is a folder of pictures"));
  }

  TEST_CASE("a number to predict comes in its own unit") {
    const TempFolder folder;
    const std::string table = folder / "own.csv", model = folder / "m.safetensors";
    std::ofstream file(table);
    file << "x,price\n";
    for (int i = 0; i < 200; ++i) {
      file << i % 20 << ',' << 1000 + 50 * (i % 20) + 0.5 << '\n';
    }
    file.close();
    const Result trained =
        whittle_command(folder, {"train",    "--model", "mlp",      "--hidden", "8",
                                 "--data",   table,     "--target", "price",    "--standardize-target",
                                 "--epochs", "60",      "--batch",  "16",       "--optimizer",
                                 "adam",     "--rate",  "0.01",     "--out",    model,
                                 "--quiet"});
    CAPTURE(trained.err);
    REQUIRE(trained.exit_code == 0);
    std::ofstream(folder / "new.csv") << "x\n10\n";
    const double price =
        whittle_command(folder, {"predict", model, folder / "new.csv", "--json"}).json()["answers"][0]["value"];
    CHECK(price == doctest::Approx(1500).epsilon(0.05));
  }

  TEST_CASE("a folder of pictures: sizes, names and a single picture") {
    const TempFolder folder;
    const std::string photos = folder / "photos", model = folder / "m.safetensors";
    for (int i = 0; i < 60; ++i) {
      const auto shade = static_cast<uint8_t>(60 + 2 * i);
      write_bmp(folder / "photos" / ("kühl und blau/" + std::to_string(i) + ".BMP"), 8 + i % 5, 9, {10, 10, shade});
      write_bmp(folder / "photos" / ("warm/" + std::to_string(i) + ".bmp"), 12, 8 + i % 3, {shade, 10, 10});
    }
    CHECK(contains(refused(folder, {"data", "info", photos}), "--image-size"));
    CHECK(contains(whittle_command(folder, {"data", "info", photos, "--image-size", "8,8"}).out,
                   "2 classes: kühl und blau (60), warm (60)"));
    const Result trained = whittle_command(folder, training(photos, model) + Words{"--image-size", "8,8", "--json"});
    CAPTURE(trained.err);
    REQUIRE(trained.exit_code == 0);
    CHECK(trained.json()["test"]["accuracy"] == 1);
    write_bmp(folder / "mine.bmp", 30, 20, {180, 0, 20});
    const Result said =
        whittle_command(folder, {"predict", model, folder / "mine.bmp", photos + "/kühl und blau/7.BMP"});
    CAPTURE(said.err);
    CHECK(contains(said.out, "mine.bmp: warm "));
    CHECK(contains(said.out, "7.BMP: kühl und blau "));
    CHECK(contains(refused(folder, {"predict", model, folder / "none.bmp"}), "none.bmp"));
  }

  TEST_CASE("what is for one's own files is refused for others") {
    const TempFolder folder;
    CHECK(contains(refused(folder, {"train", "--model", "mlp", "--data", "moons", "--target", "x"}),
                   "are for files of your own"));
    CHECK(contains(refused(folder, {"train", "--model", "mlp", "--data", "moon"}), "there is no data set 'moon'"));
    CHECK(contains(refused(folder, {"train", "--model", "mlp", "--data", "no.csv", "--target", "x"}),
                   "no.csv: there is no such file or folder"));
  }
}

}  // namespace whittle
