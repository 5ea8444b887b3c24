// What the compiler made of the source, seen through nm.

#include <doctest/doctest.h>

#include <regex>
#include <sstream>

#include "tests/architecture/checks.h"
#include "tests/architecture/rules.h"
#include "tests/support/sanitized.h"

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

  // No heap, no exceptions, no mathematics library, no operating system.
  TEST_CASE("the runtime and its kernels need nothing but the memory functions") {
    if (kSanitized) {
      return;  // sanitizers call their own
    }
    const auto kernels = std::filesystem::path(WHITTLE_BINARY_DIR) / "kernels";
    std::string listing = output_of(std::string(WHITTLE_NM) + " '" + WHITTLE_RUNTIME_LIBRARY + "'");
    int objects = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(kernels)) {
      const std::string folder = entry.path().parent_path().filename().string();
      if (entry.path().extension() == ".o" &&
          (folder == "int8" || folder == "f32" || folder == "whittle_kernels.dir")) {
        listing += output_of(std::string(WHITTLE_NM) + " '" + entry.path().string() + "'");
        ++objects;
      }
    }
    CHECK(objects >= 4);
    std::set<std::string> defined = strong_symbols(listing);
    defined.merge(weak_symbols(listing));
    const std::set<std::string> needed = undefined_symbols(listing);
    CHECK(needed.size() >= 5);  // each other, at least
    for (const std::string& symbol : needed) {
      CAPTURE(symbol);
      CHECK((defined.contains(symbol) || kFreestandingSymbols.contains(symbol)));
    }
  }

#if defined(WHITTLE_NO_FPU_LIBRARY)
  TEST_CASE("a build without FPU holds no floating-point instruction") {
    const auto disassembly = [](const std::string& file) {
      return output_of(std::string(WHITTLE_OBJDUMP) + " -d --no-show-raw-insn '" + file + "'");
    };
    CHECK_FALSE(float_instructions(disassembly(WHITTLE_RUNTIME_LIBRARY)).empty());  // we would see them
    const std::string without = disassembly(WHITTLE_NO_FPU_LIBRARY);
    CHECK(without.size() > 10'000);
    for (const std::string& instruction : float_instructions(without)) {
      FAIL_CHECK(instruction);
    }
  }
#endif

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
