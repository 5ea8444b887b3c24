// What is in a program (.wtl): its ops, its memory, and where its bytes go.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "runtime/program.h"

namespace whittle::apps {

void inspect_program(const std::string& file, bool json);

// Every byte of the file, once.
std::vector<std::pair<const char*, uint64_t>> parts_of(const runtime::Program& program);

}  // namespace whittle::apps
