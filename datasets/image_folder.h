// A folder of pictures: one folder per class, its name the class.
//
//   flowers/daisy/1.jpg   flowers/daisy/2.png   flowers/rose/7.jpg   ...
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "datasets/dataset.h"

namespace whittle::inline WHITTLE_PRECISION::data {

struct ImageFolderOptions {
  std::string name = "images";
  int64_t channels = 3;                    // 1: grey
  int64_t height = 0;                      // pictures are resized to height x width;
  int64_t width = 0;                       //   0: all must be as large as the first
  uint64_t max_bytes = uint64_t{1} << 32;  // of all pixels together

  // The classes a trained network knows: a folder of another name is refused, one that is missing is not.
  std::vector<std::string> classes{};
};

// What nobody put there: names that begin with a dot, and what Windows leaves (Thumbs.db, desktop.ini).
bool is_passed_over(const std::filesystem::path& file);

// Classes and files are taken in bytewise order of their names. A picture is what its first bytes say. Hidden files and
// folders are passed over; anything else that is not a .png, .bmp, .jpg or .jpeg file is refused, so that no picture
// goes missing unnoticed.
Dataset read_image_folder(const std::filesystem::path& folder, const ImageFolderOptions& options = {});

// Pictures for a trained network, resized and scaled as it wants them. What they show is not known: their labels or
// targets are 0.
Dataset read_pictures(std::span<const std::filesystem::path> files, const Preprocessing& network);

}  // namespace whittle::inline WHITTLE_PRECISION::data
