// Exactly so many bytes, at a multiple of 64, not zeros: the address sanitizer sees a byte more.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>

namespace whittle {

struct AlignedBytes {
  explicit AlignedBytes(uint64_t bytes)
      : data(static_cast<uint8_t*>(::operator new (static_cast<size_t>(bytes), std::align_val_t{64}))) {
    std::fill_n(data, bytes, uint8_t{0xa5});
  }
  ~AlignedBytes() { ::operator delete (data, std::align_val_t{64}); }
  AlignedBytes(const AlignedBytes&) = delete;
  AlignedBytes& operator=(const AlignedBytes&) = delete;

  uint8_t* data;
};

}  // namespace whittle
