// Whether everything shall be tested that can be counted, which takes minutes: WHITTLE_TEST_FULL is set.
#pragma once

#include <cstdlib>

namespace whittle {

inline bool full_test() { return std::getenv("WHITTLE_TEST_FULL") != nullptr; }

}  // namespace whittle
