#include "apps/outputs.h"

#include <array>
#include <filesystem>
#include <system_error>
#include <vector>

#include "apps/file_kind.h"
#include "apps/text.h"

namespace whittle::apps {

namespace {

constexpr std::array kOutputs = {"out", "log", "csv", "report", "save-codes"};
constexpr std::array kNoFiles = {"model"};  // what may be called as a file is, and is none

FileKind written_by(const std::string& verb, const std::string& option) {
  return option == "log" || option == "csv"       ? FileKind::kTable
         : option == "report" || verb == "report" ? FileKind::kPage
         : verb == "export" || verb == "compress" ? FileKind::kProgram
                                                  : FileKind::kNet;
}

struct Named {
  std::string option;  // as it is typed; of an argument its name
  std::filesystem::path file;
  bool written;
  FileKind kind;  // of what is written there
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
          files.push_back({"what belongs to --out", value + ".safetensors", true, FileKind::kNet});
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
    const FileKind kind = kind_of(file);
    require(kind == (codes ? FileKind::kOther : out.kind), verb, out.option, " would replace ", file, ", which is ",
            name_of(kind), "; choose another name");
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
