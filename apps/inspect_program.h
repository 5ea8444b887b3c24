// What is in a program (.wtl): its ops, its memory, and where its bytes go.
#pragma once

#include <string>

namespace whittle::apps {

void inspect_program(const std::string& file, bool json);

}  // namespace whittle::apps
