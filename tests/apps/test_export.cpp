// From training to a program: whittle export, and eval, inspect and bench of what it writes.

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "core/checkpoint.h"
#include "tests/apps/command.h"
#include "tests/support/sanitized.h"

namespace whittle {

namespace {

Result succeeded(const TempFolder& folder, const Words& words) {
  Result result = whittle_command(folder, words);
  CAPTURE(words[0]);
  CAPTURE(result.err);
  REQUIRE(result.exit_code == 0);
  return result;
}

// Trained for an epoch, pruned by 30 %, quantized: q.safetensors.
std::string quantized(const TempFolder& folder) {
  const std::string m = folder / "m.safetensors", p = folder / "p.safetensors", q = folder / "q.safetensors";
  succeeded(folder, {"train", "--model", "edge-simple", "--data", "moons", "--first", "1000", "--epochs", "1",
                     "--threads", "2", "--quiet", "--out", m});
  succeeded(folder, {"prune", m, "--amount", "0.3", "--last", "same", "--quiet", "--out", p});
  succeeded(folder, {"quantize", p, "--quiet", "--out", q});
  return q;
}

std::string exported(const TempFolder& folder) {
  std::string file = folder / "q.wtl";
  succeeded(folder, {"export", quantized(folder), "--out", file});
  return file;
}

std::string bytes_of(const std::filesystem::path& path) { return contents(path); }

void write(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

}  // namespace

TEST_SUITE("export") {
  TEST_CASE("train, prune, quantize, export: the program is the checkpoint, on every sample") {
    const TempFolder folder;
    const std::string q = quantized(folder), wtl = folder / "q.wtl";
    const Result result =
        succeeded(folder, {"export", q, "--out", wtl, "--verify", "100000", "--plan", "--threads", "2", "--json"});
    const Json json = result.json();
    CHECK(json.at("integer_only") == true);
    CHECK(json.at("verified").at("differing") == 0);
    CHECK(json.at("bytes") == std::filesystem::file_size(wtl));
    CHECK(json.at("arena_bytes") >= json.at("arena_lower_bound"));
    CHECK(contains(result.out, "integers only"));
    CHECK(contains(result.out, "no plan needs less than"));
    CHECK(contains(result.out, ": 0 differ"));

    for (const char* split : {"test", "train"}) {
      const Json of_program = succeeded(folder, {"eval", wtl, "--split", split, "--json"}).json();
      const Json of_model = succeeded(folder, {"eval", q, "--split", split, "--json"}).json();
      CHECK(of_program.at(split) == of_model.at(split));
      CHECK(of_program.at("data") == "moons");
    }
    CHECK(json.at("verified").at("samples") ==
          succeeded(folder, {"eval", wtl, "--json"}).json().at("test").at("samples"));

    // It was pruned, indeed.
    const Json inspected = succeeded(folder, {"inspect", q, "--json"}).json();
    CHECK(inspected.at("model").at("sparsity").at("share").get<double>() == doctest::Approx(0.3).epsilon(0.01));

    // The same model gives the same file.
    const std::string first = bytes_of(wtl);
    succeeded(folder, {"export", q, "--out", wtl});
    CHECK(bytes_of(wtl) == first);
  }

  TEST_CASE("dynamic, hybrid, binary16 and float models export too, with float parts") {
    const TempFolder folder;
    const std::string m = folder / "m.safetensors", q = folder / "q.safetensors", wtl = folder / "q.wtl";
    succeeded(folder, {"train", "--model", "mlp", "--hidden", "16", "--data", "moons", "--first", "600", "--epochs",
                       "3", "--quiet", "--out", m});
    for (const char* method : {"float", "dynamic", "hybrid", "fp16"}) {
      CAPTURE(method);
      const bool as_trained = std::string(method) == "float";
      if (!as_trained) {
        succeeded(folder, {"quantize", m, "--method", method, "--quiet", "--out", q});
      }
      const std::string& model = as_trained ? m : q;
      const Json json = succeeded(folder, {"export", model, "--out", wtl, "--json"}).json();
      CHECK(json.at("integer_only") == false);
      const Json of_program = succeeded(folder, {"eval", wtl, "--json"}).json().at("test");
      const Json of_model = succeeded(folder, {"eval", model, "--json"}).json().at("test");
      CHECK(of_program.at("accuracy") == of_model.at("accuracy"));
      CHECK(of_program.at("loss").get<double>() == doctest::Approx(of_model.at("loss").get<double>()).epsilon(1e-5));
      const Json features = succeeded(folder, {"inspect", wtl, "--json"}).json().at("features");
      CHECK(std::ranges::find(features, as_trained                      ? "float32"
                                        : std::string(method) == "fp16" ? "half"
                                                                        : method) != features.end());
    }
  }

  TEST_CASE("inspect: ops, memory, and every byte of the file once") {
    const TempFolder folder;
    const std::string wtl = exported(folder);
    const Json json = succeeded(folder, {"inspect", wtl, "--json"}).json();
    uint64_t sum = 0, weights = 0;
    for (const auto& [part, bytes] : json.at("parts").items()) {
      sum += bytes.get<uint64_t>();
    }
    CHECK(sum == std::filesystem::file_size(wtl));
    CHECK(json.at("bytes") == sum);
    CHECK(json.at("integer_only") == true);
    CHECK(json.at("features") == Json({"int8"}));
    CHECK(json.at("input").at("shape") == Json({1, 2}));
    CHECK(json.at("input").at("type") == "s8");
    for (const Json& op : json.at("ops")) {
      weights += op.at("bytes").get<uint64_t>();
      CHECK(op.at("bound").get<uint64_t>() < (uint64_t{1} << 31));
    }
    CHECK(weights == json.at("parts").at("weights").get<uint64_t>() +
                         json.at("parts").at("biases, multipliers, bounds, tables").get<uint64_t>());
    CHECK(json.at("metadata").contains("whittle.data"));

    // The graph: whoever reads it finds the constants in the file.
    const Json& first = json.at("ops").at(0);
    const Json& values = json.at("values");
    CHECK(first.at("inputs") == json.at("inputs"));
    CHECK(json.at("ops").back().at("output") == json.at("outputs").at(0));
    const Json& table = values.at(first.at("weights").get<size_t>());
    CHECK(table.at("constant") == true);
    CHECK(table.at("type") == "s8");
    const std::string file = bytes_of(wtl);
    int largest = 0;
    for (size_t i = 0; i < table.at("shape").at(0).get<size_t>() * table.at("shape").at(1).get<size_t>(); ++i) {
      largest = std::max(largest, std::abs(static_cast<int8_t>(file.at(table.at("at").get<size_t>() + i))));
    }
    CHECK(largest == 127);  // each channel has a weight that gets the largest code
    CHECK(values.at(json.at("inputs").at(0).get<size_t>()).at("qmin") == -128);
    const Result text = succeeded(folder, {"inspect", wtl});
    for (const char* part :
         {"fully_connected", "integers only", "no plan needs less than", "together", "checksums ok", "real = "}) {
      CAPTURE(part);
      CHECK(contains(text.out, part));
    }
    CHECK(contains(refused(folder, {"inspect", wtl, "--tensors"}), "is a program"));
  }

  TEST_CASE("weights of 4 bits are told as such, and take half the bytes") {
    const TempFolder folder;
    const std::string wtl = exported(folder);
    const std::string model = folder / "q4.safetensors", narrow = folder / "q4.wtl";
    succeeded(folder, {"quantize", folder / "p.safetensors", "--bits", "4", "--quiet", "--out", model});
    succeeded(folder, {"export", model, "--out", narrow});
    const Json parts = succeeded(folder, {"inspect", narrow, "--json"}).json().at("parts");
    uint64_t sum = 0;
    for (const auto& [part, bytes] : parts.items()) {
      sum += bytes.get<uint64_t>();
    }
    CHECK(sum == std::filesystem::file_size(narrow));
    const Json wide = succeeded(folder, {"inspect", wtl, "--json"}).json().at("parts");
    CHECK(2 * parts.at("weights").get<uint64_t>() == wide.at("weights").get<uint64_t>());
    CHECK(contains(succeeded(folder, {"inspect", narrow}).out, " s4 "));
  }

  TEST_CASE("eval saves what goes in and what comes out") {
    const TempFolder folder;
    const std::string wtl = exported(folder), codes = folder / "codes";
    const Json json = succeeded(folder, {"eval", wtl, "--save-codes", codes, "--json"}).json().at("test");
    const std::string in = bytes_of(codes + ".in"), out = bytes_of(codes + ".out");
    const auto samples = json.at("samples").get<size_t>();
    REQUIRE(in.size() == 2 * samples);
    REQUIRE(out.size() == 2 * samples);
    for (const size_t sample : {size_t{0}, samples - 1}) {
      const std::string raw = folder / "x.raw";
      write(raw, in.substr(2 * sample, 2));
      for (size_t c = 0; c < 2; ++c) {
        const Json told =
            succeeded(folder, {"explain", wtl, "--index", std::to_string(c), "--input", raw, "--json"}).json();
        CHECK(told.at("code") == static_cast<int8_t>(out[2 * sample + c]));
      }
    }
    CHECK(contains(refused(folder, {"eval", folder / "q.safetensors", "--save-codes", codes}),
                   "--save-codes is for programs"));
  }

  TEST_CASE("bench measures programs and checkpoints") {
    const TempFolder folder;
    const std::string wtl = exported(folder);
    for (const Words& words :
         {Words{wtl}, Words{wtl, "--threads", "2"}, Words{wtl, "--at-once", "3"}, Words{folder / "m.safetensors"}}) {
      Words all{"bench", "--repeats", "20", "--json"};
      all.insert(all.end(), words.begin(), words.end());
      const Json json = succeeded(folder, all).json();
      CHECK(json.at("runs") == (words.back() == "3" ? 60 : 20));
      CHECK(json.at("p10_us") <= json.at("median_us"));
      CHECK(json.at("median_us") <= json.at("p90_us"));
      CHECK(json.at("p10_us").get<double>() > 0);
      CHECK_FALSE(json.at("kernels").get<std::string>().empty());
      CHECK(json.at("program") == words[0].ends_with(".wtl"));
    }
    CHECK(contains(refused(folder, {"bench", wtl, "--repeats", "0"}), "--repeats 0"));
    // Of a batch, the time of one sample.
    const std::string many = folder / "many.wtl";
    succeeded(folder, {"export", folder / "m.safetensors", "--batch", "1000", "--out", many});
    const Json whole = whittle_command(folder, {"bench", many, "--repeats", "20", "--json"}).json();
    CHECK(whole.at("batch") == 1000);
    const double one = whittle_command(folder, {"bench", wtl, "--repeats", "20", "--json"}).json().at("median_us");
    CHECK(whole.at("median_us").get<double>() < 10 * one);
    CHECK(contains(whittle_command(folder, {"bench", many, "--repeats", "5"}).out, ", 1000 samples a run, "));
    CHECK(contains(refused(folder, {"bench", wtl, "--threads", "0"}), "from 1 to 256, not 0"));
    CHECK(contains(refused(folder, {"bench", wtl, "--threads", "2", "--at-once", "2"}), "take one of them"));
    CHECK(
        contains(refused(folder, {"bench", folder / "m.safetensors", "--at-once", "2"}), "--at-once is for programs"));
    CHECK(contains(refused(folder, {"bench", folder / "none.wtl"}), "none.wtl"));
  }

  TEST_CASE("what makes no sense is refused in one sentence, and nothing is written") {
    const TempFolder folder;
    const std::string q = quantized(folder), out = folder / "out.wtl";
    CHECK(contains(refused(folder, {"export", q}), "--out is missing"));
    CHECK(contains(refused(folder, {"export", q, "--to", "onyx", "--out", out}), "no format 'onyx'"));
    CHECK(contains(refused(folder, {"export", q, "--verify", "-1", "--out", out}), "--verify -1"));
    CHECK(contains(refused(folder, {"export", q, "--batch", "0", "--out", out}), "--batch 0"));
    CHECK(contains(refused(folder, {"export", q, "--batch", "2", "--verify", "9", "--out", out}), "not --batch 2"));
    CHECK(contains(refused(folder, {"export", folder / "none", "--out", out}), "none"));
    CHECK(contains(refused(folder, {"export", q, "--out", folder / "no" / "such" / "folder.wtl"}), "folder.wtl"));
    const std::string wide = folder / "wide.safetensors";
    succeeded(folder, {"quantize", folder / "m.safetensors", "--bits", "12", "--quiet", "--out", wide});
    CHECK(contains(refused(folder, {"export", wide, "--out", out}), "weights of more than 8 bits are simulation only"));
    CHECK_FALSE(std::filesystem::exists(out));
  }

  TEST_CASE("damaged programs, and data of another shape: one sentence") {
    const TempFolder folder;
    const std::string wtl = exported(folder), bad = folder / "bad.wtl";
    const std::string good = bytes_of(wtl);
    const size_t step = kSanitized ? 997 : 211;
    for (size_t at = 8; at < good.size(); at += step) {  // the first 8 say that it is a program
      CAPTURE(at);
      write(bad, good.substr(0, at));
      CHECK(contains(refused(folder, {"inspect", bad}), "bad.wtl"));
      std::string flipped = good;
      flipped[at] = static_cast<char>(flipped[at] ^ 0x10);
      write(bad, flipped);
      CHECK(contains(refused(folder, {"eval", bad}), "bad.wtl"));
    }
    write(bad, good + "more");
    CHECK(contains(refused(folder, {"bench", bad}), "bad.wtl"));
    CHECK(contains(refused(folder, {"eval", wtl, "--data", "glyphs"}), "[28,28,1]"));
    CHECK(contains(refused(folder, {"eval", wtl, "--split", "best"}), "no split 'best'"));
  }
}

}  // namespace whittle
