#include "datasets/split.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <random>

#include "core/error.h"
#include "datasets/source.h"

namespace whittle::inline WHITTLE_PRECISION::data {

namespace {

SplitIndices sorted(SplitIndices parts) {
  std::ranges::sort(parts.train);
  std::ranges::sort(parts.validation);
  std::ranges::sort(parts.test);
  return parts;
}

// numpy.random.RandomState(0).permutation: a shuffle from the last place down, each
// partner found by masking 32 random bits and drawing again while they are too large.
std::vector<int64_t> numpy_permutation(int64_t n, std::mt19937& generator) {
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), int64_t{0});
  for (size_t i = order.size() - 1; i > 0; --i) {
    const uint64_t mask = std::bit_ceil(i + 1) - 1;
    uint64_t j = 0;
    do {
      j = generator() & mask;
    } while (j > i);
    std::swap(order[i], order[j]);
  }
  return order;
}

// A value and how often it occurs.
struct Counted {
  double value;
  double count;
};

struct CentreSpread {
  double centre = 0;
  double spread = 1;
};

CentreSpread centre_and_spread(const std::vector<Counted>& values, Scale scale) {
  const auto [low, high] = std::ranges::minmax(values, {}, &Counted::value);
  if (scale == Scale::kNone) {
    return {};
  }
  if (low.value == high.value) {  // else rounding in the mean would make a tiny deviation to divide by
    return {.centre = low.value};
  }
  if (scale == Scale::kMinMax) {
    return {.centre = low.value, .spread = high.value - low.value};
  }
  double sum = 0, squares = 0, count = 0;
  for (const Counted& v : values) {
    sum += v.count * v.value;
    count += v.count;
  }
  const double mean = sum / count;
  for (const Counted& v : values) {  // a second pass: differences from the mean do not cancel
    squares += v.count * (v.value - mean) * (v.value - mean);
  }
  return {.centre = mean, .spread = std::sqrt(squares / count)};
}

}  // namespace

std::vector<int64_t> permutation(int64_t n, RngKey key) {
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), int64_t{0});
  for (uint64_t i = order.size(); i > 1; --i) {
    std::swap(order[i - 1], order[below(key, i, i)]);
  }
  return order;
}

SplitIndices split_at_random(int64_t samples, const SplitOptions& options) {
  require(samples >= 1 && options.validation >= 0 && options.test >= 0 && options.validation + options.test < 1,
          "split", "shares ", options.validation, " (validation) and ", options.test, " (test) of ", samples,
          " samples leave none for training");
  const std::vector<int64_t> order = permutation(samples, RngKey{.seed = options.seed}.child("split"));
  const auto count = [&](double share) {
    return static_cast<int64_t>(std::llround(share * static_cast<double>(samples)));
  };
  const int64_t test = count(options.test);
  const int64_t held_out = std::min(test + count(options.validation), samples);
  return sorted({.train = {order.begin() + held_out, order.end()},
                 .validation = {order.begin() + test, order.begin() + held_out},
                 .test = {order.begin(), order.begin() + test}});
}

std::vector<int64_t> spread_over(const Dataset& data, int64_t samples) {
  std::vector<int64_t> order(static_cast<size_t>(data.size()));
  std::iota(order.begin(), order.end(), int64_t{0});
  if (data.is_classification()) {
    std::ranges::stable_sort(order, {}, [&](int64_t i) { return data.label(i); });
  }
  const int64_t count = std::min(samples, data.size());
  std::vector<int64_t> chosen;
  chosen.reserve(static_cast<size_t>(count));
  const RngKey key = RngKey{}.child("spread");
  for (int64_t i = 0; i < count; ++i) {  // one of each part of the order; which one, no rhythm of the file decides
    const int64_t begin = i * data.size() / count;
    const int64_t end = (i + 1) * data.size() / count;
    const uint64_t at = below(key, static_cast<uint64_t>(i), static_cast<uint64_t>(end - begin));
    chosen.push_back(order[static_cast<size_t>(begin) + at]);
  }
  std::ranges::sort(chosen);
  return chosen;
}

SplitIndices read_split(const std::filesystem::path& path, int64_t samples) {
  FileReader file(path, "split");
  SplitIndices parts;
  int64_t sample = 0;
  std::vector<uint8_t> block(65536);
  uint64_t start = 0;
  while (const size_t got = file.read(block)) {
    for (size_t i = 0; i < got; ++i) {
      const char mark = static_cast<char>(block[i]);
      if (mark == '\n' || mark == '\r') {
        continue;
      }
      switch (mark) {
        case '0':
          parts.train.push_back(sample);
          break;
        case '1':
          parts.validation.push_back(sample);
          break;
        case '2':
          parts.test.push_back(sample);
          break;
        case '-':
          break;
        default:
          file.refuse_at(start + i, "sample ", sample, " is marked with byte ", static_cast<int>(block[i]),
                         ", not with 0, 1, 2 or -");
      }
      if (++sample > samples) {
        file.refuse_at(start + i, "there are more marks than the ", samples, " samples");
      }
    }
    start += got;
  }
  require(sample == samples, "split", path.string(), ": ", sample, " marks for ", samples, " samples");
  return parts;
}

SplitIndices edge_split(int64_t samples) {
  require(samples >= 5, "split", samples, " samples are too few for 60/20/20");
  std::mt19937 generator(0);
  const std::vector<int64_t> order = numpy_permutation(samples, generator);
  const int64_t held_out = (2 * samples + 4) / 5;  // 40 %, rounded up
  const int64_t test = (held_out + 1) / 2;
  const std::vector<int64_t> positions = numpy_permutation(held_out, generator);
  SplitIndices parts{.train = {order.begin() + held_out, order.end()}, .validation = {}, .test = {}};
  for (size_t i = 0; i < positions.size(); ++i) {
    auto& part = static_cast<int64_t>(i) < test ? parts.test : parts.validation;
    part.push_back(order[static_cast<size_t>(positions[i])]);
  }
  return sorted(std::move(parts));
}

Splits split(const Dataset& data, const SplitIndices& indices) {
  require(!indices.train.empty(), "split", "'", data.name(), "': the training part is empty");
  Splits splits{.train = data.subset(indices.train),
                .validation = data.subset(indices.validation),
                .test = data.subset(indices.test)};
  if (data.is_classification()) {
    const std::vector<int64_t> counts = splits.train.class_counts();
    const auto present = std::ranges::count_if(counts, [](int64_t n) { return n > 0; });
    require(present >= 2, "split", "'", data.name(), "': the ", splits.train.size(),
            " training samples are all of one class");
  }
  return splits;
}

Preprocessing fit_scaling(const Dataset& data, const FitOptions& options) {
  Preprocessing fitted = data.preprocessing();
  require(!data.empty(), "scaling", "'", data.name(), "' has no samples to find a scale on");
  const auto scales = static_cast<size_t>(data.sample_shape()[-1]);
  fitted.centre.assign(scales, 0.0);
  fitted.spread.assign(scales, 1.0);
  fitted.target_centre = 0;
  fitted.target_spread = 1;

  // Of bytes there are 256: sums over 150 million of them are fast that way, and exact.
  std::vector<std::vector<Counted>> found(scales);
  if (data.is_images()) {
    std::vector<int64_t> counts(256 * scales);
    for (int64_t i = 0; i < data.size(); ++i) {
      const std::span<const uint8_t> image = data.pixels(i);
      for (size_t k = 0; k < image.size(); k += scales) {
        for (size_t c = 0; c < scales; ++c) {
          ++counts[256 * c + image[k + c]];
        }
      }
    }
    for (size_t k = 0; k < counts.size(); ++k) {
      if (counts[k] > 0) {
        found[k / 256].push_back({static_cast<double>(k % 256), static_cast<double>(counts[k])});
      }
    }
  } else {
    for (int64_t i = 0; i < data.size(); ++i) {
      for (size_t c = 0; c < scales; ++c) {
        found[c].push_back({data.values(i)[c], 1});
      }
    }
  }

  for (size_t c = 0; c < scales; ++c) {
    const bool one_hot = !fitted.columns.empty() && !fitted.columns[c].category.empty();
    const CentreSpread scale = one_hot ? CentreSpread{} : centre_and_spread(found[c], options.inputs);
    fitted.centre[c] = scale.centre;
    fitted.spread[c] = scale.spread;
  }

  if (options.target) {
    require(!data.is_classification(), "scaling", "'", data.name(), "' has labels, there is no target to scale");
    std::vector<Counted> targets;
    for (int64_t i = 0; i < data.size(); ++i) {
      targets.push_back({data.target(i), 1});
    }
    const CentreSpread scale = centre_and_spread(targets, Scale::kStandardize);
    fitted.target_centre = scale.centre;
    fitted.target_spread = scale.spread;
  }
  return fitted;
}

Splits scale_by_training_part(const Splits& splits, const FitOptions& options) {
  const Preprocessing fitted = fit_scaling(splits.train, options);
  const auto scaled = [&](const Dataset& part) { return part.empty() ? part : part.with(fitted); };
  return {.train = scaled(splits.train), .validation = scaled(splits.validation), .test = scaled(splits.test)};
}

}  // namespace whittle::inline WHITTLE_PRECISION::data
