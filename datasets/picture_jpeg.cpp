// The wrapper of libjpeg-turbo: JPEG from memory.
#include <turbojpeg.h>

#include <memory>

#include "core/error.h"
#include "datasets/picture.h"

namespace whittle::inline WHITTLE_PRECISION::data {

Picture decode_jpeg(std::span<const std::byte> file, int64_t channels, const std::string& name) {
  require(channels == 1 || channels == 3, "image", "pictures are read with 1 or 3 channels, not ", channels);
  const std::unique_ptr<void, int (*)(void*)> decoder(tjInitDecompress(), &tjDestroy);
  require(decoder != nullptr, "image", "libjpeg-turbo cannot start");
  const auto* bytes = reinterpret_cast<const unsigned char*>(file.data());
  const auto size = static_cast<unsigned long>(file.size());
  int width = 0, height = 0, sampling = 0, colours = 0;
  require(tjDecompressHeader3(decoder.get(), bytes, size, &width, &height, &sampling, &colours) == 0, "image", name,
          ": is not a JPEG picture: ", tjGetErrorStr2(decoder.get()));
  require(colours != TJCS_CMYK && colours != TJCS_YCCK, "image", name,
          ": holds the four colours of printers (CMYK); save it as RGB");
  require(width > 0 && height > 0 && width <= kMaxPictureSide && height <= kMaxPictureSide, "image", name, ": its ",
          height, " x ", width, " pixels are not between 1 and ", kMaxPictureSide, " on a side");
  Picture picture{.height = height, .width = width, .channels = channels};
  picture.pixels.resize(static_cast<size_t>(picture.height * picture.width * channels));
  // The accurate transform: one answer on every CPU of a kind, whatever is fastest there.
  // Warnings (a file cut off in the middle decodes to grey) are errors here. A progressive
  // file may repeat cheap scans to keep a decoder busy; there is a limit.
  const int result = tjDecompress2(decoder.get(), bytes, size, picture.pixels.data(), width, 0, height,
                                   channels == 1 ? TJPF_GRAY : TJPF_RGB,
                                   TJFLAG_ACCURATEDCT | TJFLAG_STOPONWARNING | TJFLAG_LIMITSCANS);
  require(result == 0, "image", name, ": is a damaged JPEG picture: ", tjGetErrorStr2(decoder.get()));
  return picture;
}

}  // namespace whittle::inline WHITTLE_PRECISION::data
