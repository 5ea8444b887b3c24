// CIFAR's binary records, on files written here and on the real ones.

#include <doctest/doctest.h>

#include <numeric>

#include "datasets/cifar.h"
#include "datasets/registry.h"
#include "datasets/split.h"
#include "tests/datasets/files.h"
#include "tests/support/message.h"
#include "tests/support/temp_folder.h"

namespace whittle {

namespace {

// A record whose red is `value` everywhere, green value + 1, blue value + 2; the last
// pixel is (7, 8, 9).
Bytes record(std::initializer_list<int> labels, int value) {
  Bytes out = bytes(labels);
  for (int plane = 0; plane < 3; ++plane) {
    out = out + Bytes(1023, static_cast<uint8_t>(value + plane)) + bytes({7 + plane});
  }
  return out;
}

const data::CifarOptions kFine{.labels = data::CifarLabels::kHundredFine, .name = "hundred"};

}  // namespace

TEST_SUITE("cifar") {
  TEST_CASE("planes become interleaved channels, files follow one another") {
    const TempFolder folder;
    const auto a = write(folder / "a.bin", record({3}, 10) + record({9}, 20));
    const auto b = write(folder / "b.bin.xz", xz(record({0}, 30)));
    const data::Dataset set = data::read_cifar({a, b}, {});
    CHECK(set.size() == 3);
    CHECK(set.sample_shape() == Shape{32, 32, 3});
    CHECK(set.label(1) == 9);
    CHECK(set.pixels(2)[0] == 30);
    CHECK(set.pixels(2)[1] == 31);
    CHECK(set.pixels(2)[2] == 32);
    CHECK(set.pixels(0)[3 * 1023 + 2] == 9);
    CHECK(data::read_cifar({a, b}, {.first = 2}).size() == 2);
    CHECK(message_of([&] {
            return data::read_cifar({a, b}, {.first = 4});
          }).find("the files hold 3") != std::string::npos);
  }

  TEST_CASE("CIFAR-100 has two labels; either can be used") {
    const TempFolder folder;
    const auto path = write(folder / "t.bin", record({19, 99}, 1) + record({4, 30}, 2));
    const data::Dataset fine = data::read_cifar({path}, kFine);
    CHECK(fine.classes() == 100);
    CHECK(fine.label(0) == 99);
    const data::Dataset coarse = data::read_cifar({path}, {.labels = data::CifarLabels::kHundredCoarse});
    CHECK(coarse.classes() == 20);
    CHECK(coarse.label(0) == 19);
  }

  TEST_CASE("labels out of range, cut records and empty files are refused") {
    const TempFolder folder;
    const auto ten = write(folder / "ten.bin", record({1}, 0) + record({10}, 0));
    CHECK(message_of([&] { return data::read_cifar({ten}, {}); }) ==
          "[cifar] " + ten.string() + ": byte 3073: label 10 of record 1 is outside the 10 classes");
    const auto coarse = write(folder / "coarse.bin", record({20, 5}, 0));
    CHECK(message_of([&] { return data::read_cifar({coarse}, kFine); }) ==
          "[cifar] " + coarse.string() + ": byte 0: label 20 of record 0 is outside the 20 classes");
    Bytes cut = record({1}, 0) + record({2}, 0);
    cut.pop_back();
    const auto short_file = write(folder / "cut.bin", cut);
    CHECK(message_of([&] { return data::read_cifar({short_file}, {}); }) ==
          "[cifar] " + short_file.string() + ": byte 6145: the file ends inside record 1 of 3073 bytes");
    const auto empty = write(folder / "empty.bin", Bytes{});
    CHECK(message_of([&] { return data::read_cifar({empty}, {}); }).find("holds no records") != std::string::npos);
    CHECK(message_of([&] { return data::read_cifar({ten}, {.classes = {"a"}}); }).find("1 class names for 10") !=
          std::string::npos);
  }

  TEST_CASE("CIFAR-100: counts, balance, published mean and deviation") {
    if (const auto dir = real_data()) {
      const data::Splits splits = data::load("cifar100", {.data_dir = *dir, .validation = 0.0});
      CHECK(splits.train.size() == 50000);
      CHECK(splits.train.class_counts() == std::vector<int64_t>(100, 500));
      CHECK(splits.test.class_counts() == std::vector<int64_t>(100, 100));
      CHECK(splits.train.preprocessing().classes[0] == "apple");
      // The eight digits everybody copies.
      const data::Preprocessing fitted = data::fit_scaling(splits.train, {});
      const double mean[] = {0.50707516, 0.48654887, 0.44091784};
      const double deviation[] = {0.26733429, 0.25643846, 0.27615047};
      for (size_t c = 0; c < 3; ++c) {
        CHECK(std::abs(fitted.centre[c] / 255 - mean[c]) < 0.5e-8);
        CHECK(std::abs(fitted.spread[c] / 255 - deviation[c]) < 0.5e-8);
      }
    }
  }

  TEST_CASE("CIFAR-10: the first 20,000 and the test set") {
    if (const auto dir = real_data()) {
      const data::Splits splits = data::load("cifar10", {.data_dir = *dir, .seed = 1, .first_training = 5000});
      CHECK(splits.train.size() == 4500);
      CHECK(splits.validation.size() == 500);
      CHECK(splits.test.class_counts() == std::vector<int64_t>(10, 1000));
      CHECK(splits.test.preprocessing().classes.at(static_cast<size_t>(splits.test.label(0))) == "cat");
    }
  }
}

}  // namespace whittle
