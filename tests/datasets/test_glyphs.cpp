// The generated pictures: depend on (seed, number) alone, are balanced, can be told apart,
// and are not too easy.

#include <doctest/doctest.h>

#include <cmath>

#include "core/parallel.h"
#include "datasets/glyphs.h"
#include "tests/support/message.h"

namespace whittle {

namespace {

bool same_pixels(const data::Dataset& a, int64_t i, const data::Dataset& b, int64_t j) {
  return std::ranges::equal(a.pixels(i), b.pixels(j));
}

// Share of `test` whose nearest class mean (in pixels) is the right one.
double nearest_mean_accuracy(const data::Dataset& train, const data::Dataset& test) {
  std::vector<std::vector<double>> means(10, std::vector<double>(784));
  const std::vector<int64_t> counts = train.class_counts();
  for (int64_t i = 0; i < train.size(); ++i) {
    const auto c = static_cast<size_t>(train.label(i));
    for (size_t k = 0; k < 784; ++k) {
      means[c][k] += train.pixels(i)[k] / static_cast<double>(counts[c]);
    }
  }
  int right = 0;
  for (int64_t i = 0; i < test.size(); ++i) {
    double best = INFINITY;
    int32_t answer = -1;
    for (size_t c = 0; c < 10; ++c) {
      double distance = 0;
      for (size_t k = 0; k < 784; ++k) {
        distance += std::pow(test.pixels(i)[k] - means[c][k], 2);
      }
      if (distance < best) {
        best = distance;
        answer = static_cast<int32_t>(c);
      }
    }
    right += answer == test.label(i) ? 1 : 0;
  }
  return right / static_cast<double>(test.size());
}

}  // namespace

TEST_SUITE("glyphs") {
  TEST_CASE("picture i is the same alone, in any company and for any number of threads") {
    const data::Dataset many = data::glyphs({.samples = 300, .seed = 5});
    const data::Dataset later = data::glyphs({.samples = 10, .first = 290, .seed = 5});
    CHECK(same_pixels(many, 293, later, 3));
    CHECK(many.label(293) == later.label(3));
    for (const int threads : {1, 2, 5}) {
      set_num_threads(threads);
      const data::Dataset again = data::glyphs({.samples = 300, .seed = 5});
      bool same = true;
      for (int64_t i = 0; i < 300; ++i) {
        same = same && same_pixels(many, i, again, i);
      }
      CHECK(same);
    }
    set_num_threads(0);
    CHECK_FALSE(same_pixels(many, 3, data::glyphs({.samples = 10, .seed = 6}), 3));
    CHECK_FALSE(same_pixels(many, 3, many, 13));
  }

  TEST_CASE("ten classes in turn, 28 x 28 grey, inputs around zero") {
    const data::Dataset set = data::glyphs({.samples = 1000});
    CHECK(set.class_counts() == std::vector<int64_t>(10, 100));
    CHECK(set.sample_shape() == Shape{28, 28, 1});
    const data::Batch batch = set.all();
    for (const real v : batch.inputs.values()) {
      REQUIRE(std::abs(v) <= 1);
    }
  }

  TEST_CASE("undistorted signs are clean, in the middle, and all different") {
    const data::Dataset clean = data::glyphs({.samples = 20, .distortion = 0});
    for (int64_t i = 0; i < 10; ++i) {
      CHECK(same_pixels(clean, i, clean, i + 10));
      CHECK(clean.pixels(i)[0] == 0);
      CHECK(std::ranges::max(clean.pixels(i)) == 255);
      for (int64_t j = 0; j < i; ++j) {
        CHECK_FALSE(same_pixels(clean, i, clean, j));
      }
    }
    // A plus is its own mirror image, both ways, and has ink in the middle.
    const std::span<const uint8_t> plus = clean.pixels(3);
    for (size_t y = 0; y < 28; ++y) {
      for (size_t x = 0; x < 28; ++x) {
        CHECK(plus[28 * y + x] == plus[28 * y + 27 - x]);
        CHECK(plus[28 * y + x] == plus[28 * (27 - y) + x]);
      }
    }
    CHECK(plus[28 * 13 + 13] == 255);
  }

  TEST_CASE("hard enough that pixels alone do not tell, regular enough that they say something") {
    const double share =
        nearest_mean_accuracy(data::glyphs({.samples = 2000}), data::glyphs({.samples = 500, .first = 5000}));
    CAPTURE(share);
    CHECK(share > 0.4);
    CHECK(share < 0.85);
  }

  TEST_CASE("options out of range are refused") {
    CHECK(message_of([] { return data::glyphs({.samples = 0}); }).find("[glyphs]") == 0);
    CHECK(message_of([] { return data::glyphs({.first = -1}); }).find("[glyphs]") == 0);
    CHECK(message_of([] { return data::glyphs({.distortion = -0.5}); }).find("[glyphs] a distortion of -0.5") == 0);
    CHECK(message_of([] { return data::glyphs({.distortion = NAN}); }).find("[glyphs]") == 0);
  }
}

}  // namespace whittle
