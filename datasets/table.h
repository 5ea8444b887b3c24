// Tables in text files: CSV (RFC 4180, with or without a header) and KEEL's .dat with
// its @attribute lines. Reading says what each cell is; what a network makes of the
// columns is decided in tabular.h.
//
// A column is numeric or text. KEEL files declare it; in CSV the first row decides, and
// a later cell that does not fit is refused with its line, never quietly retyped.
// Numbers are read without a locale; NaN, infinities and missing cells are refused, and
// so is text that is not UTF-8.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/real.h"

namespace whittle::inline WHITTLE_PRECISION::data {

struct Column {
  std::string name;
  bool is_number = true;
  std::vector<double> numbers{};          // numeric columns: one per row
  std::vector<int32_t> codes{};           // text columns: one per row, an index into categories
  std::vector<std::string> categories{};  // distinct texts, sorted bytewise
};

struct Table {
  std::string source;  // the path, for messages
  std::vector<Column> columns;
  int64_t rows = 0;
  bool named = true;  // by a header, or by whoever read it; else columns are called 1, 2, ...

  const Column& column(std::string_view name) const;  // throws Error listing the columns there are
};

struct CsvOptions {
  std::optional<bool> header = true;  // nothing: the first line is one unless it holds a number
  std::vector<std::string> names{};   // without a header: names; empty: "1", "2", ...
  std::vector<std::string> text{};    // columns that hold text although they may look like numbers
  std::optional<char> separator =
      ',';  // nothing: comma, semicolon or tab, whichever makes most cells of the first line
};
Table read_csv(const std::filesystem::path& path, const CsvOptions& options = {});

// Numeric cells must lie in the declared range, nominal ones in the declared list.
Table read_keel(const std::filesystem::path& path);

inline constexpr size_t kMaxLine = size_t{1} << 20;  // bytes; longer lines are refused

}  // namespace whittle::inline WHITTLE_PRECISION::data
