// The wrapper of stb_image: PNG and BMP from memory, nothing else.
//
// stb_image trusts its input more than we do, so its world is made small: no files, no
// other formats (its JPEG decoder reads wild on damaged files), sides of at most 4096,
// and an allocator that gives out only so much per picture.
#include <cstdlib>
#include <cstring>

#include "core/error.h"
#include "datasets/picture.h"

namespace {

// Enough for 4096 x 4096 in four channels three times over: unpacked data, the picture,
// and its conversion to fewer channels.
constexpr size_t kBudget = size_t{224} << 20;
thread_local size_t budget_left = kBudget;

// In front of every block stands its size; 16 bytes keep the alignment of malloc.
constexpr size_t kHeader = 16;

void* budget_malloc(size_t size) {
  if (size > budget_left) {
    return nullptr;
  }
  auto* block = static_cast<unsigned char*>(std::malloc(size + kHeader));
  if (block == nullptr) {
    return nullptr;
  }
  budget_left -= size;
  std::memcpy(block, &size, sizeof size);
  return block + kHeader;
}

void budget_free(void* pointer) {
  if (pointer != nullptr) {
    unsigned char* block = static_cast<unsigned char*>(pointer) - kHeader;
    size_t size = 0;
    std::memcpy(&size, block, sizeof size);
    budget_left += size;
    std::free(block);
  }
}

void* budget_realloc(void* pointer, size_t old_size, size_t new_size) {
  void* grown = budget_malloc(new_size);
  if (grown != nullptr && pointer != nullptr) {
    std::memcpy(grown, pointer, old_size < new_size ? old_size : new_size);
    budget_free(pointer);
  }
  return grown;
}

}  // namespace

#define STBI_MALLOC(size) budget_malloc(size)
#define STBI_REALLOC_SIZED(pointer, old_size, new_size) budget_realloc(pointer, old_size, new_size)
#define STBI_FREE(pointer) budget_free(pointer)
#define STBI_ONLY_PNG
#define STBI_ONLY_BMP
#define STBI_NO_STDIO
#define STBI_NO_FAILURE_STRINGS
#define STBI_MAX_DIMENSIONS 4096
#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wall"
#pragma GCC diagnostic ignored "-Wextra"
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wsign-compare"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#endif
#include <stb/stb_image.h>
#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif

namespace whittle::inline WHITTLE_PRECISION::data {

Picture decode_png_or_bmp(std::span<const std::byte> file, int64_t channels, const std::string& name) {
  require(channels == 1 || channels == 3, "image", "pictures are read with 1 or 3 channels, not ", channels);
  constexpr size_t kLargestFile = size_t{256} << 20;
  require(file.size() <= kLargestFile, "image", name, ": its ", file.size(), " bytes are more than a picture needs");
  const auto* bytes = reinterpret_cast<const stbi_uc*>(file.data());
  const auto size = static_cast<int>(file.size());
  int width = 0, height = 0, stored = 0;
  require(stbi_info_from_memory(bytes, size, &width, &height, &stored) == 1 && width > 0 && height > 0, "image", name,
          ": is not a PNG or BMP picture of at most ", kMaxPictureSide, " x ", kMaxPictureSide);
  require(width <= kMaxPictureSide && height <= kMaxPictureSide, "image", name, ": its ", height, " x ", width,
          " pixels are more than ", kMaxPictureSide, " x ", kMaxPictureSide);
  stbi_uc* pixels = stbi_load_from_memory(bytes, size, &width, &height, &stored, static_cast<int>(channels));
  require(pixels != nullptr, "image", name, ": is damaged, cut off, or unpacks to more than its header says");
  Picture picture{.height = height, .width = width, .channels = channels};
  picture.pixels.assign(pixels, pixels + picture.height * picture.width * channels);
  stbi_image_free(pixels);
  return picture;
}

}  // namespace whittle::inline WHITTLE_PRECISION::data
