#include "datasets/tabular.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "core/error.h"

namespace whittle::inline WHITTLE_PRECISION::data {

namespace {

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::ranges::find(names, name) != names.end();
}

std::vector<InputColumn> input_columns(const Table& table, const TabularOptions& options) {
  for (const std::string& name : options.drop) {
    table.column(name);  // a misspelt name must not silently stay an input
  }
  std::vector<InputColumn> inputs;
  for (const bool numbers : {false, true}) {
    for (const Column& column : table.columns) {
      if (column.is_number != numbers || column.name == options.target || contains(options.drop, column.name)) {
        continue;
      }
      if (numbers) {
        inputs.push_back({.name = column.name});
      }
      for (const std::string& category : column.categories) {
        inputs.push_back({.name = column.name, .category = category});
      }
    }
  }
  return inputs;
}

// One input for every row, written at stride `width`.
void write_input(const Table& table, const InputColumn& input, double* out, size_t width) {
  const Column& column = table.column(input.name);
  require(column.is_number == input.category.empty(), "table", table.source, ": column ", input.name, " holds ",
          column.is_number ? "numbers" : "text", ", not ", column.is_number ? "text" : "numbers");
  const auto found = std::ranges::find(column.categories, input.category);
  const auto code = found == column.categories.end() ? -1 : static_cast<int32_t>(found - column.categories.begin());
  for (size_t r = 0; r < static_cast<size_t>(table.rows); ++r) {
    out[r * width] = column.is_number ? column.numbers[r] : (column.codes[r] == code ? 1.0 : 0.0);
  }
}

std::vector<double> input_values(const Table& table, const std::vector<InputColumn>& columns) {
  const size_t width = columns.size();
  std::vector<double> values(static_cast<size_t>(table.rows) * width);
  for (size_t c = 0; c < width; ++c) {
    write_input(table, columns[c], values.data() + c, width);
  }
  return values;
}

// A text that the network has no input for would be read as none of those it knows.
void check_categories(const Table& table, const std::vector<InputColumn>& columns) {
  for (const InputColumn& input : columns) {
    if (input.category.empty()) {
      continue;
    }
    for (const std::string& category : table.column(input.name).categories) {
      require(std::ranges::find(columns, InputColumn{input.name, category}) != columns.end(), "table", table.source,
              ": column ", input.name, " holds '", category, "', which the network has never seen");
    }
  }
}

// Labels that count in `from`, counting in `to`.
std::vector<int32_t> relabelled(const Table& table, const std::string& column, const std::vector<int32_t>& labels,
                                const std::vector<std::string>& from, const std::vector<std::string>& to) {
  std::vector<int32_t> number;
  for (const std::string& name : from) {
    const auto found = std::ranges::find(to, name);
    require(found != to.end(), "table", table.source, ": column ", column, " holds the class '", name,
            "', which the network does not know");
    number.push_back(static_cast<int32_t>(found - to.begin()));
  }
  std::vector<int32_t> out(labels.size());
  std::ranges::transform(labels, out.begin(), [&](int32_t label) { return number[static_cast<size_t>(label)]; });
  return out;
}

// Class number of every row, and the classes' names.
std::vector<int32_t> class_labels(const Table& table, const Column& target, std::vector<std::string>& names) {
  if (!target.is_number) {
    names = target.categories;
    return target.codes;
  }
  const std::set<double> values(target.numbers.begin(), target.numbers.end());
  constexpr size_t kMostClasses = 10'000;
  require(values.size() <= kMostClasses, "table", table.source, ": column ", target.name, " has ", values.size(),
          " distinct values, too many for classes");
  for (const double value : values) {
    require(std::trunc(value) == value && std::abs(value) < 1e15, "table", table.source, ": column ", target.name,
            " holds ", value, ", classes are text or whole numbers");
    names.push_back(std::to_string(static_cast<int64_t>(value)));
  }
  std::vector<int32_t> labels;
  for (const double value : target.numbers) {
    labels.push_back(static_cast<int32_t>(std::distance(values.begin(), values.find(value))));
  }
  return labels;
}

}  // namespace

double quantile(std::vector<double> values, double q) {
  require(!values.empty() && q >= 0 && q <= 1, "quantile", "needs values and a share between 0 and 1, got ",
          values.size(), " and ", q);
  std::ranges::sort(values);
  const double place = q * static_cast<double>(values.size() - 1);
  const auto below = static_cast<size_t>(place);
  const size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (place - static_cast<double>(below)) * (values[above] - values[below]);
}

Tabular make_dataset(const Table& table, const TabularOptions& options) {
  const Column& target = table.column(options.target);
  require(options.classify || target.is_number, "table", table.source, ": column ", options.target,
          " holds text and cannot be a regression target");
  require(options.target_divisor != 0 && options.trim_low >= 0 && options.trim_low <= options.trim_high &&
              options.trim_high <= 1,
          "table", "a divisor of ", options.target_divisor, " and quantiles ", options.trim_low, " to ",
          options.trim_high, " make no target");
  const bool trims = options.trim_low > 0 || options.trim_high < 1;
  require(!options.classify || !trims, "table", "a class target has no quantiles to trim");

  check_categories(table, options.columns);
  Preprocessing preprocessing{.data = options.name,
                              .sample = {},
                              .columns = options.columns.empty() ? input_columns(table, options) : options.columns};
  require(!preprocessing.columns.empty(), "table", table.source, ": no column is left as an input");
  preprocessing.sample = {static_cast<int64_t>(preprocessing.columns.size())};
  Samples samples{.values = input_values(table, preprocessing.columns)};

  std::vector<int64_t> kept;
  if (options.classify) {
    samples.labels = class_labels(table, target, preprocessing.classes);
    if (!options.classes.empty()) {
      samples.labels = relabelled(table, options.target, samples.labels, preprocessing.classes, options.classes);
      preprocessing.classes = options.classes;
    }
  } else {
    for (const double cell : target.numbers) {
      samples.targets.push_back(cell / options.target_divisor);
    }
  }
  const double low = trims ? quantile(samples.targets, options.trim_low) : 0;
  const double high = trims ? quantile(samples.targets, options.trim_high) : 0;
  for (int64_t r = 0; r < table.rows; ++r) {
    const double value = trims ? samples.targets[static_cast<size_t>(r)] : 0;
    if (value >= low && value <= high) {
      kept.push_back(r);
    }
  }
  const Dataset whole(std::move(preprocessing), std::move(samples));
  Dataset subset = whole.subset(kept);
  return {.data = std::move(subset), .rows = std::move(kept)};
}

Dataset make_inputs(const Table& table, const Preprocessing& network) {
  check_categories(table, network.columns);
  return unanswered(network, {.values = input_values(table, network.columns)});
}

}  // namespace whittle::inline WHITTLE_PRECISION::data
