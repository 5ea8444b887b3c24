// A picture as a BMP file: 24 bits, all pixels of one colour.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>

namespace whittle {

struct Colour {
  uint8_t red, green, blue;
};

inline void write_bmp(const std::filesystem::path& path, int width, int height, Colour colour) {
  const auto little_endian = [](int value) {
    std::string bytes;
    for (int shift = 0; shift < 32; shift += 8) {
      bytes += static_cast<char>(value >> shift & 0xff);
    }
    return bytes;
  };
  const int padding = (4 - 3 * width % 4) % 4;
  std::string lines;
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      lines += {static_cast<char>(colour.blue), static_cast<char>(colour.green), static_cast<char>(colour.red)};
    }
    lines.append(static_cast<size_t>(padding), '\0');
  }
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << "BM" << little_endian(54 + static_cast<int>(lines.size()))
                                        << little_endian(0) << little_endian(54) << little_endian(40)
                                        << little_endian(width) << little_endian(height) << std::string("\1\0\30\0", 4)
                                        << little_endian(0) << std::string(20, '\0') << lines;
}

}  // namespace whittle
