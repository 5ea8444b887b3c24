#include "datasets/table.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>
#include <optional>

#include "core/error.h"
#include "datasets/source.h"
#include "datasets/text.h"

namespace whittle::inline WHITTLE_PRECISION::data {

namespace {

std::string_view trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t");
  return first == std::string_view::npos ? "" : text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

// What a message may quote of a cell that could hold anything.
std::string shown(std::string_view cell) {
  std::string text = "'";
  for (const char c : cell.substr(0, 40)) {
    text += c >= ' ' && c <= '~' ? c : '?';
  }
  return text + (cell.size() > 40 ? "...'" : "'");
}

std::optional<double> parse_number(std::string_view text) {
  double value = 0;
  if (text.size() > 1 && text[0] == '+' && text[1] != '-') {
    text.remove_prefix(1);
  }
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  return whole ? std::optional(value) : std::nullopt;
}

// Lines of a file, without their ends (\n or \r\n). Blank lines are skipped.
class Lines {
 public:
  Lines(const std::filesystem::path& path, std::string reader)
      : reader_(std::move(reader)), name_(path.string()), source_(open_source(path, reader_)) {}

  bool next(std::string& line) {
    do {
      line.clear();
      if (!take(line)) {
        return false;
      }
      ++number_;
      if (number_ == 1 && line.starts_with("\xef\xbb\xbf")) {
        line.erase(0, 3);  // the byte order mark some editors put before UTF-8
      }
      check(number_ > 1 || !(line.starts_with("\xff\xfe") || line.starts_with("\xfe\xff")),
            "is UTF-16; save the table as UTF-8");
      check(number_ > 1 || !line.starts_with("PK\x03\x04"),
            "is no text but a packed file, as spreadsheet programs write them; save the table as CSV");
      if (line.ends_with('\r')) {
        line.pop_back();
      }
      check(line.find('\r') == std::string::npos,
            "holds a carriage return that ends no line; save the table with lines that end in \\n or \\r\\n");
      check(is_utf8(line), "is not UTF-8 (but Latin-1 or the like, or no text); save the table as UTF-8");
    } while (trimmed(line).empty());
    return true;
  }

  template <class... Parts>
  [[noreturn]] void refuse(const Parts&... parts) const {
    fail(reader_, name_, ": line ", number_, ": ", parts...);
  }
  template <class... Parts>
  void check(bool condition, const Parts&... parts) const {
    if (!condition) {
      refuse(parts...);
    }
  }
  const std::string& name() const { return name_; }

 private:
  // Appends the bytes up to the next \n; false at the end of the file.
  bool take(std::string& line) {
    bool any = false;
    for (;;) {
      if (begin_ == end_) {
        begin_ = 0;
        end_ = source_->read(buffer_);
        if (end_ == 0) {
          return any;
        }
      }
      any = true;
      const auto from = buffer_.begin() + static_cast<std::ptrdiff_t>(begin_);
      const auto to = buffer_.begin() + static_cast<std::ptrdiff_t>(end_);
      const auto stop = std::find(from, to, static_cast<uint8_t>('\n'));
      line.append(from, stop);
      if (line.size() > kMaxLine) {
        ++number_;
        refuse("is longer than ", kMaxLine, " bytes");
      }
      begin_ = static_cast<size_t>(stop - buffer_.begin());
      if (stop != to) {
        ++begin_;
        return true;
      }
    }
  }

  std::string reader_;
  std::string name_;
  std::unique_ptr<ByteSource> source_;
  std::vector<uint8_t> buffer_ = std::vector<uint8_t>(65536);
  size_t begin_ = 0;
  size_t end_ = 0;
  int64_t number_ = 0;
};

// One line into cells; "..." may hold separators, and a quote written twice.
void split_cells(const Lines& lines, const std::string& line, char separator, std::vector<std::string>& cells) {
  cells.clear();
  const char* const blank = separator == '\t' ? " " : " \t";
  size_t at = 0;
  for (;;) {
    const size_t start = line.find_first_not_of(blank, at);
    std::string cell;
    if (start != std::string::npos && line[start] == '"') {
      size_t i = start + 1;
      for (;; ++i) {
        lines.check(i < line.size(), "a quoted cell does not end on its line");
        if (line[i] == '"' && (i + 1 == line.size() || line[i + 1] != '"')) {
          break;
        }
        i += line[i] == '"' ? 1 : 0;
        cell += line[i];
      }
      at = std::min(line.find_first_not_of(blank, i + 1), line.size());
      lines.check(at == line.size() || line[at] == separator, "text follows the closing quote of a cell");
    } else {
      const size_t stop = std::min(line.find(separator, at), line.size());
      cell = trimmed(std::string_view(line).substr(at, stop - at));
      at = stop;
    }
    cells.push_back(std::move(cell));
    if (at == line.size()) {
      return;
    }
    ++at;  // over the separator; a line that ends with one has a last, empty cell
  }
}

// The one that a line has most of outside of quotes.
char likely_separator(const std::string& line) {
  constexpr std::string_view kSeparators = ",;\t";
  std::array<int64_t, kSeparators.size()> counts{};
  bool quoted = false;
  for (const char c : line) {
    quoted = quoted != (c == '"');
    if (const size_t which = kSeparators.find(c); !quoted && which != std::string_view::npos) {
      ++counts[which];
    }
  }
  return kSeparators[static_cast<size_t>(std::ranges::max_element(counts) - counts.begin())];
}

// A column while it is being read.
struct Growing {
  Column column;
  double low = -INFINITY;  // declared range of numbers
  double high = INFINITY;
  bool integer = false;
  bool closed = false;  // text: only the declared categories
  std::map<std::string, int32_t, std::less<>> seen{};
};

constexpr double kMost = std::numeric_limits<float>::max();  // networks compute in float

void add_cell(const Lines& lines, Growing& g, const std::string& cell) {
  const std::string& name = g.column.name;
  lines.check(!cell.empty() && cell != "?" && cell != "<null>", "column ", name, " has no value");
  if (!g.column.is_number) {
    const auto known = g.seen.find(cell);
    lines.check(!g.closed || known != g.seen.end(), "column ", name, " holds ", shown(cell),
                ", which its declaration does not list");
    g.column.codes.push_back(known != g.seen.end()
                                 ? known->second
                                 : g.seen.emplace(cell, static_cast<int32_t>(g.seen.size())).first->second);
    return;
  }
  const std::optional<double> value = parse_number(cell);
  lines.check(value.has_value(), "column ", name, " holds ", shown(cell), ", which is not a number");
  lines.check(std::isfinite(*value), "column ", name, " holds ", shown(cell), ", which is not a finite number");
  lines.check(std::abs(*value) <= kMost, "column ", name, " holds ", shown(cell),
              ", which is beyond single precision (", kMost, ")");
  lines.check(*value >= g.low && *value <= g.high, "column ", name, " holds ", *value,
              ", which is outside its declared range of ", g.low, " to ", g.high);
  lines.check(!g.integer || std::trunc(*value) == *value, "column ", name, " holds ", *value,
              ", but is declared integer");
  g.column.numbers.push_back(*value);
}

void add_row(const Lines& lines, std::vector<Growing>& columns, const std::vector<std::string>& cells) {
  lines.check(cells.size() == columns.size(), "has ", cells.size(), " cells, not ", columns.size());
  for (size_t c = 0; c < columns.size(); ++c) {
    add_cell(lines, columns[c], cells[c]);
  }
}

// The first row made text of a column because no value stood there, although all others are numbers.
void check_first_row(const Lines& lines, const Column& column) {
  constexpr std::array<std::string_view, 8> kMissing = {"NA", "N/A", "n/a", "#N/A", "NULL", "null", "None", "-"};
  const auto is_number = [](const std::string& text) { return parse_number(text).has_value(); };
  if (column.categories.size() < 2 || std::ranges::count_if(column.categories, is_number) + 1 !=
                                          static_cast<std::ptrdiff_t>(column.categories.size())) {
    return;
  }
  const std::string& first = column.categories[static_cast<size_t>(column.codes[0])];
  require(std::ranges::find(kMissing, first) == kMissing.end(), "csv", lines.name(), ": column ", column.name,
          " has no value in its first row (", shown(first), "); its others are numbers");
}

// Categories were numbered as they came; now they are sorted.
Column finished(Growing g) {
  std::vector<int32_t> sorted_code(g.seen.size());
  for (const auto& [text, code] : g.seen) {  // in sorted order
    sorted_code[static_cast<size_t>(code)] = static_cast<int32_t>(g.column.categories.size());
    g.column.categories.push_back(text);
  }
  for (int32_t& code : g.column.codes) {
    code = sorted_code[static_cast<size_t>(code)];
  }
  return std::move(g.column);
}

Table finished_table(const Lines& lines, std::string_view reader, std::vector<Growing> columns) {
  Table table{.source = lines.name(), .columns = {}, .rows = 0};
  for (Growing& column : columns) {
    table.columns.push_back(finished(std::move(column)));
  }
  if (!table.columns.empty()) {
    const Column& first = table.columns[0];
    table.rows = static_cast<int64_t>(first.is_number ? first.numbers.size() : first.codes.size());
  }
  require(table.rows > 0, reader, lines.name(), ": holds no rows");
  return table;
}

void check_names(const Lines& lines, const std::vector<Growing>& columns) {
  for (size_t i = 0; i < columns.size(); ++i) {
    lines.check(!columns[i].column.name.empty(), "column ", i + 1, " has no name");
    for (size_t j = 0; j < i; ++j) {
      lines.check(columns[i].column.name != columns[j].column.name, "two columns are called ",
                  shown(columns[i].column.name));
    }
  }
}

}  // namespace

const Column& Table::column(std::string_view name) const {
  std::string names;
  for (const Column& column : columns) {
    if (column.name == name) {
      return column;
    }
    names += (names.empty() ? "" : ", ") + column.name;
  }
  fail("table", source, ": has no column '", name, "', only ", names,
       named ? "" : " (its first line was taken for a row, because a cell of it is a number)");
}

Table read_csv(const std::filesystem::path& path, const CsvOptions& options) {
  Lines lines(path, "csv");
  std::string line;
  std::vector<std::string> cells;
  std::vector<Growing> columns;
  bool more = lines.next(line);
  require(more, "csv", path.string(), ": is empty");

  const char separator = options.separator.value_or(likely_separator(line));
  split_cells(lines, line, separator, cells);
  const bool header = options.header.value_or(
      std::ranges::none_of(cells, [](const auto& cell) { return parse_number(cell).has_value(); }));
  if (!header) {
    lines.check(options.names.empty() || options.names.size() == cells.size(), "has ", cells.size(), " cells, not ",
                options.names.size());
  }
  for (size_t c = 0; c < cells.size(); ++c) {
    Growing g;
    g.column.name = header ? cells[c] : options.names.empty() ? std::to_string(c + 1) : options.names[c];
    columns.push_back(std::move(g));
  }
  check_names(lines, columns);
  for (const std::string& name : options.text) {
    require(std::ranges::any_of(columns, [&](const Growing& g) { return g.column.name == name; }), "csv", path.string(),
            ": has no column '", name, "' to read as text");
  }
  if (header) {
    more = lines.next(line);
  }

  for (bool first = true; more; first = false, more = lines.next(line)) {
    split_cells(lines, line, separator, cells);
    for (size_t c = 0; first && c < std::min(columns.size(), cells.size()); ++c) {
      const bool text = std::ranges::find(options.text, columns[c].column.name) != options.text.end();
      columns[c].column.is_number = !text && parse_number(cells[c]).has_value();
    }
    add_row(lines, columns, cells);
  }
  Table table = finished_table(lines, "csv", std::move(columns));
  table.named = header || !options.names.empty();
  for (const Column& column : table.columns) {
    if (!column.is_number && std::ranges::find(options.text, column.name) == options.text.end()) {
      check_first_row(lines, column);
    }
  }
  return table;
}

Table read_keel(const std::filesystem::path& path) {
  Lines lines(path, "keel");
  std::string line;
  std::vector<std::string> cells;
  std::vector<Growing> columns;
  bool in_data = false;

  // "@attribute Name real[low, high]", "... integer [low,high]", "... {a, b, c}"
  const auto attribute = [&](std::string_view text) {
    const size_t name_end = text.find_first_of(" \t{");
    lines.check(name_end != std::string_view::npos && name_end > 0, "an attribute needs a name and a type");
    Growing g;
    g.column.name = std::string(text.substr(0, name_end));
    const std::string_view type = trimmed(text.substr(name_end));
    const size_t open = type.find_first_of("[{");
    const std::string_view kind = trimmed(type.substr(0, open));
    std::string inside;
    if (open != std::string_view::npos) {
      lines.check(type.back() == (type[open] == '[' ? ']' : '}'), "the type of ", g.column.name,
                  " does not end with its bracket");
      inside = type.substr(open + 1, type.size() - open - 2);
      split_cells(lines, inside, ',', cells);
    }
    if (kind == "real" || kind == "integer") {
      g.integer = kind == "integer";
      if (open != std::string_view::npos) {
        const bool two = type[open] == '[' && cells.size() == 2;
        g.low = two ? parse_number(cells[0]).value_or(NAN) : NAN;
        g.high = two ? parse_number(cells[1]).value_or(NAN) : NAN;
        lines.check(g.low <= g.high, "the range of ", g.column.name, " is not [low, high]");
      }
    } else {
      lines.check(kind.empty() && open != std::string_view::npos && type[open] == '{', "the type of ", g.column.name,
                  " is not real, integer or a list in braces");
      g.column.is_number = false;
      g.closed = true;
      for (const std::string& category : cells) {
        g.seen.emplace(category, static_cast<int32_t>(g.seen.size()));
      }
    }
    columns.push_back(std::move(g));
  };

  while (lines.next(line)) {
    if (in_data) {
      split_cells(lines, line, ',', cells);
      add_row(lines, columns, cells);
      continue;
    }
    const std::string_view text = trimmed(line);
    const size_t stop = std::min(text.find_first_of(" \t"), text.size());
    const std::string_view word = text.substr(0, stop);
    if (word == "@attribute") {
      attribute(trimmed(text.substr(stop)));
    } else if (word == "@data") {
      lines.check(!columns.empty(), "@data comes before any @attribute");
      check_names(lines, columns);
      in_data = true;
    } else {
      lines.check(word == "@relation" || word == "@inputs" || word == "@input" || word == "@outputs" ||
                      word == "@output" || word.starts_with('%'),
                  shown(word), " is not a KEEL keyword");
    }
  }
  require(in_data, "keel", path.string(), ": has no @data line");
  return finished_table(lines, "keel", std::move(columns));
}

}  // namespace whittle::inline WHITTLE_PRECISION::data
