// Text for people and for machines.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/json_fwd.h"

namespace whittle::apps {

// `text` with control characters as \xNN: names in a file from anywhere must not
// steer the terminal they are printed on.
std::string printable(std::string_view text);

std::string human_bytes(uint64_t bytes);  // "987 B", "1.2 MB"; powers of 1000

// One line, always valid UTF-8.
std::string json_line(const Json& json);

}  // namespace whittle::apps
