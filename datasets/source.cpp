#include "datasets/source.h"

#include <algorithm>
#include <array>
#include <fstream>

namespace whittle::inline WHITTLE_PRECISION::data {

namespace fs = std::filesystem;

namespace {

class PlainFile : public ByteSource {
 public:
  PlainFile(const fs::path& path, std::string_view reader)
      : reader_(reader), name_(path.string()), file_(path, std::ios::binary) {
    require(file_.is_open(), reader, name_, ": cannot be opened");
  }

  size_t read(std::span<uint8_t> into) override {
    file_.read(reinterpret_cast<char*>(into.data()), static_cast<std::streamsize>(into.size()));
    require(!file_.bad(), reader_, name_, ": reading failed");
    return static_cast<size_t>(file_.gcount());
  }

 private:
  std::string reader_;
  std::string name_;
  std::ifstream file_;
};

}  // namespace

std::unique_ptr<ByteSource> open_source(const fs::path& path, std::string_view reader) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  require(fs::exists(status), reader, path.string(), ": there is no such file");
  require(fs::is_regular_file(status), reader, path.string(), ": is not a regular file");  // a pipe would block
  auto file = std::make_unique<PlainFile>(path, reader);
  if (path.extension() == ".gz") {
    return unpack_gzip(std::move(file), std::string(reader), path.string());
  }
  if (path.extension() == ".xz") {
    return unpack_xz(std::move(file), std::string(reader), path.string());
  }
  return file;
}

FileReader::FileReader(const fs::path& path, std::string reader)
    : reader_(std::move(reader)), name_(path.string()), source_(open_source(path, reader_)) {}

size_t FileReader::read(std::span<uint8_t> into) {
  const size_t got = source_->read(into);
  position_ += got;
  return got;
}

void FileReader::read_all(std::span<uint8_t> into, std::string_view what) {
  const uint64_t start = position_;
  const size_t got = read(into);
  if (got != into.size()) {
    refuse_at(position_, "the file ends inside ", what, " (", into.size(), " bytes from byte ", start, ")");
  }
}

std::vector<uint8_t> FileReader::bytes(uint64_t count, std::string_view what) {
  constexpr uint64_t kStep = uint64_t{1} << 20;
  const uint64_t start = position_;
  std::vector<uint8_t> all;
  while (all.size() < count) {
    const size_t have = all.size();
    all.resize(have + static_cast<size_t>(std::min(kStep, count - have)));
    const size_t got = read(std::span(all).subspan(have));
    if (have + got != all.size()) {
      refuse_at(position_, "the file ends inside ", what, " (", count, " bytes from byte ", start, ")");
    }
  }
  return all;
}

uint32_t FileReader::big_endian_32(std::string_view what) {
  std::array<uint8_t, 4> b{};
  read_all(b, what);
  return uint32_t{b[0]} << 24 | uint32_t{b[1]} << 16 | uint32_t{b[2]} << 8 | uint32_t{b[3]};
}

void FileReader::expect_end(std::string_view why) {
  std::array<uint8_t, 1> beyond{};
  const uint64_t end = position_;
  if (read(beyond) != 0) {
    refuse_at(end, "more bytes follow, but ", why);
  }
}

}  // namespace whittle::inline WHITTLE_PRECISION::data
