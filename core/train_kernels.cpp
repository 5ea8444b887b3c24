#include "core/train_kernels.h"

#include <atomic>
#include <cstdlib>
#include <string>

#include "core/error.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

std::vector<const TrainKernels*> usable_tables() {
#if defined(WHITTLE_DOUBLE)
  const kernels::TrainTables<real> all = kernels::double_train_tables();
#else
  const kernels::TrainTables<real> all = kernels::float_train_tables();
#endif
  std::vector<const TrainKernels*> usable;
  for (int i = 0; i < all.count; ++i) {
    if (all.tables[i]->runs_here()) {
      usable.push_back(all.tables[i]);
    }
  }
  return usable;
}

const TrainKernels* find(std::string_view name) {
  std::string names;
  for (const TrainKernels* table : available_train_kernels()) {
    if (table->name == name) {
      return table;
    }
    names += names.empty() ? "" : ", ";
    names += table->name;
  }
  fail("kernels", "there is no kernel table called '", name, "' for this CPU; there are ", names);
}

const TrainKernels* initial() {
#if !defined(WHITTLE_DOUBLE)
  if (const char* wanted = std::getenv("WHITTLE_KERNELS"); wanted != nullptr && *wanted != '\0') {
    return find(wanted);
  }
#endif
  return available_train_kernels().front();
}

std::atomic<const TrainKernels*>& chosen() {
  static std::atomic<const TrainKernels*> table{initial()};
  return table;
}

}  // namespace

const std::vector<const TrainKernels*>& available_train_kernels() {
  static const std::vector<const TrainKernels*> tables = usable_tables();
  return tables;
}

const TrainKernels& train_kernels() { return *chosen().load(std::memory_order_relaxed); }

void set_train_kernels(std::string_view name) { chosen().store(find(name), std::memory_order_relaxed); }

}  // namespace whittle::inline WHITTLE_PRECISION
