// The checksum of our files: CRC-32C (Castagnoli), as in iSCSI and RFC 3720.
//
// It finds every single flipped bit and every burst of up to 32 bits; other
// accidents slip through once in 2^32. It is no signature: whoever edits a file
// on purpose can compute it again. Portable code, no CRC instruction.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace whittle {

// The checksum of `bytes`. A long run may be taken in blocks: pass the checksum
// so far as `seed`.
uint32_t crc32c(std::span<const std::byte> bytes, uint32_t seed = 0);

}  // namespace whittle
