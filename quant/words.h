// Plans are written as words, with a separator between them: "w4a4,lsq,freeze=0.8".
#pragma once

#include <charconv>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace whittle::inline WHITTLE_PRECISION::quant {

inline std::vector<std::string> parts_of(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (true) {
    const size_t end = text.find(separator);
    parts.emplace_back(text.substr(0, end));
    if (end == std::string_view::npos) {
      return parts;
    }
    text.remove_prefix(end + 1);
  }
}

// The number that `text` is, within `word`. Throws Error, as `op`, if it is none.
template <class Number>
Number number_in(const char* op, std::string_view text, std::string_view word) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  require(error == std::errc() && end == text.data() + text.size(), op, "'", text, "' in '", word, "' is not a number");
  return value;
}

}  // namespace whittle::inline WHITTLE_PRECISION::quant
