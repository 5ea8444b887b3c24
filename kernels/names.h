// The names of all tables of kernels in this build, of whatever kind (int8, f32, train), best first. A name asks every
// kind for its table of that name; kinds that have none of it take the best they have.
//
// Freestanding: includes nothing hosted, and no table.
#pragma once

namespace whittle::kernels {

struct TableName {
  const char* name;
  bool (*runs_here)();
};
struct TableNames {
  const TableName* names;
  int count;
};
TableNames table_names();

bool same_name(const char* a, const char* b);

// Whether some table of this name runs here.
bool name_runs_here(const char* name);

// The names that run here, for whoever must say what there is: "avx2, reference, integer".
struct NameList {
  char text[64];
};
NameList names_that_run_here();

}  // namespace whittle::kernels
