// A data set in memory: samples, what is to be learned about them, and how stored
// values become a network's inputs.
//
// Images stay bytes until a batch is made, so CIFAR-100 takes 150 MB and not 600.
// A Dataset is a value: the samples are shared and never change, a subset is a list
// of sample numbers, scaling is a few numbers per channel. Copies are cheap.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/tensor.h"

namespace whittle::inline WHITTLE_PRECISION::data {

// What a reader or generator fills in. Exactly one of pixels and values, and exactly
// one of labels and targets, has content.
struct Samples {
  std::vector<uint8_t> pixels{};  // images: [N,H,W,C]
  std::vector<double> values{};   // rows: [N,D]
  std::vector<int32_t> labels{};  // classification: [N], from 0
  std::vector<double> targets{};  // regression: [N]
};

// One input of a table: a numeric column as it is, or, where `category` has content,
// 1 in the rows whose cell is that category and 0 in the others.
struct InputColumn {
  std::string name;
  std::string category{};
  friend bool operator==(const InputColumn&, const InputColumn&) = default;
};

// How raw values become a network's inputs, and a network's outputs become answers.
// It is stored beside the weights of a trained network, so that evaluation and
// deployment later do the same:
//   input  = (value - centre) / spread    per channel (of bytes 0..255) or per column
//   answer = output * target_spread + target_centre
struct Preprocessing {
  std::string data;                    // name of the data set
  Shape sample;                        // [H,W,C] or [D]
  std::vector<InputColumn> columns{};  // of a table
  std::vector<std::string> classes{};  // their names; empty for regression
  std::vector<double> centre{};        // empty: all 0
  std::vector<double> spread{};        // empty: all 1
  double target_centre = 0;
  double target_spread = 1;

  friend bool operator==(const Preprocessing&, const Preprocessing&) = default;
};
std::string to_json(const Preprocessing& preprocessing);
Preprocessing preprocessing_from_json(std::string_view text);  // throws Error, says what is wrong

// What one training step takes.
struct Batch {
  Tensor inputs;                  // [B,H,W,C] or [B,D]
  std::vector<int32_t> labels{};  // classification
  Tensor targets{};               // regression: [B,1]. Mixed images: [B,classes], probabilities
};

class Dataset {
 public:
  Dataset() = default;  // no samples

  // Checks that all counts agree, labels are in range and values are finite; throws
  // Error naming the sample. Zero samples are allowed.
  Dataset(Preprocessing preprocessing, Samples samples);

  int64_t size() const { return static_cast<int64_t>(rows_.size()); }
  bool empty() const { return rows_.empty(); }
  const std::string& name() const { return preprocessing_.data; }
  const Shape& sample_shape() const { return preprocessing_.sample; }
  bool is_images() const { return is_images_; }
  bool is_classification() const { return !preprocessing_.classes.empty(); }
  int64_t classes() const { return static_cast<int64_t>(preprocessing_.classes.size()); }
  const Preprocessing& preprocessing() const { return preprocessing_; }

  int32_t label(int64_t index) const;                    // classification
  double target(int64_t index) const;                    // regression, as stored: not scaled
  std::span<const uint8_t> pixels(int64_t index) const;  // images
  std::span<const double> values(int64_t index) const;   // rows, as stored: not scaled
  std::vector<int64_t> class_counts() const;

  // The samples at these positions, scaled. Positions may repeat.
  Batch batch(std::span<const int64_t> indices) const;
  Batch all() const;

  Dataset subset(std::span<const int64_t> indices) const;

  // The same samples under another scaling. The given preprocessing must describe
  // such samples: same shape, columns and classes.
  Dataset with(const Preprocessing& preprocessing) const;

 private:
  void fill_scale_table();
  size_t row(int64_t index) const;

  Preprocessing preprocessing_;
  std::shared_ptr<const Samples> samples_;
  std::vector<int64_t> rows_;  // which of the samples
  bool is_images_ = false;
  std::vector<real> scaled_byte_;  // images: [C,256], the input for each byte
};

// Pixels or values for a trained network. Their answers are not known: labels or targets are 0.
Dataset unanswered(const Preprocessing& network, Samples samples);

struct Splits {
  Dataset train;
  Dataset validation;  // may be empty
  Dataset test;        // may be empty
};

}  // namespace whittle::inline WHITTLE_PRECISION::data
