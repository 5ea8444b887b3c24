// Loops over arrays, as the kernel tables offer them (table.h): arithmetic element by
// element, sums, and the steps of the optimizers. All of them are bound by memory, so each
// reads and writes every number once.
#pragma once

#include <stdint.h>

namespace whittle::kernels {

// The activations that are clamps: min(max(t, low), high); a NaN stays one. Where there is
// no limit, low or high is NaN: nothing compares with it, not even infinity.
template <class T>
struct Clamp {
  T low, high;
};

// One step of optim/sgd.h.
template <class T>
struct SgdStep {
  T rate, momentum;
  T coupled;  // the share of the weight that joins the gradient
  T kept;     // the factor that decoupled decay leaves of the weight
  bool nesterov;
};

// One step of optim/adam.h.
template <class T>
struct AdamStep {
  T rate;   // with the first moment's correction
  T scale;  // of the root of the second moment: its correction
  T beta1, beta2, fresh1, fresh2, epsilon;
  T coupled, kept;
};

template <class T>
struct LoopKernels {
  // y = clamp(x); y = clamp(a + b); y += x
  void (*clamp)(const T* x, int64_t n, const Clamp<T>& clamp, T* y);
  void (*add)(const T* a, const T* b, int64_t n, const Clamp<T>& clamp, T* y);
  void (*add_to)(const T* x, int64_t n, T* y);
  // gx = g where y = clamp(...) was not limited, else 0
  void (*clamp_gradient)(const T* g, const T* y, int64_t n, const Clamp<T>& clamp, T* gx);
  // out[c] = sum over r of x[r cols + c]
  void (*column_sums)(const T* x, int64_t rows, int64_t cols, T* out);
  // The velocity may be null: no momentum.
  void (*sgd)(const SgdStep<T>& step, int64_t n, const T* gradient, T* value, T* velocity);
  void (*adam)(const AdamStep<T>& step, int64_t n, const T* gradient, T* value, T* first, T* second);
};

}  // namespace whittle::kernels
