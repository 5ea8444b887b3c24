#include "layers/exact.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

using arithmetic::round_half_even;

// Every whole number up to here is a `real`.
constexpr auto kExact = static_cast<double>(int64_t{1} << std::numeric_limits<real>::digits);

bool single(const GridsPtr& grids) { return grids != nullptr && grids->size() == 1; }

// y[i] = f(x[i], grid of i) for a tensor in equal runs.
template <class F>
Tensor map_runs(const Tensor& x, const Grids& grids, F f) {
  Tensor y = Tensor::empty(x.shape());
  const int64_t length = x.elements() / static_cast<int64_t>(grids.size());
  const real* const in = x.data();
  real* const out = y.mutable_data();
  parallel_ranges(x.elements(), kElementGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end;) {
      const int64_t run = i / length;
      const int64_t stop = std::min(end, (run + 1) * length);
      const Grid grid = grids[static_cast<size_t>(run)];
      for (; i < stop; ++i) {
        out[i] = f(in[i], grid);
      }
    }
  });
  return y;
}

// q - Z of values that lie on the grid, and of those of a product of codes.
Tensor centred_codes(const Variable& x) {
  return map_runs(x.value(), *x.grids(), [](real v, const Grid& grid) {
    return static_cast<real>(round_half_even(static_cast<float>(v) / grid.scale));
  });
}

double largest_code(const Grids& grids) {
  double most = 0;
  for (const Grid& grid : grids) {
    most = std::max(
        {most, static_cast<double>(grid.qmax - grid.zero_point), static_cast<double>(grid.zero_point - grid.qmin)});
  }
  return most;
}

// The largest sum of |w| over the weights of one output channel.
double largest_row(const Tensor& w) {
  const int64_t rows = w.dim(0);
  const int64_t length = w.elements() / rows;
  double most = 0;
  for (int64_t r = 0; r < rows; ++r) {
    double sum = 0;
    for (int64_t i = r * length; i < (r + 1) * length; ++i) {
      sum += std::abs(static_cast<double>(w.data()[i]));
    }
    most = std::max(most, sum);
  }
  return most;
}

double largest_value(const Tensor& x) {
  double most = 0;
  for (const real v : x.values()) {
    most = std::max(most, std::abs(static_cast<double>(v)));
  }
  return most;
}

// x = high * 2^bits + low with |low| <= 2^(bits - 1).
struct Split {
  Tensor high, low;
};
Split split(const Tensor& x, int bits) {
  const auto unit = static_cast<real>(int64_t{1} << bits);
  const Tensor high = map_runs(x, {Grid{}}, [unit](real v, const Grid&) { return std::floor(v / unit + real(0.5)); });
  Tensor low = Tensor::empty(x.shape());
  for (int64_t i = 0; i < x.elements(); ++i) {
    low.mutable_data()[i] = x.data()[i] - high.data()[i] * unit;
  }
  return {high, low};
}

// total += 2^shift sum(x, w), exactly; `most` bounds |x|.
void add_product(const Tensor& x, double most, const Tensor& w, int shift, const PlainSum& sum,
                 std::vector<int64_t>& total) {
  const double row = largest_row(w);
  if (most * row < kExact) {
    const Variable part = sum(Variable(x), Variable(w), {});
    const real* const in = part.value().data();
    parallel_ranges(static_cast<int64_t>(total.size()), kElementGrain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        total[static_cast<size_t>(i)] += static_cast<int64_t>(in[i]) << shift;
      }
    });
    return;
  }
  const double weight = largest_value(w);
  require(std::max(most, weight) > 1, "exact", "a sum over ", w.elements() / w.dim(0), " inputs is too long");
  const bool split_x = most >= weight;
  const int bits = std::max(1, static_cast<int>(std::ceil(std::log2(split_x ? most : weight) / 2)));
  const Split parts = split(split_x ? x : w, bits);
  for (const auto& [part, by] : {std::pair(parts.high, bits), std::pair(parts.low, 0)}) {
    if (split_x) {
      add_product(part, largest_value(part), w, shift + by, sum, total);
    } else {
      add_product(x, most, part, shift + by, sum, total);
    }
  }
}

// The codes that an activation lets through, on a grid.
struct Limits {
  int32_t low, high;
  Limits(const Grid& grid, Act act)
      : low(act == Act::kNone ? grid.qmin : std::max(grid.qmin, grid.zero_point)),
        high(act == Act::kRelu6 ? std::min(grid.qmax, arithmetic::quantize(6.0F, grid)) : grid.qmax) {}
};

// The last step of a weighted sum: one multiplier, and one bias, per output channel; scales of x per sample.
class Finish {
 public:
  Finish(const Variable& x, const Variable& weight, const Variable& bias, const GridsPtr& to, Act act)
      : x_(*x.grids()), w_(*weight.grids()), bias_(bias.value()), to_(to), act_(act) {}

  int64_t channels(const Tensor& y) const { return y.dim(-1); }
  const Grid& weight(int64_t channel) const { return w_[w_.size() == 1 ? 0 : static_cast<size_t>(channel)]; }

  // Bias codes at the scale of the products; none if results are not codes.
  Tensor bias_codes(int64_t channels) const {
    Tensor codes = Tensor::zeros({channels});
    for (int64_t c = 0; c < channels && bias_.defined() && to_ != nullptr; ++c) {
      codes.mutable_data()[c] = static_cast<real>(
          arithmetic::quantize_bias(static_cast<float>(bias_.data()[c]), x_[0].scale * weight(c).scale));
    }
    return codes;
  }

  // y [..., O] from accumulators, of which sum(i) is number i.
  template <class Sum>
  Tensor operator()(const Shape& shape, Sum sum) const {
    Tensor y = Tensor::empty(shape);
    const int64_t channels = shape[-1];
    const int64_t rows = shape.elements() / channels;
    const int64_t per_grid = rows / static_cast<int64_t>(x_.size());
    real* const out = y.mutable_data();
    parallel_ranges(rows, std::max<int64_t>(1, kElementGrain / channels), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const float sx = x_[static_cast<size_t>(r / per_grid)].scale;
        for (int64_t c = 0; c < channels; ++c) {
          const int64_t i = r * channels + c;
          out[i] = to_ != nullptr ? code(sum(i), sx, c) : number(sum(i), sx, c);
        }
      }
    });
    return y;
  }

 private:
  real code(int64_t sum, float sx, int64_t channel) const {
    const Grid& to = (*to_)[0];
    const Limits limits(to, act_);
    const float m = arithmetic::multiplier(sx, weight(channel).scale, to.scale);
    return static_cast<real>(
        arithmetic::dequantize(arithmetic::requantize(sum, m, to.zero_point, limits.low, limits.high), to));
  }
  real number(int64_t sum, float sx, int64_t channel) const {
    float y = static_cast<float>(sum) * (sx * weight(channel).scale);
    if (bias_.defined()) {
      y += static_cast<float>(bias_.data()[channel]);
    }
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    return static_cast<real>(act_ == Act::kNone ? y : arithmetic::clamp(y, 0, act_ == Act::kRelu6 ? 6.0F : kInfinity));
  }

  const Grids& x_;
  const Grids& w_;
  Tensor bias_;
  GridsPtr to_;
  Act act_;
};

}  // namespace

bool is_exact_product(const Variable& x, const Variable& weight) {
  return x.grids() != nullptr && weight.grids() != nullptr &&
         (x.grids()->size() == 1 || static_cast<int64_t>(x.grids()->size()) == x.shape()[0]) &&
         (weight.grids()->size() == 1 || static_cast<int64_t>(weight.grids()->size()) == weight.shape()[0]);
}

bool is_exact(std::span<const Variable> inputs, const GridsPtr& result) {
  return single(result) && std::ranges::all_of(inputs, [](const Variable& x) { return single(x.grids()); });
}

Tensor exact_weighted(const Variable& x, const Variable& weight, const Variable& bias, const GridsPtr& to, Act act,
                      const PlainSum& sum) {
  require(to == nullptr || single(to), "exact_weighted", "a result on ", to == nullptr ? 0 : to->size(), " grids");
  const NoGrad no_grad;
  const Tensor x_codes = centred_codes(x);
  const Tensor w_codes = centred_codes(weight);
  const Finish finish(x, weight, bias, to, act);
  const Tensor bias_codes = finish.bias_codes(weight.shape()[0]);
  const double most = largest_code(*x.grids());
  if (most * largest_row(w_codes) + largest_value(bias_codes) < kExact) {
    const Tensor sums = sum(Variable(x_codes), Variable(w_codes), Variable(bias_codes)).value();
    return finish(sums.shape(), [in = sums.data()](int64_t i) { return static_cast<int64_t>(in[i]); });
  }
  const Shape shape = sum(Variable(x_codes), Variable(w_codes), {}).shape();
  std::vector<int64_t> sums(static_cast<size_t>(shape.elements()));
  add_product(x_codes, most, w_codes, 0, sum, sums);
  const int64_t channels = shape[-1];
  return finish(shape, [&](int64_t i) {
    return sums[static_cast<size_t>(i)] + static_cast<int64_t>(bias_codes.data()[i % channels]);
  });
}

Tensor exact_add(const Variable& a, const Variable& b, const Grid& to, Act act) {
  const Grid ga = (*a.grids())[0];
  const Grid gb = (*b.grids())[0];
  const Limits limits(to, act);
  const arithmetic::Addition terms = arithmetic::addition(ga, gb, to);
  Tensor y = Tensor::empty(a.shape());
  const real* const in_a = a.value().data();
  const real* const in_b = b.value().data();
  real* const out = y.mutable_data();
  parallel_ranges(y.elements(), kElementGrain, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int32_t qa = arithmetic::quantize(static_cast<float>(in_a[i]), ga);
      const int32_t qb = arithmetic::quantize(static_cast<float>(in_b[i]), gb);
      out[i] = static_cast<real>(arithmetic::dequantize(arithmetic::add(qa, qb, terms, limits.low, limits.high), to));
    }
  });
  return y;
}

Tensor exact_avg_pool(const Variable& x, const PoolGeometry& geometry, const Shape& result, const Grid& to) {
  const Tensor codes = centred_codes(x);
  const float sx = (*x.grids())[0].scale;
  const Size2 kernel = geometry.kernel;
  const Size2 stride = geometry.stride == Size2{0, 0} ? kernel : geometry.stride;
  const int64_t in_h = x.shape()[1];
  const int64_t in_w = x.shape()[2];
  const int64_t channels = x.shape()[3];
  const int64_t out_h = result.rank() == 4 ? result[1] : 1;
  const int64_t out_w = result.rank() == 4 ? result[2] : 1;
  Tensor y = Tensor::empty(result);
  parallel_for(x.shape()[0] * out_h, [&](int64_t row) {
    const int64_t image = row / out_h;
    const int64_t top = row % out_h * stride.h - geometry.padding.top;
    std::vector<int64_t> sums(static_cast<size_t>(channels));
    for (int64_t j = 0; j < out_w; ++j) {
      const int64_t left = j * stride.w - geometry.padding.left;
      std::ranges::fill(sums, 0);
      int64_t taps = 0;
      for (int64_t h = std::max<int64_t>(top, 0); h < std::min(top + kernel.h, in_h); ++h) {
        for (int64_t w = std::max<int64_t>(left, 0); w < std::min(left + kernel.w, in_w); ++w, ++taps) {
          const real* const pixel = codes.data() + ((image * in_h + h) * in_w + w) * channels;
          for (int64_t c = 0; c < channels; ++c) {
            sums[static_cast<size_t>(c)] += static_cast<int64_t>(pixel[c]);
          }
        }
      }
      const float m = arithmetic::mean_multiplier(sx, to.scale, taps);
      real* const out = y.mutable_data() + (row * out_w + j) * channels;
      for (int64_t c = 0; c < channels; ++c) {
        out[c] = static_cast<real>(arithmetic::dequantize(
            arithmetic::requantize(sums[static_cast<size_t>(c)], m, to.zero_point, to.qmin, to.qmax), to));
      }
    }
  });
  return y;
}

Tensor exact_rescale(const Variable& x, const Grid& to) {
  const Grid from = (*x.grids())[0];
  if (from == to) {
    return x.value();
  }
  const bool by_table = from.qmin >= -128 && from.qmax <= 127;
  const float m = from.scale / to.scale;
  return map_runs(x.value(), {from}, [=](real v, const Grid& grid) {
    const auto r = static_cast<float>(v);
    const int32_t code =
        by_table ? arithmetic::quantize(r, to)
                 : arithmetic::requantize(round_half_even(r / grid.scale), m, to.zero_point, to.qmin, to.qmax);
    return static_cast<real>(arithmetic::dequantize(code, to));
  });
}

Tensor exact_function(const Variable& x, const std::function<double(double)>& f, const Grid& to) {
  const Grid from = (*x.grids())[0];
  std::vector<real> table;
  for (int32_t code = from.qmin; code <= from.qmax; ++code) {
    const auto value = static_cast<float>(f(static_cast<double>(arithmetic::dequantize(code, from))));
    table.push_back(static_cast<real>(arithmetic::dequantize(arithmetic::quantize(value, to), to)));
  }
  return map_runs(x.value(), {from}, [&table](real v, const Grid& grid) {
    return table[static_cast<size_t>(arithmetic::quantize(static_cast<float>(v), grid) - grid.qmin)];
  });
}

Variable with_value(const Variable& y, Tensor value) {
  return make_op("exact", std::move(value), {y}, [](const Tensor& g) -> Gradients { return {g}; });
}

}  // namespace whittle::inline WHITTLE_PRECISION
