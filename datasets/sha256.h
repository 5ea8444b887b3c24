// SHA-256 (FIPS 180-4): to see that a downloaded file is the one that was meant.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace whittle {

class Sha256 {
 public:
  void update(std::span<const std::byte> bytes);
  std::string hex() const;  // of all bytes so far: 64 lowercase hex digits

 private:
  void block(const std::byte* bytes);

  std::array<uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::byte, 64> pending_{};  // bytes of a block that is not full yet
  uint64_t length_ = 0;
};

std::string sha256(std::span<const std::byte> bytes);
std::string sha256_of_file(const std::filesystem::path& path);  // throws Error if it cannot be read

}  // namespace whittle
