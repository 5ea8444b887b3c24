// The binary version of CIFAR-10 and CIFAR-100: records of one or two label bytes and
// three 32x32 planes (red, green, blue), without a header.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "datasets/dataset.h"

namespace whittle::inline WHITTLE_PRECISION::data {

enum class CifarLabels {
  kTen,            // CIFAR-10: one label byte
  kHundredFine,    // CIFAR-100: a coarse and a fine label byte; the fine one is used
  kHundredCoarse,  // ... the coarse one is used, 20 classes
};

struct CifarOptions {
  CifarLabels labels = CifarLabels::kTen;
  std::string name = "cifar10";
  std::vector<std::string> classes{};  // names; empty: the numbers
  int64_t first = 0;                   // read only so many records, over all files; 0: all
};

// The records of the files one after another (plain, .gz or .xz), as images [32,32,3].
// A file must end at the end of a record.
Dataset read_cifar(const std::vector<std::filesystem::path>& files, const CifarOptions& options);

}  // namespace whittle::inline WHITTLE_PRECISION::data
