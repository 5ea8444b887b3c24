#include "apps/outputs.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <vector>

#include "apps/program.h"
#include "apps/text.h"

namespace whittle::apps {

namespace {

constexpr std::array kOutputs = {"out", "log", "csv", "report", "save-codes"};
constexpr std::array kNoFiles = {"model"};  // what may be called as a file is, and is none

enum class Kind { kNet, kProgram, kPage, kTable, kStore, kOther };

struct KindName {
  Kind kind;
  const char* name;
};
constexpr std::array kKindNames = {KindName{Kind::kNet, "a checkpoint"}, KindName{Kind::kProgram, "a program"},
                                   KindName{Kind::kPage, "a page"}, KindName{Kind::kTable, "a table of epochs or runs"},
                                   KindName{Kind::kStore, "a store of runs"}};

// By its first bytes.
Kind kind_of(const std::filesystem::path& file) {
  std::string first(32, '\0');
  std::ifstream stream(file, std::ios::binary);
  stream.read(first.data(), static_cast<std::streamsize>(first.size()));
  const bool safetensors = first[6] == '\0' && first[7] == '\0' && first[8] == '{';  // behind the header's length
  return is_program(file)                                                                    ? Kind::kProgram
         : first.starts_with("SQLite format 3")                                              ? Kind::kStore
         : first.starts_with("<!doctype html>")                                              ? Kind::kPage
         : first.starts_with("epoch,rate,train_loss") || first.starts_with("id,begun,ended") ? Kind::kTable
         : safetensors                                                                       ? Kind::kNet
                                                                                             : Kind::kOther;
}

Kind written_by(const std::string& verb, const std::string& option) {
  return option == "log" || option == "csv"       ? Kind::kTable
         : option == "report" || verb == "report" ? Kind::kPage
         : verb == "export" || verb == "compress" ? Kind::kProgram
                                                  : Kind::kNet;
}

struct Named {
  std::string option;  // as it is typed; of an argument its name
  std::filesystem::path file;
  bool written;
  Kind kind;  // of what is written there
};

std::vector<Named> files_of(const CLI::App& verb) {
  std::vector<Named> files;
  for (const CLI::App* app = &verb; app != nullptr; app = app->get_parent()) {
    for (const CLI::Option* option : app->get_options()) {
      const std::string& name = option->get_single_name();
      if (option->get_items_expected_max() == 0 || (!option->get_positional() && is_one_of(name, kNoFiles))) {
        continue;
      }
      const bool written = !option->get_positional() && is_one_of(name, kOutputs);
      for (const std::string& value : option->results()) {
        require(!value.empty() || !written, verb.get_name(), "--", name, " is empty; name a file");
        if (!value.empty()) {
          files.push_back(
              {(option->get_positional() ? "" : "--") + name, value, written, written_by(app->get_name(), name)});
        }
        if (!value.empty() && written && name == "out" && app->get_name() == "compress") {
          files.push_back({"what belongs to --out", value + ".safetensors", true, Kind::kNet});
        }
      }
    }
  }
  return files;
}

bool same(const std::filesystem::path& a, const std::filesystem::path& b) {
  std::error_code no;
  return std::filesystem::equivalent(a, b, no) ||
         std::filesystem::absolute(a, no).lexically_normal() == std::filesystem::absolute(b, no).lexically_normal();
}

// What is there is replaced by another of its kind, as a training that is repeated does, and by nothing else.
void refuse_to_lose(const std::string& verb, const Named& out) {
  const bool codes = out.option == "--save-codes";  // bytes that look like nothing
  for (const std::string& file :
       codes ? std::vector{out.file.string() + ".in", out.file.string() + ".out"} : std::vector{out.file.string()}) {
    std::error_code no;
    if (!std::filesystem::is_regular_file(file, no) || std::filesystem::file_size(file, no) == 0) {
      continue;
    }
    const Kind kind = kind_of(file);
    const auto* const name = std::ranges::find(kKindNames, kind, &KindName::kind);
    require(kind == (codes ? Kind::kOther : out.kind), verb, out.option, " would replace ", file, ", which is ",
            name == kKindNames.end() ? "no file of ours" : name->name, "; choose another name");
  }
}

}  // namespace

void check_outputs(const CLI::App& verb) {
  const std::vector<Named> files = files_of(verb);
  for (const Named& out : files) {
    if (!out.written) {
      continue;
    }
    for (const Named& other : files) {
      require(&other == &out || !same(out.file, other.file), verb.get_name(), out.option, " would write ",
              out.file.string(), ", which ", other.option, " names, too; choose another name");
    }
    refuse_to_lose(verb.get_name(), out);
  }
}

}  // namespace whittle::apps
