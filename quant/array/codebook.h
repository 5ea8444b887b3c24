// The real numbers that codes stand for, and how a number in between becomes a code.
//
// A Codebook is the levels of a grid; a Rounding chooses between the two levels around
// a number. They know nothing of one another, so each grid goes with each rounding.
// Beyond its ends a codebook always gives its first or last level.
//
// Three forms: an affine grid (arithmetic.h: codes may be negative, 0 has a code), a
// mid-rise grid (levels halfway between the multiples of a step, so none at 0), and
// any sorted list (code i is the i-th level).
#pragma once

#include <cstdint>
#include <string_view>
#include <variant>
#include <vector>

#include "core/real.h"
#include "kernels/arithmetic.h"

namespace whittle::inline WHITTLE_PRECISION::quant::array {

// With x between the neighbouring levels lo and hi:
enum class Rounding : uint8_t {
  kNearestEven,  // the nearer one; in the middle the one with an even code
  kNearestUp,    // the nearer one; in the middle hi
  kStochastic,   // hi with probability (x - lo) / (hi - lo), so that the mean over draws is x
  kFloor,        // lo
};
std::string_view rounding_name(Rounding rounding);  // "nearest", "nearest-up", "stochastic", "floor"
Rounding parse_rounding(std::string_view name);     // throws and names what there is

class Codebook {
 public:
  // scale (code - zero_point) for code in [qmin, qmax]; scale > 0.
  static Codebook affine(const Grid& grid);
  // step (code + 1/2) for code in [-2^(bits-1), 2^(bits-1) - 1]; step > 0.
  static Codebook mid_rise(float step, int bits);
  // levels[code], after sorting and without repetitions; finite, at least one.
  static Codebook of(std::vector<float> levels);

  float value(int32_t code) const;
  // `draw` in [0, 1) decides kStochastic and is not looked at otherwise. An affine grid
  // rounded to the nearest even code is arithmetic::quantize(). x is not NaN.
  int32_t code(float x, Rounding rounding, double draw = 0) const;

  int32_t first() const;  // the lowest code, that of the lowest level
  int32_t last() const;
  int64_t size() const { return int64_t{last()} - first() + 1; }
  const Grid* affine_grid() const { return std::get_if<Grid>(&form_); }

 private:
  struct MidRise {
    float step;
    int32_t half;  // codes are [-half, half - 1]
  };
  using Form = std::variant<Grid, MidRise, std::vector<float>>;
  explicit Codebook(Form form) : form_(std::move(form)) {}
  Form form_;
};

}  // namespace whittle::inline WHITTLE_PRECISION::quant::array
