// The IDX format of MNIST and Fashion-MNIST: four magic bytes (0, 0, type, rank), the
// extents as big-endian 32-bit numbers, then the elements. Bytes (type 8) only.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "datasets/dataset.h"

namespace whittle::inline WHITTLE_PRECISION::data {

struct IdxOptions {
  int rank = 3;                            // 3: images [N,H,W]; 1: labels [N]
  uint64_t max_bytes = uint64_t{1} << 31;  // what a header may announce
};

struct IdxArray {
  std::vector<int64_t> dims;
  std::vector<uint8_t> values;
};

// Reads a plain, .gz or .xz file that holds exactly what its header announces.
IdxArray read_idx(const std::filesystem::path& path, const IdxOptions& options);

// Grey images [H,W,1] with their labels. The number of class names is the number of
// classes; a larger label is refused.
struct IdxImagesOptions {
  std::string name = "idx";
  std::vector<std::string> classes{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};
};
Dataset read_idx_images(const std::filesystem::path& images, const std::filesystem::path& labels,
                        const IdxImagesOptions& options);

}  // namespace whittle::inline WHITTLE_PRECISION::data
