#include "tests/datasets/files.h"

#include <doctest/doctest.h>
#include <lzma.h>
#include <zlib.h>

#include <cstdlib>
#include <fstream>

namespace whittle {

std::filesystem::path write(const std::filesystem::path& path, const Bytes& content) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(content.data()), static_cast<std::streamsize>(content.size()));
  file.close();
  REQUIRE(file.good());
  return path;
}

Bytes operator+(Bytes a, const Bytes& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

Bytes gzip(const Bytes& content) {
  z_stream stream{};
  REQUIRE(deflateInit2(&stream, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  Bytes packed(deflateBound(&stream, content.size()) + 64);
  stream.next_in = const_cast<Bytef*>(content.data());
  stream.avail_in = static_cast<uInt>(content.size());
  stream.next_out = packed.data();
  stream.avail_out = static_cast<uInt>(packed.size());
  REQUIRE(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

Bytes xz(const Bytes& content) {
  Bytes packed(lzma_stream_buffer_bound(content.size()));
  size_t size = 0;
  REQUIRE(lzma_easy_buffer_encode(6, LZMA_CHECK_CRC64, nullptr, content.data(), content.size(), packed.data(), &size,
                                  packed.size()) == LZMA_OK);
  packed.resize(size);
  return packed;
}

std::optional<std::filesystem::path> real_data() {
  const char* named = std::getenv("WHITTLE_DATA");
  const std::filesystem::path path =
      named != nullptr && *named != '\0'
          ? std::filesystem::path(named)
          : std::filesystem::path(__FILE__).parent_path().parent_path().parent_path() / "../shared/data";
  if (std::filesystem::is_directory(path)) {
    return path;
  }
  MESSAGE("skipped: no data");
  return std::nullopt;
}

}  // namespace whittle
