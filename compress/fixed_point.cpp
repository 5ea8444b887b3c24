#include "compress/fixed_point.h"

#include <cmath>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"
#include "quant/array/codebook.h"
#include "quant/words.h"

namespace whittle::inline WHITTLE_PRECISION::compress {

namespace {

using quant::array::Codebook;
using quant::array::Rounding;

Codebook grid_of(const FixedPoint& o) {
  const int32_t half = int32_t{1} << (o.bits - 1);
  return Codebook::affine({.scale = static_cast<float>(o.step()), .zero_point = 0, .qmin = -half, .qmax = half - 1});
}

// Element i draws from (key, i).
void round_all(std::span<real> values, const Codebook& grid, Rounding rounding, RngKey key) {
  parallel_ranges(static_cast<int64_t>(values.size()), kElementGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      real& v = values[static_cast<size_t>(i)];
      const double draw = rounding == Rounding::kStochastic ? uniform(key, static_cast<uint64_t>(i)) : 0;
      v = static_cast<real>(grid.value(grid.code(static_cast<float>(v), rounding, draw)));
    }
  });
}

}  // namespace

double FixedPoint::step() const { return std::ldexp(1.0, -fraction); }
double FixedPoint::low() const { return -std::ldexp(1.0, bits - 1 - fraction); }
double FixedPoint::high() const { return -low() - step(); }

FixedPoint parse_fixed_point(std::string_view text) {
  FixedPoint o;
  std::vector<std::string> words = quant::parts_of(text, ',');
  const std::vector<std::string> format = quant::parts_of(words[0], '.');
  require(format.size() == 2, "fixed_point", "'", text, "' does not begin with bits and fraction, as 16.12 does");
  o.bits = quant::number_in<int>("fixed_point", format[0], words[0]);
  o.fraction = quant::number_in<int>("fixed_point", format[1], words[0]);
  words.erase(words.begin());
  for (const std::string& word : words) {
    if (word == "nearest" || word == "stochastic") {
      o.stochastic = word == "stochastic";
    } else {
      require(word == "gradients", "fixed_point", "'", word,
              "' is not known; there are nearest, stochastic and gradients");
      o.gradients = true;
    }
  }
  require(o.bits >= 2 && o.bits <= 16, "fixed_point", "bits are ", o.bits, ", expected 2 to 16");
  require(o.fraction >= 0 && o.fraction <= 24, "fixed_point", "the fraction has ", o.fraction,
          " bits, expected 0 to 24");
  return o;
}

FitHooks fixed_point_hooks(Module& model, const FixedPoint& options, uint64_t seed) {
  const Codebook grid = grid_of(options);
  const Rounding rounding = options.stochastic ? Rounding::kStochastic : Rounding::kNearestEven;
  const RngKey key = RngKey{seed}.child("fixed point");
  for (const NamedParameter& named : model.parameters()) {
    round_all({named.parameter->raw.mutable_data(), static_cast<size_t>(named.parameter->shape().elements())}, grid,
              Rounding::kNearestEven, {});
  }
  FitHooks hooks;
  if (options.gradients) {
    hooks.after_backward = [&model, grid, rounding, key](const FitHooks::Point& at) {
      for (const NamedParameter& named : model.parameters()) {
        if (named.parameter->raw.grad().defined()) {
          Tensor gradient = named.parameter->raw.grad().clone();
          round_all(gradient.mutable_values(), grid, rounding,
                    key.child("gradient").child(named.name).child(static_cast<uint64_t>(at.step)));
          named.parameter->raw.set_grad(gradient);
        }
      }
    };
  }
  hooks.after_step = [&model, grid, rounding, key](const FitHooks::Point& at) {
    for (const NamedParameter& named : model.parameters()) {
      round_all({named.parameter->raw.mutable_data(), static_cast<size_t>(named.parameter->shape().elements())}, grid,
                rounding, key.child(named.name).child(static_cast<uint64_t>(at.step)));
    }
  };
  return hooks;
}

}  // namespace whittle::inline WHITTLE_PRECISION::compress
