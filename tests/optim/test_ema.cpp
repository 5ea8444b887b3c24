// The average of the weights against its recurrence, and the swap.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/parallel.h"
#include "optim/ema.h"
#include "optim/sgd.h"
#include "tests/optim/rig.h"
#include "tests/support/message.h"

namespace whittle {

namespace {

Rig small_rig(double shift = 0) { return Rig({{"conv.weight", {4, 3}}, {"scale", {}}}, shift); }

// Moves the weights to where a training might have them after `step` steps.
void move(Rig& rig, int step) {
  for (size_t p = 0; p < rig.named.size(); ++p) {
    Variable& raw = rig.named[p].parameter->raw;
    for (int64_t i = 0; i < raw.value().elements(); ++i) {
      raw.mutable_data()[i] = static_cast<real>(start_value(p, i) * std::cos(0.1 * step));
    }
  }
}

std::vector<real> averages(optim::Ema& ema) {
  std::vector<real> all;
  ema.visit_state([&all](std::string_view, Tensor& average) {
    all.insert(all.end(), average.values().begin(), average.values().end());
  });
  return all;
}

}  // namespace

TEST_SUITE("ema") {
  TEST_CASE("the average follows its recurrence, with and without warm-up") {
    for (const bool warm_up : {false, true}) {
      CAPTURE(warm_up);
      Rig rig = small_rig();
      std::vector<double> expected;
      for (const real w : rig.values()) {
        expected.push_back(static_cast<double>(w));
      }
      optim::Ema ema(rig.named, {.decay = 0.9, .warm_up = warm_up});
      for (int t = 0; t < 100; ++t) {  // the warm-up ends at 1 + t = 0.9 (10 + t): t = 80
        move(rig, t);
        ema.update();
        const double d = warm_up ? std::min(0.9, (1.0 + t) / (10.0 + t)) : 0.9;
        for (size_t i = 0; i < expected.size(); ++i) {
          expected[i] = d * expected[i] + (1 - d) * static_cast<double>(rig.values()[i]);
        }
      }
      CHECK(ema.updates() == 100);
      for (size_t i = 0; i < expected.size(); ++i) {
        CHECK(near(static_cast<double>(averages(ema)[i]), expected[i]));
      }
    }
  }

  TEST_CASE("of weights that stand still the average is those weights; decay 0 is the last weights") {
    Rig rig = small_rig();
    optim::Ema still(rig.named, {.decay = 0.9});
    for (int t = 0; t < 10; ++t) {
      still.update();
    }
    CHECK(averages(still) == rig.values());
    optim::Ema last(rig.named, {.decay = 0});
    move(rig, 5);
    last.update();
    for (size_t i = 0; i < rig.values().size(); ++i) {
      CHECK(near(static_cast<double>(averages(last)[i]), static_cast<double>(rig.values()[i]), 1e-6));
    }
  }

  TEST_CASE("in its scope the model holds the averages, after it the trained weights, to the bit") {
    Rig rig = small_rig();
    Tensor running = Tensor::of({2}, {1, 2});
    optim::Ema ema(rig.named, {.decay = 0.5, .warm_up = false}, {{"norm.mean", &running}});
    move(rig, 9);
    running = Tensor::of({2}, {3, 6});  // as a norm does: a new tensor, not the old one written to
    ema.update();
    const auto trained = rig.values();
    const auto averaged = averages(ema);
    const Variable elsewhere = rig.named[0].parameter->raw;  // copies of the Variable see the swap too
    {
      const optim::EmaScope scope(ema);
      CHECK(ema.swapped_in());
      std::vector<real> in_model = rig.values();
      in_model.insert(in_model.end(), running.values().begin(), running.values().end());
      CHECK(in_model == averaged);
      CHECK(elsewhere.value().at({0, 0}) == averaged[0]);
      CHECK(running.at({1}) == 4);

      Checkpoint checkpoint;
      CHECK(message_of([&] { ema.update(); }) == "[ema] cannot update while the averages are swapped in");
      CHECK(message_of([&] { ema.store(checkpoint); }) == "[ema] cannot store while the averages are swapped in");
      CHECK(message_of([&] { ema.restore(checkpoint); }) == "[ema] cannot restore while the averages are swapped in");
      CHECK(message_of([&] { const optim::EmaScope again(ema); }) ==
            "[ema] cannot swap in while the averages are swapped in");
      CHECK(ema.swapped_in());
    }
    CHECK_FALSE(ema.swapped_in());
    CHECK(rig.values() == trained);
    CHECK(running.at({1}) == 6);
    CHECK(averages(ema) == averaged);
  }

  TEST_CASE("the trained weights come back when an exception leaves the scope") {
    Rig rig = small_rig();
    optim::Ema ema(rig.named);
    move(rig, 9);
    const auto trained = rig.values();
    try {
      const optim::EmaScope scope(ema);
      fail("test", "thrown");
    } catch (const Error&) {
    }
    CHECK(rig.values() == trained);
  }

  TEST_CASE("stored and restored, the average goes on in the same bits") {
    Rig whole = small_rig();
    optim::Ema uninterrupted(whole.named);
    Checkpoint checkpoint;
    for (int t = 0; t < 40; ++t) {
      if (t == 15) {
        uninterrupted.store(checkpoint);
      }
      move(whole, t);
      uninterrupted.update();
    }
    CHECK(checkpoint.tensors.contains("ema/conv.weight"));
    CHECK(checkpoint.at("ema/updates").to_integers() == std::vector<int64_t>{15});

    Rig rig = small_rig(1);
    optim::Ema resumed(rig.named);
    resumed.restore(decode_checkpoint(encode_checkpoint(checkpoint), "memory"));
    for (int t = 15; t < 40; ++t) {
      move(rig, t);
      resumed.update();
    }
    CHECK(averages(resumed) == averages(uninterrupted));
    CHECK(resumed.updates() == 40);

    const auto before = averages(resumed);
    Checkpoint bad = checkpoint;
    bad.tensors.erase("ema/scale");
    CHECK(message_of([&] { resumed.restore(bad); }) == "[ema] the checkpoint has no tensor 'ema/scale'");
    bad = checkpoint;
    bad.tensors["ema/other"] = checkpoint.at("ema/scale");
    CHECK(message_of([&] { resumed.restore(bad); }) ==
          "[ema] the checkpoint holds 'ema/other', which belongs to nothing here");
    CHECK(averages(resumed) == before);
    CHECK(resumed.updates() == 40);
  }

  TEST_CASE("the same bits for 1, 2, 3, 5 and 8 threads") {
    std::vector<real> first;
    for (const int threads : {1, 2, 3, 5, 8}) {
      set_num_threads(threads);
      Rig rig({{"large", {5, 10007}}, {"small", {3}}});
      optim::Ema ema(rig.named);
      for (int t = 0; t < 5; ++t) {
        move(rig, t);
        ema.update();
      }
      first = first.empty() ? averages(ema) : first;
      CHECK(averages(ema) == first);
    }
    set_num_threads(0);
  }

  TEST_CASE("misuse is refused with one sentence") {
    Parameter w(Tensor::of({2}, {1, 2})), undefined;
    Tensor t = Tensor::scalar(1), nothing;
    using optim::Ema;
    CHECK(message_of([] { Ema({}); }) == "[ema] there is nothing to average");
    CHECK(message_of([&] { Ema({{"w", &w}}, {.decay = 1}); }) == "[ema] decay must be in [0, 1), got 1");
    CHECK(message_of([&] { Ema({{"w", &w}}, {.decay = NAN}); }) == "[ema] decay must be in [0, 1), got nan");
    CHECK(message_of([&] { Ema({{"w", &undefined}}); }) == "[ema] parameter 'w' has no value");
    CHECK(message_of([&] { Ema({{"w", nullptr}}); }) == "[ema] parameter 'w' has no value");
    CHECK(message_of([&] { Ema({}, {}, {{"t", &nothing}}); }) == "[ema] tensor 't' has no value");
    CHECK(message_of([&] { Ema({{"w", &w}}, {}, {{"w", &t}}); }) == "[ema] two weights are called 'w'");
    CHECK(message_of([&] {
            Ema({{"updates", &w}});
          }) == "[ema] 'updates' is the checkpoint's name for the number of updates, not for a weight");
    Ema ema({{"w", &w}});
    w.raw = Variable::leaf(Tensor::scalar(1));
    const std::string changed = "[ema] 'w' had shape [2] and has [] now; make a new average after changing a model";
    CHECK(message_of([&] { ema.update(); }) == changed);
    CHECK(message_of([&] { const optim::EmaScope scope(ema); }) == changed);
    CHECK(ema.updates() == 0);
    CHECK_FALSE(ema.swapped_in());
  }
}

}  // namespace whittle
