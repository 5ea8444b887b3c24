// Depthwise convolution, as the kernel tables offer it (table.h): every channel has a
// filter of its own, so that there is nothing to sum over but the taps of the window.
#pragma once

#include <stdint.h>

namespace whittle::kernels {

// One row of windows over pixels of `channels` numbers each. Window j's tap (u, v) reads
// pixel j stride + v dilation - before of row u of the source, and 0 where that is not
// in [0, in). Only rows of taps that lie inside the source are counted.
template <class T>
struct DepthwiseRow {
  int64_t channels;
  int64_t in, windows, taps, stride, dilation, before;
  int64_t whole_begin, whole_end;  // the windows in [begin, end) have all their taps inside
  int64_t rows;
  const T* source;
  int64_t source_step;  // from one row of taps to the next
};

// Weights of taps, channels innermost, and how far it is from one tap to the next.
template <class T>
struct DepthwiseWeights {
  const T* data;  // packed by pack()
  int64_t row_step, step;
};

template <class T>
struct DepthwiseKernels {
  int64_t (*packed_channels)(int64_t channels);  // numbers that pack() writes per tap
  // A filter [channels, taps] as [taps, packed_channels].
  void (*pack)(const T* filter, int64_t channels, int64_t taps, T* packed);
  // The other way round, and sums over the numbers that pack() would make equal.
  void (*unpack)(const T* packed, int64_t channels, int64_t taps, T* filter);
  // target[j step + c] = bias[c] + sum over u, v of source(j, u, v)[c] weight(u, v)[c]. The bias may be null.
  void (*correlate)(const DepthwiseRow<T>& row, const DepthwiseWeights<T>& weights, const T* bias, T* target,
                    int64_t step);
  // sum(u, v)[c] += sum over j of source(j, u, v)[c] g[j channels + c]; the sums, once unpacked, are those of a filter.
  void (*filter_gradient)(const DepthwiseRow<T>& row, const T* g, T* sums);
};

}  // namespace whittle::kernels
