// The pages of `whittle report`, looked at by a browser: what they say, what brushes do, and that nothing in them
// fails.

#include <doctest/doctest.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "apps/report/browser.h"
#include "apps/report/page.h"
#include "apps/runs/store.h"
#include "core/error.h"
#include "tests/apps/command.h"
#include "tests/support/message.h"

namespace whittle {

namespace {

namespace report = apps::report;
bool pages() { return report::available() && report::Browser::available(); }

void ok(const TempFolder& folder, const Words& arguments) {
  const Result result = whittle_command(folder, arguments);
  CAPTURE(arguments);
  CAPTURE(result.err);
  REQUIRE(result.exit_code == 0);
}

// A net that learns the moons in a fraction of a second.
void train(const TempFolder& folder, const std::string& name, const Words& more) {
  Words words = {"train",    "--model", "mlp",       "--hidden", "16,8",    "--data", "moons",
                 "--epochs", "3",       "--threads", "1",        "--quiet", "--out",  folder / name};
  words.insert(words.end(), more.begin(), more.end());
  ok(folder, words);
}

// The page as the browser has it when it is done, with a script of ours behind its own. Nothing may have been said on
// the console.
std::string opened(const std::filesystem::path& page, const std::string& script = {}) {
  const report::Browser browser;
  std::string html = contents(page);
  const size_t end = html.rfind("</body>");
  REQUIRE(end != std::string::npos);
  html.insert(end, "<pre id=\"seen\"></pre><script>" + script + "</script>");
  const std::filesystem::path copy = browser.folder() / "copy.html";
  std::ofstream(copy) << html;
  const report::Browser::Shown shown = browser.open(copy);
  INFO(shown.log);
  CHECK_FALSE(contains(shown.log, "CONSOLE"));
  return shown.dom;
}

// What a script of ours wrote down.
Json seen(const std::string& dom) {
  const std::string begin = "<pre id=\"seen\">";
  const size_t at = dom.find(begin) + begin.size();
  std::string text = dom.substr(at, dom.find("</pre>", at) - at);
  for (const auto& [entity, character] : {std::pair("&lt;", "<"), std::pair("&gt;", ">"), std::pair("&amp;", "&")}) {
    for (size_t i = text.find(entity); i != std::string::npos; i = text.find(entity, i)) {
      text.replace(i, std::string(entity).size(), character);
    }
  }
  return Json::parse(text);
}

Json compressed() {
  return Json::parse(R"({
    "format": "whittle-report", "version": 1, "command": "whittle compress m.safetensors", "seed": 3,
    "model": {"name": "lenet5", "data": "glyphs", "parameters": 431080, "macs": 2293000},
    "promise": {"max_drop": 0.5, "confidence": 95.0, "target": "size", "supported": true, "validation_samples": 2000},
    "float": {"accuracy": 0.9875, "bytes": 1725000, "latency_us": 170.0},
    "candidates": [
      {"name": "float", "accuracy": 0.9875, "bytes": 1725000, "latency_us": 170.0, "verdict": "kept"},
      {"name": "int8", "accuracy": 0.987, "drop": 0.05, "bound": 0.31, "bytes": 750000, "latency_us": 100.0, "verdict": "kept"},
      {"name": "int4", "accuracy": 0.95, "drop": 3.75, "bound": 4.6, "bytes": 240000, "latency_us": 101.0, "verdict": "refused"}],
    "chosen": "int8", "front": ["float", "int8"],
    "training": [{"name": "teacher", "points": [{"epoch": 1, "train_loss": 0.8, "validation_loss": 0.6},
                                                {"epoch": 2, "train_loss": 0.4, "validation_loss": 0.5}]}]})");
}

}  // namespace

TEST_SUITE("report") {
  // Checks that are skipped cannot fail, so where CI runs there must be D3 to draw with and chromium to look.
  TEST_CASE("CI has D3 and a browser") { CHECK((pages() || std::getenv("CI") == nullptr)); }

  // Skipped where D3 is missing: every call would say just that. On CI the case above fails then.
  TEST_CASE("what is no document, model or store is refused in a sentence" * doctest::skip(!report::available())) {
    const TempFolder folder;
    CHECK(contains(refused(folder, {"report", "m.safetensors"}), "--out is missing"));
    CHECK(contains(message_of([] { (void)report::html_of(Json{{"format", "other"}}); }), "no document of the format"));
    CHECK(contains(message_of([] {
                     (void)report::html_of(Json{{"format", "whittle-report"}, {"version", 2}});
                   }),
                   "not of version 1"));
    std::ofstream(folder / "half.json") << "{\"format\": ";
    CHECK(contains(refused(folder, {"report", folder / "half.json", "--out", folder / "r.html"}), "is not JSON"));
    std::ofstream(folder / "c.json") << compressed();
    CHECK(contains(refused(folder, {"report", folder / "c.json", "--out", folder / "r.html", "--filter", "id=1"}),
                   "--filter is for runs"));
    CHECK(contains(refused(folder, {"report", folder / "c.json", "--out", folder / "r.html", "--first", "10"}),
                   "--data and what belongs to it are for a checkpoint"));
    CHECK_FALSE(std::filesystem::exists(folder / "r.html"));
  }

  // Skipped where D3 is there: the library is inside the command and cannot be taken away. The sentence is of builds
  // without it.
  TEST_CASE("without D3 there is a sentence and no page" * doctest::skip(report::available())) {
    const TempFolder folder;
    CHECK(
        contains(refused(folder, {"report", "m.safetensors", "--out", folder / "r.html"}), "install Debian's node-d3"));
  }

  // The others that look at pages rely on this. Skipped where there is no chromium to open a page; on CI the first case
  // fails then.
  TEST_CASE("an error on a page is noticed" * doctest::skip(!report::Browser::available())) {
    const report::Browser browser;
    std::ofstream(browser.folder() / "bad.html")
        << "<p id=a></p><script>document.body.append('drawn'); nothing();</script>";
    const report::Browser::Shown shown = browser.open(browser.folder() / "bad.html");
    CHECK(contains(shown.dom, "drawn"));
    CHECK(contains(shown.log, "CONSOLE"));
  }

  // Skipped, as those below, where D3 or chromium is missing: there is no page, or nobody to look. On CI the first case
  // fails then.
  TEST_CASE("a compression: the verdict comes first" * doctest::skip(!pages())) {
    const TempFolder folder;
    std::ofstream(folder / "c.json") << compressed();
    ok(folder, {"report", folder / "c.json", "--out", folder / "c.html"});
    const std::string dom = opened(folder / "c.html");
    CHECK(contains(
        dom,
        "2.3× smaller, 1.7× faster than in float, drop at most 0.31 points with 95 % confidence on 2,000 samples."));
    for (const char* id : {"front", "training"}) {
      CHECK(contains(dom, "<section id=\"" + std::string(id) + "\""));
    }
    CHECK_FALSE(contains(dom, "<section id=\"layers\""));
    CHECK(contains(contents(folder / "c.html"), "Redistribution and use in source and binary forms"));
  }

  // Skipped where nobody can look at a page, which CI does not allow.
  TEST_CASE("compress --report: one page with what was tried, what could be and what was kept" *
            doctest::skip(!pages())) {
    const TempFolder folder;
    train(folder, "m.safetensors", {"--validation", "0.3"});
    ok(folder, {"compress", folder / "m.safetensors", "--max-drop", "5", "--rungs", "1", "--budget", "40", "--quiet",
                "--out", folder / "m.wtl", "--report", folder / "m.html"});
    const std::string dom = opened(folder / "m.html");
    for (const char* id : {"front", "techniques", "sweeps", "training", "layers", "sizes", "histograms"}) {
      CAPTURE(id);
      CHECK(contains(dom, "<section id=\"" + std::string(id) + "\""));
    }
    const Json document = Json::parse(contents(folder / "m.wtl.compress.json"));
    uint64_t sum = 0;
    for (const Json& part : document.at("sizes")) {
      sum += part.at("bytes").get<uint64_t>();
    }
    CHECK(sum == std::filesystem::file_size(folder / "m.wtl"));
  }

  // Skipped where nobody can look at a page, which CI does not allow.
  TEST_CASE("an empty document makes a page" * doctest::skip(!pages())) {
    const TempFolder folder;
    report::write_html({{"format", "whittle-report"}, {"version", 1}}, folder / "r.html");
    CHECK(contains(opened(folder / "r.html"), "Nothing was measured."));
  }

  // Skipped where nobody can look at a page, which CI does not allow.
  TEST_CASE("names are text, whatever they look like" * doctest::skip(!pages())) {
    const TempFolder folder;
    const std::string evil =
        "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">{{d3.js}}";
    Json document = compressed();
    document["model"]["name"] = evil;
    document["candidates"][1]["name"] = document["chosen"] = document["front"][1] = evil;
    document["training"][0]["name"] = evil;
    document["layers"] = {{{"name", evil}, {"kind", evil}, {"macs", 1}}};
    document["runs"] = {{{"id", 1}, {"name", evil}, {"status", evil}, {"values", {{evil, 1}, {"b", evil}}}},
                        {{"id", 2}, {"name", "b"}, {"status", "finished"}, {"values", {{evil, 2}, {"b", "c"}}}}};
    document["axes"] = {{{"name", evil}, {"kind", "number"}}, {{"name", "b"}, {"kind", "word"}}};
    report::write_html(document, folder / "r.html");
    const Json result = seen(opened(folder / "r.html", R"(document.getElementById('seen').textContent = JSON.stringify({
      title: document.title, images: document.images.length, scripts: document.scripts.length,
      text: document.querySelector('#layers td').textContent}))"));
    CHECK(result["title"] == "Whittle report: " + evil + " on glyphs");
    CHECK(result["images"] == 0);
    CHECK(result["scripts"] == 4);  // the document, D3, the page's own, and that of this test
    CHECK(result["text"] == evil);
  }

  // Skipped where nobody can look at a page, which CI does not allow.
  TEST_CASE("a model is measured: parts sum to the file, every chart is drawn" * doctest::skip(!pages())) {
    const TempFolder folder;
    train(folder, "m.safetensors", {});
    ok(folder, {"quantize", folder / "m.safetensors", "--out", folder / "q.safetensors", "--quiet"});
    ok(folder, {"export", folder / "q.safetensors", "--out", folder / "q.wtl"});
    const Result result =
        whittle_command(folder, {"report", folder / "m.safetensors", "--program", folder / "q.wtl", "--out",
                                 folder / "m.html", "--samples", "200", "--repeats", "5", "--training", "200", "--svg",
                                 folder / "charts", "--quiet", "--json"});
    REQUIRE(result.exit_code == 0);
    CHECK(result.err.empty());
    CHECK(result.json()["sections"] ==
          Json({"float", "histograms", "layers", "model", "sizes", "sweeps", "techniques", "training"}));
    const std::string dom = opened(folder / "m.html", R"(document.getElementById('seen').textContent = JSON.stringify({
      epochs: doc.training[0].points.length, drawn: document.querySelectorAll('#training path.stroke').length,
      bytes: doc.sizes.reduce((sum, part) => sum + part.bytes, 0), techniques: doc.techniques, bits: doc.sweeps.bits,
      empty: charts.filter((c) => c.svg.selectAll('path, rect').empty()).length,
      nan: document.querySelector('main').innerHTML.includes('NaN')}))");
    const Json facts = seen(dom);
    CHECK(facts["bytes"] == std::filesystem::file_size(folder / "q.wtl"));
    CHECK(facts["empty"] == 0);
    CHECK(facts["epochs"] == 3);
    CHECK(facts["drawn"] == 4);  // loss and accuracy of the training and the validation part
    CHECK(facts["nan"] == false);
    REQUIRE(facts["techniques"].size() == 5);  // float, and the four
    for (const Json& row : facts["techniques"]) {
      CHECK(row["low"] <= row["accuracy"]);
      CHECK(row["accuracy"] <= row["high"]);
      CHECK(row["bytes"] > 0);
      CHECK(row["latency_us"] > 0);
    }
    CHECK(facts["techniques"][1]["bytes"] < facts["techniques"][0]["bytes"]);
    CHECK(facts["bits"].size() == 7);
    CHECK(contains(dom, "In int8: "));
    const int charts = result.json()["svg"].get<int>();
    CHECK(charts > 8);
    int files = 0;
    for (const auto& file : std::filesystem::directory_iterator(folder / "charts")) {
      const std::string svg = contents(file.path());
      CAPTURE(file.path().string());
      CHECK(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""));
      CHECK(contains(svg, "<style>"));
      ++files;
    }
    CHECK(files == charts);
    CHECK(contains(refused(folder, {"report", folder / "q.wtl", "--out", folder / "r.html"}), "with --program"));
    ok(folder, {"train", "--model", "mlp", "--hidden", "16,8", "--data", "mv-generated", "--epochs", "1", "--first",
                "256", "--quiet", "--out", folder / "n.safetensors"});
    CHECK(contains(refused(folder, {"report", folder / "n.safetensors", "--program", folder / "q.wtl", "--quiet",
                                    "--out", folder / "r.html"}),
                   "it was not made of this model"));
    const auto refuses = [&](const std::string& program) {
      return refused(folder, {"report", folder / "m.safetensors", "--program", program, "--quiet", "--out", "r.html"});
    };
    ok(folder, {"export", folder / "q.safetensors", "--batch", "4", "--out", folder / "four.wtl"});
    CHECK(contains(refuses(folder / "four.wtl"), "computes 4 samples at a time"));
    ok(folder, {"prune", folder / "m.safetensors", "--structured", "--amount", "0.5", "--quiet", "--out",
                folder / "thin.safetensors"});
    ok(folder, {"export", folder / "thin.safetensors", "--out", folder / "thin.wtl"});
    CHECK(contains(refuses(folder / "thin.wtl"), ": it was not made of this model"));
    ok(folder, {"report", folder / "q.safetensors", "--out", folder / "q.html", "--samples", "100", "--quiet"});
    CHECK(contains(opened(folder / "q.html"), "The model is quantized already"));
  }

  // Skipped where nobody can look at a page or there is no SQLite for runs, neither of which CI allows.
  TEST_CASE("training data make no candidate, and other parts no front with test data" *
            doctest::skip(!pages() || !apps::RunStore::available())) {
    const TempFolder folder;
    const std::string db = folder / "runs.db", m = folder / "m.safetensors";
    train(folder, "m.safetensors", {"--runs", db});
    for (const char* split : {"train", "validation", "test", "validation", "train"}) {
      ok(folder, {"eval", m, "--split", split, "--runs", db});
    }
    train(folder, "n.safetensors", {"--rate", "0.01"});
    for (const char* split : {"train", "validation"}) {
      ok(folder, {"eval", folder / "n.safetensors", "--split", split, "--runs", db});
    }
    ok(folder, {"report", db, "--out", folder / "runs.html", "--quiet"});
    const Json all = seen(
        opened(folder / "runs.html", "document.getElementById('seen').textContent = JSON.stringify(doc.candidates);"));
    REQUIRE(all.size() == 2);
    CHECK(all[0]["run"] == 4);
    CHECK(all[0]["group"] == "moons");
    CHECK(all[1]["run"] == 8);
    CHECK(all[1]["group"] == "moons, validation");

    CHECK(contains(refused(folder, {"runs", db, "compare", "1", "2"}), "no accuracy and no mse but on training data"));
    CHECK(contains(whittle_command(folder, {"runs", db, "compare", "3", "4"}).out, "what differs may be the part"));
    CHECK_FALSE(contains(whittle_command(folder, {"runs", db, "compare", "3", "5"}).out, "may be the part"));
    CHECK(contains(whittle_command(folder, {"runs", db}).out, "train accuracy"));
    const Json best = whittle_command(folder, {"runs", db, "--best", "20", "--json"}).json().at("runs");
    CHECK(best.size() == 5);  // without those of training data
    CHECK(whittle_command(folder, {"runs", db, "--filter", "train.accuracy>0", "--json"}).json()["runs"].size() == 3);
    std::ofstream(folder / "empty.db").close();
    CHECK(contains(refused(folder, {"report", folder / "empty.db", "--out", folder / "e.html"}), "is empty"));
    CHECK(contains(refused(folder, {"runs", db, "export", "--csv", "/dev/null"}), "is a device or the like"));
  }

  // With the mouse: down, over a part of the axis, up. Skipped where nobody can look at a page or there is no SQLite
  // for runs, neither of which CI allows.
  TEST_CASE("brushing an axis picks runs" * doctest::skip(!pages() || !apps::RunStore::available())) {
    const TempFolder folder;
    const std::string db = folder / "runs.db";
    const Words rates = {"0.001", "0.01", "0.05", "0.2"};
    for (size_t i = 0; i < rates.size(); ++i) {
      train(folder, "m" + std::to_string(i), {"--rate", rates[i], "--runs", db});
    }
    ok(folder, {"bench", folder / "m2", "--repeats", "5", "--runs", db});
    ok(folder, {"report", db, "--out", folder / "runs.html", "--quiet"});
    const Json result = seen(opened(folder / "runs.html", R"(
      const overlay = document.querySelector('.brush[data-axis=accuracy] .overlay');
      const box = overlay.getBoundingClientRect();
      const mouse = (target, type, share) => target.dispatchEvent(new MouseEvent(type, {
        bubbles: true, cancelable: true, view: window, clientX: box.left + box.width / 2, clientY: box.top + share * box.height}));
      const state = () => ({text: document.getElementById('picked').textContent,
        rows: document.querySelectorAll('#runs tbody tr:not(.out)').length,
        lines: document.querySelectorAll('#runs path.stroke[data-run]:not(.out)').length,
        curves: document.querySelectorAll('#training .curve:not(.out)').length});
      const drag = (from, to) => { mouse(overlay, 'mousedown', from); mouse(window, 'mousemove', to); mouse(window, 'mouseup', to); return state(); };
      const answer = {axes: doc.axes.map((a) => a.name), before: state(), best: drag(0.001, 0.12)};
      // Not at once: a click at the end of a drag is part of it.
      setTimeout(() => {
        document.querySelector('button').click();
        answer.after = state();
        const least = (c) => [c.bytes, c.latency_us, -c.accuracy];
        answer.front = doc.candidates.filter((b) => !doc.candidates.some((a) =>
            least(b).every((v, i) => v === undefined || least(a)[i] <= v) && least(b).some((v, i) => least(a)[i] < v))).map((c) => c.name);
        answer.said = doc.front;
        answer.latencies = doc.candidates.filter((c) => c.latency_us > 0).length;
        document.getElementById('seen').textContent = JSON.stringify(answer);
      }, 10);)"));
    INFO(result.dump());
    CHECK(result["axes"].size() >= 3);
    CHECK(result["before"]["text"] == "5 runs");
    const int left = result["best"]["rows"].get<int>();
    CHECK(left >= 1);
    CHECK(left < 4);
    CHECK(result["best"]["text"] == std::to_string(left) + " of 5 runs");
    CHECK(result["best"]["lines"] == left);
    CHECK(result["best"]["curves"].get<int>() < result["before"]["curves"].get<int>());
    CHECK(result["after"] == result["before"]);
    CHECK(result["front"] == result["said"]);
    CHECK_FALSE(result["said"].empty());
    CHECK(result["latencies"] == 1);  // bench and train saw one file
    ok(folder,
       {"report", db, "--filter", "rate>0.005", "--filter", "verb=train", "--out", folder / "some.html", "--quiet"});
    CHECK(contains(opened(folder / "some.html"), "3 runs, 3 finished"));
  }
}

}  // namespace whittle
