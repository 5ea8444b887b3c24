#include "datasets/loader.h"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <numeric>
#include <thread>
#include <utility>
#include <vector>

#include "core/error.h"
#include "datasets/split.h"

namespace whittle::inline WHITTLE_PRECISION::data {

namespace {

// One batch being made, or made, or failed.
struct Slot {
  std::optional<Batch> batch{};
  std::exception_ptr failure{};
  bool ready() const { return batch.has_value() || failure != nullptr; }
};

}  // namespace

// Batches have tickets: epoch * batches + batch. Workers take tickets in order, at most
// `prefetch` ahead of the consumer, and put the batch into the ring at ticket % prefetch.
// Which worker takes which ticket is chance; what a ticket stands for is not.
class DataLoader::Implementation {
 public:
  Implementation(Dataset data, const LoaderOptions& options, LoaderPosition start)
      : data_(std::move(data)), options_(options) {
    require(!data_.empty(), "loader", "'", data_.name(), "' has no samples");
    require(options.batch >= 1 && options.workers >= 0 && options.workers <= kMaxWorkers && options.prefetch >= 1 &&
                options.prefetch <= 1024,
            "loader", "batches of ", options.batch, ", ", options.workers, " workers and ", options.prefetch,
            " batches ahead are out of range");
    require(options.batch <= data_.size() || (!options.shuffle && !options.drop_last), "loader", "a batch of ",
            options.batch, " is larger than the ", data_.size(), " samples of '", data_.name(), "' (--batch)");
    check_augmentation(options.augment, data_);
    batches_ = options.drop_last ? data_.size() / options.batch : (data_.size() + options.batch - 1) / options.batch;
    check(start);
    position_ = start;
    start_workers();
  }
  Implementation(const Implementation&) = delete;
  Implementation& operator=(const Implementation&) = delete;
  ~Implementation() { stop_workers(); }

  std::optional<Batch> next() {
    if (position_.batch == batches_) {
      position_ = {.epoch = position_.epoch + 1, .batch = 0};
      return std::nullopt;
    }
    std::optional<Batch> batch = options_.workers == 0 ? make(ticket()) : take(ticket());
    ++position_.batch;
    return batch;
  }

  void seek(LoaderPosition position) {
    check(position);
    stop_workers();
    position_ = position;
    start_workers();
  }

  LoaderPosition position() const { return position_; }
  int64_t batches() const { return batches_; }
  const Dataset& data() const { return data_; }

 private:
  int64_t ticket() const { return position_.epoch * batches_ + position_.batch; }

  void check(LoaderPosition position) const {
    constexpr int64_t kLastEpoch = 1'000'000'000;
    require(position.epoch >= 0 && position.epoch <= kLastEpoch && position.batch >= 0 && position.batch <= batches_,
            "loader", "epoch ", position.epoch, ", batch ", position.batch, " is no place in epochs of ", batches_,
            " batches");
  }

  // The samples of an epoch in their order. It is as long as the data set, so workers share
  // it; near the end of an epoch two are in use.
  std::shared_ptr<const std::vector<int64_t>> order_of(int64_t epoch) {
    const std::lock_guard lock(order_mutex_);
    auto& [of_epoch, kept] = orders_[static_cast<size_t>(epoch % 2)];
    if (kept == nullptr || of_epoch != epoch) {
      std::vector<int64_t> order(static_cast<size_t>(data_.size()));
      if (options_.shuffle) {
        order = permutation(data_.size(), key().child("shuffle").child(static_cast<uint64_t>(epoch)));
      } else {
        std::iota(order.begin(), order.end(), int64_t{0});
      }
      kept = std::make_shared<const std::vector<int64_t>>(std::move(order));
      of_epoch = epoch;
    }
    return kept;
  }

  Batch make(int64_t ticket) {
    const int64_t epoch = ticket / batches_;
    const int64_t begin = ticket % batches_ * options_.batch;
    const auto order = order_of(epoch);
    const auto samples = std::span(*order).subspan(static_cast<size_t>(begin),
                                                   static_cast<size_t>(std::min(options_.batch, data_.size() - begin)));
    Batch batch = data_.batch(samples);
    if (options_.augment != AugmentOptions{}) {
      augment(batch, options_.augment, samples, data_.classes(), epoch, key());
    }
    return batch;
  }

  RngKey key() const { return RngKey{.seed = options_.seed}.child("loader"); }

  // ---- Between the threads; everything below is guarded by mutex_ ----------------------

  std::optional<Batch> take(int64_t ticket) {
    std::unique_lock lock(mutex_);
    Slot& slot = slots_[static_cast<size_t>(ticket % options_.prefetch)];
    made_.wait(lock, [&] { return slot.ready(); });
    if (slot.failure != nullptr) {
      std::rethrow_exception(slot.failure);
    }
    Slot taken = std::move(slot);
    slot = {};
    consumed_ = ticket + 1;
    room_.notify_one();
    return std::move(taken.batch);
  }

  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      room_.wait(lock, [&] { return stopping_ || next_ticket_ < consumed_ + options_.prefetch; });
      if (stopping_) {
        return;
      }
      const int64_t ticket = next_ticket_++;
      lock.unlock();
      Slot slot;
      try {
        slot.batch = make(ticket);
      } catch (...) {
        slot.failure = std::current_exception();
      }
      lock.lock();
      slots_[static_cast<size_t>(ticket % options_.prefetch)] = std::move(slot);
      made_.notify_one();
    }
  }

  void start_workers() {
    slots_.assign(static_cast<size_t>(options_.prefetch), {});
    // At the end of an epoch the next batch is the first of the next: the same ticket.
    next_ticket_ = consumed_ = ticket();
    stopping_ = false;
    for (int i = 0; i < options_.workers; ++i) {
      workers_.emplace_back([this] { work(); });
    }
  }

  void stop_workers() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    room_.notify_all();
    workers_.clear();  // joins
  }

  const Dataset data_;
  const LoaderOptions options_;
  int64_t batches_ = 0;
  LoaderPosition position_;  // the consumer's alone

  std::mutex order_mutex_;
  std::array<std::pair<int64_t, std::shared_ptr<const std::vector<int64_t>>>, 2> orders_{};

  std::mutex mutex_;
  std::condition_variable made_;  // a slot became ready
  std::condition_variable room_;  // a ticket may be taken, or it is time to stop
  std::vector<Slot> slots_;
  int64_t next_ticket_ = 0;  // that a worker takes next
  int64_t consumed_ = 0;     // tickets below this are with the consumer
  bool stopping_ = false;
  std::vector<std::jthread> workers_;
};

DataLoader::DataLoader(Dataset data, const LoaderOptions& options, LoaderPosition start)
    : implementation_(std::make_unique<Implementation>(std::move(data), options, start)) {}
DataLoader::~DataLoader() = default;
std::optional<Batch> DataLoader::next() { return implementation_->next(); }
LoaderPosition DataLoader::position() const { return implementation_->position(); }
void DataLoader::seek(LoaderPosition position) { implementation_->seek(position); }
int64_t DataLoader::batches() const { return implementation_->batches(); }
const Dataset& DataLoader::data() const { return implementation_->data(); }

}  // namespace whittle::inline WHITTLE_PRECISION::data
