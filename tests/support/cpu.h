// What this CPU has, asked of the compiler's library: our own asking (kernels/cpu_x86.h) is what tests are about.
#pragma once

#include <cstdlib>
#include <string_view>

namespace whittle {

// Whether the table of kernels of this name must run here.
inline bool cpu_has_table(std::string_view name) {
#if defined(__x86_64__)
  if (name == "avx2") {
    return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0;
  }
  if (name == "avx512" || name == "avx512vnni") {
    return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
           __builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("avx512vl") != 0 &&
           (name == "avx512" || __builtin_cpu_supports("avx512vnni") != 0);
  }
#endif
  return name == "reference" || name == "integer";
}

// What makes a test program that was told to use some table (WHITTLE_KERNELS) one that cannot run here.
inline constexpr int kSkipped = 77;
inline bool forced_table_is_not_here() {
  const char* const name = std::getenv("WHITTLE_KERNELS");
  return name != nullptr && *name != 0 && !cpu_has_table(name);
}

}  // namespace whittle
