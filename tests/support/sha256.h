// SHA-256 (FIPS 180-4), so that tests can print and compare what they computed.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace whittle {

std::string sha256(std::span<const std::byte> bytes);  // 64 lowercase hex digits

}  // namespace whittle
