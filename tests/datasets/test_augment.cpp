// Augmentation against its definition, pixel by pixel, and its dependence on the key.

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <numeric>
#include <set>

#include "datasets/augment.h"
#include "tests/support/message.h"

namespace whittle {

namespace {

// Sample n is a 6 x 8 image of two channels whose pixels are all different: 1000 n + position + 1.
data::Batch batch_of(const std::vector<int64_t>& samples) {
  data::Batch batch{.inputs = Tensor::empty({static_cast<int64_t>(samples.size()), 6, 8, 2})};
  real* out = batch.inputs.mutable_data();
  for (const int64_t n : samples) {
    for (int i = 0; i < 96; ++i) {
      *out++ = static_cast<real>(1000 * n + i + 1);
    }
    batch.labels.push_back(static_cast<int32_t>(n % 3));
  }
  return batch;
}

constexpr RngKey kKey{.seed = 11};

data::Batch augmented(const std::vector<int64_t>& samples, const data::AugmentOptions& options, int64_t epoch = 0) {
  data::Batch batch = batch_of(samples);
  data::augment(batch, options, samples, 3, epoch, kKey);
  return batch;
}

std::vector<real> image(const data::Batch& batch, int64_t i) {
  const int64_t size = batch.inputs.elements() / batch.inputs.dim(0);
  return {batch.inputs.data() + i * size, batch.inputs.data() + (i + 1) * size};
}

std::vector<int64_t> up_to(int64_t n) {
  std::vector<int64_t> all(static_cast<size_t>(n));
  std::iota(all.begin(), all.end(), int64_t{0});
  return all;
}

}  // namespace

TEST_SUITE("augment") {
  TEST_CASE("flip mirrors about half of the images, channels stay together") {
    const std::vector<int64_t> samples = up_to(400);
    const data::Batch before = batch_of(samples), after = augmented(samples, {.flip = true});
    int flipped = 0;
    for (const int64_t n : samples) {
      const bool mirrored = after.inputs.at({n, 0, 0, 0}) == before.inputs.at({n, 0, 7, 0});
      flipped += mirrored ? 1 : 0;
      for (int64_t y = 0; y < 6; ++y) {
        for (int64_t x = 0; x < 8; ++x) {
          for (int64_t c = 0; c < 2; ++c) {
            REQUIRE(after.inputs.at({n, y, x, c}) == before.inputs.at({n, y, mirrored ? 7 - x : x, c}));
          }
        }
      }
    }
    CHECK(flipped > 150);
    CHECK(flipped < 250);
  }

  TEST_CASE("crop shifts by up to the padding, zeros come in, all shifts occur") {
    const std::vector<int64_t> samples = up_to(600);
    const data::Batch before = batch_of(samples), after = augmented(samples, {.crop = 2});
    std::set<std::pair<int64_t, int64_t>> shifts;
    for (const int64_t n : samples) {
      // The middle pixel tells the shift; everything else must follow from it.
      const auto value = static_cast<int64_t>(after.inputs.at({n, 3, 4, 0})) - 1000 * n - 1;
      const int64_t dy = value / 16 - 3, dx = value % 16 / 2 - 4;
      shifts.insert({dy, dx});
      for (int64_t y = 0; y < 6; ++y) {
        for (int64_t x = 0; x < 8; ++x) {
          const bool inside = y + dy >= 0 && y + dy < 6 && x + dx >= 0 && x + dx < 8;
          REQUIRE(after.inputs.at({n, y, x, 1}) == (inside ? before.inputs.at({n, y + dy, x + dx, 1}) : 0));
        }
      }
    }
    CHECK(shifts.size() == 25);
    CHECK(shifts.begin()->first == -2);
    CHECK(shifts.rbegin()->first == 2);
  }

  TEST_CASE("cutout zeroes one square, cut at the border") {
    const std::vector<int64_t> samples = up_to(200);
    const data::Batch before = batch_of(samples), after = augmented(samples, {.cutout = 3});
    for (const int64_t n : samples) {
      int64_t top = 6, bottom = -1, left = 8, right = -1, zeros = 0;
      for (int64_t y = 0; y < 6; ++y) {
        for (int64_t x = 0; x < 8; ++x) {
          if (after.inputs.at({n, y, x, 0}) == 0) {
            top = std::min(top, y), bottom = std::max(bottom, y), left = std::min(left, x), right = std::max(right, x);
            ++zeros;
            REQUIRE(after.inputs.at({n, y, x, 1}) == 0);
          } else {
            REQUIRE(after.inputs.at({n, y, x, 0}) == before.inputs.at({n, y, x, 0}));
          }
        }
      }
      CHECK(zeros == (bottom - top + 1) * (right - left + 1));
      CHECK(zeros >= 4);
      CHECK(zeros <= 9);
    }
  }

  TEST_CASE("rotation keeps the middle and the mean of what stays inside, within the angle") {
    // A 9 x 9 image that is 1 on the right half-axis: after turning, its end tells the angle.
    std::set<int> angles;
    for (int64_t n = 0; n < 200; ++n) {
      data::Batch batch{.inputs = Tensor::zeros({1, 9, 9, 1}), .labels = {0}};
      for (int64_t x = 4; x < 9; ++x) {
        batch.inputs.mutable_data()[4 * 9 + x] = 1;
      }
      data::augment(batch, {.rotation = 30}, std::vector<int64_t>{n}, 1, 0, kKey);
      CHECK(static_cast<double>(batch.inputs.at({0, 4, 4, 0})) == doctest::Approx(1).epsilon(1e-6));
      double weight = 0, height = 0;
      for (int64_t y = 0; y < 9; ++y) {
        weight += static_cast<double>(batch.inputs.at({0, y, 7, 0}));
        height += static_cast<double>(batch.inputs.at({0, y, 7, 0})) * static_cast<double>(y - 4);
      }
      const double degrees = std::atan2(height / weight, 3) * 180 / std::acos(-1);
      CHECK(std::abs(degrees) < 31);
      angles.insert(static_cast<int>(std::floor(degrees / 10)));
    }
    CHECK(angles.size() >= 6);  // both ways, small and large
    data::Batch quarter{.inputs = Tensor::of({1, 2, 2, 1}, {1, 2, 3, 4}), .labels = {0}};
    const data::Batch same = quarter;
    data::augment(quarter, {.rotation = 1e-12}, std::vector<int64_t>{0}, 1, 0, kKey);
    CHECK(static_cast<double>(quarter.inputs.at({0, 1, 0, 0})) == doctest::Approx(3));
  }

  TEST_CASE("mixup blends neighbours, targets are probabilities, the larger share keeps its label") {
    const std::vector<int64_t> samples = {4, 9, 2, 7, 5};
    const data::Batch before = batch_of(samples), after = augmented(samples, {.mixup = 0.8});
    CHECK(after.labels == before.labels);
    CHECK(after.targets.shape() == Shape{5, 3});
    for (int64_t i = 0; i < 5; ++i) {
      const int64_t other = (i + 1) % 5;
      // share s: after = s before[i] + (1 - s) before[other]
      const double a = static_cast<double>(before.inputs.at({i, 2, 3, 0}));
      const double b = static_cast<double>(before.inputs.at({other, 2, 3, 0}));
      const double share = (static_cast<double>(after.inputs.at({i, 2, 3, 0})) - b) / (a - b);
      CHECK(share >= 0.5 - 1e-4);
      CHECK(share <= 1 + 1e-4);
      double sum = 0;
      for (int64_t c = 0; c < 3; ++c) {
        double expected = 0;
        expected += before.labels[static_cast<size_t>(i)] == c ? share : 0;
        expected += before.labels[static_cast<size_t>(other)] == c ? 1 - share : 0;
        CHECK(static_cast<double>(after.targets.at({i, c})) == doctest::Approx(expected).epsilon(1e-3));
        sum += static_cast<double>(after.targets.at({i, c}));
      }
      CHECK(sum == doctest::Approx(1));
    }
  }

  TEST_CASE("mixup shares follow the folded Beta distribution") {
    // For Beta(a, a), E[(2 s - 1)^2] = 1 / (2 a + 1), folded or not.
    for (const double alpha : {0.2, 1.0, 4.0}) {
      CAPTURE(alpha);
      double sum = 0;
      constexpr int kDraws = 4000;
      for (int64_t n = 0; n < kDraws; ++n) {
        data::Batch batch{.inputs = Tensor::of({2, 1, 1, 1}, {1, -1}), .labels = {0, 1}};
        data::augment(batch, {.mixup = alpha}, std::vector<int64_t>{n, n + 100000}, 2, 0, kKey);
        sum += std::pow(static_cast<double>(batch.inputs.at({0, 0, 0, 0})), 2);  // s - (1 - s)
      }
      CHECK(sum / kDraws == doctest::Approx(1 / (2 * alpha + 1)).epsilon(0.06));
    }
  }

  TEST_CASE("what happens to a sample depends on seed, epoch and its number, not on the batch") {
    const data::AugmentOptions options{.crop = 2, .flip = true, .rotation = 10, .cutout = 2};
    const data::Batch three = augmented({5, 6, 7}, options), one = augmented({7}, options);
    CHECK(image(three, 2) == image(one, 0));
    CHECK(image(augmented({7}, options, 1), 0) != image(one, 0));
    // Switching cutout off does not change the shift.
    const data::Batch without = augmented({7}, {.crop = 2, .flip = true, .rotation = 10});
    int differing = 0;
    for (size_t i = 0; i < 96; ++i) {
      differing += image(one, 0)[i] != image(without, 0)[i] ? 1 : 0;
    }
    CHECK(differing <= 8);  // 2 x 2 pixels of two channels
  }

  TEST_CASE("options that do not fit are refused") {
    const data::Dataset images({.data = "i", .sample = {4, 6, 1}, .classes = {"a", "b"}},
                               {.pixels = std::vector<uint8_t>(24), .labels = {0}});
    const data::Dataset rows({.data = "r", .sample = {1}}, {.values = {1}, .targets = {1}});
    const auto says = [](const data::AugmentOptions& options, const data::Dataset& set) {
      return message_of([&] {
        data::check_augmentation(options, set);
        return 0;
      });
    };
    CHECK(says({}, rows) == "no error");
    CHECK(says({.crop = 2, .cutout = 4, .mixup = 1}, images) == "no error");
    CHECK(says({.flip = true}, rows) == "[augment] 'r' holds rows, not images");
    CHECK(says({.crop = 4}, images).find("do not fit images of [4,6,1]") != std::string::npos);
    CHECK(says({.crop = -1}, images) == "[augment] a crop of -1 is negative");
    CHECK(says({.cutout = -1}, rows) == "[augment] a cutout of -1 is negative");
    CHECK(says({.cutout = 5}, images).find("do not fit") != std::string::npos);
    CHECK(says({.rotation = 181}, images).find("181 degrees") != std::string::npos);
    CHECK(says({.rotation = -1}, images).find("-1 degrees") != std::string::npos);
    CHECK(says({.mixup = -1}, images).find("[augment]") == 0);
  }
}

}  // namespace whittle
