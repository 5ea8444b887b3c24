// Whether results are equal to the last bit.
#pragma once

#include <cstring>
#include <span>

#include "core/parallel.h"
#include "core/tensor.h"

namespace whittle::inline WHITTLE_PRECISION {

inline bool same_bits(std::span<const real> a, std::span<const real> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

// Runs `f` for several thread counts and returns whether all results have the
// bits of the first.
template <class F>
bool same_for_any_thread_count(F f) {
  bool same = true;
  Tensor first;
  for (const int threads : {1, 2, 3, 5, 8}) {
    set_num_threads(threads);
    const Tensor result = f();
    if (!first.defined()) {
      first = result;
    }
    same = same && same_bits(first.values(), result.values());
  }
  set_num_threads(0);
  return same;
}

}  // namespace whittle::inline WHITTLE_PRECISION
