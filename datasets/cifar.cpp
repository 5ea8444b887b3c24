#include "datasets/cifar.h"

#include <array>

#include "core/error.h"
#include "datasets/source.h"

namespace whittle::inline WHITTLE_PRECISION::data {

namespace {

constexpr size_t kPlane = 32 * 32;
constexpr int64_t kMaxRecords = 1'000'000;  // ten times all of CIFAR: a file that unpacks to more is none

std::vector<std::string> numbers_below(int n) {
  std::vector<std::string> names;
  names.reserve(static_cast<size_t>(n));
  for (int i = 0; i < n; ++i) {
    names.push_back(std::to_string(i));
  }
  return names;
}

}  // namespace

Dataset read_cifar(const std::vector<std::filesystem::path>& files, const CifarOptions& options) {
  require(!files.empty() && options.first >= 0, "cifar",
          "needs at least one file and a first record count of at "
          "least 0, got ",
          files.size(), " and ", options.first);
  const bool hundred = options.labels != CifarLabels::kTen;
  const size_t label_bytes = hundred ? 2 : 1;
  const size_t label_at = options.labels == CifarLabels::kHundredFine ? 1 : 0;
  // What each label byte may hold, also the one that is not used.
  const std::array<int, 2> limits = hundred ? std::array{20, 100} : std::array{10, 0};
  const int classes = limits[label_at];
  require(options.classes.empty() || options.classes.size() == static_cast<size_t>(classes), "cifar",
          options.classes.size(), " class names for ", classes, " classes");

  const int64_t wanted = options.first > 0 ? options.first : kMaxRecords;
  Samples samples;
  std::vector<uint8_t> record(label_bytes + 3 * kPlane);
  int64_t count = 0;
  for (const std::filesystem::path& path : files) {
    FileReader file(path, "cifar");
    while (count < wanted) {
      const uint64_t start = file.position();
      const size_t got = file.read(record);
      if (got == 0) {
        break;
      }
      if (got < record.size()) {
        file.refuse_at(start + got, "the file ends inside record ", start / record.size(), " of ", record.size(),
                       " bytes");
      }
      for (size_t i = 0; i < label_bytes; ++i) {
        if (record[i] >= limits[i]) {
          file.refuse_at(start + i, "label ", int{record[i]}, " of record ", start / record.size(), " is outside the ",
                         limits[i], " classes");
        }
      }
      samples.labels.push_back(record[label_at]);
      const size_t image = samples.pixels.size();
      samples.pixels.resize(image + 3 * kPlane);
      for (size_t c = 0; c < 3; ++c) {  // planes to interleaved channels
        for (size_t p = 0; p < kPlane; ++p) {
          samples.pixels[image + 3 * p + c] = record[label_bytes + c * kPlane + p];
        }
      }
      ++count;
    }
    require(file.position() > 0 || count == wanted, "cifar", path.string(), ": holds no records");
    if (options.first == 0) {
      file.expect_end("one million records are enough");
    }
  }
  require(count >= options.first, "cifar", files.back().string(), ": the ", options.first,
          " records asked for are not there, the files hold ", count);
  return Dataset({.data = options.name,
                  .sample = {32, 32, 3},
                  .classes = options.classes.empty() ? numbers_below(classes) : options.classes},
                 std::move(samples));
}

}  // namespace whittle::inline WHITTLE_PRECISION::data
