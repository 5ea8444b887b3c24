#include "apps/text.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include "core/json.h"

namespace whittle::apps {

std::string printable(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      char escaped[8];
      std::snprintf(escaped, sizeof(escaped), "\\x%02x", byte);
      out += escaped;
    } else {
      out += c;
    }
  }
  return out;
}

std::string in_list(std::string_view text) {
  const std::string shown = printable(text);
  return text.find(',') == std::string_view::npos ? shown : "'" + shown + "'";
}

namespace {

// Optimal string alignment: row r of the table belongs to the first r letters of `a`.
size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<size_t>> cost(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t r = 0; r <= a.size(); ++r) {
    for (size_t c = 0; c <= b.size(); ++c) {
      if (r == 0 || c == 0) {
        cost[r][c] = r + c;
        continue;
      }
      const bool same = a[r - 1] == b[c - 1];
      cost[r][c] = std::min({cost[r - 1][c] + 1, cost[r][c - 1] + 1, cost[r - 1][c - 1] + (same ? 0 : 1)});
      if (r > 1 && c > 1 && a[r - 1] == b[c - 2] && a[r - 2] == b[c - 1]) {
        cost[r][c] = std::min(cost[r][c], cost[r - 2][c - 2] + 1);
      }
    }
  }
  return cost[a.size()][b.size()];
}

}  // namespace

std::string joined(const std::vector<std::string>& words, std::string_view between) {
  std::string text;
  for (const std::string& word : words) {
    text.append(text.empty() ? "" : between).append(word);
  }
  return text;
}

std::string shell_quoted(std::string_view text) {
  std::string out = "'";
  for (const char c : text) {
    out += c == '\'' ? "'\\''" : std::string(1, c);
  }
  return out + "'";
}

std::string nearest(const std::string& word, const std::vector<std::string>& names) {
  std::string best;
  size_t least = std::max<size_t>(1, word.size() / 3) + 1;
  for (const std::string& name : names) {
    if (const size_t changes = distance(word, name); changes < least) {
      least = changes;
      best = name;
    }
  }
  return best;
}

std::string human_bytes(uint64_t bytes) {
  constexpr std::array kUnits = {"kB", "MB", "GB", "TB"};
  if (bytes < 1000) {
    return std::to_string(bytes) + " B";
  }
  size_t unit = 0;
  double value = static_cast<double>(bytes) / 1000;
  while (value >= 999.95 && unit + 1 < kUnits.size()) {
    value /= 1000;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof(text), "%.1f %s", value, kUnits[unit]);
  return text;
}

std::string json_line(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace whittle::apps
