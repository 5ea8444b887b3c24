// CRC-32C, sliced by 8.

#include "runtime/format.h"

namespace whittle::runtime {

namespace {

constexpr uint32_t kSlices = 8;

struct Tables {
  uint32_t at[kSlices][256];
};

// Table k moves a byte over k further zero bytes.
constexpr Tables make_tables() {
  constexpr uint32_t kReversedPolynomial = 0x82f63b78;
  Tables t{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc >> 1) ^ ((crc & 1) != 0 ? kReversedPolynomial : 0);
    }
    t.at[0][byte] = crc;
  }
  for (uint32_t k = 1; k < kSlices; ++k) {
    for (uint32_t byte = 0; byte < 256; ++byte) {
      t.at[k][byte] = (t.at[k - 1][byte] >> 8) ^ t.at[0][t.at[k - 1][byte] & 255];
    }
  }
  return t;
}
constexpr Tables kTables = make_tables();

}  // namespace

uint32_t crc32c(const uint8_t* bytes, uint64_t count, uint32_t crc) {
  crc = ~crc;
  const auto& t = kTables.at;
  for (; count >= kSlices; count -= kSlices, bytes += kSlices) {
    const uint32_t a = crc ^ read<uint32_t>(bytes);
    const uint32_t b = read<uint32_t>(bytes + 4);
    crc = t[7][a & 255] ^ t[6][(a >> 8) & 255] ^ t[5][(a >> 16) & 255] ^ t[4][a >> 24] ^ t[3][b & 255] ^
          t[2][(b >> 8) & 255] ^ t[1][(b >> 16) & 255] ^ t[0][b >> 24];
  }
  for (; count > 0; --count, ++bytes) {
    crc = (crc >> 8) ^ t[0][(crc ^ *bytes) & 255];
  }
  return ~crc;
}

}  // namespace whittle::runtime
