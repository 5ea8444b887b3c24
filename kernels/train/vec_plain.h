// The vector type of the reference table: a few numbers and plain loops over them,
// which any compiler can turn into whatever vectors the target has. See vec_avx512.h
// for what the members mean.
#pragma once

#include <stdint.h>

namespace whittle::kernels {

template <class T>
struct PlainVec {
  using Scalar = T;
  static constexpr int kWidth = 4;
  // Rows of a product's register tile, for tiles two vectors and one vector wide.
  static constexpr int kRows2 = 4;
  static constexpr int kRows1 = 4;
  static constexpr int kSums = 4;

  T lane[kWidth];

  static PlainVec zero() { return broadcast(T(0)); }
  static PlainVec broadcast(T x) { return {{x, x, x, x}}; }
  static PlainVec load(const T* p) { return {{p[0], p[1], p[2], p[3]}}; }
  static PlainVec load_first(const T* p, int n) {
    PlainVec v = zero();
    for (int i = 0; i < n; ++i) {
      v.lane[i] = p[i];
    }
    return v;
  }
  static void store(T* p, const PlainVec& v) { store_first(p, kWidth, v); }
  static void store_first(T* p, int n, const PlainVec& v) {
    for (int i = 0; i < n; ++i) {
      p[i] = v.lane[i];
    }
  }

  static void transpose(PlainVec (&row)[kWidth]) {
    for (int i = 0; i < kWidth; ++i) {
      for (int j = 0; j < i; ++j) {
        const T swapped = row[i].lane[j];
        row[i].lane[j] = row[j].lane[i];
        row[j].lane[i] = swapped;
      }
    }
  }

  using Lanes = int;
  static Lanes first(int n) { return n; }
  static PlainVec load(const T* p, Lanes n) { return load_first(p, n); }
  static void store(T* p, Lanes n, const PlainVec& v) { store_first(p, n, v); }

  template <class F>
  static PlainVec each(const PlainVec& a, const PlainVec& b, F f) {
    PlainVec v = zero();
    for (int i = 0; i < kWidth; ++i) {
      v.lane[i] = f(a.lane[i], b.lane[i]);
    }
    return v;
  }
  static PlainVec add(const PlainVec& a, const PlainVec& b) {
    return each(a, b, [](T x, T y) { return x + y; });
  }
  static PlainVec sub(const PlainVec& a, const PlainVec& b) {
    return each(a, b, [](T x, T y) { return x - y; });
  }
  static PlainVec mul(const PlainVec& a, const PlainVec& b) {
    return each(a, b, [](T x, T y) { return x * y; });
  }

  static PlainVec load_bytes(const uint8_t* p) { return load_first_bytes(p, kWidth); }
  static PlainVec load_first_bytes(const uint8_t* p, int n) {
    PlainVec v = zero();
    for (int i = 0; i < n; ++i) {
      v.lane[i] = p[i];
    }
    return v;
  }
  static void store_bytes(uint8_t* p, const PlainVec& v) { store_first_bytes(p, kWidth, v); }
  static void store_first_bytes(uint8_t* p, int n, const PlainVec& v) {
    for (int i = 0; i < n; ++i) {
      p[i] = static_cast<uint8_t>(v.lane[i]);
    }
  }

  static PlainVec where_beats(const PlainVec& a, const PlainVec& b, const PlainVec& x, const PlainVec& y) {
    PlainVec v = zero();
    for (int i = 0; i < kWidth; ++i) {
      const T first = a.lane[i];
      const T second = b.lane[i];
      v.lane[i] = (first > second) | ((first != first) & (second == second)) ? x.lane[i] : y.lane[i];
    }
    return v;
  }
  static PlainVec where_equal(const PlainVec& a, const PlainVec& b, const PlainVec& x, const PlainVec& y) {
    PlainVec v = zero();
    for (int i = 0; i < kWidth; ++i) {
      v.lane[i] = a.lane[i] == b.lane[i] ? x.lane[i] : y.lane[i];
    }
    return v;
  }
  static PlainVec where_at_most(const PlainVec& a, const PlainVec& b, const PlainVec& x, const PlainVec& y) {
    PlainVec v = zero();
    for (int i = 0; i < kWidth; ++i) {
      v.lane[i] = a.lane[i] <= b.lane[i] ? x.lane[i] : y.lane[i];
    }
    return v;
  }

  static PlainVec fma(const PlainVec& a, const PlainVec& b, const PlainVec& c) { return add(mul(a, b), c); }
};

}  // namespace whittle::kernels
