// The wrapper of zlib: gzip files, also of several members one after another.
#include <zlib.h>

#include <array>

#include "datasets/source.h"

namespace whittle::inline WHITTLE_PRECISION::data {

namespace {

class GzipSource : public ByteSource {
 public:
  GzipSource(std::unique_ptr<ByteSource> packed, std::string reader, std::string name)
      : packed_(std::move(packed)), reader_(std::move(reader)), name_(std::move(name)) {
    constexpr int kGzipOnly = 16;
    require(inflateInit2(&stream_, MAX_WBITS + kGzipOnly) == Z_OK, reader_, name_, ": zlib cannot start");
  }
  GzipSource(const GzipSource&) = delete;
  GzipSource& operator=(const GzipSource&) = delete;
  ~GzipSource() override { inflateEnd(&stream_); }

  size_t read(std::span<uint8_t> into) override {
    size_t filled = 0;
    while (filled < into.size() && !at_end_) {
      if (stream_.avail_in == 0) {
        stream_.next_in = buffer_.data();
        stream_.avail_in = static_cast<uInt>(packed_->read(buffer_));
        if (stream_.avail_in == 0) {
          require(member_done_, reader_, name_, ": the gzip data end early, the file is cut off");
          at_end_ = true;
          break;
        }
      }
      if (member_done_) {  // bytes behind a member: another one must begin
        inflateReset(&stream_);
        member_done_ = false;
      }
      const size_t step = std::min<size_t>(into.size() - filled, 1U << 30);
      stream_.next_out = into.data() + filled;
      stream_.avail_out = static_cast<uInt>(step);
      const int result = inflate(&stream_, Z_NO_FLUSH);
      filled += step - stream_.avail_out;
      member_done_ = result == Z_STREAM_END;
      require(result == Z_OK || result == Z_STREAM_END || result == Z_BUF_ERROR, reader_, name_,
              ": is not valid gzip data: ", stream_.msg != nullptr ? stream_.msg : "zlib gives no reason");
    }
    return filled;
  }

 private:
  std::unique_ptr<ByteSource> packed_;
  std::string reader_;
  std::string name_;
  z_stream stream_{};
  std::array<uint8_t, 65536> buffer_{};
  bool member_done_ = false;
  bool at_end_ = false;
};

}  // namespace

std::unique_ptr<ByteSource> unpack_gzip(std::unique_ptr<ByteSource> packed, std::string reader, std::string name) {
  return std::make_unique<GzipSource>(std::move(packed), std::move(reader), std::move(name));
}

}  // namespace whittle::inline WHITTLE_PRECISION::data
