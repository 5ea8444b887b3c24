// Clusters of numbers on a line are intervals of the sorted numbers. With sums over all
// beginnings of the sorted list, the error of an interval costs a few operations, so a
// step of Lloyd's algorithm is a binary search per cluster, whatever the array's size.

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "core/error.h"
#include "quant/array/grids.h"

namespace whittle::inline WHITTLE_PRECISION::quant::array {

namespace {

// Sorted distinct numbers with their multiplicities, and sums over the first i of them:
// count, sum and sum of squares. Measured from the mean, which keeps the squares small.
struct Sorted {
  std::vector<float> values;
  std::vector<double> count{0}, sum{0}, squares{0};
  double centre = 0;

  explicit Sorted(std::span<const float> all) : values(all.begin(), all.end()) {
    std::ranges::sort(values);
    for (const float value : values) {
      centre += static_cast<double>(value);
    }
    centre /= static_cast<double>(values.size());
    size_t kept = 0;
    for (size_t i = 0; i < values.size();) {
      size_t end = i;
      while (end < values.size() && values[end] == values[i]) {
        ++end;
      }
      const auto copies = static_cast<double>(end - i);
      const double x = static_cast<double>(values[i]) - centre;
      count.push_back(count.back() + copies);
      sum.push_back(sum.back() + copies * x);
      squares.push_back(squares.back() + copies * x * x);
      values[kept++] = values[i];
      i = end;
    }
    values.resize(kept);
  }

  size_t size() const { return values.size(); }
  double mean(size_t begin, size_t end) const { return (sum[end] - sum[begin]) / (count[end] - count[begin]); }
  // The squared error of [begin, end) against its mean.
  double error(size_t begin, size_t end) const {
    const double s = sum[end] - sum[begin];
    return std::max(0.0, squares[end] - squares[begin] - s * s / (count[end] - count[begin]));
  }
  float level(size_t begin, size_t end) const {  // one number is its own level, to the bit
    return end - begin == 1 ? values[begin] : static_cast<float>(centre + mean(begin, end));
  }
};

// Cluster j is [borders[j], borders[j + 1]), none is empty.
using Borders = std::vector<size_t>;

double total_error(const Sorted& data, const Borders& borders) {
  double total = 0;
  for (size_t j = 0; j + 1 < borders.size(); ++j) {
    total += data.error(borders[j], borders[j + 1]);
  }
  return total;
}

std::vector<float> levels_of(const Sorted& data, const Borders& borders) {
  std::vector<float> levels;
  for (size_t j = 0; j + 1 < borders.size(); ++j) {
    levels.push_back(data.level(borders[j], borders[j + 1]));
  }
  return levels;
}

// Each number to its nearest centre; clusters that get none vanish.
Borders assign(const Sorted& data, const std::vector<double>& centres) {
  Borders borders{0};
  for (size_t j = 0; j + 1 < centres.size(); ++j) {
    const double middle = data.centre + 0.5 * (centres[j] + centres[j + 1]);
    const auto border = static_cast<size_t>(
        std::ranges::lower_bound(data.values, middle, {}, [](float x) { return static_cast<double>(x); }) -
        data.values.begin());
    if (border > borders.back() && border < data.size()) {
      borders.push_back(border);
    }
  }
  borders.push_back(data.size());
  return borders;
}

// Where the cluster [begin, end) of two numbers or more falls apart: at its mean.
size_t split_of(const Sorted& data, size_t begin, size_t end) {
  const double middle = data.centre + data.mean(begin, end);
  size_t split = begin + 1;
  while (split + 1 < end && static_cast<double>(data.values[split]) <= middle) {
    ++split;
  }
  return split;
}

// Splits the cluster from whose halves the error falls the most, until there are `clusters`.
void refill(const Sorted& data, Borders& borders, size_t clusters) {
  while (borders.size() - 1 < clusters) {
    size_t best = 0;
    size_t best_split = 0;
    double most = -1;
    for (size_t j = 0; j + 1 < borders.size(); ++j) {
      const size_t begin = borders[j];
      const size_t end = borders[j + 1];
      if (end - begin > 1) {
        const size_t split = split_of(data, begin, end);
        const double gain = data.error(begin, end) - data.error(begin, split) - data.error(split, end);
        if (gain > most) {
          most = gain;
          best = j;
          best_split = split;
        }
      }
    }
    borders.insert(borders.begin() + static_cast<std::ptrdiff_t>(best) + 1, best_split);
  }
}

// Each round lowers the error, or is the last.
Borders lloyd(const Sorted& data, Borders borders, size_t clusters) {
  double error = std::numeric_limits<double>::infinity();
  Borders best;
  while (true) {
    refill(data, borders, clusters);
    const double now = total_error(data, borders);
    if (!(now < error)) {
      return best;
    }
    error = now;
    std::vector<double> centres;
    for (size_t j = 0; j + 1 < borders.size(); ++j) {
      centres.push_back(data.mean(borders[j], borders[j + 1]));
    }
    best = std::exchange(borders, assign(data, centres));
  }
}

// Lloyd's algorithm cannot carry a cluster past another. Joining the two neighbours
// that lose the least and splitting another cluster does; as long as that helps, go on.
Borders lloyd_with_moves(const Sorted& data, Borders borders, size_t clusters) {
  Borders best = lloyd(data, std::move(borders), clusters);
  while (best.size() > 3) {
    size_t join = 1;
    double least = std::numeric_limits<double>::infinity();
    for (size_t j = 1; j + 1 < best.size(); ++j) {
      const double loss =
          data.error(best[j - 1], best[j + 1]) - data.error(best[j - 1], best[j]) - data.error(best[j], best[j + 1]);
      if (loss < least) {
        least = loss;
        join = j;
      }
    }
    Borders moved = best;
    moved.erase(moved.begin() + static_cast<std::ptrdiff_t>(join));
    moved = lloyd(data, std::move(moved), clusters);
    if (!(total_error(data, moved) < total_error(data, best))) {
      break;
    }
    best = std::move(moved);
  }
  return best;
}

size_t clusters_for(const Sorted& data, int64_t clusters, const char* op) {
  require(clusters >= 1, op, "there must be at least one cluster, got ", clusters);
  return std::min(static_cast<size_t>(clusters), data.size());
}

}  // namespace

std::vector<float> kmeans(std::span<const float> values, int64_t clusters) {
  check_array("kmeans", values, 1);
  const Sorted data(values);
  const size_t k = clusters_for(data, clusters, "kmeans");

  std::vector<double> spread;  // over the range, relative to the mean
  Borders by_rank{0};          // equal numbers of values
  const double low = static_cast<double>(data.values.front()) - data.centre;
  const double high = static_cast<double>(data.values.back()) - data.centre;
  for (size_t j = 0; j < k; ++j) {
    spread.push_back(low + (high - low) * ((static_cast<double>(j) + 0.5) / static_cast<double>(k)));
    const double share = static_cast<double>(j + 1) / static_cast<double>(k) * data.count.back();
    const auto border = static_cast<size_t>(std::ranges::lower_bound(data.count, share) - data.count.begin());
    if (border > by_rank.back()) {
      by_rank.push_back(std::min(border, data.size()));
    }
  }
  by_rank.back() = data.size();

  const Borders a = lloyd_with_moves(data, assign(data, spread), k);
  const Borders b = lloyd_with_moves(data, by_rank, k);
  return levels_of(data, total_error(data, b) < total_error(data, a) ? b : a);
}

// best[j][i] = least error of the first i numbers in j clusters = min over s of
// best[j-1][s] + error(s, i). The best s never moves left as i grows, so each row is
// filled from its middle outwards, between the choices already known.
std::vector<float> kmeans_exact(std::span<const float> values, int64_t clusters) {
  check_array("kmeans", values, 1);
  const Sorted data(values);
  const size_t n = data.size();
  const size_t k = clusters_for(data, clusters, "kmeans");
  require(n <= static_cast<size_t>(kMostExact), "kmeans", "the exact algorithm takes up to ", kMostExact,
          " distinct numbers, got ", n);
  if (k == n) {
    return data.values;
  }

  std::vector<double> previous(n + 1, std::numeric_limits<double>::infinity());
  std::vector<double> row(n + 1);
  std::vector<std::vector<uint16_t>> choice(k);  // kMostExact < 2^16
  previous[0] = 0;
  for (size_t j = 1; j <= k; ++j) {
    choice[j - 1].assign(n + 1, 0);
    std::ranges::fill(row, std::numeric_limits<double>::infinity());
    struct Part {
      size_t from, to;     // columns to fill
      size_t least, most;  // where the best s lies
    };
    std::vector<Part> parts = {{j, n, j - 1, n - 1}};
    while (!parts.empty()) {
      const Part part = parts.back();
      parts.pop_back();
      if (part.from > part.to) {
        continue;
      }
      const size_t i = (part.from + part.to) / 2;
      size_t best = part.least;
      for (size_t s = part.least; s <= std::min(part.most, i - 1); ++s) {
        const double error = previous[s] + data.error(s, i);
        if (error < row[i]) {
          row[i] = error;
          best = s;
        }
      }
      choice[j - 1][i] = static_cast<uint16_t>(best);
      parts.push_back({part.from, i - 1, part.least, best});
      parts.push_back({i + 1, part.to, best, part.most});
    }
    previous.swap(row);
  }

  Borders borders(k + 1);
  borders[k] = n;
  for (size_t j = k; j > 0; --j) {
    borders[j - 1] = choice[j - 1][borders[j]];
  }
  return levels_of(data, borders);
}

}  // namespace whittle::inline WHITTLE_PRECISION::quant::array
