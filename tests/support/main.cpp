// The main function of every test program: doctest's, and the seed.

#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>
#include <exception>

#include "core/pool.h"
#include "tests/support/cpu.h"
#include "tests/support/seed.h"

int main(int argc, char** argv) {
  try {
    std::printf("WHITTLE_TEST_SEED=%llu\n", static_cast<unsigned long long>(whittle::test_seed()));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  if (whittle::forced_table_is_not_here()) {
    std::printf("skipped: this CPU has no instructions for WHITTLE_KERNELS=%s\n", std::getenv("WHITTLE_KERNELS"));
    return whittle::kSkipped;
  }
  const int result = doctest::Context(argc, argv).run();
  // What the pool keeps for reuse is poisoned, and the leak sanitizer does not look
  // for pointers there: to it, kept blocks are lost ones. What is left now is lost.
  whittle::pool_trim();
  return result;
}
