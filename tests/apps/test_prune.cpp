// whittle prune, and train --prune: what they save, print, refuse, and how they go on.

#include <doctest/doctest.h>

#include <chrono>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "core/checkpoint.h"
#include "tests/apps/command.h"

namespace whittle {

namespace {

using Words = std::vector<std::string>;

Words operator+(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

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
    refused({"--amount", "0.5", "--rewind", file, "--out", out}, "it needs --epochs");
    refused({"--amount", "0.5", "--resume", "--out", out}, "--resume needs --epochs");
    refused({"--amount", "0.5", "--method", "edge", "--compact", "--out", out}, "no other option than --amount");
    refused({"--amount", "0.5", "--skip", "fc9", "--out", out}, "there is no convolution or linear layer 'fc9'");
    refused({"--amount", "0.5", "--include", "fc1", "--skip", "fc1", "--out", out}, "no layer is left to prune");
    refused({"--amount", "0.5", "--layer-amount", "fc1", "--out", out}, "'fc1' is not LAYER=AMOUNT");
    refused({"--amount", "0.5", "--layer-amount", "fc1=2", "--out", out}, "the amount '2' is not a number in [0, 1)");
    refused({"--amount", "0.5", "--layer-amount", "fc3=0.2", "--out", out}, "'fc3' is no layer that is pruned");
    refused({"--amount", "0.99", "--granularity", "channel", "--out", out}, "none would be left");
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
  }
}

}  // namespace whittle
