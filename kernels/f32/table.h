// The float kernels of inference, as one table of functions per instruction set: float32
// programs, float activations on 8-bit or binary16 weights, and what lies between codes
// and floats (docs/arithmetic.md, A23 to A26).
//
// The same manners as the integer tables (int8/table.h): one whole op a call, weights as
// they lie in the program, no memory, no checks. Other tables may sum in another order, so
// they agree with `reference` within A26's bound, not to the bit. Not the tables of
// training (train/table.h), which work in tiles and know gradients.
//
// Freestanding: includes nothing hosted.
#pragma once

#include <stdint.h>

#include "kernels/arithmetic.h"
#include "kernels/f32/packed.h"
#include "kernels/shapes.h"
#include "kernels/weights.h"

namespace whittle::kernels {

// An activation that only cuts.
struct Limits {
  float lo, hi;
};

struct Half {  // binary16
  uint16_t bits;
};

// How weights are handed over that are numbers, and codes.
template <class Weight>
struct StoredWeights {
  using Type = const Weight*;
};
template <>
struct StoredWeights<int8_t> {
  using Type = WeightCodes;
};

// Weight is float, Half or int8_t.
template <class Weight>
struct ConvF32 {
  ConvShape shape;
  const float* x;
  typename StoredWeights<Weight>::Type weights;
  const float* scales;  // of codes: one per output channel
  const float* bias;    // one per output channel
  Limits limits;
  float* y;
};

template <class Weight>
struct FullyConnectedF32 {
  int32_t batch, in, out;
  const float* x;
  typename StoredWeights<Weight>::Type weights;
  const float* scales;
  const float* bias;
  Limits limits;
  float* y;
};

template <class Weight>
constexpr ConvF32<Weight> as_conv(const FullyConnectedF32<Weight>& op) {
  return {.shape = fully_connected_shape(op.batch, op.in, op.out),
          .x = op.x,
          .weights = op.weights,
          .scales = op.scales,
          .bias = op.bias,
          .limits = op.limits,
          .y = op.y};
}

// A24. `codes` is room for the codes of one sample.
struct ConvDynamic {
  ConvF32<int8_t> conv;
  int8_t* codes = nullptr;
};
struct FullyConnectedDynamic {
  FullyConnectedF32<int8_t> product;
  int8_t* codes = nullptr;
};

struct AddF32 {  // y may be a or b
  int32_t count;
  const float* a;
  const float* b;
  Limits limits;
  float* y;
};

struct PoolF32 {
  PoolShape shape;
  const float* x;
  Limits limits;
  float* y;
};

enum class Function : uint32_t { kRelu, kRelu6, kLeakyRelu, kSigmoid, kTanh, kHardSwish, kGelu };
inline constexpr uint32_t kFunctions = 7;

struct ActivationF32 {  // y may be x
  int32_t count;
  const float* x;
  Function function;
  float slope;  // of kLeakyRelu
  float* y;
};

struct SoftmaxF32 {  // y may be x
  int32_t rows, count;
  const float* x;
  float* y;
};

// A23; Code is int8_t or int16_t.
template <class Code>
struct Quantize {
  int32_t count;
  const float* x;
  Grid grid;
  Code* y;
};
template <class Code>
struct Dequantize {
  int32_t count;
  const Code* x;
  Grid grid;
  float* y;
};

struct F32Table {
  const char* name;
  bool (*runs_here)();
  void (*conv)(const ConvF32<float>&);
  void (*conv_half)(const ConvF32<Half>&);
  void (*conv_hybrid)(const ConvF32<int8_t>&);
  void (*conv_dynamic)(const ConvDynamic&);
  void (*fully_connected)(const FullyConnectedF32<float>&);
  void (*fully_connected_half)(const FullyConnectedF32<Half>&);
  void (*fully_connected_hybrid)(const FullyConnectedF32<int8_t>&);
  void (*fully_connected_dynamic)(const FullyConnectedDynamic&);
  void (*add)(const AddF32&);
  void (*max_pool)(const PoolF32&);
  void (*average_pool)(const PoolF32&);
  void (*activation)(const ActivationF32&);
  void (*softmax)(const SoftmaxF32&);
  void (*log_softmax)(const SoftmaxF32&);
  void (*quantize8)(const Quantize<int8_t>&);
  void (*quantize16)(const Quantize<int16_t>&);
  void (*dequantize8)(const Dequantize<int8_t>&);
  void (*dequantize16)(const Dequantize<int16_t>&);
  const PackedF32Kernels* packed;  // null: this table has none
};

extern const F32Table kF32Reference;
extern const F32Table kF32Avx512;  // where WHITTLE_X86_TABLES
extern const F32Table kF32Avx2;

// All tables of this build, best first.
struct F32Tables {
  const F32Table* const* tables;
  int count;
};
F32Tables f32_tables();

}  // namespace whittle::kernels
