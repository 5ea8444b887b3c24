// Random changes to the images of a batch, so that a network sees each picture in many
// forms: crop, flip, cutout, rotation, mixup.
//
// What happens to an image is a function of (seed, epoch, number of the sample) alone. Only
// mixup also depends on its neighbour in the batch.
#pragma once

#include <cstdint>
#include <span>

#include "core/rng.h"
#include "datasets/dataset.h"

namespace whittle::inline WHITTLE_PRECISION::data {

// Everything is off by default. New pixels are 0: the mean colour of a standardised set.
struct AugmentOptions {
  int64_t crop = 0;     // pad by so many pixels, cut out the old size at random: a shift by up to `crop`
  bool flip = false;    // mirror left and right, half the time
  double rotation = 0;  // turn by up to so many degrees either way, bilinear
  int64_t cutout = 0;   // side of a square set to 0; its centre lies anywhere in the image (DeVries & Taylor 2017)
  double mixup = 0;     // blend with the next image of the batch, share from Beta(mixup, mixup) (Zhang et al. 2018)

  friend bool operator==(const AugmentOptions&, const AugmentOptions&) = default;
};

// Throws Error if an option is out of range; with data, also if it does not fit such samples.
void check_augmentation(const AugmentOptions& options);
void check_augmentation(const AugmentOptions& options, const Dataset& data);

// Changes batch.inputs in place, which must be a fresh [B,H,W,C]; `samples` are the numbers
// of its images, `key` names the seed. With mixup, batch.targets becomes [B,classes], rows
// of probabilities, and labels stay those of the larger share.
void augment(Batch& batch, const AugmentOptions& options, std::span<const int64_t> samples, int64_t classes,
             int64_t epoch, RngKey key);

}  // namespace whittle::inline WHITTLE_PRECISION::data
