#include "datasets/idx.h"

#include "core/error.h"
#include "datasets/source.h"

namespace whittle::inline WHITTLE_PRECISION::data {

IdxArray read_idx(const std::filesystem::path& path, const IdxOptions& options) {
  FileReader file(path, "idx");
  const uint32_t magic = file.big_endian_32("the magic number");
  const uint32_t expected = 0x0800U + static_cast<uint32_t>(options.rank);
  if (magic != expected) {
    file.refuse_at(0, "the magic number is ", magic, ", an IDX file of bytes in ", options.rank, " dimensions has ",
                   expected);
  }
  IdxArray array;
  uint64_t elements = 1;
  for (int axis = 0; axis < options.rank; ++axis) {
    const uint64_t at = file.position();
    const uint32_t extent = file.big_endian_32("the header");
    if (extent == 0) {
      file.refuse_at(at, "extent ", axis, " is 0");
    }
    // elements <= max_bytes < 2^63 and extent < 2^32: divide, do not multiply.
    if (extent > options.max_bytes / elements) {
      file.refuse_at(at, "the header announces more than ", options.max_bytes, " bytes");
    }
    elements *= extent;
    array.dims.push_back(extent);
  }
  array.values = file.bytes(elements, "the elements the header announces");
  file.expect_end("the header announces " + std::to_string(elements) + " elements");
  return array;
}

Dataset read_idx_images(const std::filesystem::path& images, const std::filesystem::path& labels,
                        const IdxImagesOptions& options) {
  IdxArray pixels = read_idx(images, {.rank = 3});
  const IdxArray numbers = read_idx(labels, {.rank = 1});
  require(pixels.dims[0] == numbers.dims[0], "idx", images.string(), ": holds ", pixels.dims[0], " images, but ",
          labels.string(), " holds ", numbers.dims[0], " labels");
  for (size_t i = 0; i < numbers.values.size(); ++i) {
    constexpr size_t kHeader = 8;
    require(numbers.values[i] < options.classes.size(), "idx", labels.string(), ": byte ", kHeader + i, ": label ",
            int{numbers.values[i]}, " of image ", i, " is outside the ", options.classes.size(), " classes");
  }
  return Dataset({.data = options.name, .sample = {pixels.dims[1], pixels.dims[2], 1}, .classes = options.classes},
                 {.pixels = std::move(pixels.values), .labels = {numbers.values.begin(), numbers.values.end()}});
}

}  // namespace whittle::inline WHITTLE_PRECISION::data
