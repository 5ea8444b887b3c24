// Codes of weights as a program stores them, bit by bit as docs/format.md says. Shares no code with the product.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "tests/kernels/draw.h"

namespace whittle {

// The width of codes, one of three, and the largest that weights may have.
inline uint32_t draw_bits(Draw& draw) { return uint32_t{8} >> draw.in(0, 2); }
inline int64_t largest_of(uint32_t bits) { return (int64_t{1} << (bits - 1)) - 1; }

// Whole bytes, and another one for what is left.
inline size_t stored_row(size_t codes, uint32_t bits) { return codes * bits / 8 + (codes * bits % 8 != 0 ? 1 : 0); }

// Bit b of code i of row r is bit (i bits + b) of the row, counted from the lowest of its first byte.
template <class Code>
std::vector<int8_t> stored_codes(const std::vector<Code>& codes, size_t rows, uint32_t bits) {
  const size_t row = codes.size() / rows;
  std::vector<int8_t> bytes(rows * stored_row(row, bits), 0);
  for (size_t i = 0; i < codes.size(); ++i) {
    for (uint32_t b = 0; b < bits; ++b) {
      const size_t bit = i % row * bits + b;
      const bool set = (static_cast<int>(codes[i]) >> b & 1) != 0;
      int8_t& byte = bytes[i / row * stored_row(row, bits) + bit / 8];
      byte = static_cast<int8_t>(byte | (set ? 1 << bit % 8 : 0));
    }
  }
  return bytes;
}

inline std::vector<int8_t> codes_stored(std::span<const uint8_t> bytes, size_t rows, size_t row, uint32_t bits) {
  std::vector<int8_t> codes;
  for (size_t i = 0; i < rows * row; ++i) {
    int code = 0;
    for (uint32_t b = 0; b < bits; ++b) {
      const size_t bit = i % row * bits + b;
      const int value = bytes[i / row * stored_row(row, bits) + bit / 8] >> bit % 8 & 1;
      code += (b == bits - 1 ? -1 : 1) * value * (1 << b);  // two's complement: the last counts as negative
    }
    codes.push_back(static_cast<int8_t>(code));
  }
  return codes;
}

}  // namespace whittle
