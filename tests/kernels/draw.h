// Random problems for kernels: extents, codes, multipliers, with extremes more often than
// chance would have them.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "core/rng.h"
#include "tests/kernels/oracle.h"

namespace whittle {

class Draw {
 public:
  explicit Draw(const RngKey& key) : key_(key) {}

  int64_t in(int64_t lowest, int64_t highest) {
    return lowest + static_cast<int64_t>(below(key_, next_++, static_cast<uint64_t>(highest - lowest + 1)));
  }
  bool once_in(int64_t n) { return in(1, n) == 1; }
  double real_in(double lowest, double highest) { return lowest + (highest - lowest) * uniform(key_, next_++); }
  float scale(int lowest_exponent, int highest_exponent) {
    return static_cast<float>(std::exp2(real_in(lowest_exponent, highest_exponent)));
  }

  // Codes of any value, or in some problems only the two ends.
  oracle::Codes codes(int64_t count, int64_t lowest, int64_t highest) {
    const bool ends = once_in(6);
    oracle::Codes result(static_cast<size_t>(count));
    for (int64_t& code : result) {
      code = ends ? (once_in(2) ? lowest : highest) : in(lowest, highest);
    }
    return result;
  }

  // Output limits within [lowest, highest], with a zero-point among all codes.
  oracle::Range range(int64_t lowest, int64_t highest) {
    const int64_t zero_point = once_in(4) ? (once_in(2) ? lowest : highest) : in(lowest, highest);
    switch (in(0, 3)) {
      case 0:
        return {zero_point, zero_point, highest};  // ReLU
      case 1: {
        const int64_t lo = in(lowest, highest);
        return {zero_point, lo, in(lo, highest)};
      }
      default:
        return {zero_point, lowest, highest};
    }
  }

  // Windows that fit, over small images.
  oracle::Geometry geometry(int64_t channels, bool dilated, bool taps_everywhere) {
    oracle::Geometry g{};
    g.n = in(1, 2);
    g.c = channels;
    axis(g.h, g.kh, g.sh, g.dh, g.top, g.bottom, dilated, taps_everywhere);
    axis(g.w, g.kw, g.sw, g.dw, g.left, g.right, dilated, taps_everywhere);
    return g;
  }

 private:
  void axis(int64_t& extent, int64_t& kernel, int64_t& stride, int64_t& dilation, int64_t& before, int64_t& after,
            bool dilated, bool taps_everywhere) {
    extent = in(1, 9);
    kernel = once_in(3) ? 1 : in(1, 5);
    stride = in(1, 4);
    dilation = dilated && once_in(3) ? in(1, 3) : 1;
    before = once_in(2) ? 0 : in(0, taps_everywhere ? kernel - 1 : 4);
    after = once_in(2) ? 0 : in(0, taps_everywhere ? kernel - 1 : 4);
    const int64_t reach = (kernel - 1) * dilation + 1;
    extent = std::max(extent, reach - before - after);
  }

  RngKey key_;
  uint64_t next_ = 0;
};

template <class To, class From>
std::vector<To> converted(const std::vector<From>& from) {
  std::vector<To> to;
  for (const From& x : from) {
    to.push_back(static_cast<To>(x));
  }
  return to;
}

}  // namespace whittle
