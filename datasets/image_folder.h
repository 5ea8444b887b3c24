// A folder of pictures: one folder per class, its name the class.
//
//   flowers/daisy/1.jpg   flowers/daisy/2.png   flowers/rose/7.jpg   ...
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "datasets/dataset.h"

namespace whittle::inline WHITTLE_PRECISION::data {

struct ImageFolderOptions {
  std::string name = "images";
  int64_t channels = 3;                    // 1: grey
  int64_t height = 0;                      // pictures are resized to height x width;
  int64_t width = 0;                       //   0: all must be as large as the first
  uint64_t max_bytes = uint64_t{1} << 32;  // of all pixels together
};

// Classes and files are taken in bytewise order of their names. Hidden files and folders
// are passed over; anything else that is not a .png, .bmp, .jpg or .jpeg file is refused, so
// that no picture goes missing unnoticed.
Dataset read_image_folder(const std::filesystem::path& folder, const ImageFolderOptions& options = {});

}  // namespace whittle::inline WHITTLE_PRECISION::data
