// Counts calls of operator new, in programs that link news.cpp.
#pragma once

#include <cstdint>

namespace whittle {

uint64_t news();  // so far, by all threads of this program

}  // namespace whittle
