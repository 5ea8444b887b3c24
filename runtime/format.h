// The layout of a program file, field by field as in docs/format.md.
//
// Records are copied out of the bytes with read(), which needs no alignment. The writer
// (hosted/builder.cpp) and the loader (load.cpp) share this file, and kernels/weights.h, and nothing else.
//
// Freestanding, and without a float: scales are the bits of binary32 numbers.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "kernels/weights.h"

namespace whittle::runtime {

inline constexpr uint8_t kMagic[8] = {0x89, 'W', 'T', 'L', 0x0d, 0x0a, 0x1a, 0x0a};
inline constexpr uint8_t kEndMark[4] = {'L', 'T', 'W', 0x0a};
inline constexpr uint32_t kVersion = 3;
inline constexpr uint32_t kNone = 0xffffffff;      // no value; not written by an op
inline constexpr uint64_t kSectionAlignment = 64;  // of sections in the file
inline constexpr uint64_t kAlignment = 16;         // of values, of the file in memory and of the arena
inline constexpr uint32_t kMaxRecords = 4096;
inline constexpr uint32_t kMaxRank = 8;
inline constexpr uint32_t kMaxExtent = 1u << 24;  // of kernels, strides, dilations, paddings
inline constexpr uint64_t kMaxValueBytes = 0x7fffffff;

enum class Type : uint8_t { kS8 = 1, kS16 = 2, kS32 = 3, kF32 = 4, kF16 = 5, kU32 = 6, kU64 = 7, kS4 = 8, kS2 = 9 };
enum class Place : uint8_t { kArena = 0, kConstant = 1 };

enum class OpKind : uint32_t {
  kConv = 1,
  kFullyConnected = 2,
  kAdd = 3,
  kMaxPool = 4,
  kAveragePool = 5,
  kConcat = 6,
  kTable = 7,
  kRescale = 8,
  kSoftmax = 9,
  kLogSoftmax = 10,
  kReshape = 11,
  kQuantize = 12,
  kDequantize = 13,
  kActivation = 14,
};
inline constexpr uint32_t kOpKinds = 15;  // one past the last

// Features.
inline constexpr uint32_t kInt8 = 1u << 0;
inline constexpr uint32_t kInt16 = 1u << 1;
inline constexpr uint32_t kFloat32 = 1u << 2;
inline constexpr uint32_t kHalf = 1u << 3;
inline constexpr uint32_t kHybrid = 1u << 4;
inline constexpr uint32_t kDynamic = 1u << 5;
inline constexpr uint32_t kIntegerFeatures = kInt8 | kInt16;
inline constexpr uint32_t kAllFeatures = (1u << 6) - 1;

enum SectionName : uint32_t { kValues, kOps, kLists, kConstants, kNames, kMetadata, kSections };

struct Section {
  uint64_t offset;
  uint64_t bytes;
  uint32_t crc;
  uint32_t zero;
};

struct FileHeader {
  uint8_t magic[8];
  uint32_t version;
  uint32_t header_bytes;
  uint64_t file_bytes;
  uint64_t arena_bytes;
  uint32_t features;
  uint32_t inputs;
  uint32_t outputs;
  uint32_t zero;
  Section sections[kSections];
};
static_assert(sizeof(FileHeader) == 192);

struct FileTrailer {
  uint64_t file_bytes;
  uint32_t header_crc;
  uint8_t end_mark[4];
};
static_assert(sizeof(FileTrailer) == 16);

struct ValueRecord {
  Type type;
  uint8_t rank;
  Place place;
  uint8_t zero;
  uint32_t name;
  uint32_t dims[kMaxRank];
  uint32_t scale;  // bits of binary32
  int32_t zero_point;
  int32_t qmin, qmax;
  uint64_t offset;
  uint32_t first, last;
};
static_assert(sizeof(ValueRecord) == 72);

struct OpRecord {
  OpKind kind;
  uint32_t name;
  uint32_t inputs_at, inputs;
  uint32_t output;
  uint32_t weights, bias, multipliers, table, scratch;
  uint32_t groups;
  uint32_t kernel[2], stride[2], dilation[2];
  uint32_t padding[4];  // top, left, bottom, right
  uint32_t lo, hi;      // two's complement codes, or bits of binary32
  uint32_t parameters[5];
  uint32_t bounds;
};
static_assert(sizeof(OpRecord) == 116);

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "records are copied as they lie in memory");

template <class Record>
inline Record read(const uint8_t* bytes) {
  Record record = {};
  __builtin_memcpy(&record, bytes, sizeof record);
  return record;
}

constexpr uint64_t round_up(uint64_t x, uint64_t alignment) { return (x + alignment - 1) / alignment * alignment; }

// Bits of a number.
constexpr uint32_t width_of(Type type) {
  switch (type) {
    case Type::kS2:
      return 2;
    case Type::kS4:
      return 4;
    case Type::kS8:
      return 8;
    case Type::kS16:
    case Type::kF16:
      return 16;
    case Type::kS32:
    case Type::kF32:
    case Type::kU32:
      return 32;
    case Type::kU64:
      return 64;
  }
  return 0;
}

// Of weights: codes that their rows hold as kernels/weights.h says.
constexpr bool is_weight_code(Type type) { return type == Type::kS8 || type == Type::kS4 || type == Type::kS2; }

// Of a record that was checked, or that is small.
constexpr uint64_t elements(const ValueRecord& value) {
  uint64_t product = 1;
  for (uint32_t i = 0; i < value.rank; ++i) {
    product *= value.dims[i];
  }
  return product;
}
// Each row, which is what one number of the first extent has, begins at a byte.
constexpr uint64_t bytes_of(Type type, const uint32_t* dims, uint64_t rank) {
  uint64_t row = 1;
  for (uint64_t i = 1; i < rank; ++i) {
    row *= dims[i];
  }
  return dims[0] * kernels::bytes_of_row(row, width_of(type));
}
constexpr uint64_t bytes_of(const ValueRecord& value) { return bytes_of(value.type, value.dims, value.rank); }

// May an op of this kind write over its input?
constexpr bool works_in_place(OpKind kind) {
  return kind == OpKind::kAdd || kind == OpKind::kTable || kind == OpKind::kRescale || kind == OpKind::kReshape ||
         kind == OpKind::kSoftmax || kind == OpKind::kLogSoftmax || kind == OpKind::kActivation;
}

// Whether bits are those of a positive normal binary32 number.
constexpr bool positive_normal(uint32_t bits) { return bits >= 0x00800000 && bits < 0x7f800000; }

// CRC-32C of the bytes; `crc` is that of what came before them.
uint32_t crc32c(const uint8_t* bytes, uint64_t count, uint32_t crc = 0);

}  // namespace whittle::runtime
