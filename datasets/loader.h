// Batches of a data set, epoch after epoch, made ahead of time by worker threads.
//
//   data::DataLoader loader(splits.train, {.batch = 128, .seed = 1, .augment = {.crop = 4, .flip = true}});
//   for (int epoch = 0; epoch < 10; ++epoch) {
//     while (const auto batch = loader.next()) {
//       ... batch->inputs, batch->labels ...
//     }
//   }
//
// What a batch holds depends on (data, options, epoch, number of the batch) alone: not on
// the number of workers, nor on timing. So two integers say where training stands.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "datasets/augment.h"
#include "datasets/dataset.h"

namespace whittle::inline WHITTLE_PRECISION::data {

inline constexpr int kMaxWorkers = 64;

struct LoaderOptions {
  int64_t batch = 32;
  bool shuffle = true;     // a new order every epoch; off: the order of the data set
  bool drop_last = false;  // leave out the last batch of an epoch if it is short
  uint64_t seed = 0;
  int workers = 1;   // 0: batches are made when asked for, in the caller's thread
  int prefetch = 4;  // batches made ahead, at most
  AugmentOptions augment{};
};

struct LoaderPosition {
  int64_t epoch = 0;
  int64_t batch = 0;
  friend bool operator==(const LoaderPosition&, const LoaderPosition&) = default;
};

class DataLoader {
 public:
  // Refuses an empty data set, and a batch larger than a set that is shuffled (which is
  // for training) or whose short batches are dropped.
  DataLoader(Dataset data, const LoaderOptions& options, LoaderPosition start = {});
  DataLoader(const DataLoader&) = delete;
  DataLoader& operator=(const DataLoader&) = delete;
  ~DataLoader();  // stops the workers, also in the middle of an epoch

  // The next batch; nothing once at the end of each epoch. An exception from making this
  // batch arrives here, and again if it is asked for again.
  std::optional<Batch> next();

  // Of the batch that next() gives next; batch == batches() where it gives nothing.
  LoaderPosition position() const;
  void seek(LoaderPosition position);

  int64_t batches() const;  // per epoch
  const Dataset& data() const;

 private:
  class Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace whittle::inline WHITTLE_PRECISION::data
