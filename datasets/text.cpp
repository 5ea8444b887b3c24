#include "datasets/text.h"

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "core/json.h"

namespace whittle {

bool is_utf8(const std::string& text) {
  if (std::ranges::all_of(text, [](char c) { return static_cast<uint8_t>(c) < 0x80; })) {
    return true;
  }
  try {
    (void)Json(text).dump();  // its writer checks
    return true;
  } catch (const Json::exception&) {
    return false;
  }
}

bool are_written_numbers(const std::vector<std::string>& texts) {
  constexpr std::string_view kAround = "+-$% ";  // and, of more bytes, the signs of currencies
  return std::ranges::all_of(texts, [&](const std::string& text) {
    std::string_view middle = text;
    for (const std::string_view sign : {"\u20ac", "\u00a3", "\u00a5"}) {  // euro, pound, yen
      if (middle.starts_with(sign)) {
        middle.remove_prefix(sign.size());
      }
      if (middle.ends_with(sign)) {
        middle.remove_suffix(sign.size());
      }
    }
    const size_t first = middle.find_first_not_of(kAround);
    const size_t last = middle.find_last_not_of(kAround);
    if (first == std::string_view::npos) {
      return false;
    }
    middle = middle.substr(first, last - first + 1);
    const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
    return is_digit(middle.front()) && is_digit(middle.back()) &&
           std::ranges::all_of(middle, [&](char c) { return is_digit(c) || c == '.' || c == ','; });
  });
}

}  // namespace whittle
