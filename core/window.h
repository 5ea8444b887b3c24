// Sliding windows along one axis: which input positions the taps of a
// convolution's or pool's window read. Two of them, one for rows and one for
// columns, describe a whole layer. Pure index arithmetic; internal to core/.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "core/error.h"
#include "core/pool.h"
#include "core/shape.h"

namespace whittle {

// Quotients rounded down and up, for numerators of either sign and b > 0.
inline int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }
inline int64_t ceil_div(int64_t a, int64_t b) { return -floor_div(-a, b); }

// Positions begin, begin + 1, ..., end - 1; empty when end <= begin.
struct Range {
  int64_t begin;
  int64_t end;
  bool empty() const { return end <= begin; }
  int64_t size() const { return std::max<int64_t>(end - begin, 0); }
};

// Tap u of window i reads position i * stride + u * dilation - before of the
// input; positions outside [0, in) are padding.
struct WindowAxis {
  int64_t in;    // extent of the input
  int64_t out;   // number of windows
  int64_t taps;  // of one window: the kernel's extent
  int64_t stride;
  int64_t dilation;
  int64_t before;  // padding in front; negative if the first window starts further inside

  int64_t at(int64_t window, int64_t tap) const { return window * stride + tap * dilation - before; }

  // Whether window i is position i and nothing else.
  bool reads_each_once() const { return taps == 1 && stride == 1 && before == 0 && out == in; }

  // The taps of a window that read the input rather than padding.
  Range taps_inside(int64_t window) const {
    const int64_t first = at(window, 0);
    return {std::clamp<int64_t>(ceil_div(-first, dilation), 0, taps),
            std::clamp<int64_t>(ceil_div(in - first, dilation), 0, taps)};
  }

  // The windows that cover a position of the input; without dilation, each does so with exactly one tap.
  Range windows_over(int64_t position) const {
    const int64_t reach = (taps - 1) * dilation;
    return {std::max<int64_t>(ceil_div(position + before - reach, stride), 0),
            std::min(floor_div(position + before, stride) + 1, out)};
  }
};

// Windows seen from the input, for gradients that flow back through them.
//
// A position was read by window i through tap u where i stride + u dilation - before equals it. Positions that are
// equal modulo the stride share their taps: every (stride / gcd(stride, dilation))-th. Such a class is a phase. Taken
// last tap first, its taps form a window that slides over the outputs with stride 1.
struct Phase {
  WindowAxis axis;  // over the outputs; its windows are the positions offset, offset + stride, ... of the input
  int64_t offset;
  int64_t last_tap;  // tap a of `axis` is the tap last_tap - a * tap_step of the original
  int64_t tap_step;
};
using Phases = std::vector<Phase, PoolAllocator<Phase>>;

// The phases that any tap reads. Fewer than the stride when it exceeds the taps or shares a factor with the dilation;
// no gradient flows to the positions that are left out.
inline Phases phases(const WindowAxis& a) {
  Phases result;
  const int64_t divisor = std::gcd(a.stride, a.dilation);
  const int64_t tap_step = a.stride / divisor;
  for (int64_t tap = 0; tap < std::min(tap_step, a.taps); ++tap) {
    const int64_t first = tap * a.dilation - a.before;
    const int64_t offset = first - floor_div(first, a.stride) * a.stride;
    if (offset >= a.in) {
      continue;
    }
    const int64_t taps = (a.taps - 1 - tap) / tap_step + 1;
    const int64_t last_tap = tap + (taps - 1) * tap_step;
    const WindowAxis axis{.in = a.out,
                          .out = (a.in - 1 - offset) / a.stride + 1,
                          .taps = taps,
                          .stride = 1,
                          .dilation = a.dilation / divisor,
                          .before = (last_tap * a.dilation - a.before - offset) / a.stride};
    result.push_back({.axis = axis, .offset = offset, .last_tap = last_tap, .tap_step = tap_step});
  }
  return result;
}

// Checks the options of one axis and counts its windows. `direction` ("vertical")
// and `context` (usually the shapes) go into the error text. Extents are at most
// 2^48 by Shape and options at most 2^31 from here on, so no index overflows.
template <class... Context>
WindowAxis window_axis(const char* op, const char* direction, int64_t in, int64_t before, int64_t after, int64_t taps,
                       int64_t stride, int64_t dilation, const Context&... context) {
  constexpr int64_t kLargest = int64_t{1} << 31;
  require(in >= 1 && in <= Shape::kMaxElements, op, "an extent of ", in, " is not between 1 and 2^48", context...);
  require(taps >= 1, op, "a kernel extent of ", taps, " is not positive", context...);
  require(dilation >= 1 && dilation <= kLargest, op, direction, " dilation ", dilation, " is not between 1 and 2^31",
          context...);
  require(std::min(before, after) >= 0 && std::max(before, after) <= kLargest, op, direction, " padding ", before,
          " before and ", after, " after is not between 0 and 2^31", context...);
  const int64_t padded = in + before + after;
  // taps - 1 <= (padded - 1) / dilation says dilation * (taps - 1) + 1 <= padded without a product that could overflow.
  require(taps - 1 <= (padded - 1) / dilation, op, direction, " window of ", taps, " taps with dilation ", dilation,
          " does not fit into ", in, " + ", before, " + ", after, " positions", context...);
  require(stride >= 1 && stride <= kLargest, op, direction, " stride ", stride, " is not between 1 and 2^31",
          context...);
  return {.in = in,
          .out = (padded - ((taps - 1) * dilation + 1)) / stride + 1,
          .taps = taps,
          .stride = stride,
          .dilation = dilation,
          .before = before};
}

}  // namespace whittle
