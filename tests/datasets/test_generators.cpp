// Generated data sets: shape, balance, and that they depend on the seed alone.

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstring>

#include "datasets/generators.h"
#include "datasets/table.h"
#include "tests/datasets/files.h"
#include "tests/support/message.h"

namespace whittle {

TEST_SUITE("generators") {
  TEST_CASE("noise-free moons lie on their half circles, labels in turn") {
    const data::Labelled moons = data::moons({.samples = 201, .noise = 0, .seed = 4});
    CHECK(moons.inputs.shape() == Shape{201, 2});
    for (int64_t i = 0; i < 201; ++i) {
      const bool second = moons.labels[static_cast<size_t>(i)] == 1;
      CHECK(second == (i % 2 == 1));
      const double x = static_cast<double>(moons.inputs.at({i, 0})) - (second ? 1 : 0);
      const double y = static_cast<double>(moons.inputs.at({i, 1})) - (second ? 0.5 : 0);
      CHECK(std::hypot(x, y) == doctest::Approx(1).epsilon(1e-6));
      CHECK((second ? -y : y) >= -1e-6);
    }
  }

  TEST_CASE("noise-free spirals: the radius tells the turn, and the arms are opposite") {
    const data::Labelled spirals = data::spirals({.samples = 100, .noise = 0, .seed = 4});
    for (int64_t i = 0; i < 100; ++i) {
      const double x = static_cast<double>(spirals.inputs.at({i, 0}));
      const double y = static_cast<double>(spirals.inputs.at({i, 1}));
      const double radius = std::hypot(x, y);
      const double t = (radius - 0.2) / 1.8;
      const double angle = std::acos(-1.0) * (3 * t + spirals.labels[static_cast<size_t>(i)]);
      CHECK(x == doctest::Approx(radius * std::cos(angle)).epsilon(1e-4));
      CHECK(y == doctest::Approx(radius * std::sin(angle)).epsilon(1e-4));
    }
  }

  TEST_CASE("the same seed gives the same bytes, a prefix stays a prefix, another seed differs") {
    const auto a = data::moons({.samples = 50, .noise = 0.2, .seed = 9});
    const auto b = data::moons({.samples = 80, .noise = 0.2, .seed = 9});
    const auto c = data::moons({.samples = 50, .noise = 0.2, .seed = 10});
    CHECK(std::memcmp(a.inputs.data(), b.inputs.data(), 100 * sizeof(real)) == 0);
    CHECK(std::memcmp(a.inputs.data(), c.inputs.data(), 100 * sizeof(real)) != 0);
  }

  TEST_CASE("options out of range are refused") {
    CHECK(message_of([] { data::moons({.samples = 1}); }).find("[moons] needs at least 2 samples") == 0);
    CHECK(message_of([] { data::spirals({.noise = -1}); }).find("[spirals]") == 0);
  }

  TEST_CASE("the MV definition reproduces every target of the distributed file to its six digits") {
    if (const auto dir = real_data()) {
      const data::Table table = data::read_keel(*dir / "tabular/mv.dat");
      CHECK(table.rows == 40768);
      double worst = 0;
      for (size_t r = 0; r < 40768; ++r) {
        std::array<double, 10> x{};
        for (size_t c = 0; c < 10; ++c) {
          x[c] = table.columns[c].numbers[r];
        }
        worst = std::max(worst, std::abs(data::mv_target(x) - table.columns[10].numbers[r]));
      }
      CHECK(worst < 1.5e-4);  // inputs and targets are printed with six digits
    }
  }

  TEST_CASE("generated MV has the moments and shares of the file") {
    const data::Dataset set = data::mv({.samples = 40768, .seed = 3});
    double sum = 0, squares = 0, low = 0, high = 0;
    std::array<int, 3> colours{};
    int green_left = 0, large = 0, yes = 0, half = 0;
    for (int64_t i = 0; i < set.size(); ++i) {
      const auto x = set.values(i);
      const double y = set.target(i);
      sum += y;
      squares += y * y;
      low = std::min(low, y);
      high = std::max(high, y);
      ++colours[static_cast<size_t>(x[2])];
      green_left += x[2] == 2 && x[0] <= 0 ? 1 : 0;
      yes += x[6] == 1 ? 1 : 0;
      large += x[7] == 1 ? 1 : 0;
      half += x[3] == x[0] / 2 ? 1 : 0;
      REQUIRE(x[9] == std::floor(x[9]));
    }
    const double n = 40768;
    CHECK(squares / n - (sum / n) * (sum / n) == doctest::Approx(108.6).epsilon(0.02));  // of the file
    CHECK(low > -42.5);
    CHECK(high <= 2.5);
    CHECK(green_left == 0);
    // Counts in the file: 24,553, 11,341, 4,874; 12,110; 10,084; 29.6 %.
    CHECK(colours[0] == doctest::Approx(24553).epsilon(0.02));
    CHECK(colours[1] == doctest::Approx(11341).epsilon(0.03));
    CHECK(colours[2] == doctest::Approx(4874).epsilon(0.05));
    CHECK(yes == doctest::Approx(12110).epsilon(0.03));
    CHECK(large == doctest::Approx(10084).epsilon(0.03));
    CHECK(half / n == doctest::Approx(0.3).epsilon(0.03));
    CHECK(message_of([] { return data::mv({.samples = 0}); }).find("[mv]") == 0);
    CHECK(message_of([] { return data::mv_target(std::array<double, 3>{}); }).find("[mv] has 10 inputs") == 0);
  }
}

}  // namespace whittle
