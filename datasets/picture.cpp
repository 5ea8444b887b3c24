#include "datasets/picture.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace whittle::inline WHITTLE_PRECISION::data {

namespace {

// Output pixel i of one axis = sum of weights[k] * input[first + k].
struct Taps {
  int64_t first = 0;
  std::vector<double> weights{};
};

std::vector<Taps> triangle_taps(int64_t in, int64_t out) {
  const double step = static_cast<double>(in) / static_cast<double>(out);
  const double radius = std::max(step, 1.0);
  std::vector<Taps> axis;
  for (int64_t i = 0; i < out; ++i) {
    const double centre = (static_cast<double>(i) + 0.5) * step;  // pixel centres lie at k + 0.5
    Taps taps{.first = std::max<int64_t>(0, std::llround(std::floor(centre - radius)))};
    double sum = 0;
    for (int64_t k = taps.first; k < in && static_cast<double>(k) < centre + radius; ++k) {
      const double distance = std::abs(static_cast<double>(k) + 0.5 - centre) / radius;
      taps.weights.push_back(std::max(0.0, 1 - distance));
      sum += taps.weights.back();
    }
    for (double& weight : taps.weights) {
      weight /= sum;
    }
    axis.push_back(std::move(taps));
  }
  return axis;
}

}  // namespace

Picture resized(const Picture& picture, int64_t height, int64_t width) {
  require(height > 0 && width > 0 && height <= kMaxPictureSide && width <= kMaxPictureSide, "resize", "a size of ",
          height, " x ", width, " is not between 1 and ", kMaxPictureSide);
  if (height == picture.height && width == picture.width) {
    return picture;
  }
  const int64_t channels = picture.channels;
  const std::vector<Taps> across = triangle_taps(picture.width, width);
  const std::vector<Taps> down = triangle_taps(picture.height, height);
  std::vector<double> narrow(static_cast<size_t>(picture.height * width * channels));  // [height in, width out, C]
  for (int64_t y = 0; y < picture.height; ++y) {
    for (int64_t x = 0; x < width; ++x) {
      const Taps& taps = across[static_cast<size_t>(x)];
      for (int64_t c = 0; c < channels; ++c) {
        double sum = 0;
        for (size_t k = 0; k < taps.weights.size(); ++k) {
          const int64_t from = (y * picture.width + taps.first + static_cast<int64_t>(k)) * channels + c;
          sum += taps.weights[k] * picture.pixels[static_cast<size_t>(from)];
        }
        narrow[static_cast<size_t>((y * width + x) * channels + c)] = sum;
      }
    }
  }
  Picture result{.height = height, .width = width, .channels = channels};
  const int64_t line = width * channels;
  for (int64_t y = 0; y < height; ++y) {
    const Taps& taps = down[static_cast<size_t>(y)];
    for (int64_t i = 0; i < line; ++i) {
      double sum = 0;
      for (size_t k = 0; k < taps.weights.size(); ++k) {
        sum += taps.weights[k] * narrow[static_cast<size_t>((taps.first + static_cast<int64_t>(k)) * line + i)];
      }
      result.pixels.push_back(static_cast<uint8_t>(std::clamp(sum + 0.5, 0.0, 255.0)));
    }
  }
  return result;
}

}  // namespace whittle::inline WHITTLE_PRECISION::data
