#include "datasets/augment.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/error.h"

namespace whittle::inline WHITTLE_PRECISION::data {

namespace {

struct Extent {
  int64_t height, width, channels;
};

// out[y][x] = image[y + dy][x + dx], mirrored first if asked for; 0 outside.
void shift_and_flip(const std::vector<real>& image, real* out, const Extent& e, int64_t dy, int64_t dx, bool flip) {
  for (int64_t y = 0; y < e.height; ++y) {
    for (int64_t x = 0; x < e.width; ++x) {
      const int64_t from_y = y + dy;
      const int64_t shifted = x + dx;
      const bool inside = from_y >= 0 && from_y < e.height && shifted >= 0 && shifted < e.width;
      const int64_t from_x = flip ? e.width - 1 - shifted : shifted;
      for (int64_t c = 0; c < e.channels; ++c) {
        *out++ = inside ? image[static_cast<size_t>((from_y * e.width + from_x) * e.channels + c)] : real(0);
      }
    }
  }
}

// Turns the image about its centre; each output pixel looks up where it came from.
void rotate(const std::vector<real>& image, real* out, const Extent& e, double angle) {
  const double cosine = std::cos(angle), sine = std::sin(angle);
  const double middle_y = static_cast<double>(e.height - 1) / 2, middle_x = static_cast<double>(e.width - 1) / 2;
  for (int64_t y = 0; y < e.height; ++y) {
    for (int64_t x = 0; x < e.width; ++x) {
      const double v = static_cast<double>(y) - middle_y, u = static_cast<double>(x) - middle_x;
      const double from_y = middle_y - sine * u + cosine * v, from_x = middle_x + cosine * u + sine * v;
      const double top = std::floor(from_y), left = std::floor(from_x);
      for (int64_t c = 0; c < e.channels; ++c) {
        double sum = 0;
        for (const int64_t j : {0, 1}) {
          for (const int64_t i : {0, 1}) {
            const int64_t py = static_cast<int64_t>(top) + j, px = static_cast<int64_t>(left) + i;
            if (py >= 0 && py < e.height && px >= 0 && px < e.width) {
              const double weight =
                  (j == 0 ? 1 - (from_y - top) : from_y - top) * (i == 0 ? 1 - (from_x - left) : from_x - left);
              sum += weight * static_cast<double>(image[static_cast<size_t>((py * e.width + px) * e.channels + c)]);
            }
          }
        }
        *out++ = static_cast<real>(sum);
      }
    }
  }
}

void cut_out(real* image, const Extent& e, int64_t centre_y, int64_t centre_x, int64_t side) {
  const int64_t top = centre_y - side / 2, left = centre_x - side / 2;
  for (int64_t y = std::max<int64_t>(top, 0); y < std::min(top + side, e.height); ++y) {
    const int64_t from = std::max<int64_t>(left, 0), to = std::min(left + side, e.width);
    std::fill(image + (y * e.width + from) * e.channels, image + (y * e.width + to) * e.channels, real(0));
  }
}

// Gamma(shape, 1) by Marsaglia and Tsang (2000); for shape < 1 by their boost.
double gamma_draw(Rng& rng, double shape) {
  if (shape < 1) {
    const double boost = std::pow(1 - rng.uniform(), 1 / shape);  // 1 - u is never 0
    return gamma_draw(rng, shape + 1) * boost;
  }
  const double d = shape - 1.0 / 3, c = 1 / std::sqrt(9 * d);
  for (;;) {
    const double x = rng.normal();
    const double v = std::pow(1 + c * x, 3);
    if (v > 0 && std::log(1 - rng.uniform()) < 0.5 * x * x + d - d * v + d * std::log(v)) {
      return d * v;
    }
  }
}

// The share of the image itself, at least a half so that its label keeps the larger part.
double mixup_share(Rng rng, double alpha) {
  const double a = gamma_draw(rng, alpha), b = gamma_draw(rng, alpha);
  const double share = a + b > 0 ? a / (a + b) : 1;  // tiny alphas can give 0 twice
  return std::max(share, 1 - share);
}

void mix(Batch& batch, std::span<const int64_t> samples, int64_t classes, RngKey key, double alpha) {
  const auto count = static_cast<int64_t>(samples.size());
  const auto elements = batch.inputs.elements() / count;
  const Tensor before = batch.inputs.clone();
  batch.targets = Tensor::zeros({count, classes});
  real* target = batch.targets.mutable_data();
  real* image = batch.inputs.mutable_data();
  std::vector<int32_t> labels = batch.labels;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t other = (i + 1) % count;
    const RngKey own = key.child(static_cast<uint64_t>(samples[static_cast<size_t>(i)]));
    const auto share = static_cast<real>(mixup_share(Rng(own.child("mixup")), alpha));
    for (int64_t k = 0; k < elements; ++k) {
      image[i * elements + k] =
          share * before.data()[i * elements + k] + (1 - share) * before.data()[other * elements + k];
    }
    target[i * classes + labels[static_cast<size_t>(i)]] += share;
    target[i * classes + labels[static_cast<size_t>(other)]] += 1 - share;
  }
}

}  // namespace

void check_augmentation(const AugmentOptions& options) {
  require(options.crop >= 0, "augment", "a crop of ", options.crop, " is negative");
  require(options.cutout >= 0, "augment", "a cutout of ", options.cutout, " is negative");
  require(options.rotation >= 0 && options.rotation <= 180, "augment", "a rotation of ", options.rotation,
          " degrees is not between 0 and 180");
  require(options.mixup >= 0 && options.mixup <= 100, "augment", "a mixup of ", options.mixup,
          " is not between 0 and 100");
}

void check_augmentation(const AugmentOptions& options, const Dataset& data) {
  check_augmentation(options);
  if (options == AugmentOptions{}) {
    return;
  }
  require(data.is_images(), "augment", "'", data.name(), "' holds rows, not images");
  const int64_t side = std::min(data.sample_shape()[0], data.sample_shape()[1]);
  require(options.crop < side && options.cutout <= side, "augment", "a crop of ", options.crop, " and a cutout of ",
          options.cutout, " do not fit images of ", data.sample_shape());
  require(options.mixup == 0 || data.is_classification(), "augment", "mixup blends labels, '", data.name(),
          "' has none");
}

void augment(Batch& batch, const AugmentOptions& options, std::span<const int64_t> samples, int64_t classes,
             int64_t epoch, RngKey key) {
  const Shape& shape = batch.inputs.shape();
  require(shape.rank() == 4 && shape[0] == static_cast<int64_t>(samples.size()), "augment", "inputs of shape ", shape,
          " for ", samples.size(), " images");
  const Extent extent{shape[1], shape[2], shape[3]};
  const int64_t elements = shape.elements(1, 4);
  const RngKey of_epoch = key.child("augment").child(static_cast<uint64_t>(epoch));
  std::vector<real> copy(static_cast<size_t>(elements));
  for (size_t i = 0; i < samples.size(); ++i) {
    real* image = batch.inputs.mutable_data() + static_cast<int64_t>(i) * elements;
    // One key per image, one name per change: switching one on does not alter the others.
    const RngKey own = of_epoch.child(static_cast<uint64_t>(samples[i]));
    if (options.rotation > 0) {
      const double degrees = options.rotation * (2 * uniform(own.child("rotation"), 0) - 1);
      copy.assign(image, image + elements);
      rotate(copy, image, extent, degrees * std::numbers::pi / 180);
    }
    const bool flip = options.flip && uniform(own.child("flip"), 0) < 0.5;
    if (flip || options.crop > 0) {
      Rng shift(own.child("crop"));
      const int64_t dy = shift.between(-options.crop, options.crop);
      const int64_t dx = shift.between(-options.crop, options.crop);
      copy.assign(image, image + elements);
      shift_and_flip(copy, image, extent, dy, dx, flip);
    }
    if (options.cutout > 0) {
      Rng place(own.child("cutout"));
      const int64_t y = place.below(extent.height);
      cut_out(image, extent, y, place.below(extent.width), options.cutout);
    }
  }
  if (options.mixup > 0) {
    mix(batch, samples, classes, of_epoch, options.mixup);
  }
}

}  // namespace whittle::inline WHITTLE_PRECISION::data
