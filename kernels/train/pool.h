// Pooling, as the kernel tables offer it (table.h).
#pragma once

#include <stdint.h>

namespace whittle::kernels {

// One row of windows over pixels of `channels` numbers each. Window j's tap (u, v) reads
// pixel j stride + v - before of a row, if that is in [0, in): padding is never read. A
// window holds at least one pixel.
struct PoolRow {
  int64_t channels;
  int64_t in, windows, taps, stride, before;
};

// The rows of taps that lie inside the source: [u, u + rows).
template <class T>
struct PoolSource {
  const T* data;  // the pixels under row u of taps
  int64_t step;   // from one row to the next
  int64_t u, rows;
};

// Both gradients go from one row of windows to one row of gx, the one under row u of their taps. They add
// to what gx holds, or write what every window covers of it.
template <class T>
struct PoolGradient {
  const T* g;
  int64_t u;
  bool add;
  T* gx;
};

template <class T>
struct PoolKernels {
  // The largest number of each window and which tap it was, as u taps + v. The first of equals stays, and a NaN is
  // larger than any number. Winners are bytes, or where there are more than 256 taps, of type T.
  void (*largest)(const PoolRow& row, const PoolSource<T>& source, T* y, uint8_t* winners);
  void (*largest_of_many)(const PoolRow& row, const PoolSource<T>& source, T* y, T* winners);
  void (*largest_gradient)(const PoolRow& row, const PoolGradient<T>& gradient, const uint8_t* winners);
  void (*largest_of_many_gradient)(const PoolRow& row, const PoolGradient<T>& gradient, const T* winners);
  // The mean over the taps that lie inside, and its gradient, where `rows` of the window's rows do.
  void (*mean)(const PoolRow& row, const PoolSource<T>& source, T* y);
  void (*mean_gradient)(const PoolRow& row, const PoolGradient<T>& gradient, int64_t rows);
};

}  // namespace whittle::kernels
