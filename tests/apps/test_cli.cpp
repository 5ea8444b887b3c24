// The whittle command as its users meet it: output, exit codes, error sentences.

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "core/checkpoint.h"
#include "tests/apps/command.h"

namespace whittle {

namespace {

std::filesystem::path save_example(const TempFolder& folder) {
  Checkpoint checkpoint;
  checkpoint.tensors["conv1.weight"] = StoredTensor::from(Tensor::zeros({4, 3, 3, 2}));
  checkpoint.tensors["step"] = StoredTensor::from(Tensor::scalar(1));
  checkpoint.metadata["model"] = "example";
  checkpoint.metadata["\x1b[2Jnote"] = "a key that would clear the screen";
  save_checkpoint(folder / "example.safetensors", checkpoint);
  return folder / "example.safetensors";
}

}  // namespace

TEST_SUITE("cli") {
  TEST_CASE("help and version succeed, every verb shows an example") {
    const TempFolder folder;
    CHECK(whittle_command(folder, {"--version"}).out.starts_with("whittle "));
    for (const char* verb : {"train", "eval", "predict", "inspect", "data", "runs", "report", "doctor", "completion"}) {
      CAPTURE(verb);
      const Result result = whittle_command(folder, {verb, "--help"});
      CHECK(result.exit_code == 0);
      CHECK(result.err.empty());
      CHECK(contains(result.out, "Example:\n  whittle "));
      CHECK(contains(whittle_command(folder, {"--help"}).out, verb));
    }
  }

  TEST_CASE("help is a word, too") {
    const TempFolder folder;
    for (const Words& words : {Words{}, Words{"quantize"}, Words{"runs", "list"}}) {
      const Result result = whittle_command(folder, Words{"help"} + words);
      CHECK(result.exit_code == 0);
      CHECK(result.out == whittle_command(folder, words + Words{"--help"}).out);
    }
    const Result slip = whittle_command(folder, {"help", "quantise"});
    CHECK(slip.exit_code == 2);
    CHECK(contains(slip.err, "did you mean quantize?"));
  }

  TEST_CASE("whole numbers are taken as they are, or refused") {
    const TempFolder folder;
    const auto refused = [&](const Words& words) {
      const Result result = whittle_command(folder, Words{"train", "--model", "mlp", "--data", "moons"} + words);
      CHECK(result.exit_code == 1);
      return result.err;
    };
    CHECK(contains(refused({"--seed", "-1"}), "[train] --seed -1 is not from 0 to 2^64 - 1"));
    CHECK(contains(refused({"--data-seed", "-2"}), "[train] --data-seed -2 is not from 0 to 2^64 - 1"));
    CHECK(contains(refused({"--seed", "18446744073709551616"}), "--seed 18446744073709551616 is not from 0"));
    CHECK(contains(refused({"--epochs", "99999999999999999999"}), "--epochs 99999999999999999999 is not from -2^63"));
    CHECK(whittle_command(folder, {"train", "--model", "mlp", "--hidden", "4", "--data", "moons", "--first", "64",
                                   "--epochs", "1", "--quiet", "--seed", "18446744073709551615"})
              .exit_code == 0);
  }

  TEST_CASE("help says what goes with what") {
    const TempFolder folder;
    const std::string quantize = whittle_command(folder, {"quantize", "--help"}).out;
    CHECK(contains(quantize, "Bits of weights, 1 to 16"));
    CHECK(contains(quantize, "Bits of activations, 2 to 16; 0: float"));
    CHECK(contains(quantize, "binary needs --bits 1, ternary and ternary-exact --bits 2"));
    CHECK(contains(whittle_command(folder, {"compress", "--help"}).out, "5000 steps a rung at least"));
  }

  TEST_CASE("wrong usage: exit code 2 and one sentence") {
    const TempFolder folder;
    const std::vector<std::vector<std::string>> wrong = {
        {"no-such-verb"}, {"doctor", "--no-such-flag"},
        {"inspect"},      {"inspect", "a", "b"},
        {"train"},        {"train", "--model", "mlp", "--epochs", "many"},
        {"eval"},         {"data"},
        {"data", "info"}};
    for (const std::vector<std::string>& arguments : wrong) {
      CAPTURE(arguments);
      const Result result = whittle_command(folder, arguments);
      CHECK(result.exit_code == 2);
      CHECK(result.out.empty());
      CHECK(one_line(result.err));
    }
  }

  TEST_CASE("a slip of the pen: what may have been meant") {
    const TempFolder folder;
    const auto err = [&](const Words& words) { return whittle_command(folder, words).err; };
    CHECK(err({"trian"}) == "whittle: 'trian' is not known here, did you mean train? (whittle --help lists what is)\n");
    CHECK(err({"train", "--epoch", "3"}) ==
          "whittle train: '--epoch' is not known here, did you mean --epochs? (whittle train --help lists what is)\n");
    CHECK(err({"data", "lst"}) ==
          "whittle data: 'lst' is not known here, did you mean list? (whittle data --help lists what is)\n");
    CHECK(err({"train", "--epochs", "1", "--epochs", "2"}) ==
          "whittle train: --epochs is given 2 times; give it once\n");
    CHECK(err({"--json", "train"}) == "whittle: '--json' is not known here (whittle --help lists what is)\n");
    CHECK(err({"elephant"}) == "whittle: 'elephant' is not known here (whittle --help lists what is)\n");
    const Result nothing = whittle_command(folder, {});
    CHECK(nothing.exit_code == 2);
    CHECK(nothing.out.empty());
    CHECK(nothing.err == whittle_command(folder, {"--help"}).out);
  }

  TEST_CASE("bad input: exit code 1 and one sentence that names the file") {
    const TempFolder folder;
    std::ofstream(folder / "rubbish") << "not a checkpoint";
    for (const char* file : {"rubbish", "missing", "."}) {
      const Result result = whittle_command(folder, {"inspect", folder / file});
      CAPTURE(result.err);
      CHECK(result.exit_code == 1);
      CHECK(result.out.empty());
      CHECK(one_line(result.err));
      CHECK(contains(result.err, (folder / file).string()));
    }
  }

  TEST_CASE("what is written is none of what is read") {
    const TempFolder folder;
    const std::string model = save_example(folder).string();
    const std::string before = contents(model);
    const std::string beside = folder / "./example.safetensors";
    const std::string table = folder / "table.csv";
    std::ofstream(table) << "a,b\n1,2\n";
    const std::string z = folder / "z";
    const Words train = {"train", "--model", "mlp", "--epochs", "1"};
    for (const Words& words :
         {Words{"export", model, "--out", model}, Words{"prune", model, "--amount", "0.5", "--out", beside},
          Words{"compress", model, "--out", folder / "example"}, train + Words{"--from", model, "--out", model},
          train + Words{"--data", table, "--log", table}, train + Words{"--data", "glyphs", "--out", z, "--log", z},
          Words{"runs", model, "export", "--csv", model}}) {
      CAPTURE(words);
      CHECK(contains(refused(folder, words), "names, too; choose another name"));
    }
    CHECK(contains(refused(folder, {"report", model, "--out", table}), "is no file of ours"));
    // A checkpoint whose header is 123 bytes long begins with the bracket that JSON begins with.
    const std::string bracket = folder / "bracket.safetensors";
    std::ofstream(bracket) << '{' << std::string(7, '\0') << '{' << std::string(121, ' ') << '}';
    CHECK(contains(refused(folder, {"report", model, "--out", bracket}), "is a checkpoint"));
    CHECK_FALSE(contains(refused(folder, {"report", bracket, "--out", z}), "JSON"));
    const std::string store = folder / "runs.db", page = folder / "page.html", log = folder / "log.csv";
    std::ofstream(store) << "SQLite format 3" << '\0';
    std::ofstream(page) << "<!doctype html>\n";
    std::ofstream(log) << "epoch,rate,train_loss\n";
    const std::string other = folder / "other.safetensors";
    std::filesystem::copy_file(model, other);
    for (const Words& words :
         {Words{"quantize", model, "--out", store}, Words{"quantize", model, "--out", page},
          Words{"export", model, "--out", other}, Words{"compress", model, "--out", log},
          Words{"report", model, "--out", other}, train + Words{"--data", "moons", "--log", other},
          train + Words{"--data", "moons", "--out", table}, Words{"runs", store, "export", "--csv", table}}) {
      CAPTURE(words);
      CHECK(contains(refused(folder, words), " would replace "));
    }
    CHECK(contents(other) == before);
    CHECK(contents(page) == "<!doctype html>\n");
    CHECK(contents(log) == "epoch,rate,train_loss\n");
    CHECK(contents(model) == before);
    CHECK(contents(table) == "a,b\n1,2\n");
    CHECK_FALSE(std::filesystem::exists(z));
  }

  TEST_CASE("doctor says what there is, in words and in one line of JSON") {
    const TempFolder folder;
    for (const char* verb : {"doctor", "info"}) {  // its first name
      const Result result = whittle_command(folder, {verb, "--json"}, {"WHITTLE_DATA=", "WHITTLE_RUNS="});
      CAPTURE(result.err);
      CHECK(result.exit_code == 0);
      REQUIRE(one_line(result.out));
      const Json found = Json::parse(result.out);
      CHECK(found.at("threads").get<int>() >= 1);
      CHECK(found.at("affinity").get<int>() >= found.at("threads").get<int>());
      for (const char* key : {"version", "compiler", "cpu", "parallel", "blas", "cache"}) {
        CHECK(found.at(key).is_string());
      }
      for (const char* kind : {"train", "int8", "float"}) {
        const Json& kernels = found.at("kernels").at(kind);
        bool chosen_runs = false;
        for (const Json& table : kernels.at("tables")) {
          chosen_runs = chosen_runs || (table.at("name") == kernels.at("chosen") && table.at("runs_here") == true);
        }
        CHECK(chosen_runs);
      }
      CHECK(found.at("data").at("folder").is_null());
      CHECK(contains(found.at("advice").dump(), "WHITTLE_DATA"));
    }
    const Result words = whittle_command(folder, {"doctor", "--data-dir", folder.path()});
    CHECK(words.exit_code == 0);
    CHECK(contains(words.out, "mnist         missing"));
    CHECK(contains(words.out, "What to do:\n"));
    CHECK(contains(words.out, "`whittle data fetch NAME`"));
    const Result forced = whittle_command(folder, {"doctor"}, {"WHITTLE_KERNELS=no-such-table"});
    CHECK(forced.exit_code == 0);
    CHECK(contains(forced.out, "unset it"));
  }

  TEST_CASE("inspect lists tensors, and does not pass control characters on") {
    const TempFolder folder;
    const Result result = whittle_command(folder, {"inspect", save_example(folder)});
    CAPTURE(result.out);
    CHECK(result.exit_code == 0);
    CHECK(contains(result.out, "conv1.weight"));
    CHECK(contains(result.out, "[4,3,3,2]"));
    CHECK(contains(result.out, "2 tensors"));
    CHECK(contains(result.out, "checksums ok"));
    CHECK(contains(result.out, "\\x1b[2Jnote"));
    CHECK(result.out.find('\x1b') == std::string::npos);
  }

  TEST_CASE("inspect --json says the same to a machine") {
    const TempFolder folder;
    const Result result = whittle_command(folder, {"inspect", "--json", save_example(folder)});
    CHECK(result.exit_code == 0);
    REQUIRE(one_line(result.out));
    const Json report = Json::parse(result.out);
    CHECK(report.at("checksums") == "ok");
    CHECK(report.at("bytes") == 4 * (72 + 1));
    CHECK(report.at("tensors").size() == 2);
    CHECK(report.at("tensors")[0].at("shape") == Json({4, 3, 3, 2}));
    CHECK(report.at("metadata").at("model") == "example");
  }

  TEST_CASE("a damaged file is refused, also where foreign files are welcome") {
    const TempFolder folder;
    const std::filesystem::path path = save_example(folder);
    std::string bytes = contents(path);
    bytes.back() = static_cast<char>(bytes.back() ^ 1);
    std::ofstream(path, std::ios::binary) << bytes;
    CHECK(whittle_command(folder, {"inspect", path}).exit_code == 1);
    CHECK(whittle_command(folder, {"inspect", "--foreign", path}).exit_code == 1);
  }

  TEST_CASE("a foreign file is read where asked for") {
    const TempFolder folder;
    const std::string header = R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
    std::string bytes(8, '\0');
    bytes[0] = static_cast<char>(header.size());
    std::ofstream(folder / "foreign", std::ios::binary) << bytes + header + std::string(4, '\0');
    const std::filesystem::path file = folder / "foreign";
    CHECK(whittle_command(folder, {"inspect", file}).exit_code == 1);
    const Result result = whittle_command(folder, {"inspect", "--foreign", file});
    CAPTURE(result.err);
    CHECK(result.exit_code == 0);
    CHECK(contains(result.out, "without checksums"));
  }
}

}  // namespace whittle
