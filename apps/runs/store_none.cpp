// Stands in for store_sqlite.cpp where SQLite is missing.

#include "apps/runs/store.h"
#include "core/error.h"

namespace whittle::apps {

class RunStore::Database {};

bool RunStore::available() { return false; }

RunStore::RunStore(const std::filesystem::path& file, Mode /*mode*/) {
  fail("runs", file.string(), ": this build has no SQLite (libsqlite3-dev), so it keeps no runs");
}
RunStore::~RunStore() = default;

// Nobody gets here: there is no store to call them on.
int64_t RunStore::begin(const Run& /*run*/) { return 0; }
void RunStore::add_points(int64_t /*run*/, const std::vector<RunPoint>& /*points*/) {}
void RunStore::end(const Run& /*run*/) {}
std::vector<Run> RunStore::list() const { return {}; }
Run RunStore::read(int64_t /*id*/) const { return {}; }
std::optional<int64_t> RunStore::maker_of(const std::string& /*sha256*/) const { return std::nullopt; }

}  // namespace whittle::apps
