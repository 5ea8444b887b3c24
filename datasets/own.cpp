#include "datasets/own.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "core/error.h"
#include "datasets/image_folder.h"
#include "datasets/picture.h"
#include "datasets/sha256.h"
#include "datasets/table.h"
#include "datasets/tabular.h"
#include "datasets/text.h"

namespace whittle::inline WHITTLE_PRECISION::data {

namespace fs = std::filesystem;

namespace {

// What looks like a number and was text in training stays text.
Table read_table(const fs::path& path, const std::vector<InputColumn>& columns = {}) {
  CsvOptions options{.header = std::nullopt, .separator = std::nullopt};
  for (const InputColumn& column : columns) {
    if (!column.category.empty()) {
      options.text.push_back(column.name);
    }
  }
  return read_csv(path, options);
}

bool few_whole_numbers(const std::vector<double>& numbers) {
  const std::set<double> values(numbers.begin(), numbers.end());
  return values.size() <= kMostNumberedClasses &&
         std::ranges::all_of(values, [](double value) { return std::trunc(value) == value; });
}

void check_columns(const Table& table, const OwnOptions& options) {
  require(std::ranges::count(options.drop, options.target) == 0, "data", table.source, ": column ", options.target,
          " is to be predicted; it cannot be dropped");
  for (const Column& column : table.columns) {
    const bool is_target = column.name == options.target;
    const bool input = !is_target && std::ranges::count(options.drop, column.name) == 0;
    const size_t texts = column.categories.size();
    require((!input && !is_target) || texts <= kMostNumberedClasses || !are_written_numbers(column.categories), "data",
            table.source, ": column ", column.name, " holds ", texts,
            " different texts that look like numbers, such as '", texts == 0 ? "" : column.categories[0],
            "'; write them with a decimal point and nothing else");
    require(!is_target || texts <= kMostNumberedClasses || 2 * texts <= static_cast<size_t>(table.rows), "data",
            table.source, ": column ", column.name, " holds ", texts, " different texts in ", table.rows,
            " rows; classes must come again to be learned");
    require(!input || column.categories.size() <= kMostCategories, "data", table.source, ": column ", column.name,
            " holds ", column.categories.size(), " different texts, such as '",
            column.categories.empty() ? "" : column.categories[0], "'; more than ", kMostCategories,
            " make no input: leave the column out (--drop), or write its numbers with a decimal point and no gaps");
  }
}

Dataset read_own_table(const fs::path& path, const OwnOptions& options) {
  const std::optional<Preprocessing>& network = options.network;
  const Table table = read_table(path, network.has_value() ? network->columns : std::vector<InputColumn>{});
  std::string names;
  for (const Column& column : table.columns) {
    names += (names.empty() ? "" : ", ") + column.name;
  }
  require(!options.target.empty(), "data", path.string(), ": which column is to be predicted? It has ", names,
          " (--target)");
  const Column& target = table.column(options.target);
  const bool classify = options.classify.value_or(!target.is_number || few_whole_numbers(target.numbers));
  TabularOptions making{.name = path.string(), .target = options.target, .classify = classify, .drop = options.drop};
  if (network.has_value()) {
    making.columns = network->columns;
    making.classes = network->classes;
  } else {
    check_columns(table, options);
  }
  return make_dataset(table, making).data;
}

}  // namespace

Dataset read_own(const fs::path& path, const OwnOptions& options) {
  std::error_code error;
  require(fs::exists(path, error), "data", path.string(),
          ": there is no such file or folder (--data says where it is, or --data-dir the folder that holds it)");
  if (!fs::is_directory(path, error)) {
    require(!options.network.has_value() || options.network->sample.rank() == 1, "data", path.string(),
            ": is a table; the network reads pictures");
    require(options.network.has_value() || (options.size.empty() && options.channels == 3), "data", path.string(),
            ": is a table; --image-size and --grey are for pictures");
    return read_own_table(path, options);
  }
  const bool of_a_table = !options.target.empty() || !options.drop.empty() || options.classify.has_value();
  require(options.network.has_value() || !of_a_table, "data", path.string(),
          ": is a folder of pictures; --target, --drop and --task are for tables");
  ImageFolderOptions reading{.name = path.string(), .channels = options.channels};
  if (options.network.has_value()) {
    const Shape& shape = options.network->sample;
    require(shape.rank() == 3, "data", path.string(), ": is a folder; the network reads rows of ", shape[0],
            " numbers");
    reading.height = shape[0];
    reading.width = shape[1];
    reading.channels = shape[2];
    reading.classes = options.network->classes;
  } else if (!options.size.empty()) {
    require(options.size.size() == 2, "data", path.string(), ": pictures have two sizes, height and width, not ",
            options.size.size());
    for (const int64_t side : options.size) {
      require(side >= 1 && side <= kMaxPictureSide, "data", path.string(), ": a side of ", side,
              " pixels is not between 1 and ", kMaxPictureSide);
    }
    reading.height = options.size[0];
    reading.width = options.size[1];
  }
  return read_image_folder(path, reading);
}

std::string fingerprint(const fs::path& path) {
  std::error_code error;
  if (!fs::is_directory(path, error)) {
    return sha256_of_file(path);
  }
  std::set<std::string> pictures;
  for (fs::recursive_directory_iterator entry(path, error), end; !error && entry != end; entry.increment(error)) {
    if (is_passed_over(entry->path())) {
      entry.disable_recursion_pending();
      continue;
    }
    std::error_code unreadable;
    if (entry->is_regular_file(unreadable)) {
      const uint64_t size = entry->file_size(unreadable);
      pictures.insert(entry->path().lexically_relative(path).generic_string() + '\n' + std::to_string(size) + '\n');
    }
  }
  require(!error, "data", path.string(), ": cannot be listed: ", error.message());
  Sha256 sum;
  for (const std::string& picture : pictures) {
    sum.update(std::as_bytes(std::span(picture)));
  }
  return sum.hex();
}

Dataset read_inputs(std::span<const fs::path> files, const Preprocessing& network) {
  if (network.sample.rank() == 3) {
    return read_pictures(files, network);
  }
  require(!network.columns.empty(), "data", "the network's ", network.sample[0],
          " inputs have no names that a table could have");
  require(files.size() == 1, "data", files.size(), " tables; one at a time");
  return make_inputs(read_table(files[0], network.columns), network);
}

}  // namespace whittle::inline WHITTLE_PRECISION::data
