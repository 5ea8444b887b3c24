// From numbers to ranges, and from ranges to grids.
//
// An Observer watches a stream of tensors and says which range [low, high] codes should
// span. What it keeps is a few numbers and, for the rules that need one, a histogram of
// 2,048 bins that grows by doubling, so a calibration set of any size streams through.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/grids.h"
#include "core/tensor.h"
#include "quant/spec.h"

namespace whittle::inline WHITTLE_PRECISION::quant {

struct Range {
  float low = 0;
  float high = 0;
};

// The smallest and largest of the numbers. Throws Error, naming `op`, on NaN or infinity.
Range range_of(const char* op, std::span<const real> x);

// scale = (high - low) / (qmax - qmin), the range stretched to hold 0, the zero-point rounded so that 0 has a code; or,
// symmetric, scale = max(|low|, |high|) / qmax with zero-point 0. A range that holds only 0 gets scale 1.
Grid affine_grid(Range range, bool symmetric, Codes codes);

// How many grids a weight [O, ...] has.
int64_t weight_runs(const Shape& shape, const TensorSpec& spec);

// Grids for a weight [O, ...] under a rule that needs no training, one per run. A channel's scale is at least
// 2^-8 of the largest, so that a dead one cannot explode.
GridsPtr weight_grids(const Tensor& w, const TensorSpec& spec);

// Grids for a batch, one per sample, as their numbers are.
GridsPtr sample_grids(const Tensor& x, const TensorSpec& spec);

class Observer {
 public:
  explicit Observer(const TensorSpec& spec);

  void observe(const Tensor& batch);  // [N, ...]
  bool seen() const { return batches_ > 0; }
  int64_t samples() const { return samples_; }

  // Under the spec's rule. Throws Error if nothing was seen.
  Range range() const;
  Grid grid() const { return affine_grid(range(), spec_.symmetric, activation_codes(spec_)); }

  // Largest |x| of one sample over that of the sample next to it in size; 1 with fewer than two samples.
  // Far above 1, a single sample sets the range.
  double outlier_ratio() const;

  // What range() reads, for checkpoints; restoring it makes an observer that has seen.
  static constexpr int kBins = 2048;
  struct State {
    Range all, average;
    double limit = 0;
    std::vector<double> bins{};  // kBins, or none
  };
  State state() const { return {all_, average_, limit_, bins_}; }
  void restore(const State& state);

 private:
  bool has_histogram() const;
  void count(const Tensor& batch, Range batch_range);
  Range by_percentile() const;
  Range by_error() const;
  Range by_entropy() const;

  TensorSpec spec_;
  Range all_{};
  Range average_{};
  int64_t batches_ = 0;
  int64_t samples_ = 0;
  double largest_ = 0;  // of |x| over samples, and the second
  double second_ = 0;
  double limit_ = 0;  // the histogram covers [-limit, limit]
  std::vector<double> bins_;
};

}  // namespace whittle::inline WHITTLE_PRECISION::quant
