// Schedules against their formulas, rewinding to the bit.

#include <doctest/doctest.h>

#include <cmath>

#include "layers/dropout.h"
#include "layers/model_checkpoint.h"
#include "optim/sgd.h"
#include "prune/schedule.h"
#include "prune/sensitivity.h"
#include "tests/prune/nets.h"
#include "tests/support/message.h"
#include "tests/support/same_bits.h"
#include "tests/support/seed.h"

namespace whittle {

using namespace prune;

TEST_SUITE("schedule") {
  TEST_CASE("iterative rounds each take the same share of what is left") {
    for (const double amount : {0.0, 0.5, 0.9, 0.99}) {
      for (const int64_t rounds : {1, 3, 10}) {
        double left = 1;
        const double share = 1 - std::pow(1 - amount, 1.0 / static_cast<double>(rounds));
        double half = 1;
        for (int64_t round = 1; round <= rounds; ++round) {
          left *= 1 - share;
          half *= 1 - share / 2;
          CHECK(iterative_amount(amount, round, rounds) == doctest::Approx(1 - left).epsilon(1e-12));
          CHECK(iterative_amount(amount, round, rounds, 0.5) == doctest::Approx(1 - half).epsilon(1e-12));
        }
        CHECK(iterative_amount(amount, rounds, rounds) == amount);
      }
    }
    CHECK(message_of([] { iterative_amount(0.5, 4, 3); }) == "[prune] round 4 of 3 is no round of at least one");
    CHECK(message_of([] { iterative_amount(1, 1, 3); }) == "[prune] the amount 1 is not in [0, 1)");
  }

  TEST_CASE("the cubic: its ends, its formula, when it is due") {
    const Gradual g{.initial = 0.2, .amount = 0.8, .begin = 100, .end = 450, .every = 100};
    CHECK(g.amount_at(99) == 0);
    CHECK(g.amount_at(100) == doctest::Approx(0.2));
    CHECK(g.amount_at(200) == doctest::Approx(0.8 - 0.6 * std::pow(250.0 / 350, 3)));
    CHECK(g.amount_at(450) == 0.8);
    CHECK(g.amount_at(9999) == 0.8);
    std::vector<int64_t> due;
    for (int64_t step = 0; step < 1000; ++step) {
      if (g.due(step)) {
        due.push_back(step);
      }
    }
    CHECK(due == std::vector<int64_t>{100, 200, 300, 400, 450});
    CHECK(message_of([] { Gradual{.initial = 0.9, .amount = 0.5}.check(); }) ==
          "[prune] gradual pruning from 0.9 to 0.5 does not go upwards within [0, 1)");
    CHECK(message_of([] { Gradual{.begin = 5, .end = 5}.check(); }) ==
          "[prune] gradual pruning from step 5 to step 5 has no step to take");
    CHECK(message_of([] { Gradual{.every = 0}.check(); }) == "[prune] gradual pruning every 0 steps is not possible");
  }

  TEST_CASE("gradual pruning while training: exact counts, and survivors only shrink") {
    CAPTURE(test_seed());
    const auto net = small_net(test_seed());
    const RngKey key{.seed = test_seed()};
    GradualPruner pruner(*net, kSmallInput, targets(*net, kSmallInput),
                         {.amount = 0.8, .begin = 4, .end = 30, .every = 5}, {.scope = Scope::kGlobal});
    optim::Sgd sgd(net->parameters(), {.rate = 0.01, .momentum = 0.9});
    MaskSet before;
    for (int64_t step = 0; step <= 35; ++step) {
      const bool pruned = pruner(step);
      CHECK(pruned == pruner.schedule().due(step));
      const MaskSet now = masks(*net);
      int64_t gone = 0;
      for (const auto& [name, mask] : now) {
        gone += mask.pruned();
        if (before.contains(name)) {
          for (size_t i = 0; i < mask.keep.size(); ++i) {
            REQUIRE(mask.keep[i] <= before.at(name).keep[i]);
          }
        }
      }
      if (pruned) {
        CHECK(gone == std::lrint(pruner.schedule().amount_at(step) * (8 * 27 + 6 * 72)));
      }
      before = now;
      some_gradients(*net, {4, 5, 5, 3}, key.child(static_cast<uint64_t>(step)));
      sgd.step();
    }
    CHECK(pruner.finished(30));
    CHECK_FALSE(pruner.finished(29));
  }

  TEST_CASE("rewinding brings every value back to the bit, and leaves the masks") {
    CAPTURE(test_seed());
    const RngKey key{.seed = test_seed()};
    const auto net = small_net(test_seed());
    net->add<Dropout>("drop", {.p = 0.5});
    optim::Sgd sgd(net->parameters(), {.rate = 0.01, .momentum = 0.9});
    const auto train = [&](uint64_t from, uint64_t to) {
      for (uint64_t step = from; step < to; ++step) {
        some_gradients(*net, {4, 5, 5, 3}, key.child(step));
        sgd.step();
      }
    };
    train(0, 3);
    Checkpoint early;
    store_model(early, *net);
    train(3, 10);
    const std::vector<Target> layers = targets(*net, kSmallInput);
    attach(*net, select(layers, magnitude(layers), {.amount = 0.6}));
    const MaskSet set = masks(*net);
    rewind(*net, early);
    CHECK(masks(*net) == set);
    Checkpoint now;
    store_model(now, *net);
    size_t equal = 0;
    for (const auto& [name, tensor] : early.tensors) {
      CHECK(now.at(name) == tensor);
      ++equal;
    }
    CHECK(equal == net->parameters().size() + net->states().size() + net->integers().size());

    // Of a round: its own masks are not looked at.
    now.tensors.at("fc.bias").bytes.back() ^= std::byte{1};
    rewind(*net, now);
    CHECK(masks(*net) == set);
    now.tensors.erase("conv1.running_mean");
    Checkpoint untouched;
    store_model(untouched, *net);
    CHECK_THROWS_AS(rewind(*net, now), Error);
    Checkpoint after;
    store_model(after, *net);
    CHECK(after == untouched);
  }
}

TEST_SUITE("sensitivity") {
  TEST_CASE("one layer at a time, beside the masks there are, which are all that is left") {
    const auto net = small_net(test_seed());
    const std::vector<Target> layers = targets(*net, kSmallInput);
    const RngKey key{.seed = test_seed()};
    attach(*net, {{"conv2.weight", random_mask({6, 3, 3, 8}, key, 0.25)}});
    const MaskSet before = masks(*net);
    const double amounts[] = {0.3, 0.9};
    std::vector<int64_t> seen;  // pruned in conv1 and conv2 while it was measured
    const auto measure = [&] {
      const std::vector<SparsityRow> rows = sparsity(*net);
      seen.push_back(rows[0].zeros);
      seen.push_back(rows[1].zeros);
      return static_cast<double>(rows[0].zeros);
    };
    const auto rows = sensitivity(*net, kSmallInput, layers, magnitude(layers), {}, amounts, measure);
    const int64_t there = before.at("conv2.weight").pruned();
    CHECK(seen == std::vector<int64_t>{65, there, 194, there, 0, 130, 0, 389});
    REQUIRE(rows.size() == 4);
    CHECK(rows[1].layers == "conv1");
    CHECK(rows[1].amount == 0.9);
    CHECK(rows[1].elements == 216);
    CHECK(rows[1].pruned == 194);
    CHECK(rows[1].value == 194);
    CHECK(masks(*net) == before);

    const auto broken = [&]() -> double { fail("measure", "no"); };
    CHECK(message_of([&] { sensitivity(*net, kSmallInput, layers, magnitude(layers), {}, amounts, broken); }) ==
          "[measure] no");
    CHECK(masks(*net) == before);

    const auto channels = sensitivity(*net, kSmallInput, layers, magnitude(layers),
                                      {.granularity = Granularity::channel()}, amounts, measure);
    CHECK(channels.size() == 4);
    CHECK(masks(*net) == before);
  }
}

}  // namespace whittle
