// Writing small files for the readers to read, byte by byte, packed by zlib and liblzma.
#pragma once

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace whittle {

using Bytes = std::vector<uint8_t>;

// bytes({0, 0, 8, 1}) + bytes("text") + ...
inline Bytes bytes(std::initializer_list<int> values) {
  Bytes out;
  for (const int value : values) {
    out.push_back(static_cast<uint8_t>(value));
  }
  return out;
}
inline Bytes bytes(std::string_view text) { return {text.begin(), text.end()}; }
Bytes operator+(Bytes a, const Bytes& b);  // not inline: GCC 12 sees an overflow where there is none
inline Bytes big_endian(uint32_t n) {
  return bytes({static_cast<int>(n >> 24), static_cast<int>(n >> 16 & 255), static_cast<int>(n >> 8 & 255),
                static_cast<int>(n & 255)});
}

std::filesystem::path write(const std::filesystem::path& path, const Bytes& content);
inline std::filesystem::path write(const std::filesystem::path& path, std::string_view text) {
  return write(path, bytes(text));
}

Bytes gzip(const Bytes& content);
Bytes xz(const Bytes& content);

// Where real data sets are: $WHITTLE_DATA, or shared/data beside the source folder.
// Without them it prints "skipped: no data" and returns nothing.
std::optional<std::filesystem::path> real_data();

}  // namespace whittle
