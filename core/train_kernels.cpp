#include "core/train_kernels.h"

#include <atomic>
#include <string>

#include "core/error.h"
#include "kernels/hosted/forced.h"
#include "kernels/names.h"

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
  for (const TrainKernels* table : available_train_kernels()) {
    if (table->name == name) {
      return table;
    }
  }
  return nullptr;
}

const TrainKernels* initial() {
#if !defined(WHITTLE_DOUBLE)
  if (const char* wanted = kernels::forced_name(); wanted != nullptr) {
    if (!kernels::name_runs_here(wanted)) {
      fail("kernels", "no kernel table called '", wanted, "' runs here, only ", kernels::names_that_run_here().text);
    }
    if (const TrainKernels* table = find(wanted); table != nullptr) {
      return table;
    }
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

void set_train_kernels(std::string_view name) {
  const TrainKernels* const table = find(name);
  if (table == nullptr) {
    std::string names;
    for (const TrainKernels* there : available_train_kernels()) {
      names += names.empty() ? "" : ", ";
      names += there->name;
    }
    fail("kernels", "no kernel table for training called '", name, "' runs here, only ", names);
  }
  chosen().store(table, std::memory_order_relaxed);
}

}  // namespace whittle::inline WHITTLE_PRECISION
