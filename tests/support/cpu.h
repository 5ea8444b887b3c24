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

// The exit code of a test program that was told to use a table (WHITTLE_KERNELS) whose instructions are not here. A
// name that is no table's is not skipped: it shall fail.
inline constexpr int kSkipped = 77;
inline bool forced_table_is_not_here() {
  const char* const variable = std::getenv("WHITTLE_KERNELS");
  const std::string_view name = variable == nullptr ? "" : variable;
  return (name == "avx2" || name == "avx512" || name == "avx512vnni") && !cpu_has_table(name);
}

}  // namespace whittle
