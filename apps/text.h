// Text for people and for machines.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/json_fwd.h"

namespace whittle::apps {

bool is_one_of(std::string_view name, const auto& names) {
  return std::ranges::find(names, name) != std::ranges::end(names);
}

// `text` with control characters as \xNN: names in a file from anywhere must not
// steer the terminal they are printed on.
std::string printable(std::string_view text);

// The same, in quotes if it has a comma: names that stand between commas.
std::string in_list(std::string_view text);

std::string joined(const std::vector<std::string>& words, std::string_view between);

// Between single quotes, whatever is in it: one word for any shell.
std::string shell_quoted(std::string_view text);

// The name that `word` may have been meant to be: the one with the fewest letters to change, add, leave out or swap
// with the next, if these are few. Empty if there is none.
std::string nearest(const std::string& word, const std::vector<std::string>& names);

std::string human_bytes(uint64_t bytes);  // "987 B", "1.2 MB"; powers of 1000

// One line, always valid UTF-8.
std::string json_line(const Json& json);

}  // namespace whittle::apps
