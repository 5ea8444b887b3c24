// The loader: every sample once per epoch, the same batches for any number of workers,
// resuming anywhere, exceptions and destruction in the middle.

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <set>
#include <thread>

#include "datasets/glyphs.h"
#include "datasets/loader.h"
#include "tests/support/message.h"

namespace whittle {

namespace {

// Row i is (i), label i % 2.
data::Dataset counting(int n) {
  data::Samples samples;
  for (int i = 0; i < n; ++i) {
    samples.values.push_back(i);
    samples.labels.push_back(i % 2);
  }
  return data::Dataset({.data = "counting", .sample = {1}, .classes = {"even", "odd"}}, samples);
}

// All bytes of the next `steps` results; an end of an epoch counts as one.
std::string trace_of(data::DataLoader& loader, int steps, bool dawdle = false) {
  std::string trace;
  for (int step = 0; step < steps; ++step) {
    const auto batch = loader.next();
    if (!batch) {
      trace += "|end|";
      continue;
    }
    trace.append(reinterpret_cast<const char*>(batch->inputs.data()), batch->inputs.values().size_bytes());
    trace.append(reinterpret_cast<const char*>(batch->labels.data()), batch->labels.size() * sizeof(int32_t));
    if (batch->targets.defined()) {
      trace.append(reinterpret_cast<const char*>(batch->targets.data()), batch->targets.values().size_bytes());
    }
    if (dawdle && step % 3 == 0) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  }
  return trace;
}

std::vector<real> epoch_of(data::DataLoader& loader) {
  std::vector<real> seen;
  while (const auto batch = loader.next()) {
    seen.insert(seen.end(), batch->inputs.values().begin(), batch->inputs.values().end());
  }
  return seen;
}

}  // namespace

TEST_SUITE("loader") {
  TEST_CASE("every sample once per epoch, another order each time") {
    data::DataLoader loader(counting(103), {.batch = 10, .seed = 1, .workers = 2});
    CHECK(loader.batches() == 11);
    std::vector<real> first = epoch_of(loader), second = epoch_of(loader);
    CHECK(first.size() == 103);
    CHECK(first != second);
    std::ranges::sort(first);
    std::ranges::sort(second);
    CHECK(first == second);
    for (size_t i = 0; i < 103; ++i) {
      CHECK(first[i] == static_cast<real>(i));
    }
  }

  TEST_CASE("without shuffling the order is the data set's; short last batches can go") {
    data::DataLoader plain(counting(7), {.batch = 3, .shuffle = false});
    CHECK(epoch_of(plain) == std::vector<real>{0, 1, 2, 3, 4, 5, 6});
    CHECK(epoch_of(plain) == std::vector<real>{0, 1, 2, 3, 4, 5, 6});
    data::DataLoader dropping(counting(7), {.batch = 3, .shuffle = false, .drop_last = true});
    CHECK(dropping.batches() == 2);
    CHECK(epoch_of(dropping) == std::vector<real>{0, 1, 2, 3, 4, 5});
    data::DataLoader large(counting(3), {.batch = 100, .shuffle = false});
    CHECK(epoch_of(large).size() == 3);
  }

  TEST_CASE("batches are the same for any number of workers, any prefetch, and a slow consumer") {
    const data::Dataset set = data::glyphs({.samples = 130});
    const data::LoaderOptions options{.batch = 16,
                                      .seed = 4,
                                      .workers = 0,
                                      .augment = {.crop = 3, .flip = true, .rotation = 15, .cutout = 5, .mixup = 0.4}};
    data::DataLoader reference(set, options);
    const std::string expected = trace_of(reference, 29);
    for (const int workers : {1, 2, 3, 8}) {
      for (const int prefetch : {1, 2, 7, 40}) {
        data::LoaderOptions other = options;
        other.workers = workers;
        other.prefetch = prefetch;
        data::DataLoader loader(set, other);
        CAPTURE(workers);
        CAPTURE(prefetch);
        CHECK(trace_of(loader, 29, workers == 2) == expected);
      }
    }
    data::LoaderOptions reseeded = options;
    reseeded.seed = 5;
    data::DataLoader loader(set, reseeded);
    CHECK(trace_of(loader, 29) != expected);
  }

  TEST_CASE("resuming at any position gives what would have come") {
    const data::LoaderOptions options{.batch = 10, .seed = 9, .workers = 2, .prefetch = 3};
    for (int steps = 0; steps <= 24; ++steps) {
      CAPTURE(steps);
      data::DataLoader whole(counting(95), options);
      trace_of(whole, steps);
      const data::LoaderPosition position = whole.position();
      CHECK(position.epoch == steps / 11);  // ten batches and the end
      CHECK(position.batch == steps % 11);
      data::DataLoader resumed(counting(95), options, position);
      data::DataLoader sought(counting(95), options);
      trace_of(sought, 5);
      sought.seek(position);
      const std::string rest = trace_of(whole, 13);
      CHECK(trace_of(resumed, 13) == rest);
      CHECK(trace_of(sought, 13) == rest);
    }
  }

  TEST_CASE("a position that does not exist is refused") {
    data::DataLoader loader(counting(10), {.batch = 5});
    CHECK(message_of([&] { return loader.seek({.epoch = 0, .batch = 3}), 0; }) ==
          "[loader] epoch 0, batch 3 is no place in epochs of 2 batches");
    CHECK(message_of([&] { return loader.seek({.epoch = -1, .batch = 0}), 0; }).find("[loader]") == 0);
    CHECK(loader.next().has_value());  // still where it was
  }

  TEST_CASE("destruction in the middle of an epoch, with workers busy and waiting") {
    for (int round = 0; round < 50; ++round) {
      data::DataLoader loader(data::glyphs({.samples = 60}), {.batch = 7, .workers = 4, .prefetch = 3});
      trace_of(loader, round % 6);
    }
  }

  TEST_CASE("what cannot be loaded from is refused before any thread starts") {
    const auto says = [](const data::Dataset& set, const data::LoaderOptions& options) {
      return message_of([&] { data::DataLoader(set, options); });
    };
    CHECK(says(data::Dataset(), {}).find("has no samples") != std::string::npos);
    CHECK(says(counting(10), {.batch = 11}) ==
          "[loader] a batch of 11 is larger than the 10 samples of 'counting' (--batch)");
    CHECK(says(counting(10), {.batch = 11, .shuffle = false, .drop_last = true}).find("is larger than") !=
          std::string::npos);
    CHECK(says(counting(10), {.batch = 0}).find("[loader]") == 0);
    CHECK(says(counting(10), {.workers = -1}).find("[loader]") == 0);
    CHECK(says(counting(40), {.prefetch = 0}).find("[loader]") == 0);
    CHECK(says(counting(40), {.augment = {.flip = true}}) == "[augment] 'counting' holds rows, not images");
  }

  TEST_CASE("an exception while a batch is made arrives where the batch would, and again") {
    // One picture of 2^26 pixels listed 2^22 + 1 times: a batch of them all has too many
    // elements for a tensor.
    const data::Dataset one({.data = "one", .sample = {8192, 8192, 1}, .classes = {"a", "b"}},
                            {.pixels = std::vector<uint8_t>(size_t{1} << 26), .labels = {0}});
    const data::Dataset many = one.subset(std::vector<int64_t>((size_t{1} << 22) + 1, 0));
    for (const int workers : {0, 1, 3}) {
      data::DataLoader loader(many, {.batch = many.size(), .shuffle = false, .workers = workers});
      CHECK(message_of([&] { return loader.next(); }).find("more than 2^48 elements") != std::string::npos);
      CHECK(message_of([&] { return loader.next(); }).find("more than 2^48 elements") != std::string::npos);
      CHECK(loader.position() == data::LoaderPosition{});
    }
  }
}

}  // namespace whittle
