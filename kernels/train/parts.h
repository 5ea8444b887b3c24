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

}  // namespace whittle::kernels
