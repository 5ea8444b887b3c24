// Pictures and folders of them. PNG and BMP files are written here byte by byte (the
// deflate stream by zlib); JPEG files by libjpeg-turbo, whose header this file alone of
// the tests includes.

#include <doctest/doctest.h>
#include <turbojpeg.h>
#include <zlib.h>

#include <cmath>

#include "datasets/image_folder.h"
#include "datasets/picture.h"
#include "tests/datasets/files.h"
#include "tests/support/message.h"
#include "tests/support/temp_folder.h"

namespace whittle {

namespace {

Bytes chunk(std::string_view type, const Bytes& content) {
  const Bytes body = bytes(type) + content;
  const auto crc = static_cast<uint32_t>(crc32(0, body.data(), static_cast<uInt>(body.size())));
  return big_endian(static_cast<uint32_t>(content.size())) + body + big_endian(crc);
}

Bytes deflated(const Bytes& content) {
  uLongf size = compressBound(static_cast<uLong>(content.size()));
  Bytes packed(size);
  REQUIRE(compress(packed.data(), &size, content.data(), static_cast<uLong>(content.size())) == Z_OK);
  packed.resize(size);
  return packed;
}

// 8 bits per channel; `channels` 1 or 3; `lines` holds a filter byte before each line.
Bytes png(uint32_t width, uint32_t height, int channels, const Bytes& lines) {
  return bytes({0x89, 'P', 'N', 'G', 13, 10, 26, 10}) +
         chunk("IHDR", big_endian(width) + big_endian(height) + bytes({8, channels == 3 ? 2 : 0, 0, 0, 0})) +
         chunk("IDAT", deflated(lines)) + chunk("IEND", {});
}

// Red, green / blue, white.
Bytes four_colours() { return png(2, 2, 3, bytes({0, 255, 0, 0, 0, 255, 0, /**/ 0, 0, 0, 255, 255, 255, 255})); }

Bytes bmp_four_colours() {  // 24 bits, bottom line first, blue-green-red, lines of 8 bytes
  return bytes("BM") + bytes({70, 0, 0, 0, 0, 0, 0, 0, 54, 0, 0, 0, 40, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 1, 0, 24, 0}) +
         Bytes(24, 0) + bytes({255, 0, 0, 255, 255, 255, 0, 0, /**/ 0, 0, 255, 0, 255, 0, 0, 0});
}

Bytes jpeg(int width, int height, const Bytes& pixels, int format = TJPF_RGB) {
  tjhandle encoder = tjInitCompress();
  unsigned char* out = nullptr;
  unsigned long size = 0;
  REQUIRE(tjCompress2(encoder, pixels.data(), width, 0, height, format, &out, &size, TJSAMP_444, 95, 0) == 0);
  Bytes file(out, out + size);
  tjFree(out);
  tjDestroy(encoder);
  return file;
}

std::span<const std::byte> as_bytes(const Bytes& file) { return std::as_bytes(std::span(file)); }

}  // namespace

TEST_SUITE("images") {
  TEST_CASE("PNG and BMP decode exactly, in colour and in grey") {
    const Bytes expected = bytes({255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255});
    for (const Bytes& file : {four_colours(), bmp_four_colours()}) {
      const data::Picture picture = data::decode_png_or_bmp(as_bytes(file), 3, "x");
      CHECK(picture.height == 2);
      CHECK(picture.width == 2);
      CHECK(picture.pixels == expected);
      const data::Picture grey = data::decode_png_or_bmp(as_bytes(file), 1, "x");
      CHECK(grey.pixels.size() == 4);
      CHECK(grey.pixels[3] == 255);
      CHECK(grey.pixels[1] > grey.pixels[0]);  // green is lighter than red,
      CHECK(grey.pixels[0] > grey.pixels[2]);  // and red than blue
    }
    const Bytes grey = png(3, 1, 1, bytes({0, 7, 8, 9}));
    CHECK(data::decode_png_or_bmp(as_bytes(grey), 1, "x").pixels == bytes({7, 8, 9}));
    CHECK(data::decode_png_or_bmp(as_bytes(grey), 3, "x").pixels == bytes({7, 7, 7, 8, 8, 8, 9, 9, 9}));
  }

  TEST_CASE("JPEG decodes to about what was encoded") {
    Bytes rgb;
    for (int y = 0; y < 16; ++y) {
      for (int x = 0; x < 24; ++x) {
        rgb = rgb + bytes({10 * x, 15 * y, 100});
      }
    }
    const Bytes file = jpeg(24, 16, rgb);
    const data::Picture picture = data::decode_jpeg(as_bytes(file), 3, "x");
    CHECK(picture.height == 16);
    CHECK(picture.width == 24);
    double error = 0;
    for (size_t i = 0; i < rgb.size(); ++i) {
      error += std::abs(picture.pixels[i] - rgb[i]);
    }
    CHECK(error / static_cast<double>(rgb.size()) < 3);
    CHECK(data::decode_jpeg(as_bytes(file), 1, "x").pixels.size() == 16 * 24);
  }

  TEST_CASE("every truncation is refused, every flipped byte at least survived") {
    const Bytes flat_jpeg = jpeg(8, 8, Bytes(8 * 8 * 3, 90));
    for (const Bytes& file : {four_colours(), bmp_four_colours(), flat_jpeg}) {
      const bool is_jpeg = file[0] == 0xff;
      const auto decode = [&](const Bytes& damaged) {
        return message_of([&] {
          return is_jpeg ? data::decode_jpeg(as_bytes(damaged), 3, "x")
                         : data::decode_png_or_bmp(as_bytes(damaged), 3, "x");
        });
      };
      for (size_t length = 0; length + 16 < file.size(); ++length) {  // the last bytes may be padding and checksums
        CAPTURE(length);
        CHECK(
            decode(Bytes(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(length))).starts_with("[image] x: "));
      }
      for (size_t i = 0; i < file.size(); ++i) {
        Bytes damaged = file;
        damaged[i] ^= 0xff;
        const std::string message = decode(damaged);
        CHECK((message == "no error" || message.starts_with("[image] x: ")));
      }
    }
  }

  TEST_CASE("pictures that are too large are refused before they are decoded") {
    const Bytes wide = png(4097, 1, 1, Bytes(4098, 0));
    CHECK(
        message_of([&] { return data::decode_png_or_bmp(as_bytes(wide), 1, "w.png"); }).starts_with("[image] w.png: "));
    const Bytes huge = png(0x7fffffff, 0x7fffffff, 3, {});
    CHECK(message_of([&] { return data::decode_png_or_bmp(as_bytes(huge), 3, "x"); }).starts_with("[image] x: "));
    // Two by two pixels whose data unpack to 300 MB.
    const Bytes bomb = png(2, 2, 3, Bytes(300'000'000, 0));
    CHECK(message_of([&] {
            return data::decode_png_or_bmp(as_bytes(bomb), 3, "x");
          }).find("unpacks to more than its header says") != std::string::npos);
    // The budget is whole again afterwards.
    CHECK(data::decode_png_or_bmp(as_bytes(four_colours()), 3, "x").pixels.size() == 12);
    Bytes claims = jpeg(8, 8, Bytes(8 * 8 * 3, 90));
    for (size_t i = 0; i + 8 < claims.size(); ++i) {
      if (claims[i] == 0xff && claims[i + 1] == 0xc0) {  // start of frame: height and width
        claims[i + 5] = claims[i + 7] = 0xff;
      }
    }
    CHECK(message_of([&] { return data::decode_jpeg(as_bytes(claims), 3, "x"); }).find("not between 1 and 4096") !=
          std::string::npos);
  }

  TEST_CASE("other formats are not decoded") {
    CHECK(message_of([] { return data::decode_jpeg(as_bytes(jpeg(8, 8, Bytes(8 * 8 * 4, 90), TJPF_CMYK)), 3, "x"); }) ==
          "[image] x: holds the four colours of printers (CMYK); save it as RGB");
    for (const char* text : {"GIF89a\1\0\1\0\0\0\0;", "P6 1 1 255\nabc", "", "text"}) {
      CHECK(message_of([&] {
              return data::decode_png_or_bmp(as_bytes(bytes(text)), 3, "x");
            }).starts_with("[image] x: is not a PNG or BMP"));
      CHECK(message_of([&] {
              return data::decode_jpeg(as_bytes(bytes(text)), 3, "x");
            }).starts_with("[image] x: is not a JPEG"));
    }
  }

  TEST_CASE("resizing: constants stay, ramps stay ramps, the mean stays") {
    const data::Picture flat{.height = 5, .width = 7, .channels = 3, .pixels = Bytes(105, 77)};
    CHECK(data::resized(flat, 13, 3).pixels == Bytes(117, 77));
    const data::Picture step{.height = 1, .width = 2, .channels = 1, .pixels = bytes({0, 100})};
    CHECK(data::resized(step, 1, 4).pixels == bytes({0, 25, 75, 100}));  // half-pixel centres
    const data::Picture four{.height = 1, .width = 4, .channels = 1, .pixels = bytes({0, 0, 200, 200})};
    const data::Picture two = data::resized(four, 1, 2);
    CHECK(two.pixels[0] + two.pixels[1] == 200);
    CHECK(two.pixels[0] == 29);  // weights 1/7 (3, 3, 1): the triangle cut at the border
    CHECK(data::resized(four, 1, 4).pixels == four.pixels);
    CHECK(message_of([&] { return data::resized(flat, 0, 3); }).find("[resize]") == 0);
  }

  TEST_CASE("a folder per class, sorted") {
    const TempFolder folder;
    write(folder / "set/rose/b.png", four_colours());
    write(folder / "set/rose/a.BMP", bmp_four_colours());
    write(folder / "set/daisy/x.png", png(2, 2, 1, bytes({0, 1, 2, 0, 3, 4})));
    write(folder / "set/.hidden/x.txt", "passed over");
    write(folder / "set/rose/.DS_Store", "passed over");
    write(folder / "set/rose/Thumbs.db", "passed over");
    write(folder / "set/desktop.ini", "passed over");
    const data::Dataset set = data::read_image_folder(folder / "set", {.name = "flowers"});
    CHECK(set.size() == 3);
    CHECK(set.preprocessing().classes == std::vector<std::string>{"daisy", "rose"});
    CHECK(set.sample_shape() == Shape{2, 2, 3});
    CHECK(set.label(0) == 0);
    CHECK(set.pixels(0)[11] == 4);
    CHECK(set.pixels(1)[0] == 255);
    CHECK(set.class_counts() == std::vector<int64_t>{1, 2});
    CHECK(data::read_image_folder(folder / "set", {.channels = 1, .height = 4, .width = 6}).sample_shape() ==
          Shape{4, 6, 1});
  }

  TEST_CASE("what does not belong into such a folder is named") {
    const TempFolder folder;
    const auto read = [&](const data::ImageFolderOptions& options = {}) {
      return message_of([&] { return data::read_image_folder(folder / "set", options); });
    };
    CHECK(read().find("is not a folder") != std::string::npos);
    write(folder / "set/a/1.png", four_colours());
    CHECK(read().find("holds 1 class folders, classification needs two") != std::string::npos);
    std::filesystem::create_directories(folder / "set/b");
    CHECK(read().find("b: holds no pictures") != std::string::npos);
    write(folder / "set/b/1.gif", "GIF89a");
    CHECK(read().find("1.gif: is not a .png, .bmp, .jpg or .jpeg file") != std::string::npos);
    std::filesystem::remove(folder / "set/b/1.gif");
    write(folder / "set/b/1.png", png(3, 1, 1, bytes({0, 7, 8, 9})));
    CHECK(read().find("b/1.png: is 1 x 3, the pictures before it are 2 x 2") != std::string::npos);
    CHECK(read({.height = 4}).find("give height and width, or neither") != std::string::npos);
    CHECK(read({.height = 2, .width = 2, .max_bytes = 20}).find("more than 20 bytes") != std::string::npos);
    write(folder / "set/b/1.jpg", "");
    CHECK(read({.height = 2, .width = 2}).find("1.jpg: is empty") != std::string::npos);
    write(folder / "set/b/1.jpg", "no picture");
    CHECK(read({.height = 2, .width = 2}).find("1.jpg: is not a JPEG picture") != std::string::npos);
    std::filesystem::create_directories(folder / "set/A\xfc");
    CHECK(read({.height = 2, .width = 2}).find("the name of the class is not UTF-8") != std::string::npos);
    std::filesystem::remove(folder / "set/A\xfc");
    write(folder / "set/c.png", four_colours());
    std::filesystem::remove(folder / "set/b/1.jpg");
    CHECK(read({.height = 2, .width = 2}).find("c.png: a file among the class folders") != std::string::npos);
  }
}

}  // namespace whittle
