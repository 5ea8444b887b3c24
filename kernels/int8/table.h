// The kernels of integer programs, as one table of functions per instruction set.
//
// `reference` is the definition: docs/arithmetic.md, written down as plainly as C++
// allows. `integer` computes the same with integers alone, for machines without an FPU.
// Every other table gives the same bytes as `reference`, tolerance 0.
//
// A function computes one whole op on the calling thread. It reads weights as they lie in
// the program (unpacked, perhaps in flash), allocates nothing and checks nothing: what it
// is handed was checked once, when the program was loaded. Nothing is read or written
// outside the operands. Operands of one call do not overlap, except where `y` may be `x`.
//
// Freestanding: includes nothing hosted.
#pragma once

#include <stdint.h>

#include "kernels/int8/packed.h"
#include "kernels/shapes.h"
#include "kernels/weights.h"

namespace whittle::kernels {

// Where codes of a result lie: its zero-point, and the limits that an activation narrows (A11).
struct CodeRange {
  int32_t zero_point;
  int32_t lo, hi;
};

// Multipliers are the bits of binary32 numbers, so that a table without floats can use them (A8, A10).

// A12; depthwise (A13) is groups == in_channels.
template <class Code>
struct Conv {
  ConvShape shape = {};
  const Code* x = nullptr;
  int32_t x_zero_point = 0;
  WeightCodes weights;
  const int32_t* bias = nullptr;          // one per output channel
  const uint32_t* multipliers = nullptr;  // one per output channel
  CodeRange range = {};
  Code* y = nullptr;
};

// A14: x [batch, in], weights [out, in], y [batch, out].
template <class Code>
struct FullyConnected {
  int32_t batch = 0, in = 0, out = 0;
  const Code* x = nullptr;
  int32_t x_zero_point = 0;
  WeightCodes weights;
  const int32_t* bias = nullptr;
  const uint32_t* multipliers = nullptr;
  CodeRange range = {};
  Code* y = nullptr;
};

// A16. y may be a or b.
struct AddConstants {
  uint32_t offset;  // c
  uint32_t ratio_a, ratio_b;
};
template <class Code>
struct Add {
  int32_t count;
  const Code* a;
  const Code* b;
  AddConstants constants;
  CodeRange range;  // zero_point is not used: it is folded into the offset
  Code* y;
};

// A17: range.zero_point is not used.
template <class Code>
struct MaxPool {
  PoolShape shape;
  const Code* x;
  CodeRange range;
  Code* y;
};

// A18: multipliers[n - 1] is that of a window with n taps inside. Where there is no padding,
// every window has all of its taps, and `multipliers` is the last one alone.
template <class Code>
struct AveragePool {
  PoolShape shape;
  const Code* x;
  int32_t x_zero_point;
  const uint32_t* multipliers;
  bool padded;
  CodeRange range;
  Code* y;
};

// A20. y may be x.
template <class Code>
struct Rescale {
  int32_t count;
  const Code* x;
  int32_t x_zero_point;
  uint32_t multiplier;
  CodeRange range;
  Code* y;
};

// A21: y = table[x + 128]. y may be x.
struct Lookup {
  int32_t count;
  const int8_t* x;
  const int8_t* table;  // 256
  int8_t* y;
};

// A22, over rows of `count` codes. y may be x.
struct Softmax {
  int32_t rows, count;
  const int8_t* x;
  const uint32_t* exponentials;  // 256: E[d]
  int32_t log2_steps;            // k: the output's scale is 2^-k
  CodeRange range;
  int8_t* y;
};

template <class Code>
struct IntegerKernels {
  void (*conv)(const Conv<Code>&);
  void (*depthwise)(const Conv<Code>&);
  void (*fully_connected)(const FullyConnected<Code>&);
  void (*add)(const Add<Code>&);
  void (*max_pool)(const MaxPool<Code>&);
  void (*average_pool)(const AveragePool<Code>&);
  void (*rescale)(const Rescale<Code>&);
};

struct Int8Table {
  const char* name;
  bool (*runs_here)();
  IntegerKernels<int8_t> s8;
  IntegerKernels<int16_t> s16;  // 16-bit activations, 8-bit weights
  void (*lookup)(const Lookup&);
  void (*softmax)(const Softmax&);
  const PackedKernels* packed;  // null: this table has none
};

extern const Int8Table kInt8Reference;  // absent where WHITTLE_NO_FPU
extern const Int8Table kInt8Integer;
extern const Int8Table kInt8Avx512Vnni;  // where WHITTLE_X86_TABLES
extern const Int8Table kInt8Avx2;        // as above

// All tables of this build, best first.
struct Int8Tables {
  const Int8Table* const* tables;
  int count;
};
Int8Tables int8_tables();

}  // namespace whittle::kernels
