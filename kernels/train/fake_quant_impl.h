// Fake quantization. Plain loops over the one arithmetic, which compilers turn into
// vectors: whatever they do, quantize() and dequantize() give the same bits.
#pragma once

#include "kernels/train/fake_quant.h"
#include "kernels/train/parts.h"

namespace whittle::kernels {

template <class V>
struct FakeQuants {
  using T = typename V::Scalar;

  static void apply(const T* __restrict x, int64_t n, const Grid& grid, T* __restrict y) {
    const Grid fixed = grid;
    for (int64_t i = 0; i < n; ++i) {
      y[i] = static_cast<T>(arithmetic::dequantize(arithmetic::quantize(static_cast<float>(x[i]), fixed), fixed));
    }
  }

  static double gradient(const T* __restrict g, const T* __restrict x, int64_t n, const Grid& grid, T* __restrict gx) {
    const auto scale = static_cast<T>(grid.scale);
    const auto low = static_cast<T>(grid.qmin - grid.zero_point);
    const auto high = static_cast<T>(grid.qmax - grid.zero_point);
    constexpr int64_t kBlock = 512;
    T ratio[kBlock];
    T limited[kBlock];
    T step[kBlock];
    double total = 0;
    for (int64_t begin = 0; begin < n; begin += kBlock) {
      const int64_t here = begin + kBlock < n ? kBlock : n - begin;
      for (int64_t i = 0; i < here; ++i) {
        const T r = x[begin + i] / scale;
        const T raised = r <= low ? low : r;
        const T l = raised >= high ? high : raised;
        ratio[i] = r;
        limited[i] = l;
        step[i] = static_cast<T>(arithmetic::round_half_even(static_cast<float>(l))) - l;
      }
      V sum = V::zero();
      for_each_part<V>(here, [&](int64_t i, auto part) {
        const V r = part.load(ratio + i);
        const V l = part.load(limited + i);
        const V upstream = part.load(g + begin + i);
        part.store(gx + begin + i, V::where_equal(r, l, upstream, V::zero()));
        sum = V::add(sum, V::mul(upstream, V::where_equal(r, l, part.load(step + i), l)));
      });
      T lanes[V::kWidth];
      V::store(lanes, sum);
      for (const T lane : lanes) {
        total += static_cast<double>(lane);
      }
    }
    return total;
  }

  static constexpr FakeQuantKernels<T> table() { return {apply, gradient}; }
};

}  // namespace whittle::kernels
