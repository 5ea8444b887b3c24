// The words for what stands in a program. Needs the runtime alone.
#pragma once

#include "runtime/format.h"

namespace whittle::runtime {

inline const char* name_of(Type type) {
  static constexpr const char* kNames[] = {"", "s8", "s16", "s32", "f32", "f16", "u32", "u64", "s4", "s2"};
  return kNames[static_cast<int>(type)];
}

inline const char* name_of(OpKind kind) {
  static constexpr const char* kNames[] = {
      "",        "conv",    "fully_connected", "add",     "max_pool", "average_pool", "concat",    "table",
      "rescale", "softmax", "log_softmax",     "reshape", "quantize", "dequantize",   "activation"};
  static_assert(sizeof kNames / sizeof *kNames == kOpKinds);
  return kNames[static_cast<int>(kind)];
}

// By the number of the bit.
inline constexpr const char* kFeatureNames[] = {"int8", "int16", "float32", "half", "hybrid", "dynamic"};

}  // namespace whittle::runtime
