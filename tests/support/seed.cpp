#include "tests/support/seed.h"

#include <charconv>
#include <cstdlib>
#include <string_view>
#include <system_error>

#include "core/error.h"

namespace whittle {

uint64_t test_seed() {
  static const uint64_t seed = [] {
    constexpr uint64_t kDefault = 20240229;
    const char* variable = std::getenv("WHITTLE_TEST_SEED");
    if (variable == nullptr) {
      return kDefault;
    }
    const std::string_view text = variable;
    uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    require(error == std::errc() && end == text.data() + text.size(), "WHITTLE_TEST_SEED", "'", text,
            "' is not a whole number from 0 to 2^64 - 1");
    return value;
  }();
  return seed;
}

}  // namespace whittle
