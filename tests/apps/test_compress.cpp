// whittle compress: what it writes and says, that it goes on after Ctrl-C with the same bytes, and what it refuses.

#include <doctest/doctest.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "tests/apps/command.h"

namespace whittle {

namespace {

std::string trained(const TempFolder& folder) {
  const std::string file = folder / "m.safetensors";
  const Result result =
      whittle_command(folder, {"train", "--model", "mlp", "--hidden", "64,32", "--data", "glyphs", "--first", "2000",
                               "--threads", "1", "--epochs", "4", "--quiet", "--out", file});
  CAPTURE(result.err);
  REQUIRE(result.exit_code == 0);
  return file;
}

Words command(const std::string& model, const std::string& out) {
  return {"compress", model, "--max-drop", "5",   "--rungs",   "2", "--factor", "0.6",
          "--budget", "140", "--batch",    "120", "--threads", "1", "--out",    out};
}

}  // namespace

TEST_SUITE("compress") {
  TEST_CASE("a program, its net, a report; the promise's words; stopped and resumed: the same bytes") {
    const TempFolder folder;
    const std::string model = trained(folder);
    const std::string out = folder / "m.wtl";
    const Result result = whittle_command(folder, command(model, out) + Words{"--json"});
    CAPTURE(result.out);
    CAPTURE(result.err);
    REQUIRE(result.exit_code == 0);
    CHECK(result.err.empty());
    const Json json = result.json();
    CHECK(json.at("supported") == true);
    CHECK(json.at("bytes").at("kept") < json.at("bytes").at("int8"));
    CHECK(std::filesystem::file_size(out) == json.at("bytes").at("kept").get<uint64_t>());
    CHECK(json.at("validation").at("bound") <= 5);

    const Result program = whittle_command(folder, {"eval", out, "--json"});
    CHECK(program.json().at("test").at("accuracy") == json.at("test").at("kept").at("accuracy"));
    const Result net = whittle_command(folder, {"eval", out + ".safetensors", "--json"});
    CHECK(net.json().at("test").at("accuracy") == json.at("test").at("kept").at("accuracy"));

    const Json report = Json::parse(contents(out + ".compress.json"));
    CHECK(report.at("format") == "whittle-report");
    CHECK(report.at("chosen") == json.at("chosen"));
    CHECK(report.at("promise").at("supported") == true);
    const auto said = report.at("command").get<std::string>();  // can be pasted
    CAPTURE(said);
    CHECK(said.starts_with("whittle compress " + model + " --max-drop "));
    CHECK(contains(said, " --budget 140"));
    CHECK(contains(said, " --out " + out));
    CHECK(said.ends_with(" --json"));
    CHECK(report.at("candidates")[0].at("latency_us") == json.at("latency_us").at("int8"));
    CHECK(report.at("candidates").size() >= 2);
    for (const Json& candidate : report.at("candidates")) {
      CHECK(contains(result.out, candidate.at("name").get<std::string>()));
      CHECK_FALSE(candidate.at("why").get<std::string>().empty());
    }
    CHECK(contains(refused(folder, command(model, out)), "holds a search already"));

    const std::string other = folder / "other.wtl";
    Running running(folder, command(model, other) + Words{"--quiet"}, {});
    while (!running.ended() && !std::filesystem::exists(other + ".work/rung-00.wtl")) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    running.signal(SIGINT);
    const Result stopped = running.wait();
    CHECK(stopped.exit_code == 128 + SIGINT);
    CHECK(contains(stopped.err, "--resume goes on"));
    REQUIRE(whittle_command(folder, command(model, other) + Words{"--quiet", "--resume"}).exit_code == 0);
    CHECK(contents(other) == contents(out));
    CHECK(contents(other + ".safetensors") == contents(out + ".safetensors"));

    const Result otherwise = whittle_command(folder, command(model, other) + Words{"--resume", "--distill", "0.2"});
    CHECK(otherwise.exit_code == 1);
    CHECK(contains(otherwise.err, "another --distill or --temperature;"));

    // What was found about one model is no promise about the next.
    REQUIRE(whittle_command(folder, {"train", "--model", "mlp", "--hidden", "64,32", "--data", "glyphs", "--first",
                                     "2000", "--epochs", "1", "--quiet", "--out", model})
                .exit_code == 0);
    const Result foreign = whittle_command(folder, command(model, other) + Words{"--resume"});
    CHECK(foreign.exit_code == 1);
    CHECK(contains(foreign.err, "another MODEL;"));
  }

  TEST_CASE("the target is time: the table is saved, and a search with it gives the same bytes") {
    const TempFolder folder;
    const std::string model = trained(folder);
    const std::string out = folder / "m.wtl";
    const Words fast = {"--target", "latency", "--quiet"};
    REQUIRE(whittle_command(folder, command(model, out) + fast).exit_code == 0);
    const std::string table = out + ".latency.json";
    CHECK(Json::parse(contents(table)).at("ops").contains("fully_connected"));
    const std::string again = folder / "again.wtl";
    REQUIRE(whittle_command(folder, command(model, again) + fast + Words{"--latency-table", table}).exit_code == 0);
    CHECK(contents(again) == contents(out));

    // A search that goes on knows its table by itself, and writes it again.
    const std::string before = contents(table);
    std::filesystem::remove(table);
    REQUIRE(whittle_command(folder, command(model, out) + fast + Words{"--resume"}).exit_code == 0);
    CHECK(Json::parse(contents(table)).at("ops") == Json::parse(before).at("ops"));
    CHECK(contents(again) == contents(out));
  }

  TEST_CASE("what cannot be done is refused in a sentence") {
    const TempFolder folder;
    const std::string model = trained(folder);
    const std::string out = folder / "m.wtl";
    CHECK(contains(refused(folder, {"compress", model}), "--out is missing"));
    CHECK(contains(refused(folder, command(model, out) + Words{"--target", "speed"}), "there is no target 'speed'"));
    CHECK(contains(refused(folder, command(model, out) + Words{"--confidence", "100"}), "a confidence of 100 %"));
    CHECK(contains(refused(folder, command(model, out) + Words{"--latency-table", model}), "is for --target latency"));
    CHECK(contains(refused(folder, command(model, out) + Words{"--target", "latency", "--latency-table", model}),
                   "is not JSON"));
    CHECK(contains(refused(folder, command(model, out) + Words{"--distill", "1.5"}), "the teacher's share 1.5"));
    CHECK(contains(refused(folder, command(model, out) + Words{"--temperature", "-1"}), "the temperature -1"));
    CHECK(contains(refused(folder, command(model, out) + Words{"--crop", "100"}), "do not fit images"));
    for (const char* minutes : {"0", "-1", "nan", "1e300"}) {
      Words words = command(model, out);
      words.erase(std::ranges::find(words, "--budget"), std::ranges::find(words, "--budget") + 2);
      CHECK(contains(refused(folder, words + Words{"--minutes", minutes}), "is not above 0 and at most 100000"));
      words.insert(words.end(), {"--budget", "0"});
      CHECK(contains(refused(folder, words), "--budget 0 is no number of steps"));
    }
    CHECK(contains(refused(folder, command(model, "/dev/null")), "is a device or the like"));
    CHECK_FALSE(std::filesystem::exists(out + ".work"));
    REQUIRE(whittle_command(folder, {"quantize", model, "--quiet", "--out", folder / "q.safetensors"}).exit_code == 0);
    CHECK(contains(refused(folder, command(folder / "q.safetensors", out)), "is quantized already"));
    REQUIRE(whittle_command(folder, {"train", "--model", "mlp", "--hidden", "8", "--data", "mv-generated", "--epochs",
                                     "1", "--quiet", "--out", folder / "r.safetensors"})
                .exit_code == 0);
    CHECK(contains(refused(folder, command(folder / "r.safetensors", out)), "is a regression"));
  }
}

}  // namespace whittle
