// whittle train and eval: what they print, save, refuse, and how they stop and go on.

#include <doctest/doctest.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "core/checkpoint.h"
#include "datasets/dataset.h"
#include "tests/apps/command.h"
#include "tests/datasets/files.h"

namespace whittle {

namespace {

const Words kMoons = {"train", "--model", "mlp", "--hidden", "16,8", "--data", "moons", "--threads", "1", "--epochs"};

// Long enough, at some 0.1 s an epoch, to be stopped in the middle.
const Words kGlyphs = {"train", "--model",  "mlp",  "--hidden", "128,64", "--data",      "glyphs", "--first",
                       "4000",  "--epochs", "8",    "--seed",   "3",      "--optimizer", "adamw",  "--rate",
                       "0.002", "--ema",    "0.99", "--crop",   "2",      "--workers",   "2"};

Json metadata(const std::filesystem::path& file, const char* key) {
  return Json::parse(load_checkpoint(file).metadata.at(key));
}

// Starts a training, waits until it has saved an epoch, and sends it a signal.
Result stopped(const TempFolder& folder, const Words& arguments, const std::filesystem::path& saved, int signal) {
  Running training(folder, arguments, {});
  while (!training.ended() && !std::filesystem::exists(saved)) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  training.signal(signal);
  return training.wait();
}

}  // namespace

TEST_SUITE("train") {
  TEST_CASE("the last line of train --json and of eval --json is one object, and they agree") {
    const TempFolder folder;
    const std::string file = folder / "m.safetensors";
    const Result trained = whittle_command(
        folder, kMoons + Words{"20", "--seed", "2", "--out", file, "--log", folder / "log.csv", "--json"});
    CAPTURE(trained.err);
    REQUIRE(trained.exit_code == 0);
    CHECK(trained.err.empty());
    const Json json = trained.json();
    CHECK(json.at("model") == "mlp");
    CHECK(json.at("data") == "moons");
    CHECK(json.at("parameters") == 2 * 16 + 16 + 16 * 8 + 8 + 8 * 2 + 2);
    CHECK(json.at("seed") == 2);
    CHECK(json.at("epochs") == 20);
    CHECK(json.at("best_epoch").get<int>() >= 1);
    CHECK(json.at("steps") == 20 * 19);  // 1200 samples in batches of 64
    CHECK(json.at("seconds").get<double>() > 0);
    CHECK(json.at("test").at("accuracy").get<double>() > 0.9);
    CHECK(json.at("test").at("samples") == 400);
    CHECK_FALSE(json.at("test").contains("mse"));
    CHECK(contains(trained.out, "epoch   1  loss"));
    CHECK(contains(trained.out, "saved as " + file));
    const std::string log = contents(folder / "log.csv");
    CHECK(std::count(log.begin(), log.end(), '\n') == 21);

    const Json evaluated = whittle_command(folder, {"eval", file, "--json"}).json();
    CHECK(evaluated.at("model") == file);
    CHECK(evaluated.at("data") == "moons");
    CHECK(evaluated.at("test") == json.at("test"));
    const Json validation = whittle_command(folder, {"eval", file, "--split", "validation", "--json"}).json();
    CHECK(validation.at("validation").at("loss") == metadata(file, "whittle.metrics").at("validation").at("loss"));
    // Another set of the same shape, scaled as the model knows it.
    const Json other = whittle_command(folder, {"eval", file, "--data", "spirals", "--json"}).json();
    CHECK(other.at("data") == "spirals");
    CHECK(other.at("test").at("accuracy").get<double>() < 0.9);
  }

  TEST_CASE("--quiet prints nothing, and the same command gives the same bytes") {
    const TempFolder folder;
    for (const char* file : {"a", "b"}) {
      const Result result = whittle_command(folder, kMoons + Words{"3", "--quiet", "--out", folder / file});
      CHECK(result.exit_code == 0);
      CHECK(result.out.empty());
      CHECK(result.err.empty());
    }
    CHECK(contents(folder / "a") == contents(folder / "b"));
  }

  TEST_CASE("a standardized target is remembered, and mse is in the original unit") {
    const TempFolder folder;
    const std::string file = folder / "m";
    const Words command = {"train", "--model", "mlp",  "--hidden", "8", "--data", "mv-generated", "--threads",
                           "1",     "--first", "2000", "--epochs", "2", "--out",  file,           "--json"};
    const Result trained = whittle_command(folder, command + Words{"--standardize-target"});
    CAPTURE(trained.err);
    REQUIRE(trained.exit_code == 0);
    CHECK(contains(trained.out, "mse is in (target unit)^2, loss in deviations of the target squared"));
    const Json test = trained.json().at("test");
    CHECK(test.at("mse_unit") == "(target unit)^2");
    CHECK_FALSE(test.contains("accuracy"));
    CHECK(metadata(file, "whittle.data").at("standardize_target") == true);
    const double spread = metadata(file, "whittle.preprocessing").at("target_spread").get<double>();
    CHECK(spread > 5);  // the targets lie between -41 and 2
    CHECK(test.at("mse").get<double>() ==
          doctest::Approx(test.at("loss").get<double>() * spread * spread).epsilon(1e-5));
    CHECK(whittle_command(folder, {"eval", file, "--json"}).json().at("test") == test);

    // Without it nothing is said about it, as in files from before there was a choice.
    const Json plain = whittle_command(folder, command + Words{"--rate", "0.0001"}).json().at("test");
    CHECK_FALSE(metadata(file, "whittle.data").contains("standardize_target"));
    CHECK(plain.at("mse").get<double>() == doctest::Approx(plain.at("loss").get<double>()).epsilon(1e-5));
    CHECK(whittle_command(folder, {"eval", file, "--json"}).json().at("test") == plain);

    // The choice holds for the whole training.
    const Result resumed =
        whittle_command(folder, command + Words{"--rate", "0.0001", "--resume", "--standardize-target"});
    CHECK(resumed.exit_code == 1);
    CHECK(contains(resumed.err, "was trained with another whittle.data"));
    CHECK(one_line(resumed.err));
  }

  TEST_CASE("Ctrl-C saves and says how to go on; the resumed training ends with the same bytes") {
    const TempFolder folder;
    const std::string whole = folder / "whole", parts = folder / "parts";
    const Result uninterrupted = whittle_command(folder, kGlyphs + Words{"--threads", "1", "--json", "--out", whole});
    REQUIRE(uninterrupted.exit_code == 0);

    const Words command = kGlyphs + Words{"--threads", "2", "--json", "--out", parts};
    const Result interrupted = stopped(folder, command, parts + ".last", SIGINT);
    CAPTURE(interrupted.err);
    REQUIRE(interrupted.exit_code == 128 + SIGINT);
    CHECK(one_line(interrupted.err));
    CHECK(interrupted.err.starts_with("whittle: [train] interrupted after "));
    CHECK(contains(interrupted.err, "the same command with --resume goes on"));
    CHECK(contents(parts) != contents(whole));
    CHECK(contains(whittle_command(folder, {"inspect", parts + ".last"}).out, "train --resume goes on from it"));

    const Result resumed = whittle_command(folder, command + Words{"--resume"});
    CAPTURE(resumed.out);
    REQUIRE(resumed.exit_code == 0);
    CHECK(contains(resumed.out, "resumed " + parts + ".last at epoch "));
    CHECK(contents(parts) == contents(whole));
    Json first = uninterrupted.json(), second = resumed.json();
    first.erase("seconds");
    second.erase("seconds");
    CHECK(first == second);

    // Once more: there is nothing left to do, and nothing changes.
    const Json again = whittle_command(folder, command + Words{"--resume"}).json();
    CHECK(again.at("test") == first.at("test"));
    CHECK(contents(parts) == contents(whole));
  }

  TEST_CASE("a polite kill saves as well; without --out the message says that nothing was") {
    const TempFolder folder;
    const std::string file = folder / "m", log = folder / "log.csv";
    CHECK(stopped(folder, kGlyphs + Words{"--out", file}, file + ".last", SIGTERM).exit_code == 128 + SIGTERM);
    CHECK(whittle_command(folder, kGlyphs + Words{"--out", file, "--resume"}).exit_code == 0);

    const Result lost = stopped(folder, kGlyphs + Words{"--log", log}, log, SIGINT);
    CHECK(lost.exit_code == 128 + SIGINT);
    CHECK(contains(lost.err, "nothing was saved, because there is no --out"));
  }

  TEST_CASE("nonsense is refused in one sentence before data is read or a file is touched") {
    const TempFolder folder;
    const std::string nowhere = folder / "nowhere", file = folder / "m";
    const auto refused = [&](const Words& arguments, const std::string& sentence) {
      const Result result =
          whittle_command(folder, Words{"train", "--data-dir", nowhere, "--out", file} + arguments, {"WHITTLE_DATA="});
      CAPTURE(arguments);
      CAPTURE(result.err);
      CHECK(result.exit_code == 1);
      CHECK(one_line(result.err));
      CHECK(contains(result.err, sentence));
      CHECK(result.out.empty());
      CHECK_FALSE(std::filesystem::exists(file));
      CHECK_FALSE(std::filesystem::exists(file + ".last"));
    };
    // All of these would fail on the data folder, which does not exist, if they got that far.
    const Words mnist = {"--model", "mlp", "--data", "mnist"}, mv = {"--model", "mlp", "--data", "mv"};
    refused({"--model", "mlp"}, "--data is missing");
    refused({"--model", "mlq", "--data", "mnist"}, "there is no model 'mlq'");
    refused({"--model", "mlp", "--data", "minst"}, "there is no data set 'minst'");
    refused({"--model", "resnet8", "--data", "cifar10", "--width", "0.5"}, "'resnet8' takes no width");
    refused({"--model", "resnet8", "--data", "cifar10", "--hidden", "3"}, "'resnet8' takes no hidden");
    refused({"--model", "mobilenet-v1", "--data", "cifar10", "--width", "-1"}, "width -1 of 'mobilenet-v1'");
    refused(mnist + Words{"--dropout", "1"}, "dropout 1 of 'mlp'");
    refused(mnist + Words{"--hidden", "0"}, "a hidden width of 'mlp'");
    refused(mnist + Words{"--epochs", "0"}, "epochs 0 is not at least 1");
    refused(mnist + Words{"--batch", "0"}, "batch 0 is not at least 1");
    refused(mnist + Words{"--rate", "-0.1"}, "-0.1");
    refused(mnist + Words{"--rate", "nan"}, "nan");
    refused(mnist + Words{"--schedule", "cosin"}, "'cosin' is not a schedule");
    refused(mnist + Words{"--schedule", "warmup:20+cosine"}, "does not fit into a training of 10");
    refused(mnist + Words{"--optimizer", "lbfgs"}, "there is no optimizer 'lbfgs'");
    refused(mnist + Words{"--momentum", "1"}, "momentum must be in [0, 1)");
    refused(mnist + Words{"--optimizer", "adam", "--momentum", "0.9"}, "--momentum is for sgd, not for adam");
    refused(mnist + Words{"--optimizer", "adam", "--nesterov"}, "nesterov is for sgd, not for adam");
    refused(mnist + Words{"--weight-decay", "-1"}, "weight decay");
    refused(mnist + Words{"--clip-norm", "-1"}, "a clip norm of -1");
    refused(mnist + Words{"--label-smoothing", "1"}, "a label smoothing of 1");
    refused(mnist + Words{"--ema", "1"}, "ema 1");
    refused(mnist + Words{"--patience", "-1"}, "patience -1");
    refused(mnist + Words{"--workers", "1000"}, "workers 1000");
    refused(mnist + Words{"--threads", "-1"}, "-1 is not between 0 and");
    refused(mnist + Words{"--rotation", "181"}, "181 degrees");
    refused(mnist + Words{"--crop", "-1"}, "a crop of -1");
    refused(mnist + Words{"--mixup", "0.2", "--label-smoothing", "0.1"}, "mixup and label smoothing");
    refused(mnist + Words{"--protocol", "theirs"}, "there is no protocol 'theirs'");
    refused(mnist + Words{"--validation", "-3"}, "a validation share of -3");
    refused(mnist + Words{"--first", "-1"}, "the first -1 training samples");
    refused(mnist + Words{"--standardize-target"}, "has classes");
    refused(mv + Words{"--mixup", "0.2"}, "'mv' holds rows of numbers; --crop");
    refused(mv + Words{"--flip"}, "'mv' holds rows of numbers; --crop");
    refused(mv + Words{"--label-smoothing", "0.1"}, "--label-smoothing is for classes");
    refused(mnist + Words{"--log", nowhere + "/log.csv"}, "is in a folder that does not exist");
    refused(mnist, nowhere + " is not a folder");  // so far all the others did not get

    const Result lost = whittle_command(folder, kMoons + Words{"1", "--out", nowhere + "/m"});
    CHECK(lost.exit_code == 1);
    CHECK(contains(lost.err, "is in a folder that does not exist"));
    const Result no_out = whittle_command(folder, kMoons + Words{"1", "--resume"});
    CHECK(no_out.exit_code == 1);
    CHECK(contains(no_out.err, "--resume needs --out"));
  }

  TEST_CASE("what only the data can show is refused before the first step") {
    const TempFolder folder;
    const std::string file = folder / "m";
    const auto refused = [&](const Words& arguments, const std::string& sentence) {
      const Result result = whittle_command(folder, Words{"train", "--quiet", "--out", file} + arguments);
      CAPTURE(result.err);
      CHECK(result.exit_code == 1);
      CHECK(one_line(result.err));
      CHECK(contains(result.err, sentence));
      CHECK_FALSE(std::filesystem::exists(file));
    };
    refused({"--model", "resnet8", "--data", "moons"}, "input [2] of 'resnet8' is not an image");
    refused({"--model", "mlp", "--data", "moons", "--batch", "5000"}, "a batch of 5000 is larger than");
    refused({"--model", "mlp", "--data", "moons", "--validation", "0", "--patience", "3"},
            "patience needs a validation");
    refused({"--model", "mlp", "--data", "glyphs", "--validation", "0.3"}, "its validation part is not for choice");
    refused({"--model", "vgg16", "--data", "glyphs", "--first", "100"}, "'vgg16' needs images of at least 32x32");
    refused({"--model", "mlp", "--data", "glyphs", "--first", "100", "--crop", "28"}, "do not fit images of [28,28,1]");
  }

  TEST_CASE("--keep last: the last epoch is saved, whatever the validation data say") {
    const TempFolder folder;
    const std::string best = folder / "best", last = folder / "last";
    const Words train = kMoons + Words{"12", "--rate", "1", "--quiet", "--json"};
    const Json of_best = whittle_command(folder, train + Words{"--out", best}).json();
    REQUIRE(of_best.at("best_epoch").get<int>() < 12);  // else there is nothing to see
    CHECK(whittle_command(folder, train + Words{"--out", last, "--keep", "last"}).json().at("best_epoch") == 12);
    const Checkpoint state = load_checkpoint(best + ".last"), kept = load_checkpoint(last);
    for (const auto& [name, tensor] : kept.tensors) {
      CHECK(state.tensors.at(name) == tensor);
    }
    CHECK(contains(refused(folder, train + Words{"--out", best, "--keep", "last", "--resume"}), "whittle.keep"));
    CHECK(contains(refused(folder, train + Words{"--out", last, "--resume"}), "whittle.keep, of which this run says"));
    CHECK(contains(refused(folder, train + Words{"--out", best, "--convolution", "direct", "--resume"}),
                   "another whittle.convolution"));
    CHECK(contains(refused(folder, train + Words{"--keep", "first"}), "there is no epoch 'first' to keep"));
    CHECK(contains(refused(folder, train + Words{"--keep", "last", "--patience", "2"}), "--patience stops at any"));
  }

  TEST_CASE("the data of a saved model: its training part may be shorter, its other parts are what they were") {
    const TempFolder folder;
    const std::string file = folder / "m", less = folder / "less", again = folder / "again";
    const Words parts = {"--data-seed", "5", "--validation", "0.3"};
    REQUIRE(whittle_command(folder, kMoons + Words{"2", "--quiet", "--out", file} + parts).exit_code == 0);
    const auto measured = [&](const std::string& model, const std::string& split, const Words& words = {}) {
      const Result result = whittle_command(folder, Words{"eval", model, "--split", split, "--json"} + words);
      CAPTURE(result.err);
      REQUIRE(result.exit_code == 0);
      return result.json().at(split);
    };
    CHECK_FALSE(metadata(file, "whittle.data").contains("kept"));
    CHECK(measured(file, "train").at("samples") == 1000);
    CHECK(measured(file, "train", {"--first", "100"}).at("samples") == 100);
    CHECK(measured(file, "train", {"--first", "5000"}).at("samples") == 1000);
    for (const std::string split : {"validation", "test"}) {
      CHECK(measured(file, split, {"--first", "100"}) == measured(file, split));
    }
    CHECK(measured(file, "train", parts + Words{"--protocol", "own"}) == measured(file, "train"));  // as it was

    // A training on less remembers that, in both of its states.
    const Words on = {"train", "--from", file, "--epochs", "1", "--rate", "0.01", "--threads", "1"};
    const Result trained = whittle_command(folder, on + Words{"--first", "100", "--out", less});
    CAPTURE(trained.err);
    REQUIRE(trained.exit_code == 0);
    CHECK(contains(trained.out, "(100 training, 600 validation, 400 test samples)"));
    CHECK(metadata(less, "whittle.data").at("kept") == 100);
    CHECK(measured(less, "train").at("samples") == 100);
    CHECK(measured(less, "train", {"--first", "0"}).at("samples") == 1000);
    CHECK(contains(whittle_command(folder, {"inspect", less}).out, "of the training part the first 100\n"));
    REQUIRE(whittle_command(folder, on + Words{"--first", "100", "--quiet", "--out", again}).exit_code == 0);
    CHECK(contents(again) == contents(less));
    CHECK(whittle_command(folder, on + Words{"--first", "100", "--quiet", "--resume", "--out", again}).exit_code == 0);
    CHECK(contents(again) == contents(less));
    CHECK(contains(refused(folder, on + Words{"--first", "200", "--quiet", "--resume", "--out", again}),
                   "was trained with samples 100, this run asks for 200"));

    // It takes data to see what --first does, also where a pruning needs none.
    const Words prune = {"prune", file, "--amount", "0.5", "--out", folder / "p", "--json"};
    CHECK_FALSE(whittle_command(folder, prune).json().contains("test"));
    CHECK(whittle_command(folder, prune + Words{"--first", "100"}).json().contains("test"));

    for (const Words& verb :
         {Words{"eval", file}, Words{"quantize", file}, prune, on, Words{"compress", file, "--out", folder / "c"},
          Words{"prune", file, "--lottery", "--epochs", "1", "--out", folder / "l"}}) {
      for (const Words& other :
           {Words{"--data-seed", "6"}, Words{"--validation", "0.2"}, Words{"--protocol", "edge"}}) {
        const std::string sentence = refused(folder, verb + other);
        CAPTURE(sentence);
        CHECK(contains(sentence, other[0] + " would cut the data of " + file + " anew"));
      }
    }
    CHECK(contains(refused(folder, {"eval", file, "--first", "-1"}), "--first -1 is no number of samples"));
    CHECK(contains(refused(folder, on + Words{"--target", "x"}), "leave out --target"));
    CHECK(contains(refused(folder, on + Words{"--standardize-target"}), "leave out --standardize-target"));
    // With --data the command line says all of it.
    CHECK(measured(file, "train", {"--data", "moons", "--data-seed", "6"}).at("samples") == 1200);
  }

  TEST_CASE("images: --first shortens what a model remembers after its parts are made, not before") {
    const auto data = real_data();
    if (!data.has_value()) {
      return;
    }
    const TempFolder folder;
    const Words where = {"--data-dir", data->string()};
    const std::string file = folder / "m";
    REQUIRE(whittle_command(folder, Words{"train", "--model", "mlp", "--hidden", "8", "--data", "mnist", "--first",
                                          "1000", "--epochs", "1", "--quiet", "--out", file} +
                                        where)
                .exit_code == 0);
    const Words eval = Words{"eval", file, "--json"} + where + Words{"--split"};
    const Json validation = whittle_command(folder, eval + Words{"validation"}).json().at("validation");
    CHECK(validation.at("samples") == 100);
    CHECK(whittle_command(folder, eval + Words{"validation", "--first", "50"}).json().at("validation") == validation);
    CHECK(whittle_command(folder, eval + Words{"train", "--first", "50"}).json().at("train").at("samples") == 50);
  }

  TEST_CASE("eval refuses what it cannot read or does not know") {
    const TempFolder folder;
    const std::string file = folder / "m";
    REQUIRE(whittle_command(folder, kMoons + Words{"1", "--quiet", "--out", file}).exit_code == 0);
    const auto refused = [&](const Words& arguments, const std::string& sentence) {
      const Result result = whittle_command(folder, Words{"eval"} + arguments, {"WHITTLE_DATA="});
      CAPTURE(result.err);
      CHECK(result.exit_code == 1);
      CHECK(one_line(result.err));
      CHECK(contains(result.err, sentence));
      CHECK(result.out.empty());
    };
    refused({file, "--split", "tests"}, "there is no split 'tests'");
    refused({file, "--data", "mon"}, "there is no data set 'mon'");
    refused({file, "--data", "mnist"}, "give their folder with --data-dir or in $WHITTLE_DATA");
    refused({file, "--data", "glyphs"}, "glyphs");  // other inputs than the model's
    refused({folder / "none"}, (folder / "none").string());
    refused({folder.path()}, folder.path().string());
    std::ofstream(folder / "rubbish") << "not a checkpoint";
    refused({folder / "rubbish"}, (folder / "rubbish").string());
    std::filesystem::copy_file(file, folder / "short");
    std::filesystem::resize_file(folder / "short", std::filesystem::file_size(file) - 1);
    refused({folder / "short"}, (folder / "short").string());

    Checkpoint checkpoint = load_checkpoint(file);
    const auto with = [&](const char* key, const char* text) {
      Checkpoint changed = checkpoint;
      changed.metadata[key] = text;
      save_checkpoint(folder / "changed", changed);
      return (folder / "changed").string();
    };
    refused({with("whittle.data", "{}")}, "description of its data is damaged");
    refused({with("whittle.data", R"({"name":"x","protocol":"own","seed":0,"validation":-1,"first":0})")},
            "data set 'x'");
    refused({with("whittle.preprocessing", "[")}, "preprocessing");
    refused({with("whittle.model", "{}")}, "description of a model");
    checkpoint.metadata.erase("whittle.model");
    save_checkpoint(folder / "changed", checkpoint);
    refused({folder / "changed"}, "does not say which model it holds");
  }

  TEST_CASE("data files that are missing or damaged: one sentence") {
    const TempFolder folder;
    const auto says = [&](const std::string& sentence) {
      const Result result = whittle_command(
          folder, {"train", "--model", "mlp", "--data", "churn", "--data-dir", folder.path(), "--out", folder / "m"});
      CAPTURE(result.err);
      CHECK(result.exit_code == 1);
      CHECK(one_line(result.err));
      CHECK(contains(result.err, sentence));
      CHECK_FALSE(std::filesystem::exists(folder / "m"));
    };
    says("there is none of tabular/churn.csv");
    std::ofstream(folder / "churn.csv") << "Surname,Exited\nA,1\nB\n";
    says("churn.csv");
    std::ofstream(folder / "churn.csv", std::ios::binary) << std::string(100, '\0');
    says("churn.csv");
  }

  TEST_CASE("--model list names the zoo, with what models take") {
    const TempFolder folder;
    const Result text = whittle_command(folder, {"train", "--model", "list"});
    CHECK(text.exit_code == 0);
    CHECK(contains(text.out, "lenet-300-100      266,610  dense net for digits; --hidden; --dropout"));
    const Json json = whittle_command(folder, {"train", "--model", "list", "--json"}).json();
    CHECK(json.size() >= 21);
    CHECK(json[0].at("name") == "mlp");
    CHECK(json[0].at("parameters") == 235146);
    CHECK(json[0].at("options") == Json({"classes", "input", "hidden", "dropout"}));
  }
}

}  // namespace whittle
