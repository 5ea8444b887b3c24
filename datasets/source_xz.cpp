// The wrapper of liblzma: .xz files, with whatever filters they name.
#include <lzma.h>

#include <array>

#include "datasets/source.h"

namespace whittle::inline WHITTLE_PRECISION::data {

namespace {

class XzSource : public ByteSource {
 public:
  XzSource(std::unique_ptr<ByteSource> packed, std::string reader, std::string name)
      : packed_(std::move(packed)), reader_(std::move(reader)), name_(std::move(name)) {
    // The file chooses the dictionary; `xz -9` takes 65 MiB. More than this is refused.
    constexpr uint64_t kMemoryLimit = uint64_t{128} << 20;
    require(lzma_stream_decoder(&stream_, kMemoryLimit, LZMA_CONCATENATED) == LZMA_OK, reader_, name_,
            ": liblzma cannot start");
  }
  XzSource(const XzSource&) = delete;
  XzSource& operator=(const XzSource&) = delete;
  ~XzSource() override { lzma_end(&stream_); }

  size_t read(std::span<uint8_t> into) override {
    stream_.next_out = into.data();
    stream_.avail_out = into.size();
    while (stream_.avail_out > 0 && !at_end_) {
      if (stream_.avail_in == 0 && action_ == LZMA_RUN) {
        stream_.next_in = buffer_.data();
        stream_.avail_in = packed_->read(buffer_);
        action_ = stream_.avail_in == 0 ? LZMA_FINISH : LZMA_RUN;
      }
      const lzma_ret result = lzma_code(&stream_, action_);
      at_end_ = result == LZMA_STREAM_END;
      require(result == LZMA_OK || at_end_, reader_, name_, ": ", reason(result));
    }
    return into.size() - stream_.avail_out;
  }

 private:
  static const char* reason(lzma_ret result) {
    switch (result) {
      case LZMA_BUF_ERROR:
        return "the xz data end early, the file is cut off";
      case LZMA_FORMAT_ERROR:
        return "is not an xz file";
      case LZMA_MEMLIMIT_ERROR:
        return "needs more than 128 MiB to unpack, which is refused";
      case LZMA_OPTIONS_ERROR:
        return "uses xz options that liblzma does not know";
      default:
        return "is not valid xz data";
    }
  }

  std::unique_ptr<ByteSource> packed_;
  std::string reader_;
  std::string name_;
  lzma_stream stream_ = LZMA_STREAM_INIT;
  lzma_action action_ = LZMA_RUN;
  std::array<uint8_t, 65536> buffer_{};
  bool at_end_ = false;
};

}  // namespace

std::unique_ptr<ByteSource> unpack_xz(std::unique_ptr<ByteSource> packed, std::string reader, std::string name) {
  return std::make_unique<XzSource>(std::move(packed), std::move(reader), std::move(name));
}

}  // namespace whittle::inline WHITTLE_PRECISION::data
