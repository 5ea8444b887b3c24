#include "kernels/names.h"

#if defined(WHITTLE_X86_TABLES)
#include "kernels/cpu_x86.h"
#endif

namespace whittle::kernels {

namespace {

bool always() { return true; }

const TableName kNames[] = {
#if defined(WHITTLE_X86_TABLES)
    {"avx512vnni", has_avx512vnni},
    {"avx512", has_avx512},
    {"avx2", has_avx2},
#endif
#if !defined(WHITTLE_NO_FPU)
    {"reference", always},
#endif
    {"integer", always},
};

}  // namespace

TableNames table_names() { return {kNames, static_cast<int>(sizeof(kNames) / sizeof(kNames[0]))}; }

bool same_name(const char* a, const char* b) {
  for (; *a == *b; ++a, ++b) {
    if (*a == 0) {
      return true;
    }
  }
  return false;
}

bool name_runs_here(const char* name) {
  for (const TableName& known : kNames) {
    if (known.runs_here() && same_name(known.name, name)) {
      return true;
    }
  }
  return false;
}

NameList names_that_run_here() {
  NameList list = {};
  char* to = list.text;
  const char* const end = list.text + sizeof(list.text) - 1;
  for (const TableName& known : kNames) {
    if (!known.runs_here()) {
      continue;
    }
    const char* const parts[] = {to == list.text ? "" : ", ", known.name};
    for (const char* part : parts) {
      for (; *part != 0 && to < end; ++part) {
        *to++ = *part;
      }
    }
  }
  return list;
}

}  // namespace whittle::kernels
