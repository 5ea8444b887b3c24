// What this program was built with and what it runs on.
#pragma once

#include <string>

namespace whittle::apps {

std::string compiler();   // "gcc 12.2.0"
std::string revision();   // of the source, as git names it, "-dirty" behind it where files differ; empty: not known
                          // (cmake/Revision.cmake)
std::string cpu_model();  // "unknown" where the system does not say
std::string now();        // UTC: "2026-11-22T04:08:57Z"

}  // namespace whittle::apps
