// Runs of an experiment store as a document of `whittle report`.
#pragma once

#include <vector>

#include "apps/runs/store.h"
#include "core/json_fwd.h"

namespace whittle::apps::report {

// The sections "runs", "axes", "training", "candidates" and "front" of the document (docs/report.md). Runs want their
// points.
Json sections_of(const std::vector<Run>& runs);

}  // namespace whittle::apps::report
