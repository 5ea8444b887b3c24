// whittle doctor: what this program was built with, what it finds on this machine, and what to do
// about anything that is missing.

#include <sched.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "apps/cli.h"
#include "apps/machine.h"
#include "apps/report/page.h"
#include "apps/runs/store.h"
#include "apps/text.h"
#include "core/blas.h"
#include "core/error.h"
#include "core/json.h"
#include "core/parallel.h"
#include "core/train_kernels.h"
#include "datasets/http.h"
#include "datasets/registry.h"
#include "kernels/f32/table.h"
#include "kernels/int8/table.h"
#include "runtime/best.h"
#include "runtime/hosted/choose.h"

namespace whittle::apps {

namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

std::string joined(const Json& words) {
  std::string text;
  for (const Json& word : words) {
    text += (text.empty() ? "" : " ") + word.get<std::string>();
  }
  return text.empty() ? "none" : printable(text);
}

// Of what the kernel says about the CPU, that which kernels of any table could use.
Json cpu_features() {
  constexpr std::array kOfInterest = {"avx",         "avx2",     "fma",      "f16c",  "avx512f", "avx512bw", "avx512vl",
                                      "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "asimddp", "i8mm",     "sve"};
  Json found = Json::array();
  std::ifstream cpuinfo("/proc/cpuinfo");
  for (std::string line; std::getline(cpuinfo, line);) {
    if (line.starts_with("flags") || line.starts_with("Features")) {
      std::istringstream words(line.substr(std::min(line.find(':') + 1, line.size())));
      for (std::string word; words >> word;) {
        if (std::ranges::find(kOfInterest, word) != kOfInterest.end()) {
          found.push_back(word);
        }
      }
      break;
    }
  }
  return found;
}

// CPUs that this process may run on.
int affinity() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  return sched_getaffinity(0, sizeof(mask), &mask) == 0 ? CPU_COUNT(&mask) : 1;
}

// The library that was really loaded: on Debian one of several stands behind its name.
Json blas_library() {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    const size_t path = line.find('/');
    if (path != std::string::npos && line.find("blas", line.rfind('/')) != std::string::npos) {
      return line.substr(path);
    }
  }
  return {};
}

template <class Tables>
Json tables_json(const Tables& all, const char* chosen) {
  Json tables = Json::array();
  for (int i = 0; i < all.count; ++i) {
    tables.push_back({{"name", all.tables[i]->name}, {"runs_here", all.tables[i]->runs_here()}});
  }
  return {{"chosen", chosen}, {"tables", std::move(tables)}};
}

Json kernels_json(std::vector<std::string>& advice) {
  runtime::Kernels best = runtime::best_kernels();
  std::string train;
  try {
    train = train_kernels().name;
    best = runtime::choose_kernels();
  } catch (const std::exception& error) {
    advice.push_back(std::string(error.what()) + ": WHITTLE_KERNELS names one that is not; unset it");
  }
  return {{"train", tables_json(kernels::float_train_tables(), train.c_str())},
          {"int8", tables_json(kernels::int8_tables(), best.int8->name)},
          {"float", tables_json(kernels::f32_tables(), best.f32->name)}};
}

Json data_json(const std::string& folder, std::vector<std::string>& advice) {
  Json json = {{"folder", folder.empty() ? Json() : Json(folder)}, {"sets", Json::object()}};
  if (folder.empty()) {
    advice.emplace_back(
        "Data sets: there is no folder for them. Make one, and set WHITTLE_DATA to it; generated sets, as glyphs, need "
        "none.");
    return json;
  }
  std::string missing;
  std::string by_hand;
  for (const data::DataInfo& set : data::list()) {
    if (set.files.empty()) {
      continue;
    }
    const std::vector<data::FileState> files = data::check_files(set.name, folder);
    const bool damaged = std::ranges::any_of(files, [](const auto& f) { return f.present && !f.intact; });
    const bool whole = std::ranges::all_of(files, &data::FileState::present);
    json["sets"][set.name] = damaged ? "differs from the known sum" : whole ? "intact" : "missing";
    if (damaged) {
      advice.push_back("Data sets: files of " + set.name + " are not what they should be; `whittle data info " +
                       set.name + "` says which. Remove them and fetch them again.");
    } else if (!whole) {
      const bool has_address =
          std::ranges::all_of(files, [](const auto& f) { return f.present || !f.file.url.empty(); });
      (has_address ? missing : by_hand) += " " + set.name;
    }
  }
  if (!missing.empty()) {
    advice.push_back("Data sets: `whittle data fetch NAME` downloads those you want of:" + missing);
  }
  if (!by_hand.empty()) {
    advice.push_back("Data sets: to be got by hand (docs/data.md):" + by_hand);
  }
  return json;
}

// Where `./run weights` keeps trained nets.
std::string cache_folder() {
  if (std::string own = variable("WHITTLE_CACHE"); !own.empty()) {
    return own;
  }
  const std::string caches = variable("XDG_CACHE_HOME");
  return (caches.empty() ? variable("HOME") + "/.cache" : caches) + "/whittle";
}

Json runs_json(std::vector<std::string>& advice) {
  const std::string file = variable("WHITTLE_RUNS");
  if (file.empty()) {
    return {};
  }
  std::string state = "new";
  std::error_code ignored;
  if (std::filesystem::exists(file, ignored)) {
    try {
      state = std::to_string(RunStore(file, RunStore::Mode::kRead).list().size()) + " runs";
    } catch (const Error& error) {
      state = "cannot be used";
      advice.push_back(std::string("Experiment store: ") + error.what());
    }
  }
  return {{"file", file}, {"state", state}};
}

Json findings(const std::string& data_dir) {
  std::vector<std::string> advice;
  Json json = {{"version", WHITTLE_VERSION},
               {"revision", revision().empty() ? Json() : Json(revision())},
               {"compiler", compiler()},
               {"cpu", cpu_model()},
               {"features", cpu_features()},
               {"cpus", std::thread::hardware_concurrency()},
               {"affinity", affinity()},
               {"threads", num_threads()},
               {"parallel", parallel_backend()},
               {"kernels", kernels_json(advice)},
               {"blas", blas_backend().name},
               {"blas_backends", Json::array()},
               {"blas_library", blas_library()},
               {"parts", {{"curl", http_available()}, {"sqlite", RunStore::available()}, {"d3", report::available()}}},
               {"data", data_json(data_dir.empty() ? variable("WHITTLE_DATA") : data_dir, advice)},
               {"cache", cache_folder()},
               {"runs", runs_json(advice)}};
  bool openblas = false;
  for (const BlasBackend& backend : blas_backends()) {
    json["blas_backends"].push_back(backend.name);
    openblas = openblas || backend.name == "openblas";
  }
  if (!openblas && blas_backend().name == "naive") {
    advice.emplace_back("Speed: matrix products are plain loops here. Install libopenblas-dev and configure again.");
  }
  if (std::string(parallel_backend()) == "serial" && affinity() > 1) {
    advice.emplace_back("Speed: this build has no threads. Configure with -DWHITTLE_PARALLEL=threads.");
  }
  if (!http_available()) {
    advice.emplace_back("Downloads: this build has none. Install libcurl4-openssl-dev and configure again.");
  }
  if (!RunStore::available()) {
    advice.emplace_back("Experiment store: this build has none. Install libsqlite3-dev and configure again.");
  }
  if (!report::available()) {
    advice.emplace_back("Reports: this build cannot draw them. Install node-d3 and configure again.");
  }
  json["advice"] = advice;
  return json;
}

// "avx512 of avx512 avx2 reference (not here: neon)"
std::string tables_text(const Json& kind) {
  std::string here;
  std::string elsewhere;
  for (const Json& table : kind["tables"]) {
    (table["runs_here"].get<bool>() ? here : elsewhere) += " " + table["name"].get<std::string>();
  }
  return kind["chosen"].get<std::string>() + ", of" + here +
         (elsewhere.empty() ? "" : " (not on this CPU:" + elsewhere + ")");
}

void print(const Json& j) {
  const auto line = [](const std::string& name, const std::string& text) {
    std::cout << name << std::string(name.size() < 16 ? 16 - name.size() : 1, ' ') << printable(text) << '\n';
  };
  const auto text = [&j](const char* name) { return j[name].is_null() ? "" : j[name].get<std::string>(); };
  const auto number = [&j](const char* name) { return std::to_string(j[name].get<int>()); };
  line("whittle", text("version") + (j["revision"].is_null() ? "" : " (" + text("revision") + ")"));
  line("compiler", text("compiler"));
  line("cpu", text("cpu"));
  line("features", joined(j["features"]));
  const bool quota = j["threads"].get<int>() < j["affinity"].get<int>();
  line("threads", number("threads") + " (" + text("parallel") + "); " + number("affinity") + " of " + number("cpus") +
                      " CPUs allowed" + (quota ? ", less by the control group's quota" : ""));
  line("train kernels", tables_text(j["kernels"]["train"]));
  line("int8 kernels", tables_text(j["kernels"]["int8"]));
  line("float kernels", tables_text(j["kernels"]["float"]));
  line("blas", text("blas") + ", of " + joined(j["blas_backends"]) +
                   (j["blas_library"].is_null() ? "" : "; " + text("blas_library") + ", on one thread of its own"));
  const auto part = [&](const char* name) { return j["parts"][name].get<bool>() ? "yes" : "no"; };
  line("downloads", part("curl"));
  line("runs", std::string(part("sqlite")) + (j["runs"].is_null() ? ""
                                                                  : "; " + j["runs"]["file"].get<std::string>() + ": " +
                                                                        j["runs"]["state"].get<std::string>()));
  line("reports", part("d3"));
  line("cache folder", text("cache"));
  line("data folder", j["data"]["folder"].is_null() ? "none" : j["data"]["folder"].get<std::string>());
  for (const auto& [name, state] : j["data"]["sets"].items()) {
    line("  " + name, state.get<std::string>());
  }
  if (j["advice"].empty()) {
    std::cout << "\nNothing is missing.\n";
    return;
  }
  std::cout << "\nWhat to do:\n";
  for (const Json& advice : j["advice"]) {
    std::cout << "- " << printable(advice.get<std::string>()) << '\n';
  }
}

}  // namespace

void add_doctor(CLI::App& program) {
  CLI::App* verb = program.add_subcommand("doctor", "What this build and this machine have, and what is missing");
  verb->alias("info");
  struct Options {
    std::string data_dir;
    bool json = false;
  };
  const auto options = std::make_shared<Options>();
  verb->add_option("--data-dir", options->data_dir, "Folder of the data files (default: $WHITTLE_DATA)");
  verb->add_flag("--json", options->json, "Print one line of JSON");
  verb->callback([options] {
    const Json json = findings(options->data_dir);
    if (options->json) {
      std::cout << json_line(json) << '\n';
    } else {
      print(json);
    }
  });
  set_example(*verb, "whittle doctor");
}

}  // namespace whittle::apps
