// IDX files and the unpackers below them, on files written here byte by byte.

#include <doctest/doctest.h>

#include <numeric>

#include "datasets/idx.h"
#include "datasets/registry.h"
#include "datasets/split.h"
#include "tests/datasets/files.h"
#include "tests/support/message.h"
#include "tests/support/temp_folder.h"

namespace whittle {

namespace {

Bytes images_file() {  // two images of 2 x 3
  return bytes({0, 0, 8, 3}) + big_endian(2) + big_endian(2) + big_endian(3) +
         bytes({0, 51, 102, 153, 204, 255, 1, 2, 3, 4, 5, 6});
}
Bytes labels_file() { return bytes({0, 0, 8, 1}) + big_endian(2) + bytes({7, 0}); }

std::string refusal(const TempFolder& folder, const Bytes& content, const std::string& name = "x") {
  const auto path = write(folder / name, content);
  const std::string message = message_of([&] { return data::read_idx(path, {.rank = 3}); });
  const std::string start = "[idx] " + path.string() + ": ";
  return message.starts_with(start) ? message.substr(start.size()) : "unexpected: " + message;
}

}  // namespace

TEST_SUITE("idx") {
  TEST_CASE("plain, gzip and xz files give the same images") {
    const TempFolder folder;
    const auto labels = write(folder / "l", labels_file());
    for (const auto& path : {write(folder / "i", images_file()), write(folder / "i.gz", gzip(images_file())),
                             write(folder / "i.xz", xz(images_file()))}) {
      const data::Dataset set = data::read_idx_images(path, labels, {.name = "tiny"});
      CHECK(set.size() == 2);
      CHECK(set.sample_shape() == Shape{2, 3, 1});
      CHECK(set.label(0) == 7);
      CHECK(set.label(1) == 0);
      CHECK(set.pixels(0)[5] == 255);
      CHECK(set.pixels(1)[0] == 1);
      CHECK(set.class_counts() == std::vector<int64_t>{1, 0, 0, 0, 0, 0, 0, 1, 0, 0});
    }
  }

  TEST_CASE("a gzip file may have several members") {
    const TempFolder folder;
    Bytes whole = images_file();
    const Bytes first(whole.begin(), whole.begin() + 17), second(whole.begin() + 17, whole.end());
    const auto path = write(folder / "i.gz", gzip(first) + gzip(second));
    CHECK(data::read_idx(path, {.rank = 3}).values.size() == 12);
  }

  TEST_CASE("headers that do not fit the file are refused with the byte") {
    const TempFolder folder;
    CHECK(refusal(folder, {}) == "byte 0: the file ends inside the magic number (4 bytes from byte 0)");
    CHECK(refusal(folder, bytes({0, 0, 8, 1}) + big_endian(1)).starts_with("byte 0: the magic number is 2049"));
    CHECK(refusal(folder, bytes({0, 0, 13, 3})).starts_with("byte 0: the magic number is 3331"));
    CHECK(refusal(folder, bytes({0, 0, 8, 3, 0, 0})) ==
          "byte 6: the file ends inside the header (4 bytes from byte 4)");
    CHECK(refusal(folder, bytes({0, 0, 8, 3}) + big_endian(2) + big_endian(0)) == "byte 8: extent 1 is 0");
    Bytes file = images_file();
    file.pop_back();
    CHECK(refusal(folder, file) ==
          "byte 27: the file ends inside the elements the header announces (12 bytes from byte 16)");
    CHECK(refusal(folder, images_file() + bytes({9})) ==
          "byte 28: more bytes follow, but the header announces 12 elements");
  }

  TEST_CASE("products that overflow, and files that claim to be huge, allocate nothing") {
    const TempFolder folder;
    const std::string huge = "the header announces more than 2147483648 bytes";
    // 2^32-1 cubed wraps in 64 bits; 65536 * 65536 * 65536 * ... wraps to 0.
    CHECK(refusal(folder, bytes({0, 0, 8, 3}) + big_endian(~0U) + big_endian(~0U) + big_endian(~0U)) ==
          "byte 4: " + huge);
    CHECK(refusal(folder, bytes({0, 0, 8, 3}) + big_endian(1U << 22) + big_endian(1U << 22) + big_endian(1U << 22)) ==
          "byte 8: " + huge);
    // 2 GB announced, nothing there: found out after the first megabyte.
    CHECK(refusal(folder, bytes({0, 0, 8, 3}) + big_endian(1U << 30) + big_endian(1) + big_endian(1))
              .starts_with("byte 16: the file ends inside"));
  }

  TEST_CASE("a packed file is unpacked no further than its header announces") {
    const TempFolder folder;
    const Bytes bomb = images_file() + Bytes(100'000'000, 0);
    CHECK(refusal(folder, gzip(bomb), "bomb.gz") == "byte 28: more bytes follow, but the header announces 12 elements");
    CHECK(refusal(folder, xz(bomb), "bomb.xz") == "byte 28: more bytes follow, but the header announces 12 elements");
  }

  TEST_CASE("every truncation of a packed file is refused") {
    const TempFolder folder;
    const Bytes gz = gzip(images_file()), lz = xz(images_file());
    for (size_t length = 0; length < gz.size(); ++length) {
      CAPTURE(length);
      CHECK(refusal(folder, Bytes(gz.begin(), gz.begin() + static_cast<std::ptrdiff_t>(length)), "cut.gz") ==
            "the gzip data end early, the file is cut off");
    }
    for (size_t length = 0; length < lz.size(); ++length) {
      CAPTURE(length);
      CHECK(refusal(folder, Bytes(lz.begin(), lz.begin() + static_cast<std::ptrdiff_t>(length)), "cut.xz")
                .find("cut off") != std::string::npos);
    }
  }

  TEST_CASE("damaged packed files are refused") {
    const TempFolder folder;
    CHECK(refusal(folder, images_file(), "plain.gz").starts_with("is not valid gzip data"));
    CHECK(refusal(folder, images_file(), "plain.xz") == "is not an xz file");
    Bytes gz = gzip(images_file());
    gz[gz.size() - 6] ^= 1;  // the checksum at the end
    CHECK(refusal(folder, gz, "crc.gz").starts_with("is not valid gzip data"));
    Bytes lz = xz(images_file());
    lz[lz.size() / 2] ^= 1;
    // What a flipped bit unpacks to may look wrong before the checksum is reached.
    CHECK_FALSE(refusal(folder, lz, "bad.xz").starts_with("unexpected"));
    CHECK(refusal(folder, gzip(images_file()) + bytes({1, 2, 3}), "tail.gz").starts_with("is not valid gzip data"));
  }

  TEST_CASE("labels must fit the images and the classes") {
    const TempFolder folder;
    const auto images = write(folder / "i", images_file());
    const auto three = write(folder / "3", bytes({0, 0, 8, 1}) + big_endian(3) + bytes({1, 2, 3}));
    CHECK(message_of([&] {
            return data::read_idx_images(images, three, {});
          }).find("holds 2 images, but " + three.string() + " holds 3 labels") != std::string::npos);
    const auto ten = write(folder / "10", bytes({0, 0, 8, 1}) + big_endian(2) + bytes({1, 10}));
    CHECK(message_of([&] { return data::read_idx_images(images, ten, {}); }) ==
          "[idx] " + ten.string() + ": byte 9: label 10 of image 1 is outside the 10 classes");
  }

  TEST_CASE("a folder, a missing file and a pipe are no files") {
    const TempFolder folder;
    CHECK(message_of([&] { return data::read_idx(folder.path(), {}); }).find("is not a regular file") !=
          std::string::npos);
    CHECK(message_of([&] { return data::read_idx(folder / "none", {}); }).find("there is no such file") !=
          std::string::npos);
  }

  TEST_CASE("MNIST and Fashion-MNIST: counts, balance, and the first label of each") {
    if (const auto dir = real_data()) {
      const data::Splits mnist = data::load("mnist", {.data_dir = *dir, .validation = 0.0});
      CHECK(mnist.train.size() == 60000);
      CHECK(mnist.test.size() == 10000);
      CHECK(mnist.train.class_counts() ==
            std::vector<int64_t>{5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949});
      CHECK(mnist.test.class_counts() == std::vector<int64_t>{980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009});
      CHECK(mnist.train.label(0) == 5);
      CHECK(mnist.test.label(0) == 7);
      const data::Preprocessing fitted = data::fit_scaling(mnist.train, {});
      CHECK(fitted.centre[0] / 255 == doctest::Approx(0.1307).epsilon(1e-3));
      CHECK(fitted.spread[0] / 255 == doctest::Approx(0.3081).epsilon(1e-3));

      const data::Splits fashion = data::load("fashion-mnist", {.data_dir = *dir, .seed = 3});
      CHECK(fashion.train.size() == 54000);
      CHECK(fashion.validation.size() == 6000);
      CHECK(fashion.test.class_counts() == std::vector<int64_t>(10, 1000));
      const data::Preprocessing clothes = data::fit_scaling(fashion.train, {});
      CHECK(clothes.centre[0] / 255 == doctest::Approx(0.2860).epsilon(3e-3));
      CHECK(clothes.spread[0] / 255 == doctest::Approx(0.3530).epsilon(3e-3));
    }
  }
}

}  // namespace whittle
