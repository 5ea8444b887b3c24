// An array as vectors: whole ones, then what is left in front of the end.
#pragma once

#include <stdint.h>

namespace whittle::kernels {

template <class V>
struct WholePart {
  using T = typename V::Scalar;
  static V load(const T* p) { return V::load(p); }
  static V load(const uint8_t* p) { return V::load_bytes(p); }
  static void store(T* p, V x) { V::store(p, x); }
  static void store(uint8_t* p, V x) { V::store_bytes(p, x); }
};

// The first n < kWidth lanes; memory beyond them is neither read nor written.
template <class V>
struct FirstPart {
  using T = typename V::Scalar;
  int n;
  V load(const T* p) const { return V::load_first(p, n); }
  V load(const uint8_t* p) const { return V::load_first_bytes(p, n); }
  void store(T* p, V x) const { V::store_first(p, n, x); }
  void store(uint8_t* p, V x) const { V::store_first_bytes(p, n, x); }
};

// Calls body(i, part) for i = 0, kWidth, ... below n; part.load and part.store move the
// numbers from i on that there are.
template <class V, class Body>
void for_each_part(int64_t n, Body body) {
  int64_t i = 0;
  for (; i + V::kWidth <= n; i += V::kWidth) {
    body(i, WholePart<V>());
  }
  if (i < n) {
    body(i, FirstPart<V>{static_cast<int>(n - i)});
  }
}

template <int kValue>
struct Constant {
  static constexpr int value = kValue;
};

// kCount vectors side by side, in registers: numbers of neighbouring columns. `last` says which lanes of the last
// vector are columns; memory of the others is neither read nor written.
template <class V, int kCount>
struct Columns {
  using T = typename V::Scalar;
  using Lanes = typename V::Lanes;

  V vectors[kCount];

  static V load(const T* p, int i, Lanes last) {
    return i + 1 < kCount ? V::load(p + i * V::kWidth) : V::load(p + i * V::kWidth, last);
  }
  static void store(T* p, int i, Lanes last, V x) {
    if (i + 1 < kCount) {
      V::store(p + i * V::kWidth, x);
    } else {
      V::store(p + i * V::kWidth, last, x);
    }
  }
  Columns(const T* p, Lanes last) {
#pragma GCC unroll 8
    for (int i = 0; i < kCount; ++i) {
      vectors[i] = load(p, i, last);
    }
  }
  void store_to(T* p, Lanes last) const {
#pragma GCC unroll 8
    for (int i = 0; i < kCount; ++i) {
      store(p, i, last, vectors[i]);
    }
  }
};

// n <= kCount vectors of columns as one block, with no more vectors than it takes.
template <class V, int kCount, class Body>
void as_one_block(int64_t rows, int64_t n, Body& body) {
  if constexpr (kCount > 1) {
    if (n <= (kCount - 1) * V::kWidth) {
      return as_one_block<V, kCount - 1>(rows, n, body);
    }
  }
  body(Constant<kCount>(), V::first(static_cast<int>(n - (kCount - 1) * V::kWidth)), 0, 0, rows);
}

// Goes through rows of n numbers, each `width` behind the one before, as body(Constant<N>, last, column, at, rows): N
// vectors of columns from `column` on, `last` being the lanes of their last one, in the rows whose number of that
// column are at, at + width and so on. If n columns fit registers, that is one call, which can keep numbers per column
// there; of longer rows every vector is a call, in the order of memory.
template <class V, class Body>
void for_each_block(int64_t rows, int64_t width, int64_t n, Body body) {
  if (n <= V::kSums * V::kWidth) {
    as_one_block<V, V::kSums>(rows, n, body);
    return;
  }
  for (int64_t r = 0; r < rows; ++r) {
    int64_t i = 0;
    for (; i + V::kWidth <= n; i += V::kWidth) {
      body(Constant<1>(), V::first(V::kWidth), i, r * width + i, 1);
    }
    if (i < n) {
      body(Constant<1>(), V::first(static_cast<int>(n - i)), i, r * width + i, 1);
    }
  }
}

}  // namespace whittle::kernels
