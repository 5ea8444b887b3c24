#include "quant/array/codebook.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "core/error.h"

namespace whittle::inline WHITTLE_PRECISION::quant::array {

namespace {

constexpr std::array<std::string_view, 4> kRoundingNames = {"nearest", "nearest-up", "stochastic", "floor"};

// The code k in [low, high] of t, where code k stands for k + shift and shift is 0 or
// 1/2. t came from a float, so t + 1/2 is exact wherever its last bits decide.
int32_t on_steps(double t, double shift, int32_t low, int32_t high, Rounding rounding, double draw) {
  t = std::clamp(t, static_cast<double>(low) - 1, static_cast<double>(high) + 2);  // keeps codes in int32
  double code = 0;
  switch (rounding) {
    case Rounding::kNearestEven:
    case Rounding::kNearestUp: {
      const double raised = t + (0.5 - shift);
      code = std::floor(raised);
      if (rounding == Rounding::kNearestEven && code == raised && std::fmod(code, 2) != 0) {
        code -= 1;
      }
      break;
    }
    case Rounding::kStochastic: {
      const double below = std::floor(t - shift);
      code = draw < (t - shift) - below ? below + 1 : below;
      break;
    }
    case Rounding::kFloor:
      code = std::floor(t - shift);
      break;
  }
  return static_cast<int32_t>(std::clamp(code, static_cast<double>(low), static_cast<double>(high)));
}

int32_t in_list(float x, const std::vector<float>& levels, Rounding rounding, double draw) {
  const auto above = std::ranges::upper_bound(levels, x);
  if (above == levels.begin()) {
    return 0;
  }
  const auto below = static_cast<int32_t>(above - levels.begin()) - 1;
  if (above == levels.end()) {
    return below;
  }
  const double to_low = static_cast<double>(x) - static_cast<double>(*(above - 1));
  const double to_high = static_cast<double>(*above) - static_cast<double>(x);
  bool up = false;
  switch (rounding) {
    case Rounding::kNearestEven:
      up = to_high < to_low || (to_high == to_low && below % 2 != 0);
      break;
    case Rounding::kNearestUp:
      up = to_high <= to_low;
      break;
    case Rounding::kStochastic:
      up = draw < to_low / (to_low + to_high);
      break;
    case Rounding::kFloor:
      break;
  }
  return up ? below + 1 : below;
}

}  // namespace

std::string_view rounding_name(Rounding rounding) { return kRoundingNames[static_cast<size_t>(rounding)]; }

Rounding parse_rounding(std::string_view name) {
  for (size_t i = 0; i < kRoundingNames.size(); ++i) {
    if (name == kRoundingNames[i]) {
      return static_cast<Rounding>(i);
    }
  }
  fail("rounding", "'", name, "' is none of nearest, nearest-up, stochastic, floor");
}

Codebook Codebook::affine(const Grid& grid) {
  require(std::isfinite(grid.scale) && grid.scale > 0, "codebook", "an affine grid needs a scale above 0, got ",
          grid.scale);
  require(grid.qmin <= grid.qmax, "codebook", "the codes of an affine grid end at ", grid.qmax, ", below their start ",
          grid.qmin);
  return Codebook(grid);
}

Codebook Codebook::mid_rise(float step, int bits) {
  require(std::isfinite(step) && step > 0, "codebook", "a mid-rise grid needs a step above 0, got ", step);
  require(bits >= 1 && bits <= 16, "codebook", "bits must be 1 to 16, got ", bits);
  return Codebook(MidRise{step, int32_t{1} << (bits - 1)});
}

Codebook Codebook::of(std::vector<float> levels) {
  require(!levels.empty(), "codebook", "a list of levels is empty");
  for (float& level : levels) {
    require(std::isfinite(level), "codebook", "a level is ", level);
    level += 0.0F;  // -0 becomes 0
  }
  std::ranges::sort(levels);
  levels.erase(std::unique(levels.begin(), levels.end()), levels.end());
  return Codebook(std::move(levels));
}

float Codebook::value(int32_t code) const {
  if (const Grid* grid = std::get_if<Grid>(&form_)) {
    return arithmetic::dequantize(code, *grid);
  }
  if (const MidRise* grid = std::get_if<MidRise>(&form_)) {
    return grid->step * (static_cast<float>(code) + 0.5F);
  }
  return std::get<std::vector<float>>(form_)[static_cast<size_t>(code)];
}

int32_t Codebook::code(float x, Rounding rounding, double draw) const {
  if (const Grid* grid = std::get_if<Grid>(&form_)) {
    if (rounding == Rounding::kNearestEven) {
      return arithmetic::quantize(x, *grid);
    }
    return on_steps(static_cast<double>(x / grid->scale), 0, grid->qmin - grid->zero_point,
                    grid->qmax - grid->zero_point, rounding, draw) +
           grid->zero_point;
  }
  if (const MidRise* grid = std::get_if<MidRise>(&form_)) {
    return on_steps(static_cast<double>(x / grid->step), 0.5, -grid->half, grid->half - 1, rounding, draw);
  }
  return in_list(x, std::get<std::vector<float>>(form_), rounding, draw);
}

int32_t Codebook::first() const {
  if (const Grid* grid = std::get_if<Grid>(&form_)) {
    return grid->qmin;
  }
  const MidRise* grid = std::get_if<MidRise>(&form_);
  return grid != nullptr ? -grid->half : 0;
}

int32_t Codebook::last() const {
  if (const Grid* grid = std::get_if<Grid>(&form_)) {
    return grid->qmax;
  }
  if (const MidRise* grid = std::get_if<MidRise>(&form_)) {
    return grid->half - 1;
  }
  return static_cast<int32_t>(std::get<std::vector<float>>(form_).size()) - 1;
}

}  // namespace whittle::inline WHITTLE_PRECISION::quant::array
