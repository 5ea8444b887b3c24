#include "datasets/dataset.h"

#include <cmath>
#include <numeric>

#include "core/error.h"
#include "core/json.h"

namespace whittle::inline WHITTLE_PRECISION::data {

namespace {

bool all_finite(std::span<const double> values) {
  return std::ranges::all_of(values, [](double v) { return std::isfinite(v); });
}

// Scales are divided by, so 0 would make infinities and a subnormal nearly so.
bool all_normal(std::span<const double> values) {
  return std::ranges::all_of(values, [](double v) { return std::isnormal(v) && v > 0; });
}

void check(const Preprocessing& p) {
  const int rank = p.sample.rank();
  require(rank == 1 || rank == 3, "dataset", "'", p.data, "': a sample is [D] or [H,W,C], not ", p.sample);
  const auto scales = static_cast<size_t>(p.sample[-1]);
  require(p.columns.empty() || p.columns.size() == scales, "dataset", "'", p.data, "': ", p.columns.size(),
          " column names for samples of shape ", p.sample);
  require((p.centre.empty() || p.centre.size() == scales) && (p.spread.empty() || p.spread.size() == scales), "dataset",
          "'", p.data, "': ", p.centre.size(), " centres and ", p.spread.size(), " spreads for samples of shape ",
          p.sample);
  require(all_finite(p.centre) && std::isfinite(p.target_centre), "dataset", "'", p.data,
          "': a centre is not a finite number");
  require(all_normal(p.spread) && all_normal({&p.target_spread, 1}), "dataset", "'", p.data,
          "': a spread is not a positive number");
}

}  // namespace

std::string to_json(const Preprocessing& p) {
  Json columns = Json::array();
  for (const InputColumn& column : p.columns) {
    columns.push_back({{"name", column.name}});
    if (!column.category.empty()) {
      columns.back()["category"] = column.category;
    }
  }
  const std::span<const int64_t> dims = p.sample.dims();
  const Json json = {{"data", p.data},
                     {"sample", std::vector<int64_t>(dims.begin(), dims.end())},
                     {"columns", columns},
                     {"classes", p.classes},
                     {"centre", p.centre},
                     {"spread", p.spread},
                     {"target_centre", p.target_centre},
                     {"target_spread", p.target_spread}};
  return json.dump();
}

Preprocessing preprocessing_from_json(std::string_view text) {
  try {
    const Json json = Json::parse(text);
    Preprocessing p{.data = json.at("data"),
                    .sample = Shape(json.at("sample").get<std::vector<int64_t>>()),
                    .classes = json.at("classes"),
                    .centre = json.at("centre"),
                    .spread = json.at("spread"),
                    .target_centre = json.at("target_centre"),
                    .target_spread = json.at("target_spread")};
    for (const Json& column : json.at("columns")) {
      p.columns.push_back({.name = column.at("name"), .category = column.value("category", "")});
    }
    check(p);
    return p;
  } catch (const Json::exception& error) {
    fail("preprocessing", "is not what to_json wrote: ", error.what());
  }
}

Dataset::Dataset(Preprocessing preprocessing, Samples samples)
    : preprocessing_(std::move(preprocessing)), is_images_(preprocessing_.sample.rank() == 3) {
  check(preprocessing_);
  const std::string& name = preprocessing_.data;
  require(is_images_ ? samples.values.empty() : samples.pixels.empty(), "dataset", "'", name, "': samples of shape ",
          preprocessing_.sample, " are ", is_images_ ? "pixels" : "values", ", not both");
  require(is_classification() ? samples.targets.empty() : samples.labels.empty(), "dataset", "'", name, "': ",
          is_classification() ? "has class names, so labels and no targets" : "has no class names, so no labels");

  const size_t count = is_classification() ? samples.labels.size() : samples.targets.size();
  const size_t elements = is_images_ ? samples.pixels.size() : samples.values.size();
  const auto per_sample = static_cast<size_t>(preprocessing_.sample.elements());
  require(elements % per_sample == 0 && elements / per_sample == count, "dataset", "'", name, "': ", elements,
          is_images_ ? " pixels" : " values", " for ", count, " samples of shape ", preprocessing_.sample);
  for (size_t i = 0; i < samples.labels.size(); ++i) {
    require(samples.labels[i] >= 0 && samples.labels[i] < classes(), "dataset", "'", name, "': sample ", i,
            " has label ", samples.labels[i], ", there are ", classes(), " classes");
  }
  for (size_t i = 0; i < samples.targets.size(); ++i) {
    require(std::isfinite(samples.targets[i]), "dataset", "'", name, "': the target of sample ", i,
            " is not a finite number");
  }
  for (size_t i = 0; i < samples.values.size(); ++i) {
    require(std::isfinite(samples.values[i]), "dataset", "'", name, "': value ", i % per_sample, " of sample ",
            i / per_sample, " is not a finite number");
  }

  rows_.resize(count);
  std::iota(rows_.begin(), rows_.end(), int64_t{0});
  samples_ = std::make_shared<const Samples>(std::move(samples));
  fill_scale_table();
}

Dataset unanswered(const Preprocessing& network, Samples samples) {
  const size_t elements = std::max(samples.pixels.size(), samples.values.size());
  const size_t count = elements / static_cast<size_t>(network.sample.elements());
  if (network.classes.empty()) {
    samples.targets.assign(count, 0);
  } else {
    samples.labels.assign(count, 0);
  }
  return Dataset(network, std::move(samples));
}

void Dataset::fill_scale_table() {
  const auto scales = static_cast<size_t>(preprocessing_.sample[-1]);
  preprocessing_.centre.resize(scales, 0.0);
  preprocessing_.spread.resize(scales, 1.0);
  scaled_byte_.clear();
  for (size_t c = 0; is_images_ && c < scales; ++c) {
    for (int byte = 0; byte < 256; ++byte) {
      scaled_byte_.push_back(static_cast<real>((byte - preprocessing_.centre[c]) / preprocessing_.spread[c]));
    }
  }
}

size_t Dataset::row(int64_t index) const {
  require(index >= 0 && index < size(), "dataset", "'", name(), "' has ", size(), " samples, there is no number ",
          index);
  return static_cast<size_t>(rows_[static_cast<size_t>(index)]);
}

int32_t Dataset::label(int64_t index) const {
  require(is_classification(), "dataset", "'", name(), "' has targets, not labels");
  return samples_->labels[row(index)];
}

double Dataset::target(int64_t index) const {
  require(!is_classification(), "dataset", "'", name(), "' has labels, not targets");
  return samples_->targets[row(index)];
}

std::span<const uint8_t> Dataset::pixels(int64_t index) const {
  require(is_images_, "dataset", "'", name(), "' holds rows, not images");
  const auto size = static_cast<size_t>(sample_shape().elements());
  return std::span(samples_->pixels).subspan(row(index) * size, size);
}

std::span<const double> Dataset::values(int64_t index) const {
  require(!is_images_, "dataset", "'", name(), "' holds images, not rows");
  const auto size = static_cast<size_t>(sample_shape().elements());
  return std::span(samples_->values).subspan(row(index) * size, size);
}

std::vector<int64_t> Dataset::class_counts() const {
  std::vector<int64_t> counts(static_cast<size_t>(classes()));
  for (int64_t i = 0; i < size(); ++i) {
    ++counts[static_cast<size_t>(label(i))];
  }
  return counts;
}

Batch Dataset::batch(std::span<const int64_t> indices) const {
  require(!indices.empty(), "dataset", "'", name(), "': a batch needs at least one sample");
  const auto count = static_cast<int64_t>(indices.size());
  std::vector<int64_t> dims = {count};
  dims.insert(dims.end(), sample_shape().dims().begin(), sample_shape().dims().end());
  Batch batch{.inputs = Tensor::empty(Shape(dims))};

  real* out = batch.inputs.mutable_data();
  const auto scales = static_cast<size_t>(sample_shape()[-1]);
  for (const int64_t index : indices) {
    if (is_images_) {
      const std::span<const uint8_t> image = pixels(index);
      for (size_t i = 0; i < image.size(); i += scales) {
        for (size_t c = 0; c < scales; ++c) {
          *out++ = scaled_byte_[256 * c + image[i + c]];
        }
      }
    } else {
      const std::span<const double> input = values(index);
      for (size_t c = 0; c < scales; ++c) {
        *out++ = static_cast<real>((input[c] - preprocessing_.centre[c]) / preprocessing_.spread[c]);
      }
    }
  }

  if (is_classification()) {
    for (const int64_t index : indices) {
      batch.labels.push_back(label(index));
    }
  } else {
    batch.targets = Tensor::empty({count, 1});
    real* target_out = batch.targets.mutable_data();
    for (const int64_t index : indices) {
      *target_out++ = static_cast<real>((target(index) - preprocessing_.target_centre) / preprocessing_.target_spread);
    }
  }
  return batch;
}

Batch Dataset::all() const {
  std::vector<int64_t> everything(rows_.size());
  std::iota(everything.begin(), everything.end(), int64_t{0});
  return batch(everything);
}

Dataset Dataset::subset(std::span<const int64_t> indices) const {
  Dataset part = *this;
  part.rows_.clear();
  for (const int64_t index : indices) {
    part.rows_.push_back(static_cast<int64_t>(row(index)));
  }
  return part;
}

Dataset Dataset::with(const Preprocessing& preprocessing) const {
  check(preprocessing);
  require(preprocessing.sample == sample_shape(), "dataset", "'", name(), "' has samples of shape ", sample_shape(),
          ", the preprocessing is for ", preprocessing.sample);
  require(preprocessing.columns == preprocessing_.columns, "dataset", "'", name(),
          "': the preprocessing is for other columns");
  require(preprocessing.classes == preprocessing_.classes, "dataset", "'", name(),
          "': the preprocessing is for other classes");
  Dataset other = *this;
  other.preprocessing_ = preprocessing;
  other.fill_scale_table();
  return other;
}

}  // namespace whittle::inline WHITTLE_PRECISION::data
