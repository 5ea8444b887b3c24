// Pictures from PNG, BMP and JPEG files, as bytes.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/real.h"

namespace whittle::inline WHITTLE_PRECISION::data {

struct Picture {
  int64_t height = 0;
  int64_t width = 0;
  int64_t channels = 0;           // 1: grey, 3: red, green, blue
  std::vector<uint8_t> pixels{};  // [height, width, channels]
};

inline constexpr int64_t kMaxPictureSide = 4096;  // larger pictures are refused before they are decoded

// Decodes to `channels` (1 or 3) whatever the file holds; transparency is dropped. `name`
// is what messages call the file. Each of the two is the only file that knows its library.
Picture decode_png_or_bmp(std::span<const std::byte> file, int64_t channels, const std::string& name);
Picture decode_jpeg(std::span<const std::byte> file, int64_t channels, const std::string& name);

// Bilinear interpolation; when shrinking, the kernel widens so that every pixel counts
// (no aliasing).
Picture resized(const Picture& picture, int64_t height, int64_t width);

}  // namespace whittle::inline WHITTLE_PRECISION::data
