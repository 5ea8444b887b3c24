// The data sets that have a name: what they are, where their files are looked for, and
// how they are prepared. A path in place of a name is data of one's own (own.h).
//
//   const data::Splits splits = data::load("fashion-mnist", {.data_dir = "/data", .seed = 1});
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "datasets/dataset.h"
#include "datasets/fetch.h"
#include "datasets/own.h"

namespace whittle::inline WHITTLE_PRECISION::data {

struct KnownFile {
  std::string path;    // under the data folder
  std::string sha256;  // of the packed file as it is
  std::string url;     // the original site; empty: must be got by hand
};

struct DataInfo {
  std::string name;
  std::string description{};       // one line
  std::string samples{};           // "60,000 training, 10,000 test images of 28 x 28 x 1, 10 classes"
  std::string licence{};           // and whom to cite
  bool images = false;             // else rows of numbers
  bool regression = false;         // else classes
  bool fixed_validation = false;   // comes with its validation part; there is no share to choose
  std::string target_unit{};       // regression: "1,000 dollars"; empty where the numbers have none
  std::vector<KnownFile> files{};  // none: generated
};

// All of them, generated ones first.
std::span<const DataInfo> list();

// Whether `name` means a file or folder of one's own: it is none of the names above, and it is there or has a dot or a
// slash, which they do not have.
bool is_own(const std::string& name);
// Where it is: what `name` says, or, if nothing is there, that under `data_dir`.
std::filesystem::path own_path(const std::string& name, const std::filesystem::path& data_dir);

enum class Protocol {
  kOwn,  // validation part by seed; scaling found on the training part
  // As the Edge project did, for numbers that compare with its own. Tables: its 60/20/20 split, scaling
  // over the whole set, so that test rows leak into it. Images: no validation part unless a
  // share is given, grey ones resized to 32 x 32 x 3, (pixel/255 - 0.5)/0.5.
  kEdge,
};

struct LoadOptions {
  std::filesystem::path data_dir{};  // empty: $WHITTLE_DATA
  uint64_t seed = 0;                 // of random splits and of generated sets
  Protocol protocol = Protocol::kOwn;
  std::optional<double> validation{};  // share of the training images, or of all rows; default 0.1 and 0.2; Edge 0
  bool standardize_target = false;     // regression: train on (target - mean) / deviation of the training part
  int64_t first_training = 0;          // keep only so many of the training samples, the first ones; 0: all
  OwnOptions own{};                    // of a file or folder of one's own
  bool whole = false;                  // of one's own, for a trained network: all of it is the test part
};

// Of one's own: what own.classify does not say is looked up in the file.
DataInfo info(const std::string& name, const LoadOptions& options = {});  // throws Error listing the names there are

// Throws Error in one sentence: an unknown name, files that are not there (with every place
// looked at), or whatever is wrong with a file.
Splits load(const std::string& name, const LoadOptions& options = {});

// The state of a data set's known files, for `whittle data info`.
struct FileState {
  KnownFile file;
  bool present = false;
  bool intact = false;  // present, with the expected sum
};
std::vector<FileState> check_files(const std::string& name, const std::filesystem::path& data_dir);

// Downloads what is missing. Refuses if a missing file has no address.
void fetch_files(const std::string& name, const std::filesystem::path& data_dir, const FetchOptions& options = {});

}  // namespace whittle::inline WHITTLE_PRECISION::data
