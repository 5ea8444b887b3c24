// Runs recorded by verbs, and `whittle runs`, which looks at them.

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "apps/runs/query.h"
#include "apps/runs/store.h"
#include "core/error.h"
#include "datasets/sha256.h"
#include "tests/apps/command.h"

namespace whittle {

namespace {

using apps::Filter;
using apps::Run;
using apps::RunStore;
// A net that learns the moons in a fraction of a second.
Words moons(const TempFolder& folder, const std::string& name, int seed) {
  return {"train",     "--model", "mlp",    "--hidden",           "16,8",    "--data", "moons",      "--epochs", "3",
          "--threads", "1",       "--seed", std::to_string(seed), "--quiet", "--out",  folder / name};
}

void ok(const TempFolder& folder, const Words& arguments, const Words& environment = {}) {
  const Result result = whittle_command(folder, arguments, environment);
  CAPTURE(arguments);
  CAPTURE(result.err);
  CHECK(result.exit_code == 0);
  CHECK(result.err.empty());
}

double metric(const Run& run, const std::string& stage, const std::string& name) {
  for (const apps::RunMetric& m : run.metrics) {
    if (m.stage == stage && m.split == "test" && m.name == name) {
      return m.value;
    }
  }
  FAIL("run " << run.id << " has no " << stage << " " << name);
  return 0;
}

Run made_by_hand(int64_t id, const std::string& verb, double accuracy, const std::string& config) {
  Run run;
  run.id = id;
  run.verb = verb;
  run.status = "finished";
  run.begun = "2026-11-22T04:08:57Z";
  run.ended = "2026-11-22T04:10:00Z";
  run.config = config;
  run.config_hash = config;
  run.metrics = {{.stage = "", .split = "test", .name = "accuracy", .value = accuracy, .samples = 100}};
  return run;
}

std::vector<int64_t> ids(const std::vector<Run>& runs) {
  std::vector<int64_t> result;
  for (const Run& run : runs) {
    result.push_back(run.id);
  }
  return result;
}

}  // namespace

TEST_SUITE("runs") {
  // Skipped in a build without SQLite, which has no store to look at; CI must have it (test_store.cpp).
  TEST_CASE("every verb writes down what it did" * doctest::skip(!RunStore::available())) {
    const TempFolder folder;
    const std::string db = folder / "runs.db";
    const std::string m = folder / "m.safetensors";
    const std::string q = folder / "q.safetensors";
    const std::string p = folder / "p.safetensors";
    const std::string wtl = folder / "q.wtl";
    ok(folder, moons(folder, "m.safetensors", 7) + Words{"--runs", db, "--log", folder / "log.csv"});
    const Words environment = {"WHITTLE_RUNS=" + db};
    ok(folder, {"quantize", m, "--out", q, "--quiet"}, environment);
    ok(folder, {"export", q, "--out", wtl}, environment);
    ok(folder, {"eval", wtl, "--threads", "1"}, environment);
    ok(folder, {"bench", wtl, "--repeats", "20"}, environment);
    ok(folder, {"prune", m, "--amount", "0.5", "--epochs", "1", "--rounds", "2", "--out", p, "--quiet"}, environment);
    ok(folder,
       {"compress", m, "--max-drop", "90", "--rungs", "1", "--factor", "0.3", "--budget", "60", "--threads", "1",
        "--out", folder / "c.wtl", "--quiet"},
       environment);

    const RunStore store(db, RunStore::Mode::kRead);
    REQUIRE(store.list().size() == 7);
    std::map<std::string, Run> by_verb;
    for (const Run& run : store.list()) {
      CAPTURE(run.verb);
      CHECK(run.status == "finished");
      CHECK(run.ended >= run.begun);
      CHECK(run.model == "mlp");
      CHECK(run.version.size() >= 5);
      CHECK_FALSE(run.cpu.empty());
      CHECK(run.config_hash.size() == 16);
      CHECK(run.seed == 7);  // that of the training, where the verb was not given another
      by_verb[run.verb] = store.read(run.id);
    }

    const Run& train = by_verb.at("train");
    const Json config = Json::parse(train.config);
    CHECK(config.at("epochs") == 3);
    CHECK(config.at("hidden") == Json({16, 8}));
    CHECK(config.at("rate") == 0.05);  // by default
    CHECK(config.at("nesterov") == false);
    CHECK_FALSE(config.contains("runs"));
    CHECK(std::ranges::count(train.given, "epochs") == 1);
    CHECK(std::ranges::count(train.given, "rate") == 0);
    CHECK(train.threads == 1);
    CHECK(train.data == "moons");
    CHECK_FALSE(train.parent.has_value());
    REQUIRE(train.files.size() == 1);
    CHECK(train.files[0].role == "out");
    CHECK(train.files[0].bytes == std::filesystem::file_size(m));
    REQUIRE(train.answers.has_value());
    CHECK(train.answers->right.size() == 400);
    const auto right = std::ranges::count(train.answers->right, true);
    CHECK(metric(train, "", "accuracy") == doctest::Approx(static_cast<double>(right) / 400));
    CHECK(Json::parse(train.results).at("test").at("accuracy") == metric(train, "", "accuracy"));
    // An epoch has the columns of the log.
    std::string header = contents(folder / "log.csv");
    header = header.substr(header.find(',') + 1, header.find('\n') - header.find(',') - 1);
    std::vector<std::string> names;
    for (const apps::RunPoint& point : train.points) {
      CHECK(contains("," + header + ",", "," + point.name + ","));
      CHECK(point.part == 1);
      names.push_back(std::to_string(point.epoch) + point.name);
    }
    CHECK(names.size() == 3 * static_cast<size_t>(std::ranges::count(header, ',') + 1));

    const Run& quantize = by_verb.at("quantize");
    CHECK(quantize.parent == train.id);
    CHECK(metric(quantize, "before", "accuracy") == metric(train, "", "accuracy"));
    CHECK(metric(quantize, "after", "accuracy") > 0.5);
    CHECK(by_verb.at("export").parent == quantize.id);
    CHECK(by_verb.at("eval").parent == by_verb.at("export").id);
    CHECK(by_verb.at("eval").answers == quantize.answers);  // the program answers as the model does
    const Run& bench = by_verb.at("bench");
    REQUIRE(bench.latency.has_value());
    CHECK(bench.latency->repeats == 20);
    CHECK(bench.latency->p10_us <= bench.latency->median_us);
    CHECK(bench.latency->median_us <= bench.latency->p90_us);
    const Run& prune = by_verb.at("prune");
    CHECK(std::ranges::count(prune.points, 2, &apps::RunPoint::part) > 0);  // the second round
    const Run& compress = by_verb.at("compress");
    CHECK(compress.parent == train.id);
    REQUIRE(apps::main_file(compress) != nullptr);
    CHECK(apps::main_file(compress)->path == folder / "c.wtl");  // and not what lies beside it
    CHECK(std::ranges::count(compress.points, "train_loss", &apps::RunPoint::name) == 6);  // of its rung, in both parts
    CHECK(compress.points.back().part == 2);
    CHECK(apps::iterative(prune) == true);
    CHECK_FALSE(apps::iterative(train).has_value());

    // The same again, and what looks at it.
    const Result listed = whittle_command(folder, {"runs", db});
    CHECK(listed.exit_code == 0);
    CHECK(std::ranges::count(listed.out, '\n') == 8);
    CHECK(contains(listed.out, "epochs=3"));
    CHECK(contains(whittle_command(folder, {"runs"}, environment).out, "quantize"));
    const Json pruned = whittle_command(folder, {"runs", db, "--iterative", "--json"}).json();
    CHECK(pruned.at("runs").size() == 1);
    CHECK(whittle_command(folder, {"runs", db, "--single-shot", "--json"}).json().at("runs").empty());
    const Result shown = whittle_command(folder, {"runs", db, "show", "1"});
    CHECK(contains(shown.out, "* epochs = 3"));
    CHECK(contains(shown.out, "validation_accuracy"));
    CHECK(whittle_command(folder, {"runs", db, "show", "1", "--json"}).json().at("points").size() == names.size());
    ok(folder, {"runs", db, "--filter", "verb!=bench", "export", "--csv", folder / "runs.csv"});
    const std::string csv = contents(folder / "runs.csv");
    CHECK(std::ranges::count(csv, '\n') == 7);
    CHECK(contains(csv, ",option.epochs,"));
    for (const Words& words : {Words{"export", "--json"}, Words{"--json", "export"}}) {  // with its epochs
      CHECK(whittle_command(folder, Words{"runs", db} + words).json().at("runs")[0].at("points").size() ==
            names.size());
    }
  }

  // Skipped in a build without SQLite, which has no store to look at; CI must have it (test_store.cpp).
  TEST_CASE("two runs are compared sample by sample, and seed by seed" * doctest::skip(!RunStore::available())) {
    const TempFolder folder;
    const std::string db = folder / "runs.db";
    for (int seed = 0; seed < 3; ++seed) {
      ok(folder, moons(folder, "a.safetensors", seed) + Words{"--runs", db});
      ok(folder, moons(folder, "b.safetensors", seed) + Words{"--runs", db, "--rate", "0.0001"});
    }
    ok(folder, moons(folder, "again.safetensors", 0) + Words{"--runs", db});  // the same bits: counts once
    const Json json = whittle_command(folder, {"runs", db, "compare", "2", "1", "--json"}).json();
    CHECK(json.at("metric") == "accuracy");
    CHECK(json.at("paired").at("samples") == 400);
    const double difference = json.at("value_b").get<double>() - json.at("value_a").get<double>();
    CHECK(json.at("paired").at("difference").get<double>() == doctest::Approx(difference));
    CHECK(json.at("paired").at("p").get<double>() < 0.05);  // a rate of 0.0001 teaches nothing in three epochs
    CHECK(json.at("seeds").at("a").at("runs") == 3);
    CHECK(json.at("seeds").at("b").at("runs") == 3);
    CHECK(json.at("seeds").at("difference").get<double>() > 0);
    CHECK_FALSE(json.contains("unpaired"));
    CHECK(contains(whittle_command(folder, {"runs", db, "compare", "2", "1"}).out, "McNemar's exact p"));
    CHECK(contains(whittle_command(folder, {"runs", db, "compare", "1", "3"}).out, "nothing but the seed"));

    const Json best = whittle_command(folder, {"runs", db, "--best", "1", "--json"}).json();
    const Json worst = whittle_command(folder, {"runs", db, "--worst", "1", "--json"}).json();
    CHECK(best.at("runs")[0].at("config").at("rate") == 0.05);
    CHECK(worst.at("runs")[0].at("config").at("rate") == 0.0001);
    CHECK(whittle_command(folder, {"runs", db, "--filter", "rate<0.01", "--json"}).json().at("runs").size() == 3);
  }

  // Skipped in a build without SQLite, which has no store to look at; CI must have it (test_store.cpp).
  TEST_CASE("a teacher and a file to rewind to count by what they are" * doctest::skip(!RunStore::available())) {
    const TempFolder folder;
    const std::string db = folder / "runs.db";
    const auto recorded = [&](const Words& words) {
      ok(folder, words + Words{"--runs", db, "--quiet"});
      const RunStore store(db, RunStore::Mode::kRead);
      return store.read(store.list().back().id);
    };
    const auto student = [&](int seed, const std::string& teacher) {
      return recorded(moons(folder, "student.safetensors", seed) + Words{"--rate", "0.04", "--teacher", teacher});
    };
    const std::string teachers[] = {folder / "0.safetensors", folder / "1.safetensors"};
    for (int seed = 0; seed < 2; ++seed) {
      recorded(moons(folder, std::to_string(seed) + ".safetensors", seed));
    }
    const Run first = student(0, teachers[0]);
    CHECK(student(1, teachers[1]).config_hash == first.config_hash);
    const Run other_teacher = student(0, teachers[1]);
    REQUIRE(first.files.size() == 2);
    CHECK(std::ranges::count(first.files, "in", &apps::RunFile::role) == 1);
    CHECK(std::ranges::count(first.files, sha256_of_file(teachers[0]), &apps::RunFile::sha256) == 1);
    // Three runs, two seeds of their own: which teacher it was tells two of them apart.
    CHECK(ids(apps::seeds_of(RunStore(db, RunStore::Mode::kRead).list(), first)).size() == 3);
    CHECK(apps::main_file(other_teacher)->path == folder / "student.safetensors");

    // One that the store does not know counts by its bytes, wherever they are; other bytes in the same place are
    // another.
    const std::string unknown = folder / "unknown.safetensors", copied = folder / "copied.safetensors";
    ok(folder, moons(folder, "unknown.safetensors", 3));
    std::filesystem::copy_file(unknown, copied);
    const Run of_unknown = student(0, unknown);
    CHECK(of_unknown.config_hash != first.config_hash);
    CHECK(student(0, copied).config_hash == of_unknown.config_hash);
    ok(folder, moons(folder, "unknown.safetensors", 4));
    CHECK(student(0, unknown).config_hash != of_unknown.config_hash);

    // The model that a training goes on with may be its own teacher, and what a pruning goes back to.
    std::vector<std::string> taught, rewound;
    for (const std::string& model : teachers) {
      taught.push_back(recorded({"train", "--from", model, "--teacher", model, "--epochs", "1"}).config_hash);
      rewound.push_back(recorded({"prune", model, "--rewind", model, "--amount", "0.5", "--epochs", "1", "--out",
                                  folder / "p.safetensors"})
                            .config_hash);
    }
    CHECK(taught[0] == taught[1]);
    CHECK(rewound[0] == rewound[1]);
  }

  // Skipped in a build without SQLite, which has no store to look at; CI must have it (test_store.cpp).
  TEST_CASE("recording never costs a result" * doctest::skip(!RunStore::available())) {
    const TempFolder folder;
    std::ofstream(folder / "text") << "not a store";
    for (const std::string& bad : {std::string(folder / "text"), std::string(folder / "no" / "runs.db")}) {
      CAPTURE(bad);
      const Result result = whittle_command(folder, moons(folder, "m.safetensors", 1) + Words{"--runs", bad, "--json"});
      CHECK(result.exit_code == 0);
      CHECK(one_line(result.err));
      CHECK(contains(result.err, "this run is not recorded"));
      CHECK(result.json().at("test").at("samples") == 400);
      CHECK(std::filesystem::exists(folder / "m.safetensors"));
    }
    CHECK(contents(folder / "text") == "not a store");
  }

  // Skipped in a build without SQLite, which has no store to look at; CI must have it (test_store.cpp).
  TEST_CASE("a failed run says why; a mistaken command is no run" * doctest::skip(!RunStore::available())) {
    const TempFolder folder;
    const std::string db = folder / "runs.db";
    CHECK(whittle_command(folder, {"train", "--model", "mlp", "--data", "moons", "--epochs", "0", "--runs", db})
              .exit_code == 1);
    CHECK_FALSE(std::filesystem::exists(db));
    CHECK(whittle_command(folder,
                          {"train", "--model", "mlp", "--data", "moons", "--rate", "1e30", "--runs", db, "--quiet"})
              .exit_code == 1);
    const std::vector<Run> runs = RunStore(db, RunStore::Mode::kRead).list();
    REQUIRE(runs.size() == 1);
    CHECK(runs[0].status == "failed");
    CHECK_FALSE(runs[0].error.empty());
    CHECK(contains(whittle_command(folder, {"runs", db}).out, "failed"));
  }

  // Skipped in a build without SQLite, which has no store to look at; CI must have it (test_store.cpp).
  TEST_CASE("what `whittle runs` refuses, it refuses in one sentence" * doctest::skip(!RunStore::available())) {
    const TempFolder folder;
    const std::string db = folder / "runs.db";
    { const RunStore store(db, RunStore::Mode::kWrite); }
    CHECK(contains(whittle_command(folder, {"runs", db}).out, "no runs"));
    CHECK(contains(refused(folder, {"runs", folder / "missing.db"}), "there is no file"));
    CHECK(contains(refused(folder, {"runs", db, "show", "3"}), "has no run 3"));
    CHECK(contains(refused(folder, {"runs", db, "--filter", "accuracy"}), "is no filter"));
    CHECK(contains(refused(folder, {"runs", db, "--best", "1", "--worst", "1"}), "ask for one"));
    CHECK(contains(refused(folder, {"runs", db, "--single-shot", "--iterative"}), "opposites"));
    CHECK(contains(refused(folder, {"runs", db, "export"}), "--csv FILE"));
    const Result nowhere = whittle_command(folder, {"runs"}, {"WHITTLE_RUNS="});
    CHECK(nowhere.exit_code == 1);
    CHECK(contains(nowhere.err, "which store?"));
    for (const Words& verb :
         {Words{"runs"}, Words{"runs", "show"}, Words{"runs", "compare"}, Words{"runs", "export"}}) {
      const std::string help = whittle_command(folder, verb + Words{"--help"}).out;
      CHECK(contains(help, "Example:\n  whittle "));
      CHECK(contains(help, "  --json "));
    }
  }

  TEST_CASE("filters and ranks") {
    const std::vector<Run> runs = {made_by_hand(1, "train", 0.5, R"({"epochs":2,"qat":"w8a8"})"),
                                   made_by_hand(2, "train", 0.9, R"({"epochs":10})"),
                                   made_by_hand(3, "prune", 0.7, R"({"epochs":9,"rounds":3})")};
    const auto keep = [&runs](const std::vector<std::string>& texts) {
      std::vector<Filter> filters;
      for (const std::string& text : texts) {
        filters.emplace_back(text);
      }
      return ids(apps::filtered(runs, filters));
    };
    using Ids = std::vector<int64_t>;
    CHECK(keep({}) == Ids{1, 2, 3});
    CHECK(keep({"verb=train"}) == Ids{1, 2});
    CHECK(keep({"verb==train"}) == Ids{1, 2});
    CHECK(keep({"verb!=train"}) == Ids{3});
    CHECK(keep({"accuracy>0.5"}) == Ids{2, 3});
    CHECK(keep({"accuracy>=0.5", "verb=train"}) == Ids{1, 2});
    CHECK(keep({"epochs<10"}) == Ids{1, 3});  // as numbers: "10" < "2" as text
    CHECK(keep({"epochs<=9.5"}) == Ids{1, 3});
    CHECK(keep({"qat=w8a8"}) == Ids{1});  // runs without the option do not match
    CHECK(keep({"qat!=w8a8"}) == Ids{});
    CHECK(keep({"begun>2026-11"}) == Ids{1, 2, 3});
    CHECK(keep({"test.accuracy>0.6"}) == Ids{2, 3});
    CHECK(keep({"seconds=63"}) == Ids{1, 2, 3});
    CHECK_THROWS_WITH_AS((void)keep({"acuracy>1"}), doctest::Contains("no run has a value called 'acuracy'"), Error);
    CHECK_THROWS_WITH_AS((void)keep({"accuracy>90%"}), doctest::Contains("'accuracy' is a number, and '90%' is none"),
                         Error);
    CHECK_THROWS_AS(Filter("=3"), Error);
    CHECK(ids(apps::ranked(runs, "", 2, true)) == Ids{2, 3});
    CHECK(ids(apps::ranked(runs, "", 2, false)) == Ids{1, 3});
    CHECK(ids(apps::ranked(runs, "epochs", 1, true)) == Ids{1});  // little is good
    CHECK_THROWS_AS((void)apps::ranked(runs, "bytes", 1, true), Error);
    CHECK(apps::iterative(runs[2]) == true);
    CHECK(apps::iterative(made_by_hand(4, "prune", 1, R"({"rounds":1})")) == false);
  }

  TEST_CASE("a table for other programs quotes what needs it") {
    Run run = made_by_hand(1, "train", 0.5, R"({"schedule":"step:1,2:0.1","note":"say \"hi\""})");
    run.seed = 18446744073709551615U;
    const std::string csv = apps::to_csv({run});
    CHECK(csv.starts_with("id,begun,ended,seconds,verb,"));
    CHECK(contains(csv, ",option.note,option.schedule\r\n"));
    CHECK(contains(csv, R"(,"say ""hi""","step:1,2:0.1")"));
    CHECK(contains(csv, "18446744073709551615"));
  }
}

}  // namespace whittle
