#include "quant/observer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/error.h"
#include "core/parallel.h"

namespace whittle::inline WHITTLE_PRECISION::quant {

namespace {

constexpr int kBins = Observer::kBins;
using arithmetic::kNothing;  // scale 1 for what is 0, or so small that codes of it would mean nothing

// Weight of a new batch in the moving average of ranges.
constexpr float kMomentum = 0.1F;

Grid zero_grid(Codes codes) { return {1, std::clamp(0, codes.low, codes.high), codes.low, codes.high}; }

// The grid whose codes span [low, high], which holds 0. 1 and the lowest code where no normal scale does (A24).
Grid spanning(float low, float high, Codes codes) {
  constexpr float kMost = 0x1p126F;  // so that the difference stays finite
  const float limited = std::max(low, -kMost);
  const float scale = (std::min(high, kMost) - limited) / static_cast<float>(codes.high - codes.low);
  if (!std::isnormal(scale)) {
    return {1, codes.low, codes.low, codes.high};
  }
  const float zero = static_cast<float>(codes.low) - limited / scale;
  return {scale,
          arithmetic::round_half_even(std::clamp(zero, static_cast<float>(codes.low), static_cast<float>(codes.high))),
          codes.low, codes.high};
}

double squared_error(std::span<const real> x, const Grid& grid) {
  double sum = 0;
  for (const real v : x) {
    const auto f = static_cast<float>(v);
    const auto d = static_cast<double>(f - arithmetic::dequantize(arithmetic::quantize(f, grid), grid));
    sum += d * d;
  }
  return sum;
}

Range scaled(Range range, float by) { return {range.low * by, range.high * by}; }

// The range, a share of `range`, at which `error` of its grid is least: tried in hundredths.
template <class Error>
Range best_share(Range range, Error error) {
  Range best = range;
  double least = std::numeric_limits<double>::infinity();
  for (int percent = 100; percent >= 10; --percent) {
    const Range tried = scaled(range, static_cast<float>(percent) / 100);
    const double now = error(tried);
    if (now < least) {
      least = now;
      best = tried;
    }
  }
  return best;
}

Range magnitude_percentile(std::span<const real> x, double percentile) {
  std::vector<float> magnitudes;
  magnitudes.reserve(x.size());
  std::ranges::transform(x, std::back_inserter(magnitudes), [](real v) { return std::abs(static_cast<float>(v)); });
  const auto rank = static_cast<size_t>(std::clamp(std::ceil(percentile / 100 * static_cast<double>(x.size())) - 1, 0.0,
                                                   static_cast<double>(x.size() - 1)));
  std::ranges::nth_element(magnitudes, magnitudes.begin() + static_cast<std::ptrdiff_t>(rank));
  const Range all = range_of("quantize", x);
  const float t = magnitudes[rank];
  return {std::max(all.low, -t), std::min(all.high, t)};
}

Grid run_grid(std::span<const real> x, const TensorSpec& spec, Codes codes) {
  if (spec.bits == 1 && spec.symmetric) {  // -alpha and alpha: the mean is the least squares (Rastegari et al. 2016)
    const double sum = std::accumulate(x.begin(), x.end(), 0.0,
                                       [](double total, real v) { return total + std::abs(static_cast<double>(v)); });
    return {std::max(static_cast<float>(sum / static_cast<double>(x.size())), kNothing), 0, codes.low, codes.high};
  }
  const auto grid = [&](Range range) { return affine_grid(range, spec.symmetric, codes); };
  const Range all = range_of("quantize", x);
  switch (spec.range) {
    case RangeRule::kMse:
      return grid(best_share(all, [&](Range tried) { return squared_error(x, grid(tried)); }));
    case RangeRule::kPercentile:
      return grid(magnitude_percentile(x, spec.percentile));
    default:
      return grid(all);
  }
}

}  // namespace

Range range_of(const char* op, std::span<const real> x) {
  require(!x.empty(), op, "there are no numbers");
  constexpr size_t kLanes = 16;  // side by side, as compilers turn into vectors
  std::array<real, kLanes> low{};
  std::array<real, kLanes> high{};
  std::array<int, kLanes> strange{};
  low.fill(std::numeric_limits<real>::infinity());
  high.fill(-std::numeric_limits<real>::infinity());
  const auto take = [&](size_t lane, real v) {
    low[lane] = v < low[lane] ? v : low[lane];
    high[lane] = v > high[lane] ? v : high[lane];
    strange[lane] |= static_cast<int>(v - v != 0);
  };
  const size_t whole = x.size() / kLanes * kLanes;
  for (size_t i = 0; i < whole; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      take(lane, x[i + lane]);
    }
  }
  for (size_t i = whole; i < x.size(); ++i) {
    take(0, x[i]);
  }
  require(std::ranges::none_of(strange, [](int any) { return any != 0; }), op, "the numbers hold NaN or infinity");
  return {static_cast<float>(std::ranges::min(low)), static_cast<float>(std::ranges::max(high))};
}

Grid affine_grid(Range range, bool symmetric, Codes codes) {
  const float low = std::min(range.low, 0.0F);
  const float high = std::max(range.high, 0.0F);
  if (std::max(high, -low) < kNothing) {
    return zero_grid(codes);
  }
  if (symmetric) {
    // Codes may reach one further below than above.
    const float most = std::max(high, -low);
    return {most / static_cast<float>(codes.high > 0 ? codes.high : 1), std::clamp(0, codes.low, codes.high), codes.low,
            codes.high};
  }
  return spanning(low, high, codes);
}

int64_t weight_runs(const Shape& shape, const TensorSpec& spec) {
  const int64_t row = shape.elements() / shape[0];
  switch (spec.per) {
    case Granularity::kTensor:
      return 1;
    case Granularity::kChannel:
      return shape[0];
    case Granularity::kGroup:
      break;
  }
  require(row % spec.group == 0, "quantize", "groups of ", spec.group, " do not divide the ", row,
          " weights of an output channel of ", shape);
  return shape.elements() / spec.group;
}

GridsPtr weight_grids(const Tensor& w, const TensorSpec& spec) {
  const int64_t runs = weight_runs(w.shape(), spec);
  const int64_t length = w.elements() / runs;
  const Codes codes = weight_codes(spec);
  Grids grids(static_cast<size_t>(runs));
  parallel_ranges(runs, std::max<int64_t>(1, kElementGrain / length), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      grids[static_cast<size_t>(r)] =
          run_grid(w.values().subspan(static_cast<size_t>(r * length), static_cast<size_t>(length)), spec, codes);
    }
  });
  // A4: no scale below a share of the largest. A run of zeros, or nearly, has none of its own.
  const auto is_zero = [&](int64_t r) {
    const auto run = w.values().subspan(static_cast<size_t>(r * length), static_cast<size_t>(length));
    return std::ranges::all_of(run, [](real v) { return std::abs(v) < static_cast<real>(kNothing); });
  };
  float largest = 0;
  for (int64_t r = 0; r < runs; ++r) {
    float& scale = grids[static_cast<size_t>(r)].scale;
    scale = runs > 1 && is_zero(r) ? 0 : scale;
    largest = std::max(largest, scale);
  }
  for (Grid& grid : grids) {
    grid.scale = largest == 0 ? 1 : arithmetic::floored_scale(grid.scale, largest);
  }
  return make_grids(std::move(grids));
}

GridsPtr sample_grids(const Tensor& x, const TensorSpec& spec) {
  const int64_t runs = spec.per == Granularity::kChannel ? x.dim(0) : 1;
  const int64_t length = x.elements() / runs;
  Grids grids(static_cast<size_t>(runs));
  parallel_for(runs, [&](int64_t r) {
    const Range range =
        range_of("quantize", x.values().subspan(static_cast<size_t>(r * length), static_cast<size_t>(length)));
    const Codes codes = activation_codes(spec);
    grids[static_cast<size_t>(r)] = spec.symmetric
                                        ? affine_grid(range, true, codes)
                                        : spanning(std::min(range.low, 0.0F), std::max(range.high, 0.0F), codes);
  });
  return make_grids(std::move(grids));
}

// ---- Observer ---------------------------------------------------------------------------

Observer::Observer(const TensorSpec& spec) : spec_(spec) {}

bool Observer::has_histogram() const {
  return spec_.range == RangeRule::kPercentile || spec_.range == RangeRule::kMse ||
         spec_.range == RangeRule::kEntropy || spec_.range == RangeRule::kLearnedStep;
}

void Observer::observe(const Tensor& batch) {
  const int64_t samples = batch.rank() == 0 ? 1 : batch.dim(0);
  const int64_t length = batch.elements() / samples;
  std::vector<Range> ranges(static_cast<size_t>(samples));
  parallel_ranges(samples, std::max<int64_t>(1, kElementGrain / length), [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s) {
      ranges[static_cast<size_t>(s)] =
          range_of("observe", batch.values().subspan(static_cast<size_t>(s * length), static_cast<size_t>(length)));
    }
  });
  Range now = ranges[0];
  for (const Range& range : ranges) {
    now = {std::min(now.low, range.low), std::max(now.high, range.high)};
    const auto size = static_cast<double>(std::max(std::abs(range.low), std::abs(range.high)));
    second_ = std::max(second_, std::min(largest_, size));
    largest_ = std::max(largest_, size);
  }
  if (has_histogram()) {
    count(batch, now);
  }
  const bool first = batches_ == 0;
  all_ = first ? now : Range{std::min(all_.low, now.low), std::max(all_.high, now.high)};
  average_ = first ? now
                   : Range{average_.low + kMomentum * (now.low - average_.low),
                           average_.high + kMomentum * (now.high - average_.high)};
  ++batches_;
  samples_ += samples;
}

void Observer::restore(const State& state) {
  all_ = state.all;
  average_ = state.average;
  limit_ = state.limit;
  bins_ = state.bins;
  batches_ = 1;
}

double Observer::outlier_ratio() const { return samples_ < 2 || second_ == 0 ? 1 : largest_ / second_; }

// Zeros, of which a ReLU makes many, have a code of their own under any grid and are not counted.
void Observer::count(const Tensor& batch, Range now) {
  const auto most = static_cast<double>(std::max(std::abs(now.low), std::abs(now.high)));
  if (most == 0) {
    return;  // says nothing about how wide bins should be
  }
  if (bins_.empty()) {
    bins_.assign(kBins, 0);
    limit_ = most;
  }
  while (most > limit_) {
    std::vector<double> wider(kBins, 0);
    for (size_t i = 0; i < kBins; ++i) {
      wider[kBins / 4 + i / 2] += bins_[i];
    }
    bins_ = std::move(wider);
    limit_ *= 2;
  }
  const double per_unit = kBins / 2 / limit_;
  for (const real v : batch.values()) {
    if (v != 0) {
      const double at = std::floor(static_cast<double>(v) * per_unit) + kBins / 2;
      bins_[static_cast<size_t>(std::clamp(at, 0.0, kBins - 1.0))] += 1;
    }
  }
}

Range Observer::range() const {
  require(seen(), "observe", "no data has passed, so there is no range");
  switch (spec_.range) {
    case RangeRule::kMovingAverage:
      return average_;
    case RangeRule::kPercentile:
      return bins_.empty() ? all_ : by_percentile();
    case RangeRule::kMse:
    case RangeRule::kLearnedStep:  // begins there: from the largest number a few codes would never come down
      return bins_.empty() ? all_ : by_error();
    case RangeRule::kEntropy:
      return bins_.empty() ? all_ : by_entropy();
    default:
      return all_;
  }
}

namespace {

double centre(size_t bin, double limit) { return (static_cast<double>(bin) + 0.5 - kBins / 2) * limit / (kBins / 2); }

}  // namespace

Range Observer::by_percentile() const {
  const double total = std::accumulate(bins_.begin(), bins_.end(), 0.0);
  double inside = 0;
  for (size_t k = 0; k < kBins / 2; ++k) {
    inside += bins_[kBins / 2 + k] + bins_[kBins / 2 - 1 - k];
    if (inside >= total * spec_.percentile / 100) {
      const auto t = static_cast<float>(static_cast<double>(k + 1) * limit_ / (kBins / 2));
      return {std::max(all_.low, -t), std::min(all_.high, t)};
    }
  }
  return all_;
}

Range Observer::by_error() const {
  return best_share(all_, [&](Range tried) {
    const Grid grid = affine_grid(tried, spec_.symmetric, activation_codes(spec_));
    double sum = 0;
    for (size_t i = 0; i < kBins; ++i) {
      if (bins_[i] > 0) {
        const auto x = static_cast<float>(centre(i, limit_));
        const auto d = static_cast<double>(x - arithmetic::dequantize(arithmetic::quantize(x, grid), grid));
        sum += bins_[i] * d * d;
      }
    }
    return sum;
  });
}

// P is what was seen, with all that a range cuts off put into its end bins; Q what codes can tell of it: the bins of a
// code share its mass evenly, as far as they hold anything (Migacz 2017).
Range Observer::by_entropy() const {
  const double total = std::accumulate(bins_.begin(), bins_.end(), 0.0);
  if (total == 0) {
    return all_;
  }
  return best_share(all_, [&](Range tried) {
    const Grid grid = affine_grid(tried, spec_.symmetric, activation_codes(spec_));
    const auto code_of = [&](size_t i) {
      return static_cast<size_t>(int64_t{arithmetic::quantize(static_cast<float>(centre(i, limit_)), grid)} -
                                 grid.qmin);
    };
    const auto inside = [&](size_t i) {
      const double x = centre(i, limit_);
      return x >= static_cast<double>(tried.low) && x <= static_cast<double>(tried.high);
    };
    const auto codes = static_cast<size_t>(int64_t{grid.qmax} - grid.qmin + 1);
    std::vector<double> mass(codes, 0);
    std::vector<double> holders(codes, 0);
    std::vector<double> p(kBins, 0);
    size_t first = kBins;
    size_t last = 0;
    for (size_t i = 0; i < kBins; ++i) {
      if (inside(i)) {
        first = std::min(first, i);
        last = i;
        if (bins_[i] > 0) {
          mass[code_of(i)] += bins_[i];
          holders[code_of(i)] += 1;
        }
      }
    }
    if (first > last) {
      return std::numeric_limits<double>::infinity();
    }
    for (size_t i = 0; i < kBins; ++i) {
      p[std::clamp(i, first, last)] += bins_[i];
    }
    double divergence = 0;
    constexpr double kLeast = 1e-9;
    for (size_t i = first; i <= last; ++i) {
      if (p[i] > 0) {
        const double q = bins_[i] > 0 ? mass[code_of(i)] / holders[code_of(i)] : 0;
        divergence += p[i] / total * std::log(p[i] / std::max(q, kLeast * total));
      }
    }
    return divergence;
  });
}

}  // namespace whittle::inline WHITTLE_PRECISION::quant
