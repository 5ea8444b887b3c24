// What the compiler made of the source, seen through nm.

#include <doctest/doctest.h>

#include <regex>
#include <sstream>

#include "tests/architecture/checks.h"

namespace whittle::architecture {

namespace {

std::string nm(const std::filesystem::path& object) {
  return output_of(std::string(WHITTLE_NM) + " --defined-only '" + object.string() + "'");
}

}  // namespace

TEST_SUITE("objects") {
  TEST_CASE("the checker sees weak symbols in an object, and none in a clean one") {
    CHECK_FALSE(weak_symbols(nm(WHITTLE_WEAK_OBJECT)).empty());
    CHECK(weak_symbols(nm(WHITTLE_CLEAN_OBJECT)).empty());
    CHECK_FALSE(strong_symbols(nm(WHITTLE_CLEAN_OBJECT)).empty());
    CHECK_THROWS(output_of("false"));  // so a missing object cannot pass as a clean one
  }

  // The linker keeps one copy of an inline function, from any object. If that is the
  // copy compiled for AVX-512, every other CPU crashes in code nobody dispatched.
  TEST_CASE("objects compiled for one instruction set define no weak symbols") {
    static const std::regex kIsaObject(R"((avx|vnni|neon)[^/]*\.o$)");
    const auto kernels = std::filesystem::path(WHITTLE_BINARY_DIR) / "kernels";
    int objects = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(kernels)) {
      if (entry.is_regular_file() && std::regex_search(entry.path().filename().string(), kIsaObject)) {
        ++objects;
        for (const std::string& symbol : weak_symbols(nm(entry.path()))) {
          FAIL_CHECK(entry.path().filename().string() << " defines the weak symbol " << symbol);
        }
      }
    }
    MESSAGE(objects << " objects compiled for one instruction set");
  }

  // A function outside the inline namespaces f32 and f64 that both twins compile would
  // be linked once, silently, in whichever precision comes first.
  TEST_CASE("the float and the double twin of a library define no symbol in common") {
    std::istringstream pairs(WHITTLE_TWINS);
    int count = 0;
    for (std::string library, twin; pairs >> library >> twin; ++count) {
      const std::set<std::string> in_library = strong_symbols(nm(library));
      for (const std::string& symbol : strong_symbols(nm(twin))) {
        CAPTURE(symbol);
        CHECK_FALSE(in_library.contains(symbol));
      }
    }
    CHECK(count >= 1);
  }
}

}  // namespace whittle::architecture
