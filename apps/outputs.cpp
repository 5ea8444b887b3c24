#include "apps/outputs.h"

#include <array>
#include <filesystem>
#include <system_error>
#include <vector>

#include "apps/text.h"

namespace whittle::apps {

namespace {

constexpr std::array kOutputs = {"out", "log", "csv", "report", "save-codes"};
constexpr std::array kNoFiles = {"model"};  // what may be called as a file is, and is none
constexpr std::array kOfOthers = {".csv", ".tsv", ".png", ".jpg", ".jpeg"};

struct Named {
  std::string option;  // as it is typed; of an argument its name
  std::filesystem::path file;
  bool written;
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
          files.push_back({(option->get_positional() ? "" : "--") + name, value, written});
        }
        if (!value.empty() && written && name == "out" && app->get_name() == "compress") {
          files.push_back({"what belongs to --out", value + ".safetensors", true});
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
    std::error_code no;
    require(out.option != "--out" || !is_one_of(out.file.extension().string(), kOfOthers) ||
                !std::filesystem::exists(out.file, no),
            verb.get_name(), "--out would replace ", out.file.string(),
            ", which is no file of ours; choose another name");
  }
}

}  // namespace whittle::apps
