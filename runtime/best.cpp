#include "runtime/best.h"

#include "kernels/int8/table.h"
#include "kernels/names.h"
#if !defined(WHITTLE_NO_FPU)
#include "kernels/f32/table.h"
#endif

namespace whittle::runtime {

namespace {

// The first table that runs here and, if there is a name, has it.
template <class Table, class Tables>
const Table* first(const Tables& all, const char* name) {
  for (int i = 0; i < all.count; ++i) {
    if (all.tables[i]->runs_here() && (name == nullptr || kernels::same_name(all.tables[i]->name, name))) {
      return all.tables[i];
    }
  }
  return nullptr;
}

Kernels find(const char* name) {
  Kernels found;
  found.int8 = first<kernels::Int8Table>(kernels::int8_tables(), name);
#if !defined(WHITTLE_NO_FPU)
  found.f32 = first<kernels::F32Table>(kernels::f32_tables(), name);
#endif
  return found;
}

}  // namespace

Kernels best_kernels() { return find(nullptr); }

Kernels kernels_named(const char* name) {
  if (!kernels::name_runs_here(name)) {
    return {};
  }
  Kernels found = find(name);
  const Kernels best = best_kernels();
  found.int8 = found.int8 != nullptr ? found.int8 : best.int8;
  found.f32 = found.f32 != nullptr ? found.f32 : best.f32;
  return found;
}

}  // namespace whittle::runtime
