// Data of one's own: a table in a CSV file, or a folder of pictures with a folder per class.
//
//   const data::Splits splits = data::load("flowers.csv", {.own = {.target = "species"}});
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "datasets/dataset.h"

namespace whittle::inline WHITTLE_PRECISION::data {

struct OwnOptions {
  // Tables.
  std::string target{};             // the column to predict
  std::vector<std::string> drop{};  // columns that are not inputs
  std::optional<bool> classify{};   // nothing: text, and whole numbers of few values, are classes
  // Pictures.
  int64_t channels = 3;                    // 1: grey
  std::vector<int64_t> size{};             // height and width they are resized to; empty: all must be of one size
  std::optional<Preprocessing> network{};  // a trained one: then the data are read as it wants them
};

// Whole numbers of more different values than this are a quantity, not classes.
inline constexpr size_t kMostNumberedClasses = 20;
// A text column of more different values than this is refused as an input: it would be as many inputs.
inline constexpr size_t kMostCategories = 100;

// The separator of a table is the one its first line has most of, and that line is a header unless it holds a number.
Dataset read_own(const std::filesystem::path& path, const OwnOptions& options);

// SHA-256 of what decides how the samples are split: a table's bytes, or names and sizes of a folder's pictures.
std::string fingerprint(const std::filesystem::path& path);

// Samples whose answers are not known, for a trained network: pictures, or tables with its columns.
Dataset read_inputs(std::span<const std::filesystem::path> files, const Preprocessing& network);

}  // namespace whittle::inline WHITTLE_PRECISION::data
