// Weights of 8, 4 or 2 bits as they lie in a program (docs/format.md), and how to read them.
//
//   with_rows(op.weights, filter, [&](const auto& rows) { ... rows[o][i] ... });
//
// chooses the reader for the width once, and so for a whole op.
//
// Freestanding: includes nothing hosted.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace whittle::kernels {

// A row is everything of one output channel, and begins at a byte.
constexpr uint64_t bytes_of_row(uint64_t count, uint32_t bits) { return (count * bits + 7) / 8; }

// Where rows of codes begin, and how wide a code is.
struct WeightCodes {
  constexpr WeightCodes() = default;
  // NOLINTNEXTLINE(google-explicit-constructor): codes of 8 bits are what they are stored as
  constexpr WeightCodes(const int8_t* first, uint32_t width = 8) : bytes(first), bits(width) {}

  const int8_t* bytes = nullptr;
  uint32_t bits = 8;
};

namespace {  // one copy for each table

template <uint32_t kBits>
struct CodeRow {
  static constexpr int32_t kLowest = -(1 << (kBits - 1));  // which no weight is: it has no opposite

  int8_t operator[](ptrdiff_t i) const {
    constexpr size_t kEach = 8 / kBits;
    const auto at = static_cast<size_t>(i);
    const size_t above = (kEach - 1 - at % kEach) * kBits;  // it; without them it has the highest bits of a byte
    return static_cast<int8_t>(static_cast<int8_t>(bytes[at / kEach] << above) >> (8 - kBits));
  }

  const int8_t* bytes;
};

template <uint32_t kBits>
struct CodeRows {
  CodeRow<kBits> operator[](ptrdiff_t o) const { return {bytes + o * row_bytes}; }

  const int8_t* bytes;
  ptrdiff_t row_bytes;
};

// body(rows) of `count` codes each.
template <class Body>
void with_rows(const WeightCodes& weights, int64_t count, Body body) {
  const auto row_bytes = static_cast<ptrdiff_t>(bytes_of_row(static_cast<uint64_t>(count), weights.bits));
  switch (weights.bits) {
    case 2:
      return body(CodeRows<2>{weights.bytes, row_bytes});
    case 4:
      return body(CodeRows<4>{weights.bytes, row_bytes});
    default:
      return body(CodeRows<8>{weights.bytes, row_bytes});
  }
}

}  // namespace

}  // namespace whittle::kernels
