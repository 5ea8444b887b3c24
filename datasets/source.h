// Bytes of a file, unpacked on the way: plain, .gz (gzip) or .xz, told apart by the name.
//
// Everything is streamed, so memory follows what a reader asked for, never what a
// small packed file claims to hold: a reader takes its header, works out from it how
// much must follow, and reads that and no more.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/real.h"

namespace whittle::inline WHITTLE_PRECISION::data {

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // Fills `into` from its start and returns how many bytes came; fewer than asked for
  // only at the end. Throws Error if the bytes cannot be read or unpacked.
  virtual size_t read(std::span<uint8_t> into) = 0;
};

// Opens a regular file. `reader` is the tag of error messages: "idx", "csv", ...
std::unique_ptr<ByteSource> open_source(const std::filesystem::path& path, std::string_view reader);

// The unpackers, each the only file that knows its library. Damaged or cut-off data
// throws Error("[reader] name: ...").
std::unique_ptr<ByteSource> unpack_gzip(std::unique_ptr<ByteSource> packed, std::string reader, std::string name);
std::unique_ptr<ByteSource> unpack_xz(std::unique_ptr<ByteSource> packed, std::string reader, std::string name);

// A source with a position, for parsers of binary formats: every refusal names the
// file and the byte (counted after unpacking).
class FileReader {
 public:
  FileReader(const std::filesystem::path& path, std::string reader);

  uint64_t position() const { return position_; }
  size_t read(std::span<uint8_t> into);                               // as ByteSource::read
  void read_all(std::span<uint8_t> into, std::string_view what);      // refuses if the file ends before
  std::vector<uint8_t> bytes(uint64_t count, std::string_view what);  // grows as bytes arrive
  uint32_t big_endian_32(std::string_view what);
  void expect_end(std::string_view why);

  template <class... Parts>
  [[noreturn]] void refuse_at(uint64_t byte, const Parts&... parts) const {
    fail(reader_, name_, ": byte ", byte, ": ", parts...);
  }

 private:
  std::string reader_;
  std::string name_;
  std::unique_ptr<ByteSource> source_;
  uint64_t position_ = 0;
};

}  // namespace whittle::inline WHITTLE_PRECISION::data
