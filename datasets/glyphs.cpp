#include "datasets/glyphs.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "core/error.h"
#include "core/parallel.h"
#include "core/rng.h"

namespace whittle::inline WHITTLE_PRECISION::data {

namespace {

constexpr int kSide = 28;
constexpr int kClasses = 10;
constexpr double kTurn = 2 * std::numbers::pi;

struct Point {
  double x;
  double y;
};
using Stroke = std::vector<Point>;  // corners of a line, y downwards

// ---- The ten signs, in [-1,1] x [-1,1] -------------------------------------------------

Stroke polygon(int corners, double first_angle, int step = 1) {
  Stroke stroke;
  for (int i = 0; i <= corners; ++i) {
    const double angle = first_angle + kTurn * ((i * step) % corners) / corners;
    stroke.push_back({std::cos(angle), std::sin(angle)});
  }
  return stroke;
}

Stroke spiral_stroke() {
  Stroke stroke;
  for (int i = 0; i <= 24; ++i) {
    const double t = i / 24.0;
    stroke.push_back({(0.1 + 0.9 * t) * std::cos(1.7 * kTurn * t), (0.1 + 0.9 * t) * std::sin(1.7 * kTurn * t)});
  }
  return stroke;
}

const std::array<std::vector<Stroke>, kClasses>& signs() {
  constexpr double kUp = -kTurn / 4;
  static const std::array<std::vector<Stroke>, kClasses> all = {{
      {polygon(20, 0)},                                                      // ring
      {polygon(4, kTurn / 8)},                                               // square
      {polygon(3, kUp)},                                                     // triangle
      {{{-0.9, 0}, {0.9, 0}}, {{0, -0.9}, {0, 0.9}}},                        // plus
      {{{-0.8, -0.8}, {0.8, 0.8}}, {{-0.8, 0.8}, {0.8, -0.8}}},              // cross
      {polygon(5, kUp, 2)},                                                  // star
      {{{-0.8, -0.8}, {0.8, -0.8}, {-0.8, 0.8}, {0.8, 0.8}}},                // zigzag
      {{{-0.8, -0.8}, {0.8, -0.8}, {-0.8, 0.8}, {0.8, 0.8}, {-0.8, -0.8}}},  // hourglass
      {{{0, 0.9}, {0, -0.9}}, {{-0.7, -0.2}, {0, -0.9}, {0.7, -0.2}}},       // arrow
      {spiral_stroke()},                                                     // spiral
  }};
  return all;
}

// ---- Drawing -----------------------------------------------------------------------------

// How far each pixel's centre is from the nearest line, up to a few pixels.
class Distances {
 public:
  Distances() { squared_.fill(kFar * kFar); }

  void add_line(Point a, Point b) {
    const double dx = b.x - a.x, dy = b.y - a.y;
    const double length_squared = std::max(dx * dx + dy * dy, 1e-12);
    const auto [left, right] = range(a.x, b.x);
    const auto [top, bottom] = range(a.y, b.y);
    for (int y = top; y <= bottom; ++y) {
      for (int x = left; x <= right; ++x) {
        const double px = x + 0.5 - a.x, py = y + 0.5 - a.y;
        const double t = std::clamp((px * dx + py * dy) / length_squared, 0.0, 1.0);
        const double ex = px - t * dx, ey = py - t * dy;
        const int pixel = y * kSide + x;
        double& nearest = squared_[static_cast<size_t>(pixel)];
        nearest = std::min(nearest, ex * ex + ey * ey);
      }
    }
  }

  // Share of the pixel that a pen of this radius covers: anti-aliasing by distance.
  double coverage(size_t pixel, double radius) const {
    return std::clamp(radius + 0.5 - std::sqrt(squared_[pixel]), 0.0, 1.0);
  }

 private:
  static constexpr double kFar = 4;
  static std::array<int, 2> range(double a, double b) {
    return {std::clamp(static_cast<int>(std::floor(std::min(a, b) - kFar)), 0, kSide),
            std::clamp(static_cast<int>(std::ceil(std::max(a, b) + kFar)), -1, kSide - 1)};
  }
  std::array<double, kSide * kSide> squared_{};
};

// A smooth random bending of the plane: a few slow waves in each direction.
class Bend {
 public:
  Bend(Rng& rng, double amplitude) {
    for (Wave& wave : waves_) {
      wave = {.fx = rng.uniform(-2.2, 2.2),
              .fy = rng.uniform(-2.2, 2.2),
              .phase = rng.uniform(0, kTurn),
              .dx = amplitude * rng.normal(),
              .dy = amplitude * rng.normal()};
    }
  }
  Point operator()(Point p) const {
    Point bent = p;
    for (const Wave& wave : waves_) {
      const double height = std::sin(wave.fx * p.x + wave.fy * p.y + wave.phase);
      bent.x += wave.dx * height;
      bent.y += wave.dy * height;
    }
    return bent;
  }

 private:
  struct Wave {
    double fx, fy, phase, dx, dy;
  };
  std::array<Wave, 3> waves_{};
};

void draw(int sign, Rng rng, double distortion, uint8_t* pixels) {
  const double d = distortion;
  const Bend bend(rng, 0.055 * d);
  const double angle = d * rng.uniform(-0.27, 0.27);
  const double shear = d * rng.uniform(-0.2, 0.2);
  const double size_x = 9 * (1 - d * rng.uniform(0, 0.26));
  const double size_y = 9 * (1 - d * rng.uniform(0, 0.26));
  const Point middle{kSide / 2 + d * rng.uniform(-2.1, 2.1), kSide / 2 + d * rng.uniform(-2.1, 2.1)};
  const double cosine = std::cos(angle), sine = std::sin(angle);
  const auto place = [&](Point p) {
    const Point q = bend(p);
    const double x = size_x * (q.x + shear * q.y), y = size_y * q.y;
    return Point{middle.x + cosine * x - sine * y, middle.y + sine * x + cosine * y};
  };

  Distances ink, stray;
  for (const Stroke& stroke : signs()[static_cast<size_t>(sign)]) {
    for (size_t i = 1; i < stroke.size(); ++i) {
      const Point from = stroke[i - 1], to = stroke[i];
      const int pieces = std::max(1, static_cast<int>(4 * std::hypot(to.x - from.x, to.y - from.y)));
      Point last = place(from);
      for (int k = 1; k <= pieces; ++k) {  // bending turns straight lines into curves
        const double t = static_cast<double>(k) / pieces;
        const Point next = place({from.x + t * (to.x - from.x), from.y + t * (to.y - from.y)});
        ink.add_line(last, next);
        last = next;
      }
    }
  }
  const double pen = 1 + d * rng.uniform(-0.23, 0.45);

  const auto stray_lines = static_cast<int>(d * rng.uniform(0, 2));
  for (int i = 0; i < stray_lines; ++i) {
    const Point from{rng.uniform(0, kSide), rng.uniform(0, kSide)};
    stray.add_line(from, {from.x + rng.uniform(-11, 11), from.y + rng.uniform(-11, 11)});
  }
  const double stray_pen = rng.uniform(0.3, 0.9);

  // An erased rectangle over part of the sign, in some pictures.
  const double hole = rng.uniform() < 0.3 * d ? rng.uniform(3, 7) : 0;
  const double hole_x = rng.uniform(4, 24) - hole / 2, hole_y = rng.uniform(4, 24) - hole / 2;

  const double paper = d * rng.uniform(0, 45);
  const double black = 255 - d * rng.uniform(0, 72);
  const double noise = d * rng.uniform(0, 0.26);

  for (int y = 0; y < kSide; ++y) {
    uint64_t random = 0;
    for (int x = 0; x < kSide; ++x) {
      const int number = y * kSide + x;
      const auto pixel = static_cast<size_t>(number);
      const bool erased = x >= hole_x && x < hole_x + hole && y >= hole_y && y < hole_y + hole;
      const double covered =
          erased ? 0
                 : std::max(ink.coverage(pixel, pen), 0.8 * (stray_lines > 0 ? stray.coverage(pixel, stray_pen) : 0));
      if (x % 4 == 0) {
        random = rng.bits();  // two bytes per pixel: their sum has a triangular distribution
      }
      const double triangular = static_cast<double>((random & 255) + (random >> 8 & 255)) - 255;
      random >>= 16;
      pixels[pixel] =
          static_cast<uint8_t>(std::clamp(paper + (black - paper) * covered + noise * triangular + 0.5, 0.0, 255.0));
    }
  }
}

}  // namespace

Dataset glyphs(const GlyphOptions& options) {
  constexpr int64_t kMost = 10'000'000;
  require(options.samples >= 1 && options.samples <= kMost && options.first >= 0 && options.first <= kMost, "glyphs",
          options.samples, " samples from number ", options.first, " are not between 1 and ", kMost);
  require(options.distortion >= 0 && options.distortion <= 2, "glyphs", "a distortion of ", options.distortion,
          " is not between 0 and 2");
  const RngKey key = RngKey{.seed = options.seed}.child("glyphs");
  Samples samples;
  samples.pixels.resize(static_cast<size_t>(options.samples) * kSide * kSide);
  samples.labels.resize(static_cast<size_t>(options.samples));
  parallel_ranges(options.samples, 64, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t number = options.first + i;
      const auto sign = static_cast<int32_t>(number % kClasses);
      samples.labels[static_cast<size_t>(i)] = sign;
      draw(sign, Rng(key.child(static_cast<uint64_t>(number))), options.distortion,
           samples.pixels.data() + i * kSide * kSide);
    }
  });
  return Dataset(
      {.data = "glyphs",
       .sample = {kSide, kSide, 1},
       .classes = {"ring", "square", "triangle", "plus", "cross", "star", "zigzag", "hourglass", "arrow", "spiral"},
       .centre = {127.5},
       .spread = {127.5}},
      std::move(samples));
}

}  // namespace whittle::inline WHITTLE_PRECISION::data
