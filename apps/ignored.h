// Options that nothing would come of are refused: who asks for something is told that it does not happen, and is not
// left to believe that it did.
#pragma once

#include <string>
#include <vector>

#include "apps/cli.h"

namespace whittle::apps {

// `options` do something only if `heeded`. "--percentile" "is for --weight-range percentile".
struct Heeded {
  bool heeded;
  const char* what_for;
  std::vector<std::string> options;
};

// Throws Error at the first option that was given and is not heeded. Options that a verb does not have are passed over.
void refuse_ignored(const CLI::App& verb, const std::vector<Heeded>& rules);

}  // namespace whittle::apps
