#include "datasets/generators.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "core/error.h"

namespace whittle::inline WHITTLE_PRECISION::data {

namespace {

// Samples i with label i % 2 at point(label, t), t uniform in [0, 1), plus noise.
template <class Point>
Labelled two_curves(const char* name, const PlaneOptions& options, Point point) {
  require(options.samples >= 2 && options.noise >= 0, name, "needs at least 2 samples and a noise of at least 0, got ",
          options.samples, " and ", options.noise);
  const RngKey key = RngKey{.seed = options.seed}.child(name);
  const RngKey noise = key.child("noise");
  Labelled data{.inputs = Tensor::empty({options.samples, 2}),
                .labels = std::vector<int32_t>(static_cast<size_t>(options.samples))};
  real* xy = data.inputs.mutable_data();
  for (size_t i = 0; i < data.labels.size(); ++i) {
    data.labels[i] = static_cast<int32_t>(i % 2);
    const std::array<double, 2> p = point(data.labels[i], uniform(key, i));
    xy[2 * i] = static_cast<real>(p[0] + options.noise * normal(noise, 2 * i));
    xy[2 * i + 1] = static_cast<real>(p[1] + options.noise * normal(noise, 2 * i + 1));
  }
  return data;
}

}  // namespace

Labelled moons(const PlaneOptions& options) {
  return two_curves("moons", options, [](int32_t label, double t) -> std::array<double, 2> {
    const double angle = std::numbers::pi * t;
    return label == 0 ? std::array{std::cos(angle), std::sin(angle)}
                      : std::array{1 - std::cos(angle), 0.5 - std::sin(angle)};
  });
}

Labelled spirals(const PlaneOptions& options) {
  return two_curves("spirals", options, [](int32_t label, double t) -> std::array<double, 2> {
    const double radius = 0.2 + 1.8 * t;
    const double angle = std::numbers::pi * (3 * t + label);
    return {radius * std::cos(angle), radius * std::sin(angle)};
  });
}

Dataset make_dataset(const Labelled& points, const std::string& name) {
  const std::span<const real> values = points.inputs.values();
  return Dataset({.data = name, .sample = {2}, .columns = {{.name = "x"}, {.name = "y"}}, .classes = {"0", "1"}},
                 {.values = {values.begin(), values.end()}, .labels = points.labels});
}

double mv_target(std::span<const double> x) {
  require(x.size() == 10, "mv", "has 10 inputs, got ", x.size());
  const double x1 = x[0], x4 = x[3], x6 = x[5];
  const bool x7_yes = x[6] == 1, x8_normal = x[7] == 0;
  double y = x1 / 2;
  if (x4 >= -2 && x4 <= 2) {
    y = std::min(y, 10 - 2 * x1);
  }
  if (x7_yes) {
    y = std::min(y, 3 - x1 / x4);
  }
  if (x8_normal) {
    y = std::min(y, x6 + x1);
  }
  return y;
}

Dataset mv(const MvOptions& options) {
  constexpr int64_t kMost = 100'000'000;
  require(options.samples >= 1 && options.samples <= kMost, "mv", options.samples, " samples are not between 1 and ",
          kMost);
  const RngKey key = RngKey{.seed = options.seed}.child("mv");
  Samples samples;
  for (int64_t i = 0; i < options.samples; ++i) {
    Rng rng(key.child(static_cast<uint64_t>(i)));
    std::array<double, 10> x{};
    x[0] = rng.uniform(-5, 5);
    x[1] = rng.uniform(-15, -10);
    // 0 brown, 1 red, 2 green. The file has green only for positive X1, with these shares.
    const double colour = rng.uniform(0, x[0] > 0 ? 1 : 0.76);
    x[2] = colour < 0.52 ? 0 : (colour < 0.76 ? 1 : 2);
    x[3] = rng.uniform() < 0.3 ? x[0] / 2 : x[1] / 2;
    x[4] = rng.uniform(-1, 1);
    x[5] = x[3] * rng.uniform(0, 5);
    x[6] = rng.uniform() < 0.3 ? 1 : 0;
    x[7] = x[4] < 0.5 ? 0 : 1;
    x[8] = rng.uniform(100, 500);
    x[9] = static_cast<double>(rng.between(1000, 1200));
    samples.values.insert(samples.values.end(), x.begin(), x.end());
    samples.targets.push_back(mv_target(x));
  }
  Preprocessing preprocessing{.data = "mv-generated", .sample = {10}};
  for (int c = 1; c <= 10; ++c) {
    preprocessing.columns.push_back({.name = 'X' + std::to_string(c)});
  }
  return Dataset(std::move(preprocessing), std::move(samples));
}

}  // namespace whittle::inline WHITTLE_PRECISION::data
