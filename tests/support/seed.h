// The seed of every random test.
#pragma once

#include <cstdint>

namespace whittle {

// WHITTLE_TEST_SEED from the environment, or a fixed number: runs are the same
// until someone asks for another. Each test program prints it, and random tests
// put it into their failure text with CAPTURE(test_seed()).
uint64_t test_seed();

}  // namespace whittle
