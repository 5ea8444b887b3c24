#include "core/crc.h"

#include <array>
#include <bit>
#include <cstring>

namespace whittle {

namespace {

// Slicing (Kounavis and Berry, 2005), here by 16: table k moves a byte over k
// further zero bytes, so 16 bytes take 16 independent look-ups.
constexpr size_t kSlices = 16;
constexpr auto kCrcTables = [] {
  constexpr uint32_t kReversedPolynomial = 0x82f63b78;
  std::array<std::array<uint32_t, 256>, kSlices> tables{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc >> 1) ^ ((crc & 1) != 0 ? kReversedPolynomial : 0);
    }
    tables[0][byte] = crc;
  }
  for (size_t k = 1; k < kSlices; ++k) {
    for (size_t byte = 0; byte < 256; ++byte) {
      const uint32_t before = tables[k - 1][byte];
      tables[k][byte] = (before >> 8) ^ tables[0][before & 255];
    }
  }
  return tables;
}();
static_assert(std::endian::native == std::endian::little, "crc32c() reads words as little-endian");

}  // namespace

uint32_t crc32c(std::span<const std::byte> bytes, uint32_t seed) {
  const auto& t = kCrcTables;
  uint32_t crc = ~seed;
  const std::byte* at = bytes.data();
  size_t left = bytes.size();
  for (; left >= kSlices; at += kSlices, left -= kSlices) {
    uint64_t a = 0;
    uint64_t b = 0;
    std::memcpy(&a, at, sizeof a);
    std::memcpy(&b, at + sizeof a, sizeof b);
    // The second word does not depend on the checksum so far and does not wait for it.
    const uint32_t second = t[7][b & 255] ^ t[6][(b >> 8) & 255] ^ t[5][(b >> 16) & 255] ^ t[4][(b >> 24) & 255] ^
                            t[3][(b >> 32) & 255] ^ t[2][(b >> 40) & 255] ^ t[1][(b >> 48) & 255] ^ t[0][b >> 56];
    a ^= crc;
    crc = second ^ t[15][a & 255] ^ t[14][(a >> 8) & 255] ^ t[13][(a >> 16) & 255] ^ t[12][(a >> 24) & 255] ^
          t[11][(a >> 32) & 255] ^ t[10][(a >> 40) & 255] ^ t[9][(a >> 48) & 255] ^ t[8][a >> 56];
  }
  for (; left > 0; ++at, --left) {
    crc = (crc >> 8) ^ t[0][(crc ^ static_cast<uint32_t>(*at)) & 255];
  }
  return ~crc;
}

}  // namespace whittle
