// whittle prune, and train --prune: what they save, print, refuse, and how they go on.

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "core/checkpoint.h"
#include "datasets/registry.h"
#include "datasets/sha256.h"
#include "tests/apps/command.h"
#include "tests/datasets/files.h"
#include "tests/prune/edge_nets.h"

namespace whittle {

namespace {

std::string trained(const TempFolder& folder, const Words& more = {}) {
  const std::string file = folder / "m.safetensors";
  const Result result =
      whittle_command(folder, Words{"train", "--model", "mlp", "--hidden", "32,16", "--data", "moons", "--first", "600",
                                    "--epochs", "8", "--rate", "0.1", "--quiet", "--threads", "1", "--out", file} +
                                  more);
  CAPTURE(result.err);
  REQUIRE(result.exit_code == 0);
  return file;
}

int64_t zeros_of(const Json& json, const std::string& name) {
  for (const Json& row : json.at("layers")) {
    if (row.at("name") == name) {
      return row.at("zeros").get<int64_t>();
    }
  }
  return -1;
}

Json pruned(const TempFolder& folder, const Words& words) {
  const Result result = whittle_command(folder, Words{"prune"} + words + Words{"--threads", "1", "--json", "--quiet"});
  CAPTURE(result.err);
  REQUIRE(result.exit_code == 0);
  return result.json();
}

}  // namespace

TEST_SUITE("prune") {
  TEST_CASE("one shot: exact counts, masks in the file, the report, eval and inspect") {
    const TempFolder folder;
    const std::string file = trained(folder), out = folder / "p.safetensors";
    const Json json = pruned(folder, {file, "--amount", "0.5", "--data", "moons", "--first", "600", "--out", out});
    CHECK(zeros_of(json, "fc1.weight") == 32);
    CHECK(zeros_of(json, "fc2.weight") == 256);
    CHECK(zeros_of(json, "fc3.weight") == 0);
    CHECK(json.at("sparsity").get<double>() == doctest::Approx(288.0 / (64 + 512 + 32)));
    CHECK(json.at("test").at("before").at("accuracy").get<double>() > 0.9);
    CHECK(json.at("bytes").at("after") == std::filesystem::file_size(out));
    CHECK(load_checkpoint(out).at("fc2.weight/mask").dtype == Dtype::kBool);
    CHECK(whittle_command(folder, {"eval", out, "--json"}).json().at("test") == json.at("test").at("after"));
    const Result text = whittle_command(folder, {"inspect", out});
    CHECK(contains(text.out, "fc2.weight           512           256   50.00 %  masked"));
    const Json inspected = whittle_command(folder, {"inspect", out, "--json"}).json();
    CHECK(inspected.at("model").at("sparsity").at("share") == json.at("sparsity"));
    CHECK_FALSE(whittle_command(folder, {"inspect", file, "--json"}).json().at("model").contains("sparsity"));

    const Json permanent = pruned(folder, {file, "--amount", "0.5", "--permanent", "--out", out});
    CHECK(permanent.at("sparsity") == json.at("sparsity"));
    CHECK_FALSE(load_checkpoint(out).tensors.contains("fc2.weight/mask"));
    CHECK_FALSE(permanent.contains("test"));  // no data was asked for
    CHECK(whittle_command(folder, {"eval", out, "--json"}).json().at("test") == json.at("test").at("after"));
  }

  TEST_CASE("methods, granularities, scopes, sigma, amounts by layer, the last layer") {
    const TempFolder folder;
    const std::string file = trained(folder), out = folder / "p.safetensors";
    for (const char* method : {"magnitude", "random", "taylor", "fisher"}) {
      CAPTURE(method);
      const Json json =
          pruned(folder, {file, "--method", method, "--amount", "0.75", "--scope", "global", "--out", out});
      CHECK(zeros_of(json, "fc1.weight") + zeros_of(json, "fc2.weight") == 432);
    }
    CHECK(zeros_of(pruned(folder, {file, "--granularity", "nm:2:4", "--out", out}), "fc2.weight") == 256);
    CHECK(zeros_of(pruned(folder, {file, "--granularity", "block:4x4", "--amount", "0.25", "--out", out}),
                   "fc2.weight") == 128);
    CHECK(zeros_of(
              pruned(folder, {file, "--amount", "0.25", "--layer-amount", "fc1=0.5", "--last", "same", "--out", out}),
              "fc1.weight") == 32);
    CHECK(zeros_of(pruned(folder, {file, "--amount", "0.5", "--include", "fc3", "--out", out}), "fc3.weight") == 16);
    const Json sigma = pruned(folder, {file, "--sigma", "0.5", "--skip", "fc1", "--out", out});
    CHECK(zeros_of(sigma, "fc1.weight") == 0);
    CHECK(zeros_of(sigma, "fc2.weight") > 0);
    const Json edge = pruned(folder, {file, "--method", "edge", "--amount", "0", "--out", out});
    CHECK(zeros_of(edge, "fc3.weight") >= 1);  // its 0 %
    for (const char* method : {"magnitude", "activation"}) {
      const Json json = pruned(folder, {file, "--method", method, "--amount", "0.5", "--granularity", "channel",
                                        "--compact", "--data", "moons", "--first", "600", "--out", out});
      CHECK(json.at("channels_removed") == 24);
      CHECK(json.at("parameters").at("after") == 2 * 16 + 16 + 16 * 8 + 8 + 8 * 2 + 2);
      CHECK(json.at("macs").at("after") == 2 * 16 + 16 * 8 + 8 * 2);
      CHECK(whittle_command(folder, {"eval", out, "--json"}).json().at("test") == json.at("test").at("after"));
    }
    // A smaller model is a model: it can be pruned again.
    const std::string again = folder / "pp.safetensors";
    const Json json = pruned(folder, {out, "--amount", "0.5", "--granularity", "channel", "--compact", "--out", again});
    CHECK(json.at("parameters").at("after") == 2 * 8 + 8 + 8 * 4 + 4 + 4 * 2 + 2);
    CHECK(whittle_command(folder, {"eval", again}).exit_code == 0);
  }

  TEST_CASE("rounds with retraining and half the rate for the last layer; gradual; rewinding") {
    const TempFolder folder;
    const std::string file = trained(folder), out = folder / "p.safetensors";
    const Json rounds = pruned(folder, {file, "--amount", "0.8", "--rounds", "3", "--epochs", "2", "--rate", "0.05",
                                        "--last", "half", "--out", out});
    CHECK(zeros_of(rounds, "fc2.weight") == std::lrint(0.8 * 512));
    CHECK(zeros_of(rounds, "fc3.weight") == std::lrint((1 - std::pow(1 - (1 - std::cbrt(0.2)) / 2, 3)) * 32));
    CHECK(rounds.at("prune").at("round") == 3);
    for (const Words& method : {Words{"--amount", "0.8"}, Words{"--method", "movement", "--amount", "0.8"},
                                Words{"--method", "taylor", "--amount", "0.8"}}) {
      const Json gradual =
          pruned(folder, Words{file, "--gradual", "--epochs", "3", "--every", "5", "--out", out} + method);
      CHECK(zeros_of(gradual, "fc2.weight") == std::lrint(0.8 * 512));
    }
    const Json l1 = pruned(folder, {file, "--method", "l1", "--lambda", "0.1", "--gradual", "--epochs", "4", "--rate",
                                    "0.05", "--out", out});
    CHECK(zeros_of(l1, "fc2.weight") > 50);
    CHECK(whittle_command(
              folder, {"prune", file, "--amount", "0.5", "--epochs", "1", "--rewind", file, "--quiet", "--out", out})
              .exit_code == 0);
  }

  TEST_CASE("a teacher: of prune's retraining and of train, by name in the file, and part of what is learned") {
    const TempFolder folder;
    const std::string file = trained(folder);
    const auto weights = [&](const Words& words) {
      const std::string out = folder / "p.safetensors";
      const Result result = whittle_command(folder, words + Words{"--epochs", "1", "--quiet", "--out", out});
      CAPTURE(result.err);
      REQUIRE(result.exit_code == 0);
      return load_checkpoint(out);
    };
    for (const Words& verb : {Words{"prune", file, "--amount", "0.5"}, Words{"train", "--from", file}}) {
      const Checkpoint alone = weights(verb);
      const Checkpoint taught = weights(verb + Words{"--teacher", file});
      const Checkpoint warmer = weights(verb + Words{"--teacher", file, "--distill", "0.9", "--temperature", "2"});
      CHECK(alone.metadata.count("whittle.teacher") == 0);
      CHECK(taught.metadata.at("whittle.teacher") == sha256_of_file(file));
      CHECK(taught.tensors.at("fc2.weight").bytes != alone.tensors.at("fc2.weight").bytes);
      CHECK(taught.tensors.at("fc2.weight").bytes != warmer.tensors.at("fc2.weight").bytes);
    }
  }

  TEST_CASE("scans measure and save nothing") {
    const TempFolder folder;
    const std::string file = trained(folder);
    const Json sensitivity = pruned(folder, {file, "--sensitivity"});
    CHECK(sensitivity.at("rows").size() == 10);
    CHECK(sensitivity.at("rows")[1].at("layers") == "fc1");
    CHECK(sensitivity.at("rows")[1].at("pruned") == 32);
    CHECK(sensitivity.at("split") == "validation");
    const Json sweep = pruned(folder, {file, "--sweep", "0,0.5,0.9", "--split", "test"});
    CHECK(sweep.at("rows").size() == 3);
    CHECK(sweep.at("rows")[0].at("accuracy") == sweep.at("whole"));
    CHECK(sweep.at("rows")[1].at("pruned") == 288);
    CHECK(pruned(folder, {file, "--method", "edge", "--sweep", "edge-dense"}).at("rows").size() == 18);
    CHECK(pruned(folder, {file, "--sensitivity", "--granularity", "channel"}).at("rows").size() == 10);
    CHECK(contains(whittle_command(folder, {"prune", file, "--sensitivity"}).out, "fc2         0.5           256"));
  }

  TEST_CASE("stopped in a round and resumed: the bytes of a run that was not") {
    const TempFolder folder;
    const std::string file = trained(folder);
    const auto words = [&](const std::string& out) {
      return Words{"prune",       file,      "--amount", "0.8",    "--rounds", "3",         "--epochs",
                   "40",          "--first", "600",      "--data", "moons",    "--threads", "1",
                   "--optimizer", "adam",    "--rate",   "0.002",  "--quiet",  "--out",     out};
    };
    const std::string whole = folder / "whole.safetensors", part = folder / "part.safetensors";
    REQUIRE(whittle_command(folder, words(whole)).exit_code == 0);
    Running run(folder, words(part), {});
    while (!run.ended() && !std::filesystem::exists(part + ".last")) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    run.signal(SIGINT);
    const Result stopped = run.wait();
    CAPTURE(stopped.err);
    if (stopped.exit_code == 130) {  // else it was faster than the signal
      CHECK(contains(stopped.err, "the same command with --resume goes on"));
      CHECK(one_line(stopped.err));
    }
    const Result other = whittle_command(folder, words(part) + Words{"--resume", "--skip", "fc1"});
    CHECK(contains(other.err, "resume with the same settings"));
    const Result resumed = whittle_command(folder, words(part) + Words{"--resume"});
    CAPTURE(resumed.err);
    REQUIRE(resumed.exit_code == 0);
    CHECK(contents(part) == contents(whole));
    // Resumed when all is done, it only saves once more.
    REQUIRE(whittle_command(folder, words(part) + Words{"--resume", "--compact"}).exit_code == 0);
    const Json compacted = whittle_command(folder, {"eval", part, "--json"}).json();
    REQUIRE(whittle_command(folder, words(part) + Words{"--resume", "--compact"}).exit_code == 0);
    CHECK(whittle_command(folder, {"eval", part, "--json"}).json() == compacted);
  }

  TEST_CASE("--lottery: a folder of nets, rows as text, JSON and CSV; it goes on where it was") {
    const TempFolder folder;
    const std::string file = trained(folder), out = folder / "tickets";
    const Words words{file,         "--lottery",     "--rounds", "2",      "--share", "0.5",          "--last",
                      "half",       "--epochs",      "2",        "--rate", "0.1",     "--look-every", "4",
                      "--controls", "reinitialized", "--out",    out};
    const Json json = pruned(folder, words);
    REQUIRE(json.at("rows").size() == 5);
    CHECK(json.at("rows")[0].at("kept") == 608);
    CHECK(json.at("rows")[3].at("kept") == 16 + 128 + std::lrint(0.5625 * 32));
    CHECK(json.at("rows")[4].at("net") == "reinitialized");
    const std::string ticket = folder / "tickets/round-02.safetensors";
    CHECK(whittle_command(folder, {"eval", ticket, "--json"}).json().at("test").at("accuracy") ==
          json.at("rows")[3].at("test").at("accuracy"));
    const std::string csv = contents(folder / "tickets/rounds.csv");
    CHECK(std::ranges::count(csv, '\n') == 6);
    CHECK(contains(csv, "\n2,reinitialized,608,162,"));
    const Result again = whittle_command(folder, Words{"prune"} + words);
    CHECK(again.exit_code == 1);
    CHECK(contains(again.err, "holds a lottery; resume to go on with it"));
    CHECK(pruned(folder, words + Words{"--resume"}) == json);
    const Result text = whittle_command(folder, Words{"prune"} + words + Words{"--resume"});
    CHECK(contains(text.out, "2  ticket               162    26.64 %"));
    CHECK(contents(folder / "tickets/rounds.csv") == csv);
  }

  TEST_CASE("--admm: exact counts, few values, and the bytes of a run that was not stopped") {
    const TempFolder folder;
    const std::string file = trained(folder);
    const auto words = [&](const std::string& out) {
      return Words{"prune",    file, "--admm", "20",   "--amount",  "0.8", "--set",   "fc1=0.5+kmeans:2",
                   "--epochs", "20", "--rate", "0.02", "--threads", "1",   "--quiet", "--json",
                   "--out",    out};
    };
    const std::string whole = folder / "whole.safetensors", part = folder / "part.safetensors";
    const Result run = whittle_command(folder, words(whole));
    CAPTURE(run.err);
    REQUIRE(run.exit_code == 0);
    const Json json = run.json();
    CHECK(zeros_of(json, "fc1.weight") == 32);
    CHECK(zeros_of(json, "fc2.weight") == std::lrint(0.8 * 512));
    CHECK(json.at("levels").at("fc1.weight").size() <= 4);
    CHECK_FALSE(json.at("levels").contains("fc2.weight"));
    CHECK(json.at("distance").get<double>() > 0);
    CHECK(json.at("prune").at("admm").at("sets").at("fc1") == "element+0.5+kmeans:2");
    const Tensor first = load_checkpoint(whole).at("fc1.weight").to_tensor();
    std::vector<real> values(first.values().begin(), first.values().end());
    std::ranges::sort(values);
    values.erase(std::unique(values.begin(), values.end()), values.end());
    CHECK(values.size() <= 4);
    CHECK(json.at("test").at("after").at("accuracy").get<double>() > 0.8);
    for (const char* state : {".admm.last", ".last"}) {  // in the first training and in the second
      std::filesystem::remove(part);
      for (const char* end : {".admm.last", ".admm.last.1", ".last", ".last.1"}) {
        std::filesystem::remove(part + end);
      }
      Running running(folder, words(part), {});
      while (!running.ended() && !std::filesystem::exists(part + state)) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
      running.signal(SIGINT);
      running.wait();
      REQUIRE(whittle_command(folder, words(part) + Words{"--resume"}).exit_code == 0);
      CHECK(contents(part) == contents(whole));
    }
    const Json pattern =
        pruned(folder, {file, "--admm", "2", "--granularity", "nm:2:4", "--epochs", "1", "--out", part});
    CHECK(zeros_of(pattern, "fc2.weight") == 256);
  }

  TEST_CASE("--structured: multiplications, bytes and time before and after") {
    const TempFolder folder;
    const std::string file = trained(folder), out = folder / "p.safetensors";
    const Json json = pruned(folder, {file, "--structured", "--amount", "0.5", "--out", out});
    CHECK(json.at("channels_removed") == 24);
    CHECK(json.at("macs").at("before") == 2 * 32 + 32 * 16 + 16 * 2);
    CHECK(json.at("macs").at("after") == 2 * 16 + 16 * 8 + 8 * 2);
    CHECK(json.at("bytes").at("after").get<int64_t>() < json.at("bytes").at("before").get<int64_t>());
    CHECK(json.at("latency_us").at("before").get<double>() > 0);
    CHECK(json.at("latency_us").at("after").get<double>() > 0);
    const Result text = whittle_command(folder, {"prune", file, "--structured", "--amount", "0.5", "--out", out});
    CHECK(contains(text.out, "one sample in float: "));
    CHECK_FALSE(pruned(folder, {file, "--amount", "0.5", "--out", out}).contains("latency_us"));
  }

  TEST_CASE("--edge-compatible on the stored Telescope nets: the printed accuracies, and quantized first") {
    const auto dir = real_data();
    if (!dir || !std::filesystem::exists(*dir / "edge-weights")) {
      return;
    }
    const TempFolder folder;
    const auto saved = [&](const std::string& name) {
      const std::string file = folder / (name + ".safetensors");
      const data::Splits splits = data::load("telescope", {.data_dir = *dir, .protocol = data::Protocol::kEdge});
      Checkpoint checkpoint;
      checkpoint.metadata["whittle.preprocessing"] = data::to_json(splits.train.preprocessing());
      zoo::store(checkpoint, zoo::describe("edge-" + name), *stored_telescope_net(*dir, name));
      save_checkpoint(file, checkpoint);
      return file;
    };
    const Words data{"--data", "telescope", "--protocol", "edge", "--data-dir", dir->string()};
    const auto accuracies = [&](const std::string& file, const Words& words) {
      const Json json = pruned(folder, Words{file, "--edge-compatible", "--split", "test"} + data + words);
      std::map<double, double> found{{-1, std::round(10000 * json.at("whole").get<double>()) / 10000}};
      for (const Json& row : json.at("rows")) {
        found[row.at("amount").get<double>()] = std::round(10000 * row.at("accuracy").get<double>()) / 10000;
      }
      return found;
    };
    const auto simple = accuracies(saved("simple"), {"--sweep", "edge"});
    const auto complex = accuracies(saved("complex"), {"--sweep", "edge-dense"});
    CHECK(simple.size() == 11);
    CHECK(complex.size() == 19);
    CHECK(simple.at(-1) == 0.8575);
    CHECK(simple.at(0) == 0.8588);
    CHECK(complex.at(-1) == 0.8670);
    CHECK(complex.at(0.4) == 0.8691);
    CHECK(complex.at(0.7) == 0.7750);
    const std::pair<const char*, double> shares[] = {{"16", 0.20}, {"12", 0.22}, {"8", 0.35}, {"4", 0.54}};
    for (const auto& row : shares) {
      const Json json = pruned(
          folder, {folder / "complex.safetensors", "--edge-compatible", "--edge-quantize",
                   std::string("rr:uniform:") + row.first, "--amount", "0.2", "--out", folder / "p.safetensors"});
      CHECK(std::abs(json.at("sparsity").get<double>() - row.second) <= 0.005);
      CHECK(json.at("prune").at("quantized") == std::string("rr:uniform:") + row.first);
    }
  }

  TEST_CASE("train --prune: sparse from the beginning, and resumed with the same words only") {
    const TempFolder folder;
    const std::string file = trained(folder, {"--prune", "magnitude,amount=0.9,scope=global,every=7"});
    const Json sparsity = whittle_command(folder, {"inspect", file, "--json"}).json().at("model").at("sparsity");
    int64_t zeros = 0;
    for (const Json& row : sparsity.at("parameters")) {
      zeros += row.at("zeros").get<int64_t>();
    }
    CHECK(zeros == std::lrint(0.9 * 576));
    const Result other = whittle_command(folder, {"train",    "--model", "mlp",
                                                  "--hidden", "32,16",   "--data",
                                                  "moons",    "--first", "600",
                                                  "--epochs", "8",       "--rate",
                                                  "0.1",      "--quiet", "--threads",
                                                  "1",        "--out",   file,
                                                  "--resume", "--prune", "magnitude,amount=0.8,scope=global,every=7"});
    CHECK(other.exit_code == 1);
    CHECK(contains(other.err, "resume with the same settings"));
  }

  TEST_CASE("every refusal is one sentence, and nothing is written") {
    const TempFolder folder;
    const std::string file = trained(folder), out = folder / "p.safetensors";
    const auto refused = [&](const Words& words, const std::string& sentence) {
      const Result result = whittle_command(folder, Words{"prune", file} + words);
      CAPTURE(result.err);
      CHECK(result.exit_code == 1);
      CHECK(one_line(result.err));
      CHECK(contains(result.err, sentence));
      CHECK_FALSE(std::filesystem::exists(out));
    };
    refused({"--out", out}, "the amount is missing");
    refused({"--amount", "0.5"}, "--out is missing");
    refused({"--amount", "1", "--out", out}, "the amount 1 is not in [0, 1)");
    refused({"--amount", "nan", "--out", out}, "the amount nan is not in [0, 1)");
    refused({"--amount", "0.5", "--sigma", "1", "--out", out}, "give either an amount or sigma");
    refused({"--sigma", "-1", "--out", out}, "sigma -1 is not a positive number");
    refused({"--amount", "0.5", "--method", "best", "--out", out}, "there is no method 'best'");
    refused({"--amount", "0.5", "--scope", "all", "--out", out}, "there is no scope 'all'");
    refused({"--amount", "0.5", "--last", "keep", "--out", out}, "the last layer cannot be treated as 'keep'");
    refused({"--amount", "0.5", "--granularity", "rows", "--out", out}, "there is no granularity 'rows'");
    refused({"--amount", "0.5", "--granularity", "nm:2:4", "--out", out}, "leave out the amount");
    refused({"--amount", "0.5", "--method", "bn-gamma", "--out", out}, "it needs --granularity channel");
    refused({"--amount", "0.5", "--method", "movement", "--out", out}, "prunes while training");
    refused({"--method", "l1", "--lambda", "1", "--out", out}, "prunes while training");
    refused({"--amount", "0.5", "--lambda", "1", "--out", out}, "lambda is for the method l1");
    refused({"--amount", "0.5", "--rounds", "2", "--out", out}, "--rounds needs --epochs");
    refused({"--amount", "0.5", "--gradual", "--out", out}, "--gradual needs --epochs");
    refused({"--amount", "0.5", "--gradual", "--epochs", "1", "--method", "movement", "--power", "inf", "--out", out},
            "leave the power at 1");
    refused({"--amount", "0.5", "--rewind", file, "--out", out}, "it needs --epochs");
    refused({"--amount", "0.5", "--resume", "--out", out}, "--resume needs --epochs");
    const Words half = {"--amount", "0.5", "--out", out};
    for (const char* option : {"--begin", "--end", "--every"}) {
      refused(half + Words{option, "1"}, option + std::string(" is for --gradual"));
    }
    for (const char* option : {"--rho", "--rho-growth", "--rho-most", "--admm-every"}) {
      refused(half + Words{option, "1"}, option + std::string(" is for --admm"));
    }
    refused(half + Words{"--share", "0.2"}, "--share is for --lottery");
    refused(half + Words{"--look-every", "2"}, "--look-every is for --lottery");
    refused(half + Words{"--split", "test"}, "--split is for --sensitivity and --sweep");
    refused(half + Words{"--score-samples", "9"}, "--score-samples is for the methods that look at data");
    refused(half + Words{"--prune-seed", "9"}, "--prune-seed is for --method random");
    refused(half + Words{"--workers", "1"}, "--workers is for retraining, which needs --epochs");
    refused({"--amount", "0.5", "--teacher", file, "--out", out}, "--teacher is for retraining, which needs --epochs");
    refused({"--amount", "0.5", "--rate", "0.1", "--out", out}, "--rate is for retraining, which needs --epochs");
    refused({"--amount", "0.5", "--flip", "--out", out}, "--flip is for retraining, which needs --epochs");
    refused({"--amount", "0.5", "--epochs", "1", "--teacher", file, "--distill", "2", "--out", out},
            "the teacher's share 2");
    refused({"--amount", "0.5", "--method", "edge", "--compact", "--out", out}, "no other option than --amount");
    refused({"--amount", "0.5", "--skip", "fc9", "--out", out}, "there is no convolution or linear layer 'fc9'");
    refused({"--amount", "0.5", "--include", "fc1", "--skip", "fc1", "--out", out}, "no layer is left to prune");
    refused({"--amount", "0.5", "--layer-amount", "fc1", "--out", out}, "'fc1' is not LAYER=AMOUNT");
    refused({"--amount", "0.5", "--layer-amount", "fc1=2", "--out", out}, "the amount '2' is not a number in [0, 1)");
    refused({"--amount", "0.5", "--layer-amount", "fc3=0.2", "--out", out}, "'fc3' is no layer that is pruned");
    refused({"--amount", "0.99", "--granularity", "channel", "--out", out}, "none would be left");
    refused({"--lottery", "--out", out}, "--lottery needs --epochs");
    refused({"--lottery", "--epochs", "1"}, "--out is missing: the folder of the lottery");
    refused({"--lottery", "--epochs", "1", "--amount", "0.5", "--out", out}, "--share of them in each of --rounds");
    refused({"--lottery", "--epochs", "1", "--controls", "luck", "--out", out}, "there is no net 'luck'");
    for (const std::string& teacher : {file, std::string(folder / "none.safetensors")}) {
      refused({"--lottery", "--epochs", "1", "--teacher", teacher, "--out", out}, "leave out --teacher");
    }
    refused({"--lottery", "--epochs", "1", "--optimizer", "adam", "--momentum", "0.5", "--out", out},
            "--momentum is for sgd, not for adam");
    refused({"--lottery", "--epochs", "1", "--levels", "affine:4", "--out", out},
            "--share of them in each of --rounds");
    refused({"--amount", "0.5", "--controls", "reinitialized", "--out", out}, "are for --lottery");
    refused({"--amount", "0.5", "--levels", "affine:4", "--out", out}, "--levels and --set are for --admm");
    refused({"--amount", "0.5", "--admm", "2", "--out", out}, "--admm needs --epochs");
    refused({"--admm", "2", "--epochs", "1", "--out", out}, "the amount is missing");
    refused({"--admm", "2", "--epochs", "1", "--levels", "affine", "--out", out}, "levels are GRID:BITS");
    refused({"--admm", "2", "--epochs", "1", "--set", "fc9=0.5", "--out", out}, "'fc9' is no layer that is pruned");
    refused({"--admm", "2", "--epochs", "1", "--amount", "0.5", "--rho", "0", "--out", out}, "rho 0 is not a positive");
    refused({"--structured", "--amount", "0.5", "--granularity", "nm:2:4", "--out", out}, "takes out channels");
    refused({"--edge-compatible", "--method", "taylor", "--amount", "0.5", "--out", out}, "a method of its own");
    refused({"--amount", "0.5", "--edge-quantize", "mr:8", "--out", out}, "are for the method edge");
    refused({"--edge-compatible", "--edge-quantize", "mr", "--amount", "0.5", "--out", out}, "METHOD:BITS");
    refused({"--sensitivity", "--sweep", "0.5"}, "choose one");
    refused({"--sensitivity", "--out", out}, "measure and save nothing");
    refused({"--sweep", "0.5,x"}, "the amount 'x' is not a number in [0, 1)");
    refused({"--sensitivity", "--granularity", "nm:2:4"}, "has none");
    refused({"--amount", "0.5", "--data", "nothing", "--out", out}, "nothing");
    refused({"--amount", "0.5", "--epochs", "2", "--rate", "-1", "--out", out}, "rate");
    refused({"--amount", "0.5", "--out", folder / "no/p.safetensors"}, "in a folder that does not exist");
    const auto train_refused = [&](const std::string& spec, const std::string& sentence) {
      const Result result = whittle_command(folder, {"train", "--model", "mlp", "--data", "moons", "--prune", spec});
      CAPTURE(result.err);
      CHECK(result.exit_code == 1);
      CHECK(one_line(result.err));
      CHECK(contains(result.err, sentence));
    };
    train_refused("magnitude", "the amount is missing");
    train_refused("magnitude,amount=x", "'x' is not a number for amount");
    train_refused("magnitude,amount", "is not KEY=VALUE");
    train_refused("magnitude,size=3", "there is no key 'size'");
    train_refused("magnitude,amount=0.5,begin=0.9,end=0.5", "is not a part of it");
    train_refused("edge,amount=0.5", "does not prune while training");
    train_refused("l1,lambda=0", "needs a positive lambda");
    train_refused("movement,amount=0.5,granularity=block:1x4,power=2", "leave the power at 1");
  }
}

}  // namespace whittle
