// What an x86 CPU can do, and whether the system saves the registers it takes.
// (__builtin_cpu_supports wants a library.) Internal to the tables of float kernels.
#pragma once

#include <cpuid.h>
#include <stdint.h>

namespace whittle::kernels {

namespace {  // one copy for each table

// `wanted`: bits of EBX of leaf 7. `states`: bits of XCR0.
bool x86_has(uint32_t wanted, uint32_t states) {
  uint32_t a = 0, b = 0, c = 0, d = 0;
  constexpr uint32_t kBasics = bit_OSXSAVE | bit_FMA;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & kBasics) != kBasics) {
    return false;
  }
  uint32_t saved = 0, high = 0;
  asm("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
  return (saved & states) == states && __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b & wanted) == wanted;
}

}  // namespace

}  // namespace whittle::kernels
