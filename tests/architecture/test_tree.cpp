// The source tree against the tables of rules.h.

#include <doctest/doctest.h>

#include <algorithm>

#include "tests/architecture/checks.h"
#include "tests/architecture/rules.h"

namespace whittle::architecture {

namespace {

const std::filesystem::path kRoot = WHITTLE_SOURCE_DIR;

void check_none(const Findings& findings) {
  for (const std::string& finding : findings) {
    FAIL_CHECK(finding);
  }
}

void check_tree(Findings (*check)(const SourceFile&)) {
  for (const auto& [folder, rule] : kMayInclude) {
    for (const SourceFile& file : read_folder(kRoot, folder)) {
      check_none(check(file));
    }
  }
}

}  // namespace

TEST_SUITE("tree") {
  TEST_CASE("every folder of code is in the include table") {
    for (const auto& entry : std::filesystem::directory_iterator(kRoot)) {
      const std::string folder = entry.path().filename().string();
      if (entry.is_directory() && folder != "build" && !folder.starts_with('.')) {
        CAPTURE(folder);
        CHECK((kMayInclude.contains(folder) || read_folder(kRoot, folder).empty()));
      }
    }
    CHECK_FALSE(read_folder(kRoot, "core").empty());  // we are looking in the right place
  }

  TEST_CASE("includes go downwards, and each library has one wrapper") { check_tree(include_findings); }
  TEST_CASE("threads are started and locked where they may be") { check_tree(threading_findings); }
  TEST_CASE("libraries do not print") { check_tree(printing_findings); }

  TEST_CASE("core/ stays within its line budget") {
    std::ptrdiff_t lines = 0;
    for (const SourceFile& file : read_folder(kRoot, "core")) {
      lines += std::ranges::count(file.text, '\n');
    }
    MESSAGE("core/ has " << lines << " lines of " << kCoreLineBudget);
    CHECK(lines <= kCoreLineBudget);
  }

  TEST_CASE("every op has a gradient check") {
    const std::set<std::string> declared = declared_ops(read_text(kRoot / "core/ops.h"));
    CHECK(declared.size() >= 40);  // the header is still written the way we read it
    std::set<std::string> checked;
    for (const SourceFile& file : read_folder(kRoot, "tests/core")) {
      if (file.path.starts_with("tests/core/op_cases")) {
        checked.merge(checked_ops(file.text));
      }
    }
    const std::string surrogates = read_text(kRoot / "tests/core/test_ops_fake_quant.cpp");
    for (const std::string& op : declared) {
      CAPTURE(op);
      // A straight-through gradient is no derivative: it is compared with its own formula.
      CHECK((checked.contains(op) || (op.starts_with("fake_quant") && surrogates.find(op + "(") != std::string::npos)));
    }
  }

  TEST_CASE("every source of a library is built") {
    for (const auto& [folder, rule] : kMayInclude) {
      if (!kPrograms.contains(folder) || folder == "apps") {
        const auto files = read_folder(kRoot, folder);
        if (!files.empty()) {
          check_none(unlisted_sources(files, read_text(kRoot / folder / "CMakeLists.txt")));
        }
      }
    }
  }

  TEST_CASE("every test is built") {
    std::string lists;
    for (const char* folder : {"", "architecture", "consumer", "lessons"}) {
      lists += read_text(kRoot / "tests" / folder / "CMakeLists.txt");
    }
    std::vector<SourceFile> files = read_folder(kRoot, "tests");
    for (SourceFile& file : files) {  // lists name most files without their folder
      file.path = "tests/" + std::filesystem::path(file.path).filename().string();
    }
    check_none(unlisted_sources(files, lists));
  }

  TEST_CASE("files with test cases are called test_*, which is what makes ctest run them") {
    for (const SourceFile& file : read_folder(kRoot, "tests")) {
      const std::string name = file.path.substr(file.path.rfind('/') + 1);
      const bool has_cases = without_comments(file.text, Literals::kBlank).find("TEST_CASE(") != std::string::npos;
      CAPTURE(file.path);
      CHECK((!has_cases || name.starts_with("test_")));
    }
  }
}

}  // namespace whittle::architecture
