// What the README shows is what the repository holds.

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/architecture/checks.h"

namespace whittle::architecture {

namespace {

const std::filesystem::path kRoot = WHITTLE_SOURCE_DIR;

// The text of the first code block after `marker`.
std::string block_after(const std::string& text, const std::string& marker) {
  const size_t at = text.find(marker);
  REQUIRE(at != std::string::npos);
  const size_t begin = text.find("```cpp\n", at) + 7;
  return text.substr(begin, text.find("```", begin) - begin);
}

}  // namespace

TEST_SUITE("readme") {
  TEST_CASE("lesson 1 is shown word for word, and is at most 40 lines") {
    const std::string lesson = read_text(kRoot / "tests/lessons/01_moons.cpp");
    CHECK(block_after(read_text(kRoot / "README.md"), "<!-- lesson 01") == lesson);
    CHECK(std::ranges::count(lesson, '\n') <= 40);
  }

  TEST_CASE("links to files of the repository lead somewhere") {
    std::vector<std::filesystem::path> pages = {kRoot / "README.md"};
    for (const auto& entry : std::filesystem::directory_iterator(kRoot / "docs")) {
      if (entry.path().extension() == ".md") {
        pages.push_back(entry.path());
      }
    }
    CHECK(pages.size() >= 20);
    int links = 0;
    for (const std::filesystem::path& page : pages) {
      const std::string text = read_text(page);
      for (size_t at = text.find("]("); at != std::string::npos; at = text.find("](", at + 1)) {
        const std::string target = text.substr(at + 2, text.find_first_of(")#", at) - at - 2);
        // A lambda in a code block, "[](real v)", has a space where a link has none.
        if (target.empty() || target.starts_with("http") || target.find(' ') != std::string::npos) {
          continue;
        }
        CAPTURE(page.string());
        CAPTURE(target);
        CHECK(std::filesystem::exists(page.parent_path() / target));
        ++links;
      }
    }
    CHECK(links >= 100);
  }
}

}  // namespace whittle::architecture
