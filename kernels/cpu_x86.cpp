#include "kernels/cpu_x86.h"

#include <cpuid.h>

namespace whittle::kernels {

namespace {

// Bits of CPUID: `first` in ecx of leaf 1, `wide` and `more` in ebx and ecx of leaf 7.
struct Needs {
  unsigned states;  // that the system must save
  unsigned first;
  unsigned wide;
  unsigned more;
};

constexpr unsigned kAvxStates = 0x06;     // SSE, AVX
constexpr unsigned kAvx512States = 0xe6;  // and masks, and both halves of the wide registers
constexpr unsigned kAvx512 = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;

bool has(const Needs& needs) {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & bit_OSXSAVE) == 0 || (c & needs.first) != needs.first) {
    return false;
  }
  unsigned saved = 0, high = 0;
  asm("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
  return (saved & needs.states) == needs.states && __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 &&
         (b & needs.wide) == needs.wide && (c & needs.more) == needs.more;
}

}  // namespace

bool has_avx2() { return has({.states = kAvxStates, .first = bit_AVX, .wide = bit_AVX2, .more = 0}); }
bool has_avx2_fma() { return has({.states = kAvxStates, .first = bit_AVX | bit_FMA, .wide = bit_AVX2, .more = 0}); }
bool has_avx512() { return has({.states = kAvx512States, .first = bit_FMA, .wide = kAvx512, .more = 0}); }
bool has_avx512vnni() {
  return has({.states = kAvx512States, .first = bit_AVX, .wide = kAvx512, .more = bit_AVX512VNNI});
}

}  // namespace whittle::kernels
